"""Reading a whole topic of conclusions, or of few events: the newest record of each key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from schemas.records import Record

R = TypeVar("R", bound=Record)


async def records_of(kafka: str, topic: str) -> AsyncIterator[ConsumerRecord]:
    """Every committed record that a topic holds now, in the order of each partition.

    Raises aiokafka's KafkaError, and RuntimeError for a topic that does not exist.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka, enable_auto_commit=False, isolation_level="read_committed"
    )
    async with consumer:
        numbers = consumer.partitions_for_topic(topic) or await _known(consumer, topic)
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            if not ends[partition]:
                consumer.pause(partition)
        behind = {partition for partition in partitions if ends[partition]}
        while behind:
            for records in (await consumer.getmany(*behind, timeout_ms=500)).values():
                for record in records:
                    yield record
            behind = {one for one in behind if await consumer.position(one) < ends[one]}


async def _known(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    if topic not in await consumer.topics():
        raise RuntimeError(f"there is no topic {topic}: voltfold migrate makes it")
    return set(consumer.partitions_for_topic(topic) or ())


async def latest(kafka: str, topic: str, kind: type[R]) -> dict[str, R]:
    """The newest record of each key of a topic of conclusions."""
    found: dict[str, R] = {}
    async for record in records_of(kafka, topic):
        key = record.key.decode()
        if record.value is None:
            found.pop(key, None)
        else:
            found[key] = kind.decode(record.value)
    return found
