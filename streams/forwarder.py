"""Broadcasts what pricing needs of one partition's facts to every partition of the sessions topic.

Without state, and at least once: a reference that comes twice says the same thing twice. It must not be a
transaction, for an open one would hold up every reader of the sessions topic's committed records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from aiokafka import AIOKafkaProducer
from faust.types import TP

from schemas.records import Event
from schemas.topics import Topic
from streams import metrics
from streams.folding import Fact
from streams.processor import LARGEST_RECORD, batches
from streams.runner import Runner, Source

_SECONDS = 30.0

ReferencesOf = Callable[[Fact], Event | None]
"""The reference in a fact, None where there is none."""


class Forwarder(Runner):
    """Owner of one partition of facts that hold references."""

    def __init__(
        self, tp: TP, source: Source, kafka: str, references_of: ReferencesOf, target: Topic
    ) -> None:
        self._kafka = kafka
        self._references_of = references_of
        self._target = target
        self._producer: AIOKafkaProducer | None = None
        super().__init__(tp, source)

    async def _open(self) -> int:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._kafka,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            max_batch_size=256 << 10,
            max_request_size=LARGEST_RECORD,
            retry_backoff_ms=50,
            metadata_max_age_ms=60_000,
        )
        async with asyncio.timeout(_SECONDS):
            await self._producer.start()
        if self.position is not None:
            return self.position
        committed = await self._source.committed(self.tp)
        return await self._source.beginning(self.tp) if committed is None else committed

    async def _shut(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            async with asyncio.timeout(5):
                await producer.stop()

    async def _handle(self, facts: Sequence[Fact], position: int) -> None:
        found = [event for fact in facts if (event := self._references_of(fact)) is not None]
        records: list[tuple[bytes | None, bytes | None]] = [
            (event.key.encode(), event.encode()) for event in found
        ]
        producer = self._producer
        assert producer is not None
        async with asyncio.timeout(_SECONDS):
            sent = [
                await producer.send_batch(batch, self._target.name, partition=partition)
                for partition in range(self._target.partitions)
                for batch in batches(producer, records)
            ]
            await asyncio.gather(*sent)
            # After what it stands for has been delivered. If it fails, the batch is forwarded once more.
            await self._source.commit_position(self.tp, position)
        metrics.RECORDS.labels(self.tp.topic).inc(len(facts))
        metrics.OUTPUTS.labels(self.tp.topic).inc(len(records) * self._target.partitions)
