"""Asking the courier for a pull, and watching it: `voltfold partner sync`."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from api import clock
from api.partners import OPERATOR, REGISTERED, Connection, read_registry
from api.pull import modules_of
from schemas.records import Event, event_id
from schemas.topics import Topics
from streams import pulls
from streams.pulls import ASKED, Pull

Report = Callable[[Pull], None]


class SyncError(RuntimeError):
    """A pull that cannot be asked for, or that nobody carries out; the message says why."""


async def sync(
    kafka: str,
    topics: Topics,
    name: str,
    *,
    module: str | None = None,
    since: str | None = None,
    report: Report,
    patience: float = 30.0,
) -> list[Pull]:
    """Have the lists of a partner pulled, and wait for the end; how each module's pull ended.

    `name`: a connection's id, or a party on it; `since`: an OCPI DateTime, before which nothing is asked for
    (none: from the beginning); `patience`: seconds that the courier may take to say something. Raises
    SyncError, LookupError for a name that nobody has, and aiokafka's KafkaError.
    """
    connection = (await read_registry(kafka, topics)).named(name)
    wanted = _modules(connection, module)
    run = secrets.token_hex(8)
    partition = TopicPartition(topics.parties.name, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False, fetch_max_wait_ms=100)
    async with consumer:
        consumer.assign([partition])
        await consumer.seek_to_end(partition)
        await consumer.position(partition)
        await _ask(kafka, topics, (Pull(connection.id, one, run, ASKED, since=since) for one in wanted))
        return await _watch(consumer, run, wanted, report, patience)


def _modules(connection: Connection, module: str | None) -> list[str]:
    there = modules_of(connection)
    if connection.stage != REGISTERED:
        raise SyncError(f"{connection.id} is not registered, so it cannot be asked")
    if module is not None and module not in there:
        raise SyncError(
            f"{connection.id} has no list of {module}: {', '.join(there) or 'it has none at all'}"
        )
    return [module] if module else there


async def _ask(kafka: str, topics: Topics, wanted: Iterable[Pull]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True) as producer:
        for pull in wanted:
            pull = msgspec.structs.replace(pull, at=clock.now())
            key, path, body = pulls.pull_key(pull.connection, pull.module), [pull.module], pulls.dump(pull)
            event = Event(
                id=event_id(OPERATOR, pulls.MODULE, "PUT", [key], body),
                received_at=pull.at,
                sender=OPERATOR,
                version="",
                module=pulls.MODULE,
                method="PUT",
                key=key,
                path=[pull.connection, *path],
                request_id=None,
                correlation_id=None,
                body=body,
            )
            await producer.send_and_wait(topics.parties.name, event.encode(), key.encode())


async def _watch(
    consumer: AIOKafkaConsumer, run: str, wanted: list[str], report: Report, patience: float
) -> list[Pull]:
    latest: dict[str, Pull] = {}
    heard = time.monotonic()
    while not (len(latest) == len(wanted) and all(pull.is_over for pull in latest.values())):
        for records in (await consumer.getmany(timeout_ms=500)).values():
            for record in records:
                event = Event.decode(record.value)
                if event.module != pulls.MODULE:
                    continue
                pull = pulls.load(event.body)
                if pull.run == run and pull.state != ASKED:
                    latest[pull.module] = pull
                    heard = time.monotonic()
                    report(pull)
        if not latest and time.monotonic() - heard > patience:
            raise SyncError("nobody carries it out: is a courier running, and the partner reachable?")
        await asyncio.sleep(0)
    return [latest[module] for module in wanted]
