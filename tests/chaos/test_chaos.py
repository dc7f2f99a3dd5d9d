"""Everything dies or falls asleep at random moments under traffic; at the end every figure is the model's.

Seeded. A short run belongs to the tests; `make chaos` makes it long: CHAOS_SECONDS of traffic for each of
CHAOS_SEEDS (such as 1,2,3). A seed also says how many workers and API processes there are (one or two each).
The door has little room, so that its queue is full at times; crowds come at once, and connections are cut.

What is compared at the end with a model that knows the accepted requests alone: every session with its
energy, periods, price and state, and whether it never ended; every bill with its amount and verdict; every
settlement entry, each balanced, and their sum; quarantine; every object as the door answers a GET of it; and
the log with a replay of it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
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

from analytics import queries
from tests.chaos.traffic import PRICE, TARIFF, VAT, Door, Expected, Model, crowd, station
from tests.e2e.test_up import Up, voltfold

SECONDS = float(os.environ.get("CHAOS_SECONDS", "12"))
SEEDS = [int(seed) for seed in os.environ.get("CHAOS_SEEDS", "1").split(",")]
STATIONS = 12
ROOM = 10
"""Requests that an API process works on at a time: fewer than there are stations."""
CROWD = 60
SILENT_SECONDS = 6.0
"""A running session that was not heard of for so long is overdue. Blows that last longer make many of them,
which live again."""
SETTLED = 150.0


@pytest.mark.timeout(int(SECONDS) + 400)
@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_dies_every_figure_stands(seed: int, tmp_path: Path) -> None:
    arguments = ("--workers", str(1 + seed % 2), "--api-workers", str(1 + seed // 2 % 2))
    environment = {
        "VOLTFOLD_MAX_IN_FLIGHT": str(ROOM),
        "VOLTFOLD_CLOCK_SECONDS": "1",
        "VOLTFOLD_STALE_HOURS": str(SILENT_SECONDS / 3600),
    }
    up = await asyncio.to_thread(Up(tmp_path / "data", arguments, environment).start)
    try:
        model = await _traffic(up, seed)
        await _settled(up, model)
        await asyncio.to_thread(_sound, up)
        await _answered(up, model)
        checked = await asyncio.to_thread(voltfold, "replay", "--check", "--json", "--data", str(up.folder))
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert json.loads(checked.stdout)["differences"] == 0
    finally:
        await asyncio.to_thread(up.stop)


async def _traffic(up: Up, seed: int) -> Model:
    """Stations push while processes are killed and paused; returns when every station has finished."""
    token = (await asyncio.to_thread(up.partner)).headers["Authorization"].split()[1]
    model = Model(token=base64.b64decode(token).decode())
    deadline = time.monotonic() + SECONDS
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(8)) as client:
        door = Door(client, lambda: str(up.said["api"]), model)
        await door.send("PUT", "tariffs/NL/TNM/T1", TARIFF)
        stations = [
            asyncio.create_task(
                station(door, f"S{number}", seed * 1000 + number, model, lambda: time.monotonic() > deadline)
            )
            for number in range(STATIONS)
        ]
        await asyncio.gather(*stations, _crowds(door, seed, deadline), _havoc(up, seed, deadline))
    done = havoc_log(up)
    sys.stderr.write(
        f"\nseed {seed}: {len(model.sessions)} sessions, {model.accepted} requests accepted of "
        f"{model.tried} tried, {model.full} times the door was full, {len(done)} blows: {' '.join(done)}\n"
    )
    assert len(done) >= 2
    assert model.full
    return model


def havoc_log(up: Up) -> list[str]:
    """What was done to whom."""
    with contextlib.suppress(FileNotFoundError):
        return (up.folder.parent / "havoc").read_text().split()
    return []


async def _crowds(door: Door, seed: int, deadline: float) -> None:
    """Now and then many come at once, all with the same session: more than the door has room for."""
    dice = random.Random(-seed)
    for number in itertools.count():
        await asyncio.sleep(dice.uniform(1, 8))
        if time.monotonic() > deadline:
            break
        await crowd(door, f"CROWD{number}", CROWD)


async def _havoc(up: Up, seed: int, deadline: float) -> None:
    """Kill or pause one process after the other. A paused one is woken; its supervisor may kill it before."""
    dice = random.Random(seed)
    roles = sorted(up.said["pids"])
    asleep: list[int] = []
    try:
        while time.monotonic() < deadline:
            await asyncio.sleep(dice.uniform(0.3, 2.5))
            name = dice.choice(roles)
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

    sessions = {
        id_: (
            Decimal(kwh),
            int(periods),
            None if price == "\\N" else Decimal(price),
            status,
            silent == "true",
        )
        for id_, kwh, periods, price, status, silent in rows(
            "SELECT session_id, kwh, periods, price_after_taxes, status, invalid_candidate FROM sessions"
            " FORMAT TSV"
        )
    }
    bills = {id_: (Decimal(amount), verdict) for id_, amount, verdict in rows(
        "SELECT session_id, billed_after_taxes, verdict FROM priced_cdrs FORMAT TSV")}  # fmt: skip
    entries = {id_: Decimal(amount) for id_, amount in rows(
        "SELECT claim, sum(amount) FROM settlement_entries GROUP BY claim FORMAT TSV")}  # fmt: skip
    ((balance, askew, quarantined),) = rows(
        "SELECT (SELECT sum(amount) FROM settlement_postings), (SELECT count() FROM"
        " (SELECT entry_id FROM settlement_postings GROUP BY entry_id HAVING sum(amount) != 0)),"
        " (SELECT count() FROM quarantine) FORMAT TSV"
    )
    billed = {id_: one for id_, one in model.sessions.items() if one.billed is not None}
    wanted = {}
    for id_, one in model.sessions.items():
        price = one.kwh * PRICE * VAT if one.periods else None  # no period, no word of a tariff
        wanted[id_] = (one.kwh, max(1, one.periods), price, one.status, one.status == "ACTIVE")
    return [
        *_unlike("session", wanted, sessions),
        *_unlike("bill", {id_: (one.billed, one.verdict) for id_, one in billed.items()}, bills),
        *_unlike("entry", {f"NL*TNM*C-{id_}": one.billed for id_, one in billed.items()}, entries),
        *([f"postings sum to {balance}"] if billed and Decimal(balance) else []),
        *([f"{askew} entries out of balance"] if askew != "0" else []),
        *([f"{quarantined} in quarantine"] if quarantined != "0" else []),
    ]


def _sound(up: Up) -> None:
    """The ledger's own invariants: nothing posted twice, no number missing, no statement misstated."""
    with up.client() as client:
        for row in queries.run(client, "books_balance"):
            wrong = {name: count for name, count in row.items() if name not in ("currency", "entries")}
            assert not any(wrong.values()), row


