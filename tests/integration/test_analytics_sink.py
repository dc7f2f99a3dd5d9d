"""The sink between a real broker and a real engine: everything once, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from clickhouse_connect.driver.client import Client

from analytics.connection import connect
from analytics.migrations import migrate
from analytics.sink import SinkConfig
from schemas.records import DeliveryRecord, PeriodRecord, QuarantineRecord
from schemas.topics import Topics
from tests.analytics_helpers import (
    at,
    bill,
    commit,
    entry,
    period,
    running,
    session,
    transactions,
    until,
)
from tests.conftest import ROOT, StartEngine
from voltfold.processes import die_with_parent

HOUR = 3_600_000_000


@pytest.fixture
def config(broker: str, engine: str, database: str, topics: Topics) -> SinkConfig:
    """A sink on this test's own topics and tables."""
    migrate(engine, database)
    return SinkConfig(broker, engine, database, topics)


@pytest.fixture
def spawn(config: SinkConfig) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a sink as a process of its own, which may be killed."""
    topics, started = config.topics, []
    code = (
        "import asyncio; from analytics.sink import Sink, SinkConfig; from schemas.topics import Topics; "
        f"asyncio.run(Sink(SinkConfig({config.kafka!r}, {config.clickhouse!r}, {config.database!r}, "
        f"Topics({topics.prefix!r}, {topics.partitions}), max_rows=500, member='a')).run())"
    )

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


async def test_every_kind_of_record_arrives(config: SinkConfig, clickhouse: Client) -> None:
    """One of each, selectable through the views with the figures it was written with."""
    topics = config.topics
    quarantined = QuarantineRecord(
        topic="t", partition=1, offset=7, reason="no_tariff", message="x", received_at=None, value=b"\x00\xff"
    )
    async with transactions(config.kafka) as producer, running(config) as sink:
        await commit(producer, topics.session_states.name, [session()])
        await commit(producer, topics.bills.name, [bill(billed="5.45")])
        await commit(producer, topics.settlement_entries.name, [entry()])
        await commit(producer, topics.quarantine.name, [quarantined, quarantined])
        await until(lambda: sink.health()["rows"] == 5)
        health = sink.health()
        assert (health["ready"], health["faults"], health["lag"]) == (True, {}, 0)
    found = clickhouse.query(
        "SELECT session_id, kwh, duration_seconds, counted, periods, event_id, tariffs FROM sessions"
    ).result_rows
    event = bytes(range(16)).hex()
    assert found == [("S1", Decimal("12.5"), Decimal(7800), 1, 2, event, ["ab" * 16])]
    assert clickhouse.query(
        "SELECT number, kwh, charging, duration_seconds FROM charging_periods ORDER BY number"
    ).result_rows == [(1, Decimal("12.5"), True, Decimal(6000)), (2, Decimal(0), False, Decimal(1800))]
    assert clickhouse.query(
        "SELECT kwh, hours, parking_hours, total_cost_after_taxes, total_energy_cost_after_taxes,"
        " total_time_cost_after_taxes FROM cdrs"
    ).result_rows == [(Decimal("12.5"), Decimal("2.166666667"), None, Decimal("5.45"), Decimal("5.45"), None)]
    assert clickhouse.query(
        "SELECT billed_after_taxes, priced_after_taxes, difference, verdict, reason FROM priced_cdrs"
    ).result_rows == [(Decimal("5.45"), Decimal("4.84"), Decimal("0.61"), "overcharged", "the rate differs")]
    assert clickhouse.query("SELECT total, difference FROM priced_totals ORDER BY total").result_rows == [
        ("total_cost", Decimal("0.61")),
        ("total_energy_cost", Decimal("0.61")),
    ]
    assert clickhouse.query("SELECT creditor, debtor, amount FROM settlement_entries").result_rows == [
        ("NL*TNM", "DE*EMP", Decimal("4.84"))
    ]
    assert clickhouse.query(
        "SELECT party, kind, counterparty, amount FROM settlement_postings ORDER BY number"
    ).result_rows == [
        ("DE*EMP", "payable", "NL*TNM", Decimal("4.84")),
        ("NL*TNM", "revenue", "DE*EMP", Decimal("-4.00")),
        ("NL*TNM", "tax", "DE*EMP", Decimal("-0.84")),
    ]
    assert clickhouse.query("SELECT topic, partition, offset, value_base64 FROM quarantine").result_rows == [
        ("t", 1, 7, "AP8=")
    ]


async def test_a_newer_conclusion_replaces_everything_of_the_older(
    config: SinkConfig, clickhouse: Client
) -> None:
    """Another EVSE, other hours, fewer periods: nothing of the older is left anywhere."""
    newer = session(
        evse_uid="EVSE2",
        started_at=at("2024-03-02T10:00:00"),
        ended_at=at("2024-03-02T11:00:00"),
        kwh=Decimal(3),
        periods=[period(at("2024-03-02T10:00:00"), at("2024-03-02T11:00:00"), "3")],
    )
    async with transactions(config.kafka) as producer, running(config) as sink:
        for record in (session(), newer):
            await commit(producer, config.topics.session_states.name, [record])
        await until(lambda: sink.health()["rows"] == 2)
    assert clickhouse.query("SELECT evse_uid, kwh, periods FROM sessions").result_rows == [("EVSE2", 3, 1)]
    assert clickhouse.query("SELECT evse_uid, kwh FROM charging_periods").result_rows == [("EVSE2", 3)]
    assert clickhouse.query(
        "SELECT evse_uid, toString(hour), occupied_seconds, charging_seconds, kwh, sessions"
        " FROM evse_utilisation_hourly"
    ).result_rows == [("EVSE2", "2024-03-02 10:00:00", 3600, 3600, 3, 1)]


async def test_an_older_record_never_overwrites_a_newer(config: SinkConfig, clickhouse: Client) -> None:
    """The whole log is read again after the last record was inserted: the same rows."""
    topic = config.topics.session_states.name
    async with transactions(config.kafka) as producer:
        for kwh in range(1, 6):
            await commit(producer, topic, [session(n, kwh=Decimal(kwh)) for n in range(5)])
    counted = "SELECT count(), sum(kwh) FROM sessions"
    async with running(config) as sink:
        await until(lambda: sink.health()["rows"] == 25)
    assert clickhouse.query(counted).first_row == (5, 25)
    await _rewind(config)
    async with running(config) as sink:
        await until(lambda: sink.health()["rows"] == 25)
        assert clickhouse.query(counted).first_row == (5, 25)
    # And into emptied tables: the deduplication window must not swallow what is no longer there.
    clickhouse.command("TRUNCATE TABLE session_versions")
    assert clickhouse.query(counted).first_row == (0, 0)
    await _rewind(config)
    async with running(config) as sink:
        await until(lambda: sink.health()["rows"] == 25)
        assert clickhouse.query(counted).first_row == (5, 25)


async def _rewind(config: SinkConfig) -> None:
    """Commit the log's beginning for the group of the sinks, as after a loss of its offsets."""
    consumer = AIOKafkaConsumer(
        *(config.topics.session_states.name,),
        bootstrap_servers=config.kafka,
        group_id=config.group,
        enable_auto_commit=False,
    )
    await consumer.start()
    await consumer.seek_to_beginning()
    await consumer.commit({tp: await consumer.position(tp) for tp in consumer.assignment()})
    await consumer.stop()


