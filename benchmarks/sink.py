"""How fast the sink is, on a broker and an engine that this starts: `python benchmarks/sink.py [SESSIONS]`.

Prints how long waiting records take to insert, what views over them cost, and how fresh single records are.
Everything runs on this machine's cores, the broker and the engine too.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import psutil
from aiokafka import AIOKafkaProducer

from analytics.connection import connect
from analytics.migrations import migrate
from analytics.sink import Sink, SinkConfig
from schemas.records import PeriodRecord, SessionRecord
from schemas.topics import Topics
from voltfold import broker
from voltfold.ports import free_port
from voltfold.processes import die_with_parent
from voltfold.topics import create_topics

QUARTER = 900_000_000
BATCH = 4000


def session(number: int) -> SessionRecord:
    """Two hours of charging in eight periods, somewhere in a year on one of 500 EVSEs."""
    begin = 1_700_000_000_000_000 + number % 35_000 * QUARTER
    periods = [
        PeriodRecord(
            started_at=begin + n * QUARTER,
            ended_at=begin + (n + 1) * QUARTER,
            kwh=Decimal("1.375"),
            charging=n < 6,
            tariff_id=None,
        )
        for n in range(8)
    ]
    return SessionRecord(
        key=f"NL*TNM*{number}",
        country_code="NL",
        party_id="TNM",
        session_id=str(number),
        status="COMPLETED",
        started_at=begin,
        ended_at=begin + 8 * QUARTER,
        kwh=Decimal(11),
        currency="EUR",
        location_id=f"LOC{number % 50}",
        evse_uid=f"EVSE{number % 500}",
        connector_id="1",
        token_country_code="DE",
        token_party_id="EMP",
        token_uid=f"TOKEN{number % 10_000}",
        contract_id=f"DE-EMP-{number % 10_000}",
        auth_method="WHITELIST",
        cdr_id=str(number),
        reported_before_taxes=Decimal("3.85"),
        reported_after_taxes=Decimal("4.6585"),
        price_before_taxes=Decimal("3.85"),
        price_after_taxes=Decimal("4.6585"),
        tariffs=["5f" * 16],
        warnings=[],
        last_updated=begin + 8 * QUARTER,
        received_at=begin + 8 * QUARTER,
        event_id=number.to_bytes(16, "big"),
        periods=periods,
    )


def start(stack: ExitStack, command: list[str], log: Path) -> None:
    """A process that ends with this one."""
    output = stack.enter_context(log.open("wb"))
    process = subprocess.Popen(command, stdout=output, stderr=output, preexec_fn=die_with_parent)
    stack.callback(process.wait)
    stack.callback(process.terminate)


async def until(true: Callable[[], bool]) -> None:
    """Wait for it, asking in a thread."""
    while not await asyncio.to_thread(true):  # noqa: ASYNC110 - nobody could set an event
        await asyncio.sleep(0.002)


async def measure(kafka: str, clickhouse: str, total: int) -> None:
    """Fill the log, then let the sink have it."""
    topics = Topics("bench")
    await create_topics(kafka, topics.all())
    migrate(clickhouse, "bench")
    topic = topics.session_states.name
    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id="bench", linger_ms=5)
    await producer.start()
    size = 0
    for first in range(0, total, BATCH):
        async with producer.transaction():
            for number in range(first, min(total, first + BATCH)):
                record = session(number)
                value = record.encode()
                size += len(value)
                await producer.send(topic, value, key=record.key.encode())

    sink = Sink(SinkConfig(kafka, clickhouse, "bench", topics))
    client = connect(clickhouse, "bench")
    running = asyncio.create_task(sink.run())
    await until(lambda: sink.health()["rows"] != 0)
    begun, already = time.perf_counter(), int(str(sink.health()["rows"]))
    await until(lambda: sink.health()["rows"] == total)
    took = time.perf_counter() - begun
    resident = psutil.Process().memory_info().rss >> 20
    print(f"{total} session records of {size // total} bytes: {(total - already) / took:,.0f} a second")
    print(f"resident, this process: {resident} MB")

    for query in (
        "SELECT count(), sum(kwh) FROM sessions",
        "SELECT count(), sum(kwh) FROM charging_periods",
        "SELECT count(), sum(kwh) FROM evse_utilisation_hourly",
    ):
        begun = time.perf_counter()
        count, kwh = client.query(query).first_row
        print(f"{query}: {count} rows, {kwh:f} kWh, {time.perf_counter() - begun:.2f} s")

    fresh = []
    for number in range(total, total + 200):
        record = session(number)
        async with producer.transaction():
            await producer.send(topic, record.encode(), key=record.key.encode())
        begun = time.perf_counter()
        asked = f"SELECT count() FROM sessions WHERE key = '{record.key}'"
        await until(lambda asked=asked: client.query(asked).first_row[0] == 1)
        fresh.append(time.perf_counter() - begun)
        await asyncio.sleep(0.05)
    fresh.sort()
    print(f"from commit to selectable: p50 {fresh[100] * 1000:.0f} ms, p99 {fresh[198] * 1000:.0f} ms")
    await producer.stop()
    running.cancel()
    await asyncio.wait([running])


def main() -> None:
    """Start the servers, measure, stop them."""
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, taken = Path(name), set[int]()
        log = broker.BrokerConfig(folder / "kafka", free_port(None, taken), free_port(None, taken))
        start(stack, broker.prepare(log), folder / "kafka.log")
        port = free_port(None, taken)
        serve = (
            "from pathlib import Path; from analytics.engine import EngineConfig, run; "
            f"run(EngineConfig(Path({str(folder / 'clickhouse')!r}), port={port}))"
        )
        start(stack, [sys.executable, "-c", serve], folder / "clickhouse.log")
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while not asyncio.run(broker.is_ready(log.address)):
            assert time.monotonic() < deadline, "the broker did not start"
            time.sleep(0.1)
        while True:
            try:
                urllib.request.urlopen(f"{url}/ping", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the engine did not start"
                time.sleep(0.1)
        asyncio.run(measure(log.address, url, total))


if __name__ == "__main__":
    main()
