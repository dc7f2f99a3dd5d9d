"""The sink: from the log's conclusions into ClickHouse, each counted once.

What makes it once: every row carries its record's offset as its version, and the tables keep the greatest
version of each key (`migrations/001_conclusions.sql`). A batch that is inserted again, whole or cut in other
places, replaces itself. Kafka's offsets are committed only after ClickHouse answered the insert, so a crash
at any moment repeats rows and loses none. The deduplication token merely spares ClickHouse the work of a
batch that is repeated as it was.

Several sinks may run: they share the partitions as one consumer group.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError
from prometheus_client import Counter, Gauge, Histogram
from urllib3.exceptions import HTTPError

from analytics.connection import connect
from analytics.container import layouts
from schemas.codec import HEADER, UnknownSchemaError
from schemas.payments import PaymentRecord
from schemas.records import (
    BillRecord,
    DeliveryRecord,
    EntryRecord,
    Event,
    QuarantineRecord,
    Record,
    SessionRecord,
)
from schemas.settlement import (
    PolicyRecord,
    ReceiptRecord,
    ReconciliationRecord,
    SettledRecord,
    StatementRecord,
)
from schemas.topics import Topics

log = logging.getLogger(__name__)

ROWS = Counter("voltfold_sink_rows_total", "Records inserted, repeats included.", ("topic",))
BATCHES = Counter("voltfold_sink_batches_total", "Inserts answered by ClickHouse.", ("topic",))
RETRIES = Counter("voltfold_sink_retries_total", "Inserts that failed and were tried again.", ("topic",))
UNREADABLE = Counter("voltfold_sink_errors_total", "Records kept in sink_errors instead.", ("topic",))
FRESHNESS = Histogram(
    "voltfold_sink_freshness_seconds",
    "From a record's timestamp in the log until it can be selected; of a batch, its oldest record.",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 15, 60, 300),
)
LAG = Gauge("voltfold_sink_lag_records", "Records of this sink's partitions that have yet to be inserted.")

Message: TypeAlias = ConsumerRecord


@dataclass(frozen=True)
class SinkConfig:
    """Where the log is (`host:port`), where ClickHouse is (a URL), and how much is done at once.

    After a round of inserts the sink rests twice as long as the round took, `linger` seconds at most, unless
    the round was full: an insert costs ClickHouse the same whatever it holds, so a busy machine gets fewer
    and larger ones. `max_rows` and `max_bytes` bound what is held in memory. Under a `member` name, which no
    other sink may have at the same time, a sink that was killed goes on as soon as it is back; without one,
    the group first waits for the dead member's session to end (10 s).
    """

    kafka: str
    clickhouse: str
    database: str
    topics: Topics
    linger: float = 0.3
    max_rows: int = 20_000
    max_bytes: int = 16 << 20
    member: str | None = None

    @property
    def group(self) -> str:
        """The consumer group of all sinks of this log."""
        return f"{self.topics.prefix}-sink"


@dataclass(frozen=True)
class Target:
    """The table that a topic goes into, and the column with the record's key, if keys can be taken back."""

    table: str
    record: type[Record]
    key: str | None


