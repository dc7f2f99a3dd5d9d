"""Party details in the log: setting them as events, and reading all of them."""

from __future__ import annotations

import time

import msgspec
from aiokafka import AIOKafkaProducer

from schemas.records import Event, event_id
from schemas.topics import Topics
from streams.invoicing.parties import MODULE, Directory, PartyDetails, checked
from voltfold.latest import records_of

OPERATOR = "OPERATOR"  # the sender: whoever runs this system


async def read_directory(kafka: str, topics: Topics) -> Directory:
    """Everything that was ever said about parties. Raises aiokafka's KafkaError."""
    directory = Directory()
    async for record in records_of(kafka, topics.parties):
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