async def _answered(up: Up, model: Model) -> None:
    """A GET of every object answers with what was accepted."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as client:
        door = Door(client, lambda: str(up.said["api"]), model)
        for id_, one in model.sessions.items():
            session = await door.get(f"sessions/NL/TNM/{id_}")
            periods = len(session.get("charging_periods") or ())
            found = Decimal(str(session["kwh"])), periods, session["status"]
            assert found == (one.kwh, one.periods, one.status), id_
            if one.billed is not None:
                cdr = await door.get(f"cdrs/NL/TNM/C-{id_}")
                assert Decimal(str(cdr["total_energy"])) == one.kwh, id_


def _unlike(kind: str, wanted: dict[str, object], found: dict[str, object]) -> list[str]:
    return [
        f"{kind} {key}: {found.get(key)}, not {wanted.get(key)}"
        for key in sorted(wanted.keys() | found.keys())
        if wanted.get(key) != found.get(key)
    ]


def test_the_comparison_sees_what_differs() -> None:
    """A test that cannot fail would prove nothing."""
    one = Expected(Decimal(1), "ACTIVE", 0)
    assert _unlike("session", {"A": one.kwh}, {"A": Decimal(1)}) == []
    assert _unlike("session", {"A": one.kwh}, {"A": Decimal(2)}) == ["session A: 2, not 1"]
    assert _unlike("session", {"A": one.kwh}, {}) == ["session A: None, not 1"]
    assert _unlike("session", {}, {"B": one.kwh}) == ["session B: 1, not None"]
