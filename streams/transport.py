"""Faust's Kafka transport, handing over a fetch at a time instead of a record at a time.

What Faust costs, it costs per message: decode, dispatch, queue, event, acknowledgement. So all records that
one fetch brought for a partition travel through Faust as one message, a `Bundle`. A bundle also says from
which position to which position it reaches, so that its receiver can tell a hole (records that got lost on
the way when a rebalance emptied Faust's queues) from the offsets that transactions' control records take up.

Everything here leans on Faust 0.15 and aiokafka 0.14 as they are inside; the dependencies are pinned for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import ConsumerStoppedError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streams.folding import Fact

FETCH_WAIT_MS, FETCH_ENOUGH_BYTES = 50, 64 << 10
"""A fetch is answered after the first, or as soon as there is so much: a fetch for every record that comes
alone would cost broker and worker more than the record does."""
_PARTITION_BYTES = 1 << 20
_FETCH_BYTES = 4 << 20
_BUNDLE_RECORDS = 2_000
"""Records are unpacked as they are asked for: what was fetched compressed may be ten times as large."""
_FACT_BYTES = 200
_HELD_POLL = 0.02
_PREFETCH_BACKOFF = 0.01
"""How long partitions that have nothing left wait for those that are held."""


class Bundle(NamedTuple):
    """What a partition's log holds from position `start` up to position `end`, which is not included.

    Fewer records than offsets where control records and aborted transactions lie.
    """

    start: int
    end: int
    records: list[Fact]

    @property
    def size(self) -> int:
        """Bytes in memory, roughly."""
        values = sum([len(fact.value or b"") for fact in self.records])
        return values + _FACT_BYTES * len(self.records)

    def after(self, position: int) -> Bundle:
        """The part of it from a position on."""
        return Bundle(position, self.end, [fact for fact in self.records if fact.offset >= position])


def _fact(tp: TopicPartition, record: Any) -> Fact:
    """A record as folds know it; that of aiokafka has twice the fields and takes five times as long."""
    return Fact(tp.topic, tp.partition, record.offset, record.key, record.value)


class _Thread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread: fetches, and keeps the membership of the group, in a loop of its own."""

    consumer: BundleConsumer
    _sticky: type[StickyPartitionAssignor]

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust has no settings for these; the consumer looks at them when it starts.
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        consumer._fetch_min_bytes = FETCH_ENOUGH_BYTES
        consumer._max_partition_fetch_bytes = _PARTITION_BYTES
        consumer._fetch_max_bytes = _FETCH_BYTES
        # A partition stays with its worker if it can: a store that need not move need not be restored. The
        # assignor keeps what it remembers on its class.
        self._sticky = type("Sticky", (StickyPartitionAssignor,), {})
        consumer._partition_assignment_strategy = (self._sticky,)
        return consumer

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._sticky.on_generation_assignment(generation_id)
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_thread_stop(self) -> None:
        # A static member does not leave the group, so that a killed worker may come back within its session
        # and find its partitions. One that stops in order leaves, and the others take over at once.
        if self._consumer is not None and self._consumer._coordinator is not None:
            self._consumer._coordinator._group_instance_id = None
        await super().on_thread_stop()

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Mapping[TP, list[Bundle]]:
        fetcher = consumer._fetcher
        fetcher._prefetch_backoff = _PREFETCH_BACKOFF
        deadline = time.monotonic() + (timeout or 0)
        with consumer._subscription.fetch_context():
            while self.consumer.flow_active:
                if consumer._closed or fetcher._closed:
                    raise ConsumerStoppedError
                held = self.consumer.held
                if wanted := active_partitions - held:
                    for fetched in fetcher._records.values():
                        if unpacking := getattr(fetched, "_partition_records", None):
                            unpacking._consumer_record = _fact
                    before = _positions(consumer, wanted)
                    drained = await fetcher.fetched_records(wanted, timeout=0, max_records=_BUNDLE_RECORDS)
                    after = _positions(consumer, before)
                    # Control records move a position and deliver nothing: that is a bundle without records.
                    bundles = {
                        tp: [Bundle(start, after[tp], drained.get(tp, []))]
                        for tp, start in before.items()
                        if after.get(tp, start) > start
                    }
                    if bundles:
                        return bundles
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                waiter = fetcher._create_fetch_waiter()
                # Nobody announces that a held partition was released.
                done, _ = await asyncio.wait([waiter], timeout=min(left, _HELD_POLL) if held else left)
                if not done:
                    waiter.cancel()
                elif not consumer._closed:
                    waiter.result()
        return {}

    async def rewind(self, tp: TP, offset: int) -> None:
        """Fetch a partition from an offset on, if it is still ours. For the thread's own loop."""
        consumer = self._ensure_consumer()
        if TopicPartition(*tp) in consumer.assignment():
            consumer.seek(TopicPartition(*tp), offset)

    async def beginning(self, tp: TP) -> int:
        """Where a partition's log begins. For the thread's own loop, as what follows."""
        partition = TopicPartition(*tp)
        found: int = (await self._ensure_consumer().beginning_offsets([partition]))[partition]
        return found

    async def committed(self, tp: TP) -> int | None:
        """The group's position in a partition."""
        found: int | None = await self._ensure_consumer().committed(TopicPartition(*tp))
        return found

    async def commit_position(self, tp: TP, offset: int) -> None:
        """Commit one position of the group. Raises KafkaError; Faust's own commit would stop the app."""
        consumer = self._ensure_consumer()
        await consumer.commit({TopicPartition(*tp): OffsetAndMetadata(offset, "")})