async def test_aborted_transactions_are_invisible(config: SinkConfig, clickhouse: Client) -> None:
    """What the worker aborted was never concluded; what came after it is read."""
    topic = config.topics.session_states.name
    async with transactions(config.kafka) as producer, running(config) as sink:
        with contextlib.suppress(ZeroDivisionError):
            async with producer.transaction():
                await producer.send_and_wait(topic, session(1).encode(), key=b"NL*TNM*S1")
                raise ZeroDivisionError
        await commit(producer, topic, [session(2)])
        await until(lambda: sink.health()["rows"] == 1)
        await asyncio.sleep(0.3)
        assert sink.health()["rows"] == 1
    assert clickhouse.query("SELECT session_id FROM sessions").result_rows == [("S2",)]


async def test_a_key_that_is_taken_back_disappears(config: SinkConfig, clickhouse: Client) -> None:
    """From every view; and comes again with a later record."""
    topics = config.topics
    async with transactions(config.kafka) as producer, running(config) as sink:
        await commit(producer, topics.session_states.name, [session(1), session(2)])
        await commit(producer, topics.bills.name, [bill(1)])
        await commit(producer, topics.settlement_entries.name, [entry(1)])
        await commit(producer, topics.session_states.name, [(b"NL*TNM*S1", None)])
        await commit(producer, topics.bills.name, [(b"NL*TNM*C1", None)])
        await commit(producer, topics.settlement_entries.name, [(b"NL*TNM*C1", None)])
        await until(lambda: sink.health()["rows"] == 7)
        assert clickhouse.query("SELECT session_id FROM sessions").result_rows == [("S2",)]
        assert clickhouse.command("SELECT count(DISTINCT session_key) FROM charging_periods") == 1
        assert clickhouse.command("SELECT sum(kwh) FROM evse_utilisation_hourly") == "12.5"
        for view in ("cdrs", "priced_cdrs", "priced_totals", "settlement_entries", "settlement_postings"):
            assert clickhouse.command(f"SELECT count() FROM {view}") == 0
        await commit(producer, topics.session_states.name, [session(1)])
        await until(lambda: sink.health()["rows"] == 8)
        assert clickhouse.command("SELECT count() FROM sessions") == 2


