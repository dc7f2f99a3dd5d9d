"""Replay against the live worker on a real broker: no difference, and every kind of difference is seen."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from schemas.records import ClaimRecord, Event, SessionRecord
from schemas.settlement import Fee
from schemas.topics import Topics
from streams import replay
from streams.ticker import ClockConfig
from streams.worker import Worker, WorkerConfig
from tests.unit.streams.books import claim, close, key_of, paid, policy
from tests.unit.streams.talk import Said, at, cdr, location, period, session, tariff


def authorised(number: int) -> dict[str, str]:
    """Every fourth session is paid by an authorization of its own."""
    return {"authorization_reference": f"A{number}"} if number % 4 == 0 else {}


SAID = [
    Said("locations", "PUT", location()),
    Said("tariffs", "PUT", tariff()),
    *(Said("sessions", "PUT", session(id=f"S{n}", **authorised(n)), n) for n in range(40)),
    *(
        Said(
            "sessions",
            "PATCH",
            {"charging_periods": [period("11:00:00", 5, 1)], "kwh": 15, "last_updated": at("12:00:00")},
            50 + n,
            f"S{n}",
        )
        for n in range(40)
    ),
    Said("sessions", "PATCH", {"kwh": 1, "last_updated": at("11:00:00")}, 95, "NEVER-PUT"),
    *(
        Said("cdrs", "POST", cdr(6 + n % 2, id=f"C{n}", session_id=f"S{n}", **authorised(n)), 100 + n)
        for n in range(30)
    ),
    Said("tariffs", "PUT", tariff(0.35, last_updated=at("09:00:00")), 200),
]

FEE = Fee(currency="EUR", party="NL*VLF", payer="NL*TNM", fixed=Decimal("0.1"), percent=Decimal(2))


@pytest.fixture
async def producer(broker: str) -> AsyncIterator[AIOKafkaProducer]:
    """Writes as the door does."""
    async with AIOKafkaProducer(bootstrap_servers=broker, acks="all", enable_idempotence=True) as producer:
        yield producer


@pytest.fixture
async def worker(broker: str, topics: Topics, tmp_path: Path) -> AsyncIterator[Worker]:
    """A worker with the standard folds."""
    worker = Worker(WorkerConfig(broker, topics, tmp_path))
    running = asyncio.create_task(worker.run())
    yield worker
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def say(producer: AIOKafkaProducer, topics: Topics, said: list[Said]) -> None:
    topic_of = {"cdrs": topics.sessions, "sessions": topics.sessions, "tariffs": topics.tariffs}
    for one in said:
        topic = topic_of.get(one.module, topics.locations)
        await producer.send_and_wait(topic.name, one.event.encode(), one.record_key)


async def tell(producer: AIOKafkaProducer, topics: Topics, *records: ClaimRecord | Event) -> None:
    """Write into the ledger."""
    for one in records:
        await producer.send_and_wait(topics.ledger.name, one.encode(), key_of(one))


async def checked(broker: str, topics: Topics) -> replay.Report:
    """The report once the worker has caught up."""
    group = f"{topics.prefix}-worker"
    async with asyncio.timeout(60):
        while True:
            report = await replay.check(broker, topics, group)
            if report.behind == 0:
                return report
            await asyncio.sleep(0.2)


async def test_the_live_records_are_those_of_the_log(
    broker: str, topics: Topics, producer: AIOKafkaProducer, worker: Worker
) -> None:
    empty = await replay.check(broker, topics, f"{topics.prefix}-worker")
    assert (empty.events, empty.records, empty.differences) == (0, 0, [])
    await say(producer, topics, SAID)
    report = await checked(broker, topics)
    assert report.differences == []
    assert report.events == len(SAID)
    kinds = "sessions, bills, entries, settled claims, payments, and one in quarantine"
    assert report.records == 40 + 30 + 30 + 30 + 10 + 1, kinds

    # What comes after a closing is late, so the ledger is folded in the order in which it stands.
    await tell(producer, topics, policy("as_priced", fees=[FEE], issue="direct", on="2024-05-01"))
    await tell(producer, topics, close("NLTNM-DEEMS-EUR-202405", on="2024-06-01"), paid("P1", "1.00"))
    await say(producer, topics, [Said("cdrs", "POST", cdr(9.0, id="LATE", session_id="LATE"), 77)])
    report = await checked(broker, topics)
    assert report.differences == []
    assert report.events == len(SAID) + 4
    fees = 31
    assert report.records > 141 + 2 * fees, "fees, a statement, an invoice, a receipt, a policy"


async def test_every_difference_is_seen(
    broker: str, topics: Topics, producer: AIOKafkaProducer, worker: Worker
) -> None:
    await say(producer, topics, SAID)
    assert (await checked(broker, topics)).differences == []
    states = topics.session_states.name
    await producer.send_and_wait(states, b"forged", b"NL*TNM*S1")
    await producer.send_and_wait(states, b"forged", b"NL*TNM*NOBODY")
    await producer.send_and_wait(topics.settled_claims.name, None, b"NL*TNM*C1")
    await tell(producer, topics, claim("INVENTED"))
    await producer.send_and_wait(topics.sessions.name, SAID[1].record()[1], b"x", partition=1)
    await producer.send_and_wait(topics.payment_states.name, None, b"DE*EMS*A8")
    report = await checked(broker, topics)
    assert set(report.differences) == {
        (topics.payment_states.name, "DE*EMS*A8", "missing"),
        (states, "NL*TNM*NOBODY", "unexpected"),
        (states, "NL*TNM*S1", "different"),
        (topics.ledger.name, "claim NL*TNM*INVENTED", "unexpected"),
        (topics.settled_claims.name, "NL*TNM*C1", "missing"),
    }


async def test_a_reference_that_nobody_said_is_seen(
    broker: str, topics: Topics, producer: AIOKafkaProducer, worker: Worker
) -> None:
    await say(producer, topics, SAID[:3])
    invented = Said("tariffs", "PUT", tariff(0.01), 7)
    await producer.send_and_wait(topics.sessions.name, invented.record()[1], b"x", partition=1)
    (difference,) = (await checked(broker, topics)).differences
    assert (difference.topic, difference.what) == (f"{topics.sessions.name}-1", "unexpected")


async def test_a_silent_session_is_told_by_the_logs_clock_and_lives_again(
    broker: str, topics: Topics, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """A worker writes the time into the log; what it concludes from silence, a replay concludes, too."""
    worker = Worker(WorkerConfig(broker, topics, tmp_path, ClockConfig(interval=0.4, stale_after=1.2)))
    running = asyncio.create_task(worker.run())
    states = AIOKafkaConsumer(
        topics.session_states.name,
        bootstrap_servers=broker,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await states.start()

    async def until(wanted: bool) -> SessionRecord:
        async with asyncio.timeout(30):
            async for message in states:
                record = SessionRecord.decode(message.value)
                if record.invalid_candidate == wanted:
                    return record
        raise AssertionError

    try:
        await say(producer, topics, [Said("sessions", "PUT", session(), time.time_ns() // 1000)])
        assert (await until(True)).status == "ACTIVE", "its operator alone may set it to INVALID"
        again = session(last_updated=at("12:00:00"))
        an_hour_ahead = time.time_ns() // 1000 + 3_600_000_000
        await say(producer, topics, [Said("sessions", "PUT", again, an_hour_ahead)])
        await until(False)
        ended = session(last_updated=at("12:30:00"), status="COMPLETED")
        await say(producer, topics, [Said("sessions", "PUT", ended, time.time_ns() // 1000)])
    finally:
        running.cancel()
        await asyncio.wait({running})
        await states.stop()
    report = await replay.check(broker, topics, f"{topics.prefix}-worker")
    assert (report.events, report.records) == (3, 1)
