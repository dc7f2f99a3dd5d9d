"""The local broker: settings that hold on the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.topics import Topics
from voltfold import broker as kafka_broker
from voltfold.broker import BrokerConfig, prepare, rehearse, wait_until_ready
from voltfold.processes import die_with_parent
from voltfold.topics import create_topics


async def test_large_records_survive_a_transaction(broker: str, topics: Topics) -> None:
    """A 2 MB record, committed in a transaction, is read back by a reader of committed records."""
    body = bytes(range(256)) * 8192
    producer = AIOKafkaProducer(
        bootstrap_servers=broker, transactional_id=f"{topics.prefix}-tx", max_request_size=4 << 20
    )
    await producer.start()
    async with producer.transaction():
        await producer.send_and_wait(topics.bills.name, body, key=b"k", partition=0)
    await producer.stop()

    consumer = AIOKafkaConsumer(
        topics.bills.name,
        bootstrap_servers=broker,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 << 20,
    )
    await consumer.start()
    record = await consumer.getone()
    await consumer.stop()
    assert record.value == body


async def test_topics_are_created_once(broker: str, topics: Topics) -> None:
    """Creating the catalogue again changes nothing."""
    assert await create_topics(broker, topics.all()) == 0


async def test_topics_of_an_older_version_get_the_brokers_clock(broker: str, topics: Topics) -> None:
    """And keep what was set on them by hand."""
    name = topics.tariffs.name
    resource = ConfigResource(ConfigResourceType.TOPIC, name, {"retention.ms": "86400000000"})
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()

    async def found() -> dict[str, str]:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
        return {entry[0]: entry[1] for entry in answer.resources[0][4]}

    async def until(clock: str) -> dict[str, str]:
        async with asyncio.timeout(20):
            while (values := await found())["message.timestamp.type"] != clock:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return values

    try:
        await admin.alter_configs([resource])
        await until("CreateTime")
        assert await create_topics(broker, topics.all()) == 0
        assert (await until("LogAppendTime"))["retention.ms"] == "86400000000"
    finally:
        await admin.close()


MAPPED = "Mapped static  region #1"
"""What Java says when it uses a recording."""


async def _starts(folder: Path, free_port: Callable[[], int]) -> str:
    """Start a broker, wait until it is ready, stop it; what it said."""
    config = BrokerConfig(folder, free_port(), free_port())
    command = prepare(config)
    with (folder / "output").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *[command[0], "-Xlog:aot", *command[1:]],
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,
        )
    try:
        await wait_until_ready(config.address, 40)
    finally:
        process.terminate()
        await process.wait()
    return (folder / "output").read_text()


async def test_a_rehearsed_broker_uses_what_was_recorded(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time Java writes down what it loads; later starts read that. Asked again, it stays."""
    recorded = tmp_path / "broker.aot"
    monkeypatch.setattr(kafka_broker, "recording", lambda: recorded)
    assert await asyncio.to_thread(rehearse)
    written = recorded.stat()
    assert await asyncio.to_thread(rehearse)
    assert recorded.stat() == written
    assert MAPPED in await _starts(tmp_path / "kafka", free_port)


async def test_a_broken_recording_does_no_harm(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker starts without it."""
    recorded = tmp_path / "broker.aot"
    recorded.write_bytes(b"half of a file")
    monkeypatch.setattr(kafka_broker, "recording", lambda: recorded)
    assert MAPPED not in await _starts(tmp_path / "kafka", free_port)