async def test_what_became_of_deliveries(config: SinkConfig, clickhouse: Client) -> None:
    """The latest outcome of each, and none once it is to be tried again."""
    outbound = config.topics.outbound.name

    def delivery(module: str, outcome: str, seconds: int) -> DeliveryRecord:
        return DeliveryRecord(
            connection="c", module=module, key="NL*TNM*1", outcome=outcome, digest=b"\x00", attempts=1,
            http=None, ocpi=2001, message="no", since=0, at=seconds * 1_000_000,
        )  # fmt: skip

    async with AIOKafkaProducer(bootstrap_servers=config.kafka) as producer, running(config) as sink:
        for record in (delivery("cdrs", "refused", 1), delivery("tariffs", "refused", 2)):
            key = f"c|{record.module}|NL*TNM*1".encode()
            await producer.send_and_wait(outbound, record.encode(), key)
        await producer.send_and_wait(outbound, None, b"c|cdrs|NL*TNM*1")
        await producer.send_and_wait(
            outbound, delivery("tariffs", "delivered", 3).encode(), b"c|tariffs|NL*TNM*1"
        )
        await until(lambda: sink.health()["rows"] == 4)
    query = "SELECT connection, module, key, outcome, ocpi, seconds FROM deliveries"
    assert clickhouse.query(query).result_rows == [
        ("c", "tariffs", "NL*TNM*1", "delivered", 2001, Decimal(3))
    ]


