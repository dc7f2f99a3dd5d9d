"""Records for the tests of analytics, and a producer that commits them as the worker does."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from aiokafka import AIOKafkaProducer

from analytics.sink import Sink, SinkConfig
from schemas.records import (
    AmountRecord,
    BillRecord,
    EntryRecord,
    LegRecord,
    PeriodRecord,
    Record,
    SessionRecord,
    micros,
)

EVENT = bytes(range(16))


def at(text: str) -> int:
    """Microseconds of a time in ISO 8601; UTC unless it says otherwise."""
    moment = datetime.fromisoformat(text)
    return micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def period(started_at: int, ended_at: int, kwh: str | Decimal, charging: bool = True) -> PeriodRecord:
    """A charging period."""
    return PeriodRecord(
        started_at=started_at, ended_at=ended_at, kwh=Decimal(kwh), charging=charging, tariff_id=None
    )


def session(number: int | str = 1, **changes: Any) -> SessionRecord:
    """A completed session of two hours and ten minutes, over four hours of the clock."""
    fields: dict[str, Any] = {
        "key": f"NL*TNM*S{number}",
        "country_code": "NL",
        "party_id": "TNM",
        "session_id": f"S{number}",
        "status": "COMPLETED",
        "started_at": at("2024-03-01T09:50:00"),
        "ended_at": at("2024-03-01T12:00:00"),
        "kwh": Decimal("12.5"),
        "currency": "EUR",
        "location_id": "LOC1",
        "evse_uid": "EVSE1",
        "connector_id": "1",
        "token_country_code": "DE",
        "token_party_id": "EMP",
        "token_uid": "TOKEN1",
        "contract_id": "DE8ACC12E46L89",
        "auth_method": "WHITELIST",
        "cdr_id": None,
        "reported_before_taxes": Decimal("4.00"),
        "reported_after_taxes": None,
        "price_before_taxes": Decimal("4.00"),
        "price_after_taxes": Decimal("4.84"),
        "tariffs": ["ab" * 16],
        "warnings": [],
        "last_updated": at("2024-03-01T12:00:01"),
        "received_at": at("2024-03-01T12:00:02"),
        "event_id": EVENT,
        "periods": [
            period(at("2024-03-01T09:50:00"), at("2024-03-01T11:30:00"), "12.5"),
            period(at("2024-03-01T11:30:00"), at("2024-03-01T12:00:00"), "0", charging=False),
        ],
    }
    return SessionRecord(**(fields | changes))


def bill(number: int | str = 1, billed: str = "4.84", priced: str = "4.84", **changes: Any) -> BillRecord:
    """A CDR of that session, billed and priced after taxes (at 21 %, before taxes accordingly)."""
    verdict = (
        "match"
        if billed == priced
        else ("overcharged" if Decimal(billed) > Decimal(priced) else "undercharged")
    )
    before = [(Decimal(amount) / Decimal("1.21")).quantize(Decimal("0.01")) for amount in (billed, priced)]
    amounts = [
        AmountRecord(
            total=total,
            billed_before_taxes=before[0],
            billed_after_taxes=Decimal(billed),
            priced_before_taxes=before[1],
            priced_after_taxes=Decimal(priced),
            verdict=verdict,
        )
        for total in ("total_cost", "total_energy_cost")
    ]
    fields: dict[str, Any] = {
        "key": f"NL*TNM*C{number}",
        "session_key": f"NL*TNM*S{number}",
        "country_code": "NL",
        "party_id": "TNM",
        "cdr_id": f"C{number}",
        "session_id": f"S{number}",
        "credit": False,
        "credit_reference_id": None,
        "started_at": at("2024-03-01T09:50:00"),
        "ended_at": at("2024-03-01T12:00:00"),
        "currency": "EUR",
        "location_id": "LOC1",
        "evse_uid": "EVSE1",
        "connector_id": "1",
        "token_country_code": "DE",
        "token_party_id": "EMP",
        "token_uid": "TOKEN1",
        "contract_id": "DE8ACC12E46L89",
        "total_energy": Decimal("12.5"),
        "total_time": Decimal("2.166666667"),
        "total_parking_time": None,
        "amounts": amounts,
        "verdict": verdict,
        "reason": "" if verdict == "match" else "the rate differs",
        "tariffs": ["ab" * 16],
        "tariff_source": "log",
        "late_tariff": False,
        "warnings": [],
        "last_updated": at("2024-03-01T12:01:00"),
        "received_at": at("2024-03-01T12:01:01"),
        "event_id": EVENT,
    }
    return BillRecord(**(fields | changes))


def entry(number: int | str = 1, amount: str = "4.84", **changes: Any) -> EntryRecord:
    """The settlement entry of that CDR."""
    owed = Decimal(amount)
    taxes = (owed - owed / Decimal("1.21")).quantize(Decimal("0.01"))
    fields: dict[str, Any] = {
        "id": f"NL*TNM*C{number}",
        "session_key": f"NL*TNM*S{number}",
        "creditor": "NL*TNM",
        "debtor": "DE*EMP",
        "currency": "EUR",
        "amount": owed,
        "credit_of": None,
        "occurred_at": at("2024-03-01T12:01:01"),
        "event_id": EVENT,
        "legs": [
            LegRecord(account="DE*EMP:payable:NL*TNM", amount=owed),
            LegRecord(account="NL*TNM:revenue:DE*EMP", amount=taxes - owed),
            LegRecord(account="NL*TNM:tax:DE*EMP", amount=-taxes),
        ],
    }
    return EntryRecord(**(fields | changes))


def key_of(record: Record) -> bytes:
    """The Kafka key of a conclusion."""
    key = record.id if isinstance(record, EntryRecord) else getattr(record, "key", "")
    return str(key).encode()


@contextlib.asynccontextmanager
async def transactions(kafka: str) -> AsyncIterator[AIOKafkaProducer]:
    """A producer with a transactional id of its own."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka,
        transactional_id=f"x-{uuid.uuid4().hex}",
        linger_ms=2,
        enable_idempotence=True,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def commit(
    producer: AIOKafkaProducer, topic: str, records: Iterable[Record | tuple[bytes, bytes | None]]
) -> None:
    """Write records (or keys and values) to one topic in one transaction."""
    async with producer.transaction():
        for record in records:
            key, value = (key_of(record), record.encode()) if isinstance(record, Record) else record
            await producer.send(topic, value, key=key)


@contextlib.asynccontextmanager
async def running(config: SinkConfig) -> AsyncIterator[Sink]:
    """A sink in this process, cancelled at the end."""
    sink = Sink(config)
    task = asyncio.create_task(sink.run())
    try:
        yield sink
        if task.done():
            await task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(true: Callable[[], bool], seconds: float = 40.0) -> float:
    """Wait for it, polling outside the loop's thread; return how long it took. Fails the test after that."""
    begun = time.monotonic()
    while not await asyncio.to_thread(true):
        assert time.monotonic() - begun < seconds, "it did not happen in time"
        await asyncio.sleep(0.02)
    return time.monotonic() - begun
