"""Reading a whole topic of conclusions, or of few events: the newest record of each key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from schemas.records import Record
from schemas.topics import Topic

R = TypeVar("R", bound=Record)


async def records_of(
    kafka: str, topic: Topic, since: Mapping[int, int] | None = None
) -> AsyncIterator[ConsumerRecord]:
    """Every committed record that a topic holds now, in the order of each partition.

    `since`: the offset to begin at, by partition; others are read from their beginning.
    Raises aiokafka's KafkaError, UnknownTopicOrPartitionError among them for a topic that does not exist.
    """
    partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka, enable_auto_commit=False, isolation_level="read_committed"
    )
    async with consumer:
        begins = await consumer.beginning_offsets(partitions)
        for one in begins:
            begins[one] = max(begins[one], (since or {}).get(one.partition, 0))
        ends = await consumer.end_offsets(partitions)
        waiting = {one for one in partitions if begins[one] < ends[one]}
        consumer.assign(list(waiting))
        for one in waiting:
            consumer.seek(one, begins[one])
        while waiting:
            for records in (await consumer.getmany(*waiting, timeout_ms=500)).values():
                for record in records:
                    yield record
            waiting = {one for one in waiting if await consumer.position(one) < ends[one]}


async def latest(kafka: str, topic: Topic, kind: type[R]) -> dict[str, R]:
    """The newest record of each key of a topic of conclusions."""
    found: dict[str, R] = {}
    async for record in records_of(kafka, topic):
        key = record.key.decode()
        if record.value is None:
            found.pop(key, None)
        else:
            found[key] = kind.decode(record.value)
    return found
