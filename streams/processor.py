"""Folds one partition exactly once: outputs, changelog and input position are one Kafka transaction.

The steps of a batch, and what a crash, a pause or a lost connection between any two of them does:

1. fold: reads the store, changes nothing. A crash loses nothing.
2. send the changed states and the input position to the changelog, the outputs to their topics, the input
   offset to the group, all in the partition's own transaction. A crash leaves a transaction open; the next
   owner's InitProducerId aborts it, and readers of committed records never see any of it.
3. commit. The coordinator decides: committed are all or none. Whoever could not read the answer opens again,
   which waits for the decision and then reads it from the changelog.
4. write the states, the input position and the changelog position to the store, as one. A crash before leaves
   the store behind the changelog, never ahead of it; opening reads the rest.

Opening: take the transactional id (which fences whoever had it: nothing that they still send can commit),
then read the changelog to its end. From then on the store is what the log has committed, nobody else can add
to it, and the position in it says where in the input to go on, whatever the consumer believes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from schemas.partitioner import key_hash
from streams import metrics
from streams.folding import Fact, Fold, Gauges, Output
from streams.runner import BATCH_RECORDS, Runner, Source
from streams.store import POSITION, Memory, Store, as_position

LARGEST_RECORD = 4 << 20  # as the topics' max.message.bytes
_BATCH_BYTES = 512 << 10
_TRANSACTION_MS = 20_000
_OPEN_SECONDS = 60.0
_COMMIT_SECONDS = 30.0
_RESTORE_RECORDS = 20_000


@dataclass(frozen=True)
class Place:
    """Where the processors of one worker live."""

    kafka: str
    cluster: str
    """The Kafka cluster's id: a store of another cluster is not ours."""
    group: str
    prefix: str
    data: Path
    partitions: Mapping[str, int]
    """How many partitions each output topic has."""
    restoring: asyncio.Semaphore
    """How many of them restore their states at once."""


