"""`kill -9` during a bank import: the same file again books every payment, and each once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.records import EntryRecord, QuarantineRecord
from schemas.settlement import ReceiptRecord, StatementRecord
from schemas.topics import Topics
from streams.banking.matching import payment_id
from streams.worker import Worker, WorkerConfig
from tests.integration.api_helpers import ROOT
from tests.unit.banking.files import booked, document, transaction
from tests.unit.streams.books import claim, close, key_of, policy
from voltfold.latest import latest

MARCH, APRIL = "NLTNM-DEEMS-EUR-202603", "NLTNM-DEEMS-EUR-202604"
PAYMENTS = 120
MOMENTS = (("written", 0.0), ("written", 0.003), ("written", 0.03), ("time", 0.6), ("time", 0.9))
"""When it is killed: so many seconds after the first record came into the log, or after so much of the time
that a whole import takes."""


pytestmark = pytest.mark.timeout(600)  # a dozen processes, one after the other


class Bank:
    """The command, as a process, on one log."""

    def __init__(self, kafka: str, topics: Topics) -> None:
        self.kafka, self.topics = kafka, topics
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "VOLTFOLD_KAFKA": kafka,
            "VOLTFOLD_CLICKHOUSE": "http://127.0.0.1:9",
            "VOLTFOLD_TOPIC_PREFIX": topics.prefix,
            "VOLTFOLD_PARTITIONS": str(topics.partitions),
        }

    async def start(self, file: Path) -> asyncio.subprocess.Process:
        command = [sys.executable, "-m", "voltfold", "settlement", "import-bank", str(file), "--json"]
        return await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT, env=self.env
        )

    async def run(self, file: Path) -> list[dict[str, Any]]:
        """A whole import; what it says of each payment."""
        process = await self.start(file)
        out, error = await process.communicate()
        assert process.returncode == 0, error.decode()
        found: list[dict[str, Any]] = json.loads(out)
        return found

    async def written(self) -> int:
        """How many records the ledger topic holds, committed or not."""
        partitions = [
            TopicPartition(self.topics.ledger.name, n) for n in range(self.topics.ledger.partitions)
        ]
        return sum((await self.consumer.end_offsets(partitions)).values())

    async def kill(self, file: Path, when: str, after: float) -> int:
        """Start an import and kill it; how it ended."""
        before = await self.written()
        process = await self.start(file)
        if when == "written":
            while process.returncode is None and await self.written() == before:  # noqa: ASYNC110
                await asyncio.sleep(0)
        await asyncio.sleep(after)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
        assert process.returncode is not None
        return process.returncode

    async def conclude(self, count: int) -> dict[str, ReceiptRecord]:
        """The receipts, once the ledger has those of so many payments."""
        async with asyncio.timeout(60):
            while True:
                found = await latest(self.kafka, self.topics.receipts, ReceiptRecord)
                if len({payment_id(one) for one in found}) >= count:
                    return found
                await asyncio.sleep(0.2)


def _file(number: int) -> bytes:
    """Payments for both months and for one of them, which the bank tells apart by its own references."""
    entries = []
    for each in range(PAYMENTS):
        text = (f"{MARCH} {APRIL}", MARCH, f"{APRIL} and {MARCH}", "thanks")[each % 4]
        amount = f"{1 + each % 7}.{each % 10}5"
        entries.append(booked(amount, transaction(amount, text=text), reference=f"F{number}-{each}"))
    return document(entries)


def _amounts(said: list[dict[str, Any]]) -> list[tuple[str, Decimal]]:
    return [(one["id"], Decimal(one["amount"])) for one in said]


async def test_a_killed_import_is_run_again(broker: str, topics: Topics, tmp_path: Path) -> None:
    """Whenever it was: before, while and after it wrote, and before anybody folded what it wrote."""
    bank = Bank(broker, topics)
    bank.consumer = AIOKafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False)
    worker = asyncio.create_task(Worker(WorkerConfig(broker, topics, tmp_path / "worker")).run())
    try:
        await bank.consumer.start()
        bills = [claim("C1", "700"), claim("A1", "400", on="2026-04-09T10:00")]
        async with AIOKafkaProducer(bootstrap_servers=broker) as producer:
            for one in (policy(), *bills, close(MARCH), close(APRIL)):
                await producer.send_and_wait(topics.ledger.name, one.encode(), key_of(one))
        async with asyncio.timeout(60):
            while len(await latest(broker, topics.statements, StatementRecord)) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        file = tmp_path / "0.xml"
        file.write_bytes(_file(0))
        started = time.monotonic()
        assert all(one["new"] for one in await bank.run(file))
        whole = time.monotonic() - started
        ends = Counter[int]()
        for number, (when, after) in enumerate(MOMENTS, 1):
            file = tmp_path / f"{number}.xml"
            file.write_bytes(_file(number))
            ends[await bank.kill(file, when, after if when == "written" else after * whole)] += 1
            # At once, so that nobody has folded yet what the other one may have written.
            said = await bank.run(file)
        again = await bank.run(file)
        assert not any(one["new"] for one in again)
        assert _amounts(again) == _amounts(said)
        assert ends[-9] >= 3, f"hardly any was killed while it ran: {ends}"
        receipts = await bank.conclude(PAYMENTS * (1 + len(MOMENTS)))
    finally:
        await bank.consumer.stop()
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker
    amounts = [Decimal(f"{1 + each % 7}.{each % 10}5") for each in range(PAYMENTS)] * (1 + len(MOMENTS))
    booked_ = Counter[str]()
    for one in receipts.values():
        booked_[payment_id(one.id)] += one.amount
    assert sorted(booked_.values()) == sorted(amounts)
    assert any(one.endswith(":part2") for one in receipts), "some were for both"
    posted = await latest(broker, topics.settlement_entries, EntryRecord)
    bank_legs = [
        leg.amount for one in posted.values() for leg in one.legs if leg.account == "NL*TNM:bank:DE*EMS"
    ]
    assert sum(bank_legs) == sum(one.amount for one in receipts.values() if one.creditor)
    assert len(bank_legs) == sum(1 for one in receipts.values() if one.creditor)
    assert await latest(broker, topics.quarantine, QuarantineRecord) == {}
