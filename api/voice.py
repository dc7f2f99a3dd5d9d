"""What our own party writes into the log: events like any partner's, and what became of deliveries."""

from __future__ import annotations

import asyncio
import logging

from aiokafka import TopicPartition

from api import clock
from api.config import ApiConfig
from api.log import Log, LogUnavailableError
from api.view import View
from schemas.keys import party_key
from schemas.records import Event, event_id
from schemas.topics import Topic

log = logging.getLogger("voltfold.courier")


class Voice:
    """Writes in our party's name."""

    def __init__(self, config: ApiConfig, log: Log, view: View) -> None:
        self.us = party_key(*config.party)
        self._log = log
        self._view = view

    def event(self, module: str, key: str, path: list[str], body: bytes) -> Event:
        """An event of our party's, not written yet."""
        return Event(
            id=event_id(self.us, module, "PUT", [key, *path], body),
            received_at=clock.now(),
            sender=self.us,
            version="2.3.0",
            module=module,
            method="PUT",
            key=key,
            path=path,
            request_id=None,
            correlation_id=None,
            body=body,
        )

    async def say(self, topic: Topic, event: Event) -> tuple[TopicPartition, int]:
        """Write an event; where it is. Raises LogUnavailableError."""
        partition = self._view.partition(topic, event.key)
        return partition, await self._log.append(partition, event.key.encode(), event.encode())

    async def insist(self, topic: Topic, event: Event) -> None:
        """Write an event, and wait until Kafka has it."""
        await self.insist_on(self._view.partition(topic, event.key), event.key, event.encode())

    async def insist_on(self, partition: TopicPartition, key: str, value: bytes) -> None:
        """Write a record, and wait until Kafka has it."""
        delay = 0.2
        while True:
            try:
                await self._log.append(partition, key.encode(), value)
            except LogUnavailableError as error:
                log.warning("%s cannot be written yet: %s", key, error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, 5.0)
            else:
                return