class PartitionProcessor(Runner):
    """Owner of one partition of a fold: its transactional producer, its store, its position."""

    def __init__(
        self,
        tp: TP,
        source: Source,
        place: Place,
        fold: Fold,
        changelog: str,
        memory: Memory,
        turns: asyncio.Semaphore,
        most_records: int = BATCH_RECORDS,
    ) -> None:
        self._place = place
        self._fold = fold
        self._changelog = TopicPartition(changelog, tp.partition)
        self._memory = memory
        self._producer: AIOKafkaProducer | None = None
        self._store: Store | None = None
        super().__init__(tp, source, turns, most_records)

    async def _open(self) -> int:
        place, tp = self._place, self.tp
        self._producer = AIOKafkaProducer(
            bootstrap_servers=place.kafka,
            transactional_id=f"{place.prefix}-{tp.topic}-{tp.partition}",
            transaction_timeout_ms=_TRANSACTION_MS,
            acks="all",
            compression_type="lz4",
            max_batch_size=_BATCH_BYTES,
            max_request_size=LARGEST_RECORD,
            retry_backoff_ms=50,
            metadata_max_age_ms=60_000,
        )
        async with asyncio.timeout(_OPEN_SECONDS):
            await self._producer.start()
            # Waits for InitProducerId: from here on every earlier owner is fenced.
            await self._producer.begin_transaction()
        folder = place.data / f"{tp.topic}-{tp.partition}"
        self._store = Store(folder, f"{place.cluster} {self._changelog.topic}", self._memory)
        async with place.restoring:
            restored = await restore(place.kafka, self._changelog, self._store)
        metrics.RESTORED.labels(tp.topic).inc(restored)
        position = self._store.position
        return await self._source.beginning(tp) if position is None else position

    async def _shut(self) -> None:
        producer, self._producer = self._producer, None
        store, self._store = self._store, None
        if store is not None:
            store.close()
        if producer is not None:
            # A transaction under way is aborted by whoever takes the id next; stopping must not wait for it.
            async with asyncio.timeout(5):
                await producer.stop()

    async def _handle(self, facts: Sequence[Fact], position: int) -> None:
        assert self._store is not None
        topic = self.tp.topic
        started = time.perf_counter()
        folded = self._fold(facts, self._store.get)
        metrics.FOLD_SECONDS.labels(topic).observe(time.perf_counter() - started)
        started = time.perf_counter()
        changes = {**folded.changes, POSITION: as_position(position)}
        async with asyncio.timeout(_COMMIT_SECONDS):
            changelog = await self._commit(changes, folded.outputs, position)
            self._store.write(changes.items(), changelog)
            assert self._producer is not None
            await self._producer.begin_transaction()  # local: the broker hears of it with the first record
        metrics.COMMIT_SECONDS.labels(topic).observe(time.perf_counter() - started)
        metrics.RECORDS.labels(topic).inc(len(facts))
        metrics.OUTPUTS.labels(topic).inc(len(folded.outputs))
        metrics.BATCH.labels(topic).observe(len(facts))
        for outcome, count in folded.counts.items():
            metrics.EVENTS.labels(topic, outcome).inc(count)

    def gauges(self, of: Gauges) -> Mapping[str, int] | None:
        """What a fold knows of its partition as a whole; None while the state is not at hand."""
        return of(self._store.get) if self.ready and self._store is not None else None

    async def _commit(
        self, changes: Mapping[bytes, bytes | None], outputs: Iterable[Output], position: int
    ) -> int:
        """Write and commit one transaction; return the changelog position behind it."""
        producer = self._producer
        assert producer is not None
        sent = []
        for target, records in self._by_target(changes, outputs).items():
            for batch in batches(producer, records):
                future = await producer.send_batch(batch, target.topic, partition=target.partition)
                future.add_done_callback(_seen)
                sent.append((future, batch.record_count()))
        await producer.send_offsets_to_transaction(
            {TopicPartition(*self.tp): OffsetAndMetadata(position, "")}, self._place.group
        )
        written = [(await future, count) for future, count in sent]
        await producer.commit_transaction()
        ends: list[int] = [
            metadata.offset + count
            for metadata, count in written
            if (metadata.topic, metadata.partition) == self._changelog
        ]
        return max(ends)

    def _by_target(
        self, changes: Mapping[bytes, bytes | None], outputs: Iterable[Output]
    ) -> dict[TopicPartition, list[tuple[bytes | None, bytes | None]]]:
        targets: dict[TopicPartition, list[tuple[bytes | None, bytes | None]]] = {
            self._changelog: list(changes.items())
        }
        partitions = self._place.partitions
        for topic, key, value in outputs:
            target = TopicPartition(topic, key_hash(key) % partitions[topic])
            targets.setdefault(target, []).append((key, value))
        return targets


def _seen(future: asyncio.Future[object]) -> None:
    """An error reaches whoever waits for one of a transaction's futures; the others need not report it."""
    if not future.cancelled():
        future.exception()


def batches(
    producer: AIOKafkaProducer, records: Iterable[tuple[bytes | None, bytes | None]]
) -> Iterable[BatchBuilder]:
    """Records as whole record batches, each as full as the producer allows."""
    batch = producer.create_batch()
    for key, value in records:
        if batch.append(key=key, value=value, timestamp=None) is None:
            batch.close()
            yield batch
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    if batch.record_count():
        batch.close()
        yield batch


async def restore(kafka: str, changelog: TopicPartition, store: Store) -> int:
    """Read a changelog's partition into a store, from where the store has it up to the end; count records.

    For the owner of the transactional id only: then nothing is open, and nobody else writes.
    """
    reader = AIOKafkaConsumer(
        bootstrap_servers=kafka,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 << 20,
        fetch_max_wait_ms=50,
        metadata_max_age_ms=60_000,
    )
    count = 0
    try:
        await reader.start()
        reader.assign([changelog])
        end = (await reader.end_offsets([changelog]))[changelog]
        if store.changelog > end or (store.changelog < end and store.stale):
            store.clear()
        if store.changelog == end:
            return 0
        reader.seek(changelog, store.changelog)
        position = store.changelog
        while position < end:
            fetched = await reader.getmany(timeout_ms=200, max_records=_RESTORE_RECORDS)
            # Control records and aborted transactions move the position without a record.
            position = await reader.position(changelog)
            records = fetched.get(changelog, [])
            store.write(((record.key, record.value) for record in records), position)
            count += len(records)
    finally:
        await reader.stop()
    return count
