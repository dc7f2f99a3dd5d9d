"""Tokens in ClickHouse: from the events of the log to the newest state of each, as the door's fold has it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.client import Client

from analytics.migrations import migrate
from analytics.queries import run
from analytics.sink import SinkConfig
from schemas.keys import object_key
from schemas.records import Event, event_id
from schemas.topics import Topics
from streams.objects import fold_object, load
from tests.analytics_helpers import running


def said(
    uid: str, method: str = "PUT", at: str = "2026-03-01T10:00:00Z", v: str = "2.3.0", **fields: Any
) -> Event:
    """A token event; a PUT has all that it must have."""
    body: dict[str, Any] = {"last_updated": at, **fields}
    if method == "PUT":
        names = {"auth_id": f"DE-{uid}"} if v == "2.1.1" else {"contract_id": f"DE-{uid}"}
        owner = {} if v == "2.1.1" else {"country_code": "DE", "party_id": "EMS"}
        body = {
            **owner,
            **names,
            "uid": uid,
            "type": "RFID",
            "issuer": "EMS",
            "valid": True,
            "whitelist": "ALWAYS",
            **body,
        }
    data = json.dumps(body).encode()
    path = ["DE", "EMS", uid]
    return Event(
        id=event_id("DE*EMS", "tokens", method, path, data),
        received_at=time.time_ns() // 1000,
        sender="DE*EMS",
        version=v,
        module="tokens",
        method=method,
        key=object_key(*path),
        path=path,
        request_id=None,
        correlation_id=None,
        body=data,
    )


EVENTS = [
    said("A", group_id="Fleet", visual_number="V-1"),
    said("a", "PATCH", "2026-03-02T10:00:00Z", group_id="FLEET"),
    said("A", "PATCH", "2026-03-01T12:00:00Z", group_id="older"),
    said("B", group_id="Fleet"),
    said("B", "PUT", "2026-03-03T10:00:00Z"),
    said("B", group_id="Fleet"),
    said("C", "PATCH", group_id="nobody said PUT"),
    said("D", group_id="fleet", valid=False),
    said("D", "PATCH", "2026-03-03T10:00:00+00:00", valid=True, visual_number=None),
    said("E", at="2026-03-01T10:00:00", v="2.1.1"),
    said("F", group_id="other"),
]


async def test_tokens(broker: str, engine: str, database: str, topics: Topics, clickhouse: Client) -> None:
    """The view has what the read view has; a fleet is what shares a group."""
    migrate(engine, database)
    async with AIOKafkaProducer(bootstrap_servers=broker) as producer:
        for event in [*EVENTS, EVENTS[0]]:
            await producer.send_and_wait(topics.tokens.name, event.encode(), key=event.key.encode())
    async with running(SinkConfig(broker, engine, database, topics)):
        async with asyncio.timeout(60):
            while clickhouse.command("SELECT count() FROM token_event_versions") != len(EVENTS) + 1:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    kinds = dict(
        clickhouse.query(
            "SELECT name, type FROM system.columns WHERE table = 'tokens' AND database = currentDatabase()"
        ).result_rows
    )
    assert kinds["last_updated"] == kinds["received_at"] == "DateTime64(6, 'UTC')"
    states: dict[str, bytes | None] = {}
    for event in [*EVENTS, EVENTS[0]]:
        states[event.key] = fold_object("tokens", states.get(event.key), event)
    rows = clickhouse.query("SELECT * FROM tokens ORDER BY key").named_results()
    found = {row["key"]: row for row in rows}
    expected = {key: load("tokens", state) for key, state in states.items() if state is not None}
    assert found.keys() == expected.keys() == {f"DE*EMS*{uid}" for uid in "ABDEF"}
    for key, token in expected.items():
        row = found[key]
        assert (row["country_code"], row["party_id"], row["uid"]) == ("DE", "EMS", token.uid)
        assert (row["group_id"], row["visual_number"]) == (token.group_id or "", token.visual_number or "")
        assert (row["contract_id"], row["valid"], row["type"]) == (token.contract_id, token.valid, token.type)
        assert row["last_updated"] == token.last_updated.replace(tzinfo=None)
    assert [
        (row["group_id"].upper(), row["tokens"], row["valid_tokens"]) for row in run(clickhouse, "fleets")
    ] == [
        ("FLEET", 2, 2),
        ("OTHER", 1, 1),
    ]