class _Finish(ConsumerRebalanceListener):  # type: ignore[misc]
    """Before partitions go to another sink, what is being inserted is finished, if it can be soon."""

    def __init__(self, busy: asyncio.Lock) -> None:
        self._busy = busy

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Wait for the round; one that takes longer is repeated by the next owner, which does no harm."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5), self._busy:
                pass

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Nothing to do: reading goes on at the committed offsets."""


class Sink:
    """Reads committed conclusions and inserts them, until it is cancelled."""

    def __init__(self, config: SinkConfig) -> None:
        topics = config.topics
        self.config = config
        self.targets = {
            topics.session_states.name: Target("session_versions", SessionRecord, "key"),
            topics.bills.name: Target("bill_versions", BillRecord, "key"),
            topics.settlement_entries.name: Target("ledger_entry_versions", EntryRecord, "id"),
            topics.settled_claims.name: Target("claim_versions", SettledRecord, "id"),
            topics.statements.name: Target("statement_versions", StatementRecord, "reference"),
            topics.receipts.name: Target("receipt_versions", ReceiptRecord, "id"),
            topics.policies.name: Target("policy_versions", PolicyRecord, None),
            topics.reconciliations.name: Target("reconciliation_versions", ReconciliationRecord, "key"),
            topics.tokens.name: Target("token_event_versions", Event, None),
            topics.payment_states.name: Target("payment_versions", PaymentRecord, "key"),
            topics.quarantine.name: Target("quarantine_versions", QuarantineRecord, None),
            topics.outbound.name: Target("delivery_versions", DeliveryRecord, "id"),
        }
        self._client: Client | None = None
        self._threads = ThreadPoolExecutor(len(self.targets), thread_name_prefix="sink")
        self._busy = asyncio.Lock()
        self._reading = False
        self._faults: dict[str, str] = {}
        self._rows = 0
        self._lag = 0

    def health(self) -> dict[str, object]:
        """Whether rows arrive: `ready`, and why not (`faults`); rows inserted, records still to come."""
        ready = self._reading and not self._faults
        return {"ready": ready, "faults": dict(self._faults), "rows": self._rows, "lag": self._lag}

    async def run(self) -> None:
        """Run until cancelled. Servers that are away are waited for."""
        if not (chatty := logging.getLogger("aiokafka")).level:
            chatty.setLevel(logging.WARNING)  # its debug calls cost a tenth of the time
        delay = 0.2
        try:
            while True:
                try:
                    await self._consume()
                except (KafkaError, OSError) as error:
                    self._faults["kafka"] = str(error) or type(error).__name__
                    log.warning("reading the log failed, trying again in %.1f s: %s", delay, error)
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, 5.0)
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)
            if self._client:
                self._client.close()

    async def _consume(self) -> None:
        """Join the group and go on where it stands."""
        config = self.config
        await self._patiently("clickhouse", self._connect)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=config.kafka,
            group_id=config.group,
            group_instance_id=config.member,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            retry_backoff_ms=250,
            fetch_max_wait_ms=100,
            fetch_min_bytes=256 << 10,  # or else whatever there is after the wait
            fetch_max_bytes=config.max_bytes,
            max_partition_fetch_bytes=1 << 20,
        )
        consumer.subscribe(list(self.targets), listener=_Finish(self._busy))
        try:
            await consumer.start()
            self._faults.pop("kafka", None)
            while True:
                await self._round(consumer)
        finally:
            self._reading = False
            await consumer.stop()

    async def _round(self, consumer: AIOKafkaConsumer) -> None:
        """Insert what has arrived, then commit how far we are."""
        batches: Mapping[TopicPartition, list[Message]] = await consumer.getmany(
            timeout_ms=500, max_records=self.config.max_rows
        )
        self._reading = True
        begun = time.monotonic()
        async with self._busy:  # taken without a pause: no partition goes between reading and inserting
            if batches:
                await _finish(self._deliver(consumer, batches))
            self._lag = await _lag(consumer)
            LAG.set(self._lag)
        if sum(map(len, batches.values())) < self.config.max_rows // 4:
            await asyncio.sleep(min(self.config.linger, 2 * (time.monotonic() - begun)))

    async def _deliver(
        self, consumer: AIOKafkaConsumer, batches: Mapping[TopicPartition, Sequence[Message]]
    ) -> None:
        """Insert a round, and only then commit its offsets."""
        await self._insert(batches)
        offsets = {partition: messages[-1].offset + 1 for partition, messages in batches.items()}
        try:
            await consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:
            # Partitions went to another sink meanwhile, which repeats these rows: no harm done.
            log.info("offsets were not committed: %s", error)

    async def _insert(self, batches: Mapping[TopicPartition, Sequence[Message]]) -> None:
        """Insert a round, one statement for each table, at the same time."""
        by_topic: dict[str, list[Message]] = defaultdict(list)
        for partition, messages in batches.items():
            by_topic[partition.topic].extend(messages)
        async with asyncio.TaskGroup() as tasks:
            for topic, messages in by_topic.items():
                tasks.create_task(self._patiently(topic, partial(self._write, topic, messages)))
        oldest = min(messages[0].timestamp for messages in batches.values())
        FRESHNESS.observe(max(0.0, time.time() - oldest / 1000))

    async def _patiently(self, what: str, work: Callable[[], None]) -> None:
        """Do the work in a thread until ClickHouse has taken it."""
        delay = 0.1
        while True:
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, work)
            except (ClickHouseError, HTTPError, OSError) as error:
                self._faults[what] = str(error).split("\n")[0][:500]
                RETRIES.labels(what).inc()
                log.warning("%s: ClickHouse did not take it, trying again in %.1f s: %s", what, delay, error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, 3.0)
            else:
                self._faults.pop(what, None)
                return

    def _connect(self) -> None:
        if self._client is None:
            self._client = connect(self.config.clickhouse, self.config.database, timeout=30)

    def _write(self, topic: str, messages: Sequence[Message]) -> None:
        """Insert one topic's records. After a ClickHouseError nothing is lost, and all may be repeated."""
        target = self.targets[topic]
        known = layouts(target.record.codec.name)
        rows: dict[bytes, list[Message]] = defaultdict(list)
        taken_back: list[Message] = []
        unreadable: list[tuple[Message, str]] = []
        for message in messages:
            if message.value is not None and (header := message.value[:HEADER]) in known:
                rows[header].append(message)
            elif message.value is None and target.key and message.key is not None:
                taken_back.append(message)
            else:
                unreadable.append((message, f"no version of {target.record.codec.name} wrote this"))
        for header, readable in rows.items():
            unreadable += self._write_rows(target, header, readable)
        if taken_back:
            self._write_deletions(target, taken_back)
        if unreadable:
            self._write_errors(unreadable)
            UNREADABLE.labels(topic).inc(len(unreadable))
        count = len(messages) - len(unreadable)
        ROWS.labels(topic).inc(count)
        BATCHES.labels(topic).inc()
        self._rows += count

    def _write_rows(
        self, target: Target, header: bytes, messages: Sequence[Message]
    ) -> list[tuple[Message, str]]:
        """Insert records of one schema version; return those that are damaged."""
        assert self._client
        layout = layouts(target.record.codec.name)[header]
        damaged: list[tuple[Message, str]] = []
        while messages:
            try:
                self._client.raw_insert(
                    target.table,
                    layout.columns,
                    layout.pack((message.offset, message.value) for message in messages),
                    settings=_once(messages),
                    fmt="Avro",
                )
                break
            except DatabaseError:
                found = [(message, fault) for message in messages if (fault := _fault(target, message))]
                if not found:
                    raise  # it is not for the records that ClickHouse refuses
                damaged += found
                bad = {(message.partition, message.offset) for message, _ in found}
                messages = [m for m in messages if (m.partition, m.offset) not in bad]
        return damaged

    def _write_deletions(self, target: Target, messages: Sequence[Message]) -> None:
        """A record without value takes its key back."""
        assert self._client
        assert target.key
        self._client.insert(
            target.table,
            [(message.key.decode(), message.offset, 1) for message in messages],
            column_names=[target.key, "version", "is_deleted"],
            column_type_names=["String", "Int64", "UInt8"],
            settings=_once(messages),
        )

    def _write_errors(self, found: Sequence[tuple[Message, str]]) -> None:
        """Keep what could not be read, for somebody to look at."""
        assert self._client
        for message, error in found:
            log.error("%s-%d@%d: %s", message.topic, message.partition, message.offset, error)
        self._client.insert(
            "sink_errors",
            [(m.topic, m.partition, m.offset, m.key or b"", m.value or b"", error) for m, error in found],
            column_names=["topic", "partition", "offset", "key", "value", "error"],
            column_type_names=["String", "Int32", "Int64", "String", "String", "String"],
        )


