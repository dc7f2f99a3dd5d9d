"""The local broker: settings that hold on the real one."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from schemas.topics import Topics
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