def _positions(consumer: AIOKafkaConsumer, tps: Iterable[TP]) -> dict[TP, int]:
    subscription = consumer._subscription.subscription
    assignment = subscription.assignment if subscription is not None else None
    if assignment is None or not assignment.active:
        return {}
    states = {tp: assignment.state_value(TopicPartition(*tp)) for tp in tps}
    return {tp: state.position for tp, state in states.items() if state and state.has_valid_position}


class _Forgetful(dict[TP, int | None]):
    """Knows no offset of any partition."""

    def __getitem__(self, tp: TP) -> None:
        return None

    def __setitem__(self, tp: TP, offset: int | None) -> None:
        pass

    def update(self, *args: Any, **kwargs: Any) -> None:
        pass


class BundleConsumer(driver.Consumer):
    """Faust's consumer, on the application's side of the thread."""

    _thread: _Thread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.held: set[TP] = set()
        """Partitions whose receiver has enough for now. Only ever replaced: the thread reads it."""
        super().__init__(*args, **kwargs)

        # Faust would drop what lies before the last message it saw. A rewind is just that, and every receiver
        # knows its position itself.
        self._read_offset = _Forgetful()

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, bundle: Any) -> ConsumerMessage:
        generation = self.app.consumer_generation_id
        topic, partition = tp = ensure_TP(tp)
        return ConsumerMessage(
            topic,
            partition,
            bundle.start,
            time.time(),
            0,
            None,
            None,
            bundle,
            None,
            tp=tp,
            generation_id=generation,
        )

    async def verify_all_partitions_active(self) -> None:
        """Faust's watch over its own acknowledgements has nothing to watch; the worker reports its lag."""

    def hold(self, tp: TP) -> None:
        """Don't fetch a partition until it is released. What was fetched already still comes."""
        self.held = self.held | {tp}

    def release(self, tp: TP) -> None:
        """Fetch a held partition again."""
        self.held = self.held - {tp}

    async def rewind(self, tp: TP, offset: int) -> None:
        """Fetch a partition from an offset on, if it is still ours."""
        await self._thread.call_thread(self._thread.rewind, tp, offset)

    async def beginning(self, tp: TP) -> int:
        """Where a partition's log begins."""
        found: int = await self._thread.call_thread(self._thread.beginning, tp)
        return found

    async def committed(self, tp: TP) -> int | None:
        """The group's position in a partition, None before the first."""
        found: int | None = await self._thread.call_thread(self._thread.committed, tp)
        return found

    async def commit_position(self, tp: TP, offset: int) -> None:
        """Commit one position of the group. Raises KafkaError."""
        await self._thread.call_thread(self._thread.commit_position, tp, offset)

    def fetched(self, tp: TP) -> int | None:
        """The position behind what was fetched and handed over, None for a partition that is not ours."""
        consumer = self._thread._consumer
        return None if consumer is None else _positions(consumer, [tp]).get(tp)

    def end(self, tp: TP) -> int | None:
        """Where a partition's log ended when it was last fetched."""
        try:
            highwater: int | None = self._thread.highwater(tp)
        except Exception:  # not assigned any more, or not fetched yet
            return None
        return highwater


class _Transport(driver.Transport):
    Consumer = BundleConsumer


class BundleApp(faust.App):
    """A Faust application whose agents get bundles."""

    def _new_transport(self) -> _Transport:
        return _Transport(self.conf.broker_consumer, self)

    @property
    def bundles(self) -> BundleConsumer:
        """The consumer, by its own type."""
        consumer = self.consumer
        assert isinstance(consumer, BundleConsumer)
        return consumer