async def _finish(work: Coroutine[Any, Any, None], patience: float = 3.0) -> None:
    """Do the work; when cancelled meanwhile, end it first if that takes no longer than `patience` seconds."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=patience)
        task.cancel()
        raise


def _once(messages: Sequence[Message]) -> dict[str, str | int]:
    """Settings that name the batch by its offsets, so that the very same batch is not written twice."""
    spans: dict[int, tuple[int, int]] = {}
    for message in messages:
        first, _ = spans.get(message.partition, (message.offset, 0))
        spans[message.partition] = (first, message.offset)
    topic = messages[0].topic
    token = ",".join(f"{topic}-{partition}-{first}-{last}" for partition, (first, last) in spans.items())
    return {"insert_deduplicate": 1, "insert_deduplication_token": token}


def _fault(target: Target, message: Message) -> str | None:
    """What is wrong with a record's bytes, if anything is."""
    try:
        record = target.record.decode(message.value)
        intact = record.encode()[HEADER:] == message.value[HEADER:] or not _is_newest(target, message.value)
    except (UnknownSchemaError, ValueError, ArithmeticError) as error:
        return str(error) or type(error).__name__
    return None if intact else "the bytes are longer than the record"


def _is_newest(target: Target, value: bytes) -> bool:
    return value[:HEADER] == list(layouts(target.record.codec.name))[-1]


async def _lag(consumer: AIOKafkaConsumer) -> int:
    """Offsets between what has been read and what has been committed, of the partitions fetched so far."""
    lag = 0
    with contextlib.suppress(IllegalStateError):  # a partition went to another sink just now
        for partition in consumer.assignment():
            end = consumer.last_stable_offset(partition)
            if end is not None and end >= 0:
                lag += max(0, end - await consumer.position(partition))
    return lag