async def test_unreadable_records_are_kept_and_hold_nothing_up(
    config: SinkConfig, clickhouse: Client
) -> None:
    """Bytes of no schema, of another's, cut off, with too large an amount: each in sink_errors, once."""
    topic = config.topics.session_states.name
    whole = session(9).encode()
    beyond = b"\x22" + b"\x7f" * 17  # kwh of 17 bytes: more than 38 digits
    kwh = whole.index(b"\x0a" + int(Decimal("12.5") * 10**9).to_bytes(5, "big"))
    bad = {
        b"garbage": b"garbage",
        b"nothing": b"",
        b"foreign": entry().encode(),
        b"cut": whole[:-40],
        b"beyond": whole[:kwh] + beyond + whole[kwh + 6 :],
    }
    assert len(set(bad.values())) == 5
    async with transactions(config.kafka) as producer, running(config) as sink:
        await commit(producer, topic, [session(n) for n in range(20)])
        await commit(producer, topic, [*bad.items(), *(session(n) for n in range(20, 40))])
        await until(lambda: clickhouse.command("SELECT count() FROM sessions") == 40)
        await until(lambda: clickhouse.command("SELECT count() FROM sink_errors FINAL") == 5)
        assert sink.health()["ready"]
    errors = clickhouse.query(
        "SELECT key, error FROM sink_errors FINAL WHERE topic = {t:String}", {"t": topic}
    )
    assert {key for key, _ in errors.result_rows} == {key.decode() for key in bad}
    assert all(error for _, error in errors.result_rows)
    await _rewind(config)
    async with running(config) as sink:
        await until(lambda: sink.health()["rows"] == 40)
    assert clickhouse.command("SELECT count() FROM sink_errors FINAL") == 5


@pytest.mark.timeout(300)
async def test_killed_in_mid_stream_counts_once(
    config: SinkConfig, clickhouse: Client, spawn: Callable[[], subprocess.Popen[bytes]]
) -> None:
    """SIGKILL, four times, while records stream in; every session has two versions, and counts once."""
    topic, total = config.topics.session_states.name, 16_000
    seen = [0]

    async def produce() -> None:
        async with transactions(config.kafka) as producer:
            for begin in range(0, total, 400):
                await commit(
                    producer, topic, [session(n, kwh=Decimal(99)) for n in range(begin, begin + 400)]
                )
                await commit(producer, topic, [session(n) for n in range(begin, begin + 400)])

    producing = asyncio.create_task(produce())
    for _ in range(4):
        process = spawn()
        await until(lambda: _count(clickhouse) > seen[-1], 60)
        process.kill()
        process.wait()
        seen.append(_count(clickhouse))
    assert 0 < seen[1] < total
    spawn()
    await producing
    await until(lambda: _count(clickhouse) == total, 60)
    await until(
        lambda: clickhouse.query("SELECT sum(kwh) FROM sessions").first_row == (total * Decimal("12.5"),)
    )
    assert clickhouse.query(
        "SELECT sum(kwh), sum(occupied_seconds) FROM evse_utilisation_hourly"
    ).first_row == (total * Decimal("12.5"), total * 7800)


def _count(clickhouse: Client) -> int:
    return int(str(clickhouse.command("SELECT count() FROM sessions")))


async def test_several_sinks_share_the_work(config: SinkConfig, clickhouse: Client) -> None:
    """One joins and one leaves while records stream in: all there, once."""
    topic, total = config.topics.session_states.name, 6_000
    async with transactions(config.kafka) as producer, contextlib.AsyncExitStack() as sinks:
        first = await sinks.enter_async_context(running(config))
        await commit(producer, topic, [session(n) for n in range(2_000)])
        await until(lambda: first.health()["rows"] == 2_000)
        async with running(config) as second:
            await until(lambda: bool(second.health()["ready"]))
            for begin in range(2_000, 5_000, 100):
                await commit(producer, topic, [session(n) for n in range(begin, begin + 100)])
            await until(lambda: _count(clickhouse) == 5_000)
            assert second.health()["rows"] != 0
        await commit(producer, topic, [session(n) for n in range(5_000, total)])
        await until(lambda: _count(clickhouse) == total)
    assert clickhouse.query("SELECT sum(kwh) FROM sessions").first_row == (total * Decimal("12.5"),)


