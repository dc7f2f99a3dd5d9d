"""Settlement on a running family: a month is settled, and whoever is killed while it closes, it is right."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from analytics import queries
from analytics.connection import connect
from analytics.ledger import closed_statements, entries_of
from schemas.records import Event
from schemas.settlement import reference_of
from schemas.topics import Topics
from streams import replay
from streams.ledger.statements import closed_statement
from tests import month as months
from tests.conftest import ROOT
from tests.month import BILLION, FIRST, SECOND
from voltfold import settlement
from voltfold.family import Family
from voltfold.settings import Settings

SESSIONS = 300
AWAY = (ClickHouseError, HTTPError, KafkaError, OSError, settlement.RefusedError)


@pytest.fixture
async def family(tmp_path: Path) -> AsyncIterator[Family]:
    """Broker, engine, a worker and a sink."""
    settings = Settings(data=tmp_path, partitions=3)
    async with Family(settings, only=("broker", "analytics", "worker", "sink")) as family:
        yield family


@contextlib.contextmanager
def client_of(family: Family) -> Iterator[Client]:
    with connect(family.clickhouse, family.settings.clickhouse_database) as client:
        yield client


async def tell(family: Family, *told: tuple[str, list[tuple[bytes, Event]]]) -> None:
    """Write events into topics, in order; while the broker is away, again: twice is once."""
    deadline = time.monotonic() + 120
    while True:
        try:
            async with AIOKafkaProducer(bootstrap_servers=family.kafka, acks="all", linger_ms=5) as producer:
                for topic, records in told:
                    sent = [await producer.send(topic, event.encode(), key) for key, event in records]
                    await asyncio.gather(*sent)
        except KafkaError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.5)
        else:
            return


async def until(true: Callable[[], Any], seconds: float = 90.0) -> Any:
    """Wait for it; servers that are away are waited for."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(*AWAY):
            if found := await asyncio.to_thread(true):
                return found
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.1)


def voltfold(family: Family, *arguments: str) -> Any:
    """What a command prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "voltfold", *arguments, "--data", str(family.folder), "--json"],
        capture_output=True, text=True, timeout=90, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def balances(client: Client) -> dict[tuple[str, str], int]:
    """What stands on each account, in billionths."""
    rows = client.query("SELECT account, currency, balance FROM accounts WHERE balance != 0").result_rows
    return {(account, currency): int(Decimal(balance) * BILLION) for account, currency, balance in rows}


def whole(client: Client) -> int:
    """How many statements are closed; each with exactly the lines that its digest tells."""
    closed = closed_statements(client)
    for record in closed:
        closed_statement(record, entries_of(client, record.reference))
    return len(closed)


@pytest.mark.timeout(300)
async def test_a_month_is_settled_whoever_is_killed_while_it_closes(family: Family) -> None:
    month = months.make(SESSIONS)
    topics = Topics(family.settings.topic_prefix, family.settings.partitions)
    by_topic = {"tariffs": topics.tariffs.name, "locations": topics.locations.name}
    for event in month.objects:
        await tell(family, (by_topic[event.module], [(event.key.encode(), event)]))
    cdrs = month.early[2 * len(months.OPERATORS) :]
    await tell(family, (topics.ledger.name, month.policies), (topics.sessions.name, cdrs))

    def arrived(count: int) -> Callable[[], bool]:
        query = "SELECT countIf(kind != 'fee'), countIf(reason = 'cannot_be_priced') FROM claims"

        def look() -> bool:
            with client_of(family) as client:
                return client.query(query).result_rows == [(count, 0)]

        return look

    await until(arrived(len(cdrs)))

    # The first month is closed while one process after the other is killed.
    dice = random.Random(7)
    names = [reference_of(*direction, FIRST) for direction in month.owed]

    async def havoc() -> None:
        for name in ("worker-0", "broker", "sink", "worker-0", "analytics", "worker-0"):
            await asyncio.sleep(dice.uniform(0.2, 1.5))
            if pid := family.pids.get(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killing = asyncio.create_task(havoc())
    await tell(family, (topics.ledger.name, month.closings(FIRST)))
    seen = 0
    while seen < len(names):

        def look() -> int:
            with client_of(family) as client:
                return whole(client) + 1

        seen = await until(look) - 1
        await asyncio.sleep(0.2)
    await killing
    assert seen == len(names)

    # What is late, what people decide and what is paid; then the second month, by command, twice.
    await tell(family, (topics.sessions.name, month.late))
    await until(arrived(len(cdrs) + len(month.late)))
    await tell(family, (topics.ledger.name, month.money))
    with client_of(family) as client:
        receipts = sum(event.module == "receipts" for _, event in month.money)
        await until(lambda: client.command("SELECT count() FROM receipts") == receipts)
        await until(lambda: not {row["id"] for row in settlement.held(client)} - month.held)
        closed = await asyncio.to_thread(voltfold, family, "settlement", "close", "--period", SECOND)
        assert {one["reference"] for one in closed} == {
            reference_of(*direction, SECOND) for direction, owed in month.owed.items() if owed.lines[SECOND]
        }
        again = await asyncio.to_thread(voltfold, family, "settlement", "close", closed[0]["reference"])
        assert again == closed[:1]

        accounts = balances(client)
        for direction, owed in month.owed.items():
            creditor, debtor, currency = direction
            months_closed = tuple(m for m in (FIRST, SECOND) if m == FIRST or owed.lines[SECOND])
            expected = month.balance(direction, closed=months_closed)
            assert accounts.get((f"{debtor}:payable:{creditor}", currency), 0) == expected, direction
        for row in queries.run(client, "books_balance"):
            assert not any(value for name, value in row.items() if name not in ("currency", "entries")), row
        assert whole(client) == len(names) + len(closed)
        assert client.command("SELECT count() FROM quarantine") == 0
        assert client.command("SELECT countIf(status = 'matched' AND issued) FROM reconciliations") > 0

        found = await asyncio.to_thread(voltfold, family, "settlement", "statement", closed[0]["reference"])
        assert found["digest"] == closed[0]["digest"]
        nets = await asyncio.to_thread(voltfold, family, "settlement", "net", "NL*TNM")
        assert {tuple(row["parties"]) for row in nets} == {
            tuple(sorted(direction[:2])) for direction in month.owed if "NL*TNM" in direction
        }
        disputes = await asyncio.to_thread(voltfold, family, "dispute", "list")
        assert {row["id"] for row in disputes} == month.held
        first = disputes[0]
        accepted = await asyncio.to_thread(
            voltfold, family, "dispute", "accept", first["id"], "--why", "the operator explained it"
        )
        assert (accepted["status"], accepted["decision"]) == ("posted", "accept")
        shown = await asyncio.to_thread(voltfold, family, "dispute", "show", first["id"])
        assert [one["late"] for one in shown["history"]] == [True]

    report = await replay.check(family.kafka, topics, f"{topics.prefix}-worker")
    assert report.differences == []
