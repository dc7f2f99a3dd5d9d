"""The read view: the newest state of every object, in RocksDB, one per API process.

It follows the fact topics with a plain consumer and folds each event with `streams.objects.fold_object`. A
batch's states and the offsets behind it are one RocksDB write, so a process that was killed goes on where
it was. A reader first waits (`catch_up`) until the view has reached what the broker says is the end of the
log now: whatever any API process had acknowledged before is in there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
)

from api.config import ApiConfig
from api.lists import HUB_CLIENT_INFO, LISTED, Lists
from api.log import RETRY_SECONDS, Ends, LogUnavailableError
from api.partners import MODULE as PARTIES
from api.partners import Registry
from schemas.codec import UnknownSchemaError, name_of
from schemas.keys import object_key
from schemas.partitioner import key_hash
from schemas.records import Event
from schemas.topics import Topic
from streams import objects
from streams.objects import FORMAT, fold_object
from streams.pulls import MODULE as PULLS
from streams.pulls import fold_pull
from streams.requests import MODULE as REQUESTS
from streams.requests import fold_request

log = logging.getLogger("voltfold.api")

# In front of the key of every state, and of what the view knows about itself.
_TAGS = {**LISTED, REQUESTS: b"R", PULLS: b"P"}
# Those that are no objects of OCPI.
_FOLDS = {REQUESTS: fold_request, PULLS: fold_pull}
_OFFSET = b"\x00offset "
_SOURCE = b"\x00source"
_BATCH = 500  # records that are folded without a turn for requests
_REST = 0.5  # seconds for requests, for each that went into folding, while there is more to fold
_IDLE_MS = 50
_NOTES = 100_000
_SAID = 2_000


def _options() -> Options:
    """Millions of small states in little memory: a block cache of 32 MB that holds index and filters too."""
    table = BlockBasedOptions()
    table.set_block_cache(Cache(32 << 20))
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_bloom_filter(10, False)
    table.set_block_size(8 << 10)
    table.set_format_version(5)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(16 << 20)
    options.set_max_write_buffer_number(2)
    options.set_max_total_wal_size(64 << 20)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_bottommost_compression_type(DBCompressionType.zstd())
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_max_open_files(256)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1 << 20)
    return options


class Follower(Protocol):
    """Somebody who is told of every change, and may keep something of it in the view's own write."""

    def changed(
        self,
        module: str,
        key: str,
        old: bytes | None,
        new: bytes | None,
        event: Event,
        writes: WriteBatch,
    ) -> None:
        """A state changed; what is added to `writes` is written together with it."""

    def written(self) -> None:
        """The changes told of are in the store."""