@pytest.mark.timeout(300)
async def test_the_engine_dies_and_comes_back(
    broker: str, topics: Topics, start_engine: StartEngine, tmp_path: Path
) -> None:
    """The sink waits, says so, and goes on; it starts before there is an engine, too."""
    own = start_engine(tmp_path)
    topic = topics.session_states.name
    migrate(own.url, "own")
    config = SinkConfig(broker, own.url, "own", topics)
    port = int(own.url.rsplit(":", 1)[1])
    own.process.kill()
    own.process.wait()
    async with transactions(broker) as producer, running(config) as sink:
        await commit(producer, topic, [session(n) for n in range(100)])
        await until(lambda: bool(sink.health()["faults"]))
        assert not sink.health()["ready"]
        own = await asyncio.to_thread(start_engine, tmp_path, port=port)
        await until(lambda: sink.health()["rows"] == 100)
        assert sink.health()["ready"]
        own.process.kill()
        own.process.wait()
        await commit(producer, topic, [session(n) for n in range(50, 200)])
        await until(lambda: not sink.health()["ready"])
        own = await asyncio.to_thread(start_engine, tmp_path, port=port)
        with connect(own.url, "own") as client:
            await until(lambda: _count(client) == 200)
        await until(lambda: bool(sink.health()["ready"]))
        # What was read and not inserted is not committed: the next sink reads it.
        own.process.kill()
        own.process.wait()
        await commit(producer, topic, [session(n) for n in range(200, 300)])
        await until(lambda: not sink.health()["ready"])
    own = await asyncio.to_thread(start_engine, tmp_path, port=port)
    with connect(own.url, "own") as client:
        assert _count(client) == 200
        async with running(config):
            await until(lambda: _count(client) == 300)


async def test_fresh_at_light_load(config: SinkConfig, clickhouse: Client) -> None:
    """A committed record can be selected within a few hundred milliseconds."""
    topic = config.topics.session_states.name
    took = []
    async with transactions(config.kafka) as producer, running(config) as sink:
        await commit(producer, topic, [session("first")])
        await until(lambda: _count(clickhouse) == 1)
        for number in range(2, 32):
            await commit(producer, topic, [session(number)])
            took.append(await until(lambda number=number: _count(clickhouse) == number))
            await asyncio.sleep(0.05)
        assert sink.health()["ready"]
    took.sort()
    print(f"committed to selectable: median {took[15]:.3f} s, worst {took[-1]:.3f} s")
    assert took[15] < 1.0


async def test_long_arrays_and_no_arrays(config: SinkConfig, clickhouse: Client) -> None:
    """A session of 3,000 periods and one of none; text beyond ASCII; far amounts; times before 1970."""
    begin = at("2024-01-01T00:00:00")
    many: list[PeriodRecord] = [
        period(begin + n * HOUR // 10, begin + (n + 1) * HOUR // 10, "0.000000001") for n in range(3000)
    ]
    odd = session(
        "é'\\\n\x00",
        kwh=Decimal("-99999999999999999999999999999.999999999"),
        started_at=-1,
        ended_at=at("9999-12-31T23:59:59"),
        periods=[],
        warnings=["a", "b"],
    )
    long = session(2, started_at=begin, ended_at=begin + 300 * HOUR, kwh=Decimal("0.000003"), periods=many)
    async with transactions(config.kafka) as producer, running(config) as sink:
        await commit(producer, config.topics.session_states.name, [odd, long])
        await until(lambda: sink.health()["rows"] == 2)
    assert clickhouse.query("SELECT session_id, kwh, counted FROM sessions ORDER BY kwh").result_rows == [
        (odd.session_id, odd.kwh, 0),
        ("S2", Decimal("0.000003"), 1),
    ]
    assert clickhouse.query(
        "SELECT count(), sum(kwh), min(kwh), max(kwh), sum(occupied_seconds) FROM evse_utilisation_hourly"
    ).first_row == (300, Decimal("0.000003"), Decimal("0.00000001"), Decimal("0.00000001"), 300 * 3600)
