"""The sink between a real broker and a real engine: everything once, whatever happens in between."""

from __future__ import annotations

from decimal import Decimal

import pytest
from clickhouse_connect.driver.client import Client

from analytics.migrations import migrate
from analytics.sink import SinkConfig
from schemas.records import QuarantineRecord
from schemas.topics import Topics
from tests.analytics_helpers import bill, commit, entry, running, session, transactions, until


@pytest.fixture
def config(broker: str, engine: str, database: str, topics: Topics) -> SinkConfig:
    """A sink on this test's own topics and tables."""
    migrate(engine, database)
    return SinkConfig(broker, engine, database, topics)


async def test_every_kind_of_record_arrives(config: SinkConfig, clickhouse: Client, broker: str) -> None:
    """One of each, selectable through the views with the figures it was written with."""
    topics = config.topics
    quarantined = QuarantineRecord(
        topic="t", partition=1, offset=7, reason="no_tariff", message="x", received_at=None, value=b"\x00\xff"
    )
    async with transactions(broker) as producer, running(config) as sink:
        await commit(producer, topics.session_states.name, [session()])
        await commit(producer, topics.bills.name, [bill(billed="5.00")])
        await commit(producer, topics.settlement_entries.name, [entry()])
        await commit(producer, topics.quarantine.name, [quarantined])
        await until(lambda: clickhouse.command("SELECT count() FROM quarantine") == 1)
        await until(lambda: clickhouse.command("SELECT count() FROM settlement_entries") == 1)
        await until(lambda: sink.health()["rows"] == 4)
        assert sink.health()["ready"]
    assert clickhouse.query(
        "SELECT session_id, kwh, duration_seconds, counted, periods FROM sessions"
    ).result_rows == [("S1", Decimal("12.5"), Decimal(7800), 1, 2)]
