"""The demo from beginning to end: a family of its own, the garage's traffic, and what came of it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from decimal import Decimal
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from urllib3.exceptions import HTTPError

from analytics.connection import connect
from api.partners import add_partner
from voltfold.demo.garage import Visit
from voltfold.demo.summary import figures, show
from voltfold.demo.traffic import OPERATOR, PROVIDERS, Garage, Partner, tell
from voltfold.family import Family, remember
from voltfold.roles import topics_of
from voltfold.settings import Settings
from voltfold.up import jar_progress

MARK = "made-by-voltfold-demo"
WAIT = 120.0
"""Seconds for which the last figures may take to arrive in ClickHouse."""


class FolderError(ValueError):
    """A folder that the demo must not wipe."""


def fresh(folder: Path) -> None:
    """An empty data folder. Only one that a demo made is wiped. Raises FolderError for any other."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise FolderError(f"{folder} is not empty, and no demo made it: name another with --data")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


async def demo(settings: Settings, visits: list[Visit], *, as_json: bool, picture: Path | None) -> bool:
    """Run it; whether every figure is as it must be. The summary goes to stdout, with JSON to stderr."""
    started = monotonic()
    folder = settings.folder
    fresh(folder)
    talk = Console(stderr=True)
    garage = Garage(visits)
    with jar_progress() as progress:
        async with Family(settings, progress=progress, report=lambda what: _say(talk, what)) as family:
            remember(folder)
            _say(
                talk,
                f"{len(visits):,} sessions of {len(garage.stations)} stations, {garage.requests:,} requests",
            )
            pushed = monotonic()
            await _push(family, garage, talk)
            client = await _patiently(lambda: connect(family.clickhouse, settings.clickhouse_database))
            found = await _settled(client, garage, talk)
            found["seconds"] = monotonic() - pushed
            problems = _problems(found, garage)
            console = Console(
                file=sys.stderr if as_json else sys.stdout, record=picture is not None, width=_width(as_json)
            )
            await asyncio.to_thread(show, console, client, found, _short(folder))
            if picture is not None:
                picture.write_text(_without_web_fonts(console.export_svg(title="voltfold demo")), "utf-8")
    for problem in problems:
        talk.print(f"voltfold: {problem}", style="red", highlight=False, markup=False)
    if as_json:
        found["seconds"] = monotonic() - started
        sys.stdout.write(json.dumps({**found, "problems": problems}, default=float) + "\n")
    return not problems


def _without_web_fonts(svg: str) -> str:
    """A picture that fetches nothing when it is looked at; the fonts at hand will do."""
    return re.sub(r"@font-face\s*{.*?}", "", svg, flags=re.DOTALL)


def _say(console: Console, what: str) -> None:
    console.print(f"[dim]{what} ...[/dim]", highlight=False)


def _width(as_json: bool) -> int | None:
    stream = sys.stderr if as_json else sys.stdout
    return None if stream.isatty() else 130


def _short(folder: Path) -> Path:
    """As a person would type it from here."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


async def _push(family: Family, garage: Garage, talk: Console) -> None:
    """Register the partners, prepare, and tell every story, with a bar that shows rate and time left."""
    topics = topics_of(family.settings)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as http:
        partners = []
        for country, party, role, name in (OPERATOR, *PROVIDERS):
            token = await add_partner(family.kafka, topics, country, party, [role], name)
            partners.append(Partner(http, family.api, token))
        await asyncio.gather(*(one.discover() for one in partners))
        operator, providers = partners[0], partners[1:]
        ready = list(garage.prepare())
        for provider, version, module, ids, body in ready:
            partner = operator if provider is None else providers[provider]
            await partner.send("PUT", partner.url(version, module, *ids), body)
        columns = (
            SpinnerColumn(),
            TextColumn("pushing"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        begun = monotonic()
        with Progress(*columns, console=talk, transient=True, disable=not talk.is_terminal) as bar:
            task = bar.add_task("", total=garage.requests, rate="")
            done = 0

            def told() -> None:
                nonlocal done
                done += 1
                bar.update(task, completed=done, rate=f"{done / (monotonic() - begun):.0f}/s")

            await tell(garage, operator, told)
        seconds = monotonic() - begun
        _say(talk, f"{done:,} requests acknowledged in {seconds:.0f} s ({done / seconds:.0f}/s); counting")


async def _patiently(work: Any) -> Any:
    """Ask ClickHouse, again if it was restarted meanwhile."""
    deadline = monotonic() + WAIT
    while True:
        try:
            return await asyncio.to_thread(work)
        except (ClickHouseError, HTTPError, OSError):
            if monotonic() > deadline:
                raise
            await asyncio.sleep(0.3)


async def _settled(client: Client, garage: Garage, talk: Console) -> dict[str, Any]:
    """The figures, once they are complete, or stay as they are for ten seconds although they are not."""
    deadline = monotonic() + WAIT
    last: dict[str, Any] = {}
    since = monotonic()
    while True:
        found: dict[str, Any] = await _patiently(lambda: figures(client, garage.wrong))
        if not _problems(found, garage):
            return found
        if found != last:
            last, since = found, monotonic()
        complete = found["sessions"] == found["cdrs"] == found["settlement_entries"] == len(garage.visits)
        if monotonic() > deadline or (complete and monotonic() - since > 10):
            return found
        await asyncio.sleep(0.3)


def _problems(found: dict[str, Any], garage: Garage) -> list[str]:
    """What is not as it must be, in words."""
    problems = [
        f"{found[name]} {name.replace('_', ' ')}, and {len(garage.visits)} sessions in the CSV"
        for name in ("sessions", "cdrs", "settlement_entries")
        if found[name] != len(garage.visits)
    ]
    kwh = sum((visit.energy_kwh for visit in garage.visits), Decimal(0))
    problems.extend(
        f"{found[name]} {name.replace('_', ' ')}, and {kwh} kWh in the CSV"
        for name in ("kwh", "billed_kwh")
        if abs(found[name] - kwh) > Decimal("0.001")
    )
    missed = found["wrong_bills_seeded"] - found["wrong_bills_found"]
    if missed:
        problems.append(f"{missed} wrong bills were not found")
    for name, words in (
        ("right_bills_accused", "right bills were accused"),
        ("unpriced_bills", "bills could not be priced"),
        ("quarantined", "records are in quarantine"),
    ):
        if found[name]:
            problems.append(f"{found[name]} {words}")
    for currency, balance in found["postings_balance"].items():
        if balance:
            problems.append(f"the postings in {currency} sum to {balance}, not to zero")
    return problems
