"""Everything dies or falls asleep at random moments under traffic; at the end every figure is the model's.

Seeded. A short run belongs to the tests; `make chaos` makes it long: CHAOS_SECONDS of traffic for each of
CHAOS_SEEDS (such as 1,2,3). What is compared at the end: every session with its energy and state, every bill
with its amount and verdict, every settlement entry, their sum, quarantine; and the log with a replay of it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import random
import signal
import sys
import time
from decimal import Decimal
from pathlib import Path

import aiohttp
import httpx
import psutil
import pytest

from tests.chaos.traffic import TARIFF, Door, Expected, Model, station
from tests.e2e.test_up import Up, voltfold

SECONDS = float(os.environ.get("CHAOS_SECONDS", "12"))
SEEDS = [int(seed) for seed in os.environ.get("CHAOS_SEEDS", "1").split(",")]
STATIONS = 12
ROLES = ("worker-0", "sink", "api", "broker", "analytics")
SETTLED = 150.0


@pytest.mark.timeout(int(SECONDS) + 400)
@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_dies_every_figure_stands(seed: int, tmp_path: Path) -> None:
    up = await asyncio.to_thread(Up(tmp_path / "data").start)
    try:
        model = await _traffic(up, seed)
        await _settled(up, model)
        checked = await asyncio.to_thread(voltfold, "replay", "--check", "--json", "--data", str(up.folder))
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert json.loads(checked.stdout)["differences"] == 0
    finally:
        await asyncio.to_thread(up.stop)


async def _traffic(up: Up, seed: int) -> Model:
    """Stations push while processes are killed and paused; returns when every station has finished."""
    token = (await asyncio.to_thread(up.partner)).headers["Authorization"].split()[1]
    model = Model()
    deadline = time.monotonic() + SECONDS
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(8)) as client:
        door = Door(client, lambda: str(up.said["api"]), base64.b64decode(token).decode(), model)
        await door.send("PUT", "tariffs/NL/TNM/T1", TARIFF)
        stations = [
            asyncio.create_task(
                station(door, f"S{number}", seed * 1000 + number, model, lambda: time.monotonic() > deadline)
            )
            for number in range(STATIONS)
        ]
        havoc = asyncio.create_task(_havoc(up, seed))
        try:
            await asyncio.gather(*stations)
        finally:
            havoc.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await havoc
    done = havoc_log(up)
    sys.stderr.write(
        f"\nseed {seed}: {len(model.sessions)} sessions, {model.accepted} requests accepted of "
        f"{model.tried} tried, {len(done)} blows: {' '.join(done)}\n"
    )
    assert len(done) >= 2
    return model


def havoc_log(up: Up) -> list[str]:
    """What was done to whom."""
    with contextlib.suppress(FileNotFoundError):
        return (up.folder.parent / "havoc").read_text().split()
    return []


async def _havoc(up: Up, seed: int) -> None:
    """Kill or pause one process after the other. A paused one is woken; its supervisor may kill it before."""
    dice = random.Random(seed)
    asleep: list[int] = []
    try:
        while True:
            await asyncio.sleep(dice.uniform(0.3, 2.5))
            name = dice.choice(ROLES)
            pause = dice.uniform(0.5, 12) if dice.random() < 0.35 else 0.0
            pid = up.pids.get(name)
            if pid is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP if pause else signal.SIGKILL)
                with (up.folder.parent / "havoc").open("a") as log:
                    log.write(f"{'stop' if pause else 'kill'}:{name} ")
                if pause:
                    asleep.append(pid)
                    asyncio.get_running_loop().call_later(pause, _wake, pid)
    finally:
        for pid in asleep:
            _wake(pid)


def _wake(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
        os.kill(pid, signal.SIGCONT)


async def _settled(up: Up, model: Model) -> None:
    """Every figure is the model's, within a time, and stays so."""
    deadline = time.monotonic() + SETTLED
    differences = ["never looked"]
    while differences and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        with contextlib.suppress(httpx.TransportError):
            differences = await asyncio.to_thread(_differences, up, model)
    assert not differences, differences[:10]
    await asyncio.sleep(2)
    assert await asyncio.to_thread(_differences, up, model) == []


def _differences(up: Up, model: Model) -> list[str]:
    def rows(query: str) -> list[list[str]]:
        return [line.split("\t") for line in up.select(query).splitlines()]

    sessions = {id_: (Decimal(kwh), status) for id_, kwh, status in rows(
        "SELECT session_id, kwh, status FROM sessions FORMAT TSV")}  # fmt: skip
    bills = {id_: (Decimal(amount), verdict) for id_, amount, verdict in rows(
        "SELECT session_id, billed_after_taxes, verdict FROM priced_cdrs FORMAT TSV")}  # fmt: skip
    entries = {id_: Decimal(amount) for id_, amount in rows(
        "SELECT claim, sum(amount) FROM settlement_entries GROUP BY claim FORMAT TSV")}  # fmt: skip
    ((balance, quarantined),) = rows(
        "SELECT (SELECT sum(amount) FROM settlement_postings), (SELECT count() FROM quarantine) FORMAT TSV"
    )
    billed = {id_: one for id_, one in model.sessions.items() if one.billed is not None}
    wanted = {id_: (one.kwh, one.status) for id_, one in model.sessions.items()}
    return [
        *_unlike("session", wanted, sessions),
        *_unlike("bill", {id_: (one.billed, one.verdict) for id_, one in billed.items()}, bills),
        *_unlike("entry", {f"NL*TNM*C-{id_}": one.billed for id_, one in billed.items()}, entries),
        *([f"postings sum to {balance}"] if billed and Decimal(balance) else []),
        *([f"{quarantined} in quarantine"] if quarantined != "0" else []),
    ]


def _unlike(kind: str, wanted: dict[str, object], found: dict[str, object]) -> list[str]:
    return [
        f"{kind} {key}: {found.get(key)}, not {wanted.get(key)}"
        for key in sorted(wanted.keys() | found.keys())
        if wanted.get(key) != found.get(key)
    ]


def test_the_comparison_sees_what_differs() -> None:
    """A test that cannot fail would prove nothing."""
    one = Expected(Decimal(1), "ACTIVE")
    assert _unlike("session", {"A": one.kwh}, {"A": Decimal(1)}) == []
    assert _unlike("session", {"A": one.kwh}, {"A": Decimal(2)}) == ["session A: 2, not 1"]
    assert _unlike("session", {"A": one.kwh}, {}) == ["session A: None, not 1"]
    assert _unlike("session", {}, {"B": one.kwh}) == ["session B: 1, not None"]