class View:
    """States by module and key, as new as the log it has read. `registry` learns of partners on the way.

    Partners are read first, so whoever follows knows them when it hears of objects.
    """

    def __init__(self, config: ApiConfig, registry: Registry, follower: Follower | None = None) -> None:
        self._config = config
        self._folder = Path(config.data) / "view"
        self._registry = registry
        self._follower = follower
        self._partitions = {
            topic.name: [TopicPartition(topic.name, number) for number in range(topic.partitions)]
            for topic in config.topics.facts
        }
        self._all = [partition for partitions in self._partitions.values() for partition in partitions]
        self._db: Rdict | None = None
        self.lists = Lists(lambda: self.store)
        self._ends: Ends | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._positions: dict[TopicPartition, int] = dict.fromkeys(self._all, 0)
        self._waiters: list[tuple[dict[TopicPartition, int], asyncio.Future[None]]] = []
        # What this process wrote and the view has not read yet: marks by key, and where each was written.
        self._notes: dict[str, tuple[int, int]] = {}
        self._noted: dict[TopicPartition, deque[tuple[int, str]]] = {tp: deque() for tp in self._all}
        self._said: dict[bytes, tuple[Event, Any]] = {}  # by the record's bytes
        self._wanted = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()

    def start(self) -> None:
        """Open the store and follow the log in the background. Raises RocksDB's error on a store in use."""
        self._db = self._open()
        self._following = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop following and close the store."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(LogUnavailableError("stopping"))
        if self._db is not None:
            self._db.close()
            self._db = None

    # Reading

    @property
    def store(self) -> Rdict:
        """The database, for a follower who keeps something there; the view may replace it by an empty one."""
        assert self._db is not None
        return self._db

    def states(self, module: str) -> Iterator[tuple[str, bytes]]:
        """Key and state of every object of a module."""
        assert self._db is not None
        tag = _TAGS[module]
        found: Any = self._db.items(from_key=tag)
        for key, state in found:
            if not key.startswith(tag):
                return
            yield key[len(tag) :].decode(), state

    def get(self, module: str, key: str) -> bytes | None:
        """The state of an object, as `streams.objects` encodes it."""
        assert self._db is not None
        found: bytes | None = self._db.get(_TAGS[module] + key.encode())
        return found

    def place(self, module: str, found: Any) -> Any:
        """The location that a session of 2.1.1 embeds; None where it is not known, and for other objects."""
        if module != "sessions":
            return None
        state = self.get("locations", object_key(found.country_code, found.party_id, found.location_id))
        return None if state is None else objects.load("locations", state)

    def partition(self, topic: Topic, key: str) -> TopicPartition:
        """The partition that Kafka's default partitioner gives a key."""
        partitions = self._partitions[topic.name]
        return partitions[key_hash(key.encode()) % len(partitions)]

    def partitions(self, topic: Topic) -> list[TopicPartition]:
        """All partitions of a fact topic."""
        return self._partitions[topic.name]

    async def catch_up(self, partitions: Iterable[TopicPartition]) -> None:
        """Wait until the view has read all that these partitions hold now.

        Raises LogUnavailableError when the broker or the view takes longer than the configured time-out.
        """
        if self._ends is None:
            raise LogUnavailableError("not connected to Kafka")
        wanted = list(partitions)
        try:
            async with asyncio.timeout(self._config.limits.read_timeout):
                ends = await self._ends.ask(wanted)
                await self._reach({partition: ends[partition] for partition in wanted})
        except TimeoutError:
            raise LogUnavailableError("the view did not catch up with the log in time") from None
        except (KafkaError, OSError) as error:
            raise LogUnavailableError(f"Kafka did not answer: {error}") from None

    async def reach(self, partition: TopicPartition, end: int) -> None:
        """Wait until the view has read a partition up to an offset, or for the configured time-out."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.limits.read_timeout):
                await self._reach({partition: end})

    async def _reach(self, ends: dict[TopicPartition, int]) -> None:
        missing = {partition: end for partition, end in ends.items() if self._lacks(partition, ends)}
        if not missing:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((missing, waiter))
        self._wanted.set()
        await waiter

    async def _linger(self, seconds: float) -> None:
        self._wanted.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()

    async def lag(self) -> int:
        """Records that the view has yet to read. Raises LogUnavailableError when Kafka does not answer."""
        if self._ends is None:
            raise LogUnavailableError("not connected to Kafka")
        try:
            async with asyncio.timeout(2):
                ends = await self._ends.ask(self._all)
                if self._consumer is not None:
                    await self._pass_controls(
                        self._consumer, [tp for tp in self._all if self._lacks(tp, ends)]
                    )
        except (KafkaError, OSError, TimeoutError) as error:
            raise LogUnavailableError(f"Kafka did not answer: {error}") from None
        return sum(max(0, ends[partition] - self._positions[partition]) for partition in self._all)

    def _lacks(self, partition: TopicPartition, ends: Mapping[TopicPartition, int]) -> bool:
        return self._positions[partition] < ends[partition]

    async def _pass_controls(self, consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> None:
        """Pass transactions' control records, which move a position without delivering anything."""
        for partition in partitions:
            self._positions[partition] = await consumer.position(partition)

    # What this process itself has just written

    def note(self, partition: TopicPartition, offset: int, name: str, mark: int) -> None:
        """Remember that the object `name` was written at an offset, with a mark (its last_updated)."""
        if offset >= self._positions[partition] and len(self._notes) < _NOTES:
            known = self._notes.get(name)
            self._notes[name] = (mark if known is None else max(mark, known[0]), offset)
            self._noted[partition].append((offset, name))

    def noted(self, name: str) -> int | None:
        """The newest mark of an object that this process wrote and the view has not read yet."""
        known = self._notes.get(name)
        return None if known is None else known[0]

    def expect(self, value: bytes, event: Event, said: Any) -> None:
        """Remember what a record holds that this process is about to write, lest it be decoded again."""
        if len(self._said) >= _SAID:
            del self._said[next(iter(self._said))]
        self._said[value] = event, said

    def _forget(self, partition: TopicPartition, position: int) -> None:
        noted = self._noted[partition]
        while noted and noted[0][0] < position:
            offset, name = noted.popleft()
            if self._notes[name][1] == offset:
                del self._notes[name]

    # Following

    def _open(self) -> Rdict:
        self._folder.mkdir(parents=True, exist_ok=True)
        return Rdict(str(self._folder), _options())

    def _wipe(self) -> None:
        assert self._db is not None
        self._db.close()
        shutil.rmtree(self._folder)
        self._db = self._open()
        self.lists.restart()

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError) as error:
                log.warning("the view lost Kafka at %s: %s", self._config.kafka, error)
            except Exception:
                log.exception("the view stumbled, and starts anew from where it was")
            await asyncio.sleep(RETRY_SECONDS)

    async def _source(self) -> bytes:
        """What this view is a view of: a state format, a Kafka cluster, a prefix."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._config.kafka, request_timeout_ms=5_000)
        try:
            await admin.start()
            cluster = (await admin.describe_cluster())["cluster_id"]
        finally:
            await admin.close()
        return f"{FORMAT} {cluster} {self._config.topics.prefix}".encode()

    def _restore(self, source: bytes, ends: Mapping[TopicPartition, int]) -> None:
        """Take up the positions in the store; start anew where it is the view of another log."""
        assert self._db is not None
        kept = {
            partition: int.from_bytes(offset, "big")
            for partition in self._all
            if (offset := self._db.get(_OFFSET + _name(partition))) is not None
        }
        if self._db.get(_SOURCE) != source or any(ends[tp] < offset for tp, offset in kept.items()):
            if kept:
                log.warning("the view in %s is of another log; building it again", self._folder)
            self._wipe()
            self._db.put(_SOURCE, source)
            kept = {}
        # Partners live in memory, so their events are read from the first.
        parties = self._partitions[self._config.topics.parties.name]
        self._positions = {tp: 0 if tp in parties else kept.get(tp, 0) for tp in self._all}

    async def _follow(self) -> None:
        source = await self._source()
        bootstrap = self._config.kafka
        asker = AIOKafkaConsumer(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            # Partitions that just delivered wait for the fetch under way, which waits this long for the
            # others.
            fetch_max_wait_ms=self._config.fetch_wait_ms,
            max_partition_fetch_bytes=1 << 20,
            fetch_max_bytes=16 << 20,
            metadata_max_age_ms=60_000,
        )
        try:
            await asker.start()
            await consumer.start()
            ends = Ends(asker)
            first = await ends.ask(self._all)
            self._restore(source, first)
            await self._read_partners(consumer, first)
            consumer.assign(self._all)
            for partition in self._all:
                consumer.seek(partition, self._positions[partition])
            self._ends, self._consumer = ends, consumer
            ready = asyncio.create_task(self._become_ready(first))
            try:
                while True:
                    batch = await consumer.getmany(timeout_ms=_IDLE_MS, max_records=_BATCH)
                    began = time.perf_counter()
                    if batch:
                        self._take(batch)
                    if self._waiters:
                        waited_for = {tp for missing, _ in self._waiters for tp in missing}
                        await self._pass_controls(consumer, waited_for)
                        self._wake()
                    if sum(map(len, batch.values())) == _BATCH:
                        # There is more, which the consumer has already: it would not pause by itself.
                        await asyncio.sleep(_REST * (time.perf_counter() - began))
                    elif batch and not self._waiters:
                        # Nobody is waiting: let more come, which is much cheaper to read at once.
                        await self._linger(self._config.view_linger)
            finally:
                ready.cancel()
        finally:
            self._ends = self._consumer = None
            await consumer.stop()
            await asker.stop()

    async def _read_partners(self, consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> None:
        parties = self._partitions[self._config.topics.parties.name]
        consumer.assign(parties)
        for partition in parties:
            consumer.seek(partition, self._positions[partition])
        while any([await consumer.position(partition) < ends[partition] for partition in parties]):
            if batch := await consumer.getmany(timeout_ms=_IDLE_MS, max_records=_BATCH):
                self._take(batch)

    async def _become_ready(self, ends: dict[TopicPartition, int]) -> None:
        await self._reach(ends)
        self.ready.set()

    def _take(self, batch: Mapping[TopicPartition, list[ConsumerRecord]]) -> None:
        """Fold a batch; write states and offsets as one."""
        assert self._db is not None
        get = self._db.get
        changed: dict[bytes, bytes | None] = {}
        writes = WriteBatch(raw_mode=True)
        self.lists.begin()
        for partition, records in batch.items():
            for record in records:
                try:
                    if (
                        name_of(record.value) != "event"
                    ):  # what the sessions say, in topics of payments and the ledger
                        continue
                    event, said = self._said.pop(record.value, None) or (Event.decode(record.value), None)
                    if event.module == PARTIES:
                        self._registry.fold(event)
                    elif tag := _TAGS.get(event.module):
                        key = tag + event.key.encode()
                        current = changed[key] if key in changed else get(key)
                        if fold := _FOLDS.get(event.module):
                            folded = fold(current, event)
                        else:
                            # Of what is compacted, the first event may be gone: there the key is the order.
                            at = record.timestamp * 1000 if event.module != HUB_CLIENT_INFO else 0
                            folded = fold_object(event.module, current, event, at, said)
                        if folded is not current:
                            changed[key] = folded
                            if event.module in LISTED:
                                self.lists.changed(event.module, event.key, current, folded, writes)
                            if self._follower:
                                self._follower.changed(
                                    event.module, event.key, current, folded, event, writes
                                )
                except UnknownSchemaError as error:
                    log.warning("%s offset %d: %s", _name(partition).decode(), record.offset, error)
                except Exception:
                    # The view must go on; the worker quarantines what cannot be folded, with its reason.
                    log.exception("%s offset %d cannot be folded", _name(partition).decode(), record.offset)
        for key, state in changed.items():
            if state is None:
                writes.delete(key)
            else:
                writes.put(key, state)
        positions = {partition: records[-1].offset + 1 for partition, records in batch.items()}
        for partition, position in positions.items():
            writes.put(_OFFSET + _name(partition), position.to_bytes(8, "big"))
        self._db.write(writes)
        self.lists.written()
        if self._follower:
            self._follower.written()
        self._positions.update(positions)
        for partition, position in positions.items():
            self._forget(partition, position)

    def _wake(self) -> None:
        """Let those go on for whom the view is new enough."""
        waiting = []
        for missing, waiter in self._waiters:
            if waiter.done():
                continue
            for partition in [tp for tp, end in missing.items() if self._positions[tp] >= end]:
                del missing[partition]
            if missing:
                waiting.append((missing, waiter))
            else:
                waiter.set_result(None)
        self._waiters = waiting


def _name(partition: TopicPartition) -> bytes:
    return f"{partition.topic}-{partition.partition}".encode()
