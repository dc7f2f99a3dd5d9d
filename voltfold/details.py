"""Party details in the log: setting them as events, and reading all of them."""

from __future__ import annotations

import time

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.records import Event, event_id
from schemas.topics import Topics
from streams.invoicing.parties import MODULE, Directory, PartyDetails, checked

OPERATOR = "OPERATOR"  # the sender: whoever runs this system


async def read_directory(kafka: str, topics: Topics) -> Directory:
    """Everything that was ever said about parties. Raises aiokafka's KafkaError."""
    directory = Directory()
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    async with consumer:
        partition = TopicPartition(topics.parties.name, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    directory.fold(Event.decode(record.value))
    return directory


async def set_details(kafka: str, topics: Topics, details: PartyDetails) -> bool:
    """Write a party's details, all of them; False when they are what they were.

    Raises ValueError that names the field, and aiokafka's KafkaError when the log cannot be written.
    """
    details = checked(details)
    known = (await read_directory(kafka, topics)).at(details.key, None)
    if known == details:
        return False
    body, path = msgspec.json.encode(details), [details.country_code, details.party_id]
    event = Event(
        id=event_id(OPERATOR, MODULE, "PUT", path, body),
        received_at=time.time_ns() // 1000,
        sender=OPERATOR,
        version="",
        module=MODULE,
        method="PUT",
        key=details.key,
        path=path,
        request_id=None,
        correlation_id=None,
        body=body,
    )
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True) as producer:
        await producer.send_and_wait(topics.parties.name, event.encode(), event.key.encode())
    return True
