"""What became of deliveries, as the log has it; and asking for another attempt."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.codec import UnknownSchemaError
from schemas.records import DeliveryRecord
from schemas.topics import Topics
from streams.deliveries import Outcome, record_key


async def read_outcomes(
    kafka: str,
    topics: Topics,
    *,
    connection: str | None = None,
    module: str | None = None,
    key: str | None = None,
    delivered: bool = False,
) -> list[DeliveryRecord]:
    """The latest outcome of each object and platform, the oldest first; delivered ones only if
    they are asked for. Raises aiokafka's KafkaError.
    """
    topic = topics.outbound
    partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    latest: dict[bytes, DeliveryRecord] = {}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    async with consumer:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for records in (await consumer.getmany(timeout_ms=500, max_records=5000)).values():
                for record in records:
                    latest.pop(record.key, None)
                    if record.value is None:
                        continue
                    try:
                        found = DeliveryRecord.decode(record.value)
                    except UnknownSchemaError:
                        continue
                    if (
                        (delivered or found.outcome != Outcome.DELIVERED)
                        and connection in (None, found.connection)
                        and module in (None, found.module)
                        and (key is None or key.upper() == found.key.upper())
                    ):
                        latest[record.key] = found
    return sorted(latest.values(), key=lambda found: (found.at, found.connection, found.module, found.key))


async def try_again(kafka: str, topics: Topics, records: Iterable[DeliveryRecord]) -> int:
    """Ask the courier to deliver these again, in the state that they have then; how many they were.

    Raises aiokafka's KafkaError.
    """
    count = 0
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True) as producer:
        for record in records:
            key = record_key(record.connection, record.module, record.key)
            await producer.send(topics.outbound.name, None, key.encode())
            count += 1
        await producer.flush()
    return count
