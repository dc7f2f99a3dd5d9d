"""Appends the clock to the log: to each partition that this worker owns, once an interval.

Whoever owns a partition does it, so there is as a rule one writer; while a rebalance is under way there may
be two or none. Two write the same event, and one that comes late says an older time than is known: both
change nothing. Without transactions, for an open one would hold up every reader of committed records.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faust.types import TP

from schemas.topics import Topic
from streams.clock import KEY, tick_event

log = logging.getLogger("voltfold.worker")

_RETRY_SECONDS = 5.0
_SECONDS = 30.0


@dataclass(frozen=True)
class ClockConfig:
    """How often the clock ticks in the log, and what it says (`streams.clock.Tick`); in seconds."""

    interval: float = 300.0
    stale_after: float = 48 * 3600.0
    missing_after: float = 72 * 3600.0
    stop_percent: int = 95


class Ticker:
    """The clock of one worker's partitions."""

    def __init__(
        self, kafka: str, topics: Collection[Topic], config: ClockConfig, owned: Callable[[], Iterable[TP]]
    ) -> None:
        """`owned`: the partitions of this worker now, of which those of `topics` are told the time."""
        self._kafka = kafka
        self._topics = {topic.name for topic in topics}
        self._interval = round(config.interval * 1e6)
        self._says = (
            *(round(config.stale_after * 1e6), round(config.missing_after * 1e6), config.stop_percent),
        )
        self._owned = owned
        self._told: dict[TP, int] = {}

    async def run(self) -> None:
        """Tick until cancelled; what Kafka does not take now is tried again."""
        while True:
            try:
                await self._tick()
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("the clock could not be written, trying again: %r", error)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _tick(self) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._kafka, acks="all", enable_idempotence=True, metadata_max_age_ms=60_000
        )
        try:
            await producer.start()
            while True:
                now = time.time_ns() // 1000
                event = tick_event(now, self._interval, *self._says)
                value = event.encode()
                waiting = [
                    tp
                    for tp in self._owned()
                    if tp.topic in self._topics and self._told.get(tp, 0) < event.received_at
                ]
                async with asyncio.timeout(_SECONDS):
                    sent = [await producer.send(tp.topic, value, KEY, tp.partition) for tp in waiting]
                    await asyncio.gather(*sent)
                self._told |= dict.fromkeys(waiting, event.received_at)
                # Partitions that come by a rebalance are told soon, not only at the next interval.
                await asyncio.sleep(
                    min(_RETRY_SECONDS, (self._interval - now % self._interval) / 1e6 + 0.001)
                )
        finally:
            await producer.stop()
