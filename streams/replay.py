"""Replay: read the log with a plain consumer, fold it with the same pure folds, compare with what was
written.

No Faust, no transactions, no local store. For every key of the conclusions (session states, bills, entries,
statements and so on) and of the quarantine, the latest value that the live system wrote must be, byte for
byte, the one that the log gives now.

Some facts are derived from facts, and are derived again, too: references in the sessions topic, and in the
ledger topic claims, fees, and invoice reconciliation records of closed statements, in the payments topic
charges, and in the commands topic stops of sessions at their limit. Ledger and payments themselves are folded
as they stand, since there the order counts: what comes after a closing is late. So the latest claim of
each CDR in it must be the one that the sessions give now, and what the ledger fold itself wrote into it must
be what it would write now.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import blake2b
from time import monotonic
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from schemas.codec import UnknownSchemaError, name_of
from schemas.payments import ChargeRecord, PaymentRecord
from schemas.records import (
    BillRecord,
    ClaimRecord,
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
from schemas.topics import Topic, Topics
from streams.clock import KEY as CLOCK_KEY
from streams.clock import MODULE as CLOCK
from streams.folding import Fact, Fold, Output
from streams.ledger import LedgerFold
from streams.ledger.state import ISSUER
from streams.payments import PaymentFold
from streams.references import MODULE as REFERENCES
from streams.references import references_of
from streams.sessions import SessionFold

_BATCH = 2_000  # records folded at a time

Progress = Callable[[int, int], None]
"""Called with records read and records to read."""


class Difference(NamedTuple):
    """A key whose latest value is not what the log gives. `what`: missing, unexpected or different."""

    topic: str
    key: str
    what: str


class Report(NamedTuple):
    """The outcome. `events`: of partners; `records`: keys compared; `behind`: events not folded live yet."""

    events: int
    records: int
    differences: list[Difference]
    behind: int
    seconds: float


async def check(kafka: str, topics: Topics, group: str, progress: Progress = lambda *_: None) -> Report:
    """Fold the whole log again and compare. `group`: the workers' consumer group, to tell what lies before
    them.

    A log that is being written to is followed: as long as something differs and the live system has moved on
    in the meantime, it is looked at again, three times at the most.
    """
    started = monotonic()
    for attempt in range(1, 4):
        replay = _Replay(kafka, topics, progress)
        try:
            before = await replay.behind(group)
            await replay.fold()
            differences = await replay.compare()
            after = await replay.behind(group)
        finally:
            await replay.close()
        if not differences or before == after or attempt == 3:
            break
    seconds = monotonic() - started
    return Report(replay.events, len(replay.expected), differences, after[0], seconds)


class Memory:
    """A fold with its state in a dictionary."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self.state: dict[bytes, bytes] = {}

    def __call__(self, facts: Sequence[Fact]) -> list[Output]:
        """Fold a batch; its outputs."""
        folded = self._fold(facts, self.state.get)
        for key, value in folded.changes.items():
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        return folded.outputs


class _Replay:
    def __init__(self, kafka: str, topics: Topics, progress: Progress) -> None:
        self.kafka = kafka
        self.topics = topics
        self.events = 0
        self.expected: dict[tuple[str, bytes], bytes] = {}
        self._progress = progress
        self._read = 0
        self._total = 0
        self._consumer: AIOKafkaConsumer | None = None
        self._references: set[bytes] = set()
        self._kinds: dict[str, type[Record]] = {
            topics.session_states.name: SessionRecord,
            topics.bills.name: BillRecord,
            topics.settlement_entries.name: EntryRecord,
            topics.settled_claims.name: SettledRecord,
            topics.statements.name: StatementRecord,
            topics.receipts.name: ReceiptRecord,
            topics.policies.name: PolicyRecord,
            topics.reconciliations.name: ReconciliationRecord,
            topics.payment_states.name: PaymentRecord,
            topics.quarantine.name: QuarantineRecord,
        }
        # What is derived in topics of facts: the latest of each claim, each record that a closing issued,
        # the latest charge of each session and CDR. By topic and name.
        self._expected_derived: dict[tuple[str, str], bytes] = {}
        self._found_derived: dict[tuple[str, str], bytes] = {}
        self._derived_in = {topic.name for topic in (*self._ordered, topics.commands)}
        self._copies: list[set[bytes]] = [set() for _ in range(topics.sessions.partitions)]

    async def close(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    async def fold(self) -> None:
        """Fold every fact; `expected` then has a digest of the latest value of every key."""
        topics = self.topics
        consumer = await self._connect()
        spans = [await self._span(consumer, topic) for topic in [*topics.facts, *self._written]]
        self._total = sum(end - start for span in spans for start, end in span.values())
        async for facts in self._facts(topics.tariffs, topics.locations):
            self.events += len(facts)
            self._references.update(event.id for fact in facts if (event := references_of(fact)) is not None)
        async for facts in self._facts(topics.tokens, topics.parties):
            self.events += len(facts)
        await self._sessions()
        await self._stands(topics.ledger, LedgerFold(topics))
        await self._stands(topics.payments, PaymentFold(topics))
        async for facts in self._facts(topics.commands):
            for fact in facts:
                if (derived := _derived(fact.value or b"")) is not None:
                    self._found_derived[topics.commands.name, derived] = _digest(fact.value or b"")

    async def _sessions(self) -> None:
        """Fold the sessions topic, each partition by itself; its claims are expected in the ledger."""
        topic = self.topics.sessions
        folds = [Memory(SessionFold(self.topics)) for _ in range(topic.partitions)]
        async for facts in self._facts(topic):
            partition = facts[0].partition
            for fact in facts:
                try:
                    event = Event.decode(fact.value or b"")
                except UnknownSchemaError:
                    continue
                if event.module == REFERENCES:
                    self._copies[partition].add(event.id)
                elif event.module != CLOCK:
                    self.events += 1
            self._expect(folds[partition](facts))

    async def _stands(self, topic: Topic, fold: Fold) -> None:
        """Fold a topic as it stands, and note what in it was derived."""
        folds = [Memory(fold) for _ in range(topic.partitions)]
        async for facts in self._facts(topic):
            for fact in facts:
                derived = _derived(fact.value or b"")
                if derived is None:
                    self.events += fact.key != CLOCK_KEY
                else:
                    self._found_derived[topic.name, derived] = _digest(fact.value or b"")
            self._expect(folds[facts[0].partition](facts))

    def _expect(self, outputs: Sequence[Output]) -> None:
        for one in outputs:
            if one.topic in self._derived_in:
                derived = _derived(one.value or b"")
                assert derived is not None
                self._expected_derived[one.topic, derived] = _digest(one.value or b"")
            elif one.value is None:
                self.expected.pop((one.topic, one.key), None)
            else:
                self.expected[one.topic, one.key] = _digest(one.value)

    async def compare(self) -> list[Difference]:
        """What the live system wrote, against what is expected."""
        found: dict[tuple[str, bytes], bytes] = {}
        async for facts in self._facts(*self._written):
            for fact in facts:
                name = (fact.topic, fact.key or b"")
                if fact.value is None:
                    found.pop(name, None)
                else:
                    found[name] = _digest(self._renewed(fact.topic, fact.value))
        differences = []
        for topic, key in sorted(self.expected.keys() | found.keys()):
            ours, theirs = self.expected.get((topic, key)), found.get((topic, key))
            if ours != theirs:
                what = "missing" if theirs is None else "unexpected" if ours is None else "different"
                differences.append(Difference(topic, key.decode(errors="replace"), what))
        for derived in sorted(self._expected_derived.keys() | self._found_derived.keys()):
            ours, theirs = self._expected_derived.get(derived), self._found_derived.get(derived)
            if ours != theirs:
                what = "missing" if theirs is None else "unexpected" if ours is None else "different"
                differences.append(Difference(*derived, what))
        for partition, copies in enumerate(self._copies):
            where = f"{self.topics.sessions.name}-{partition}"
            for one in sorted(self._references ^ copies):
                what = "missing" if one in self._references else "unexpected"
                differences.append(Difference(where, f"reference {one.hex()}", what))
        return differences

    def _renewed(self, topic: str, value: bytes) -> bytes:
        """A record as it would be written today, if an older version of its schema wrote it."""
        kind = self._kinds.get(topic)
        if kind is None or kind.codec.is_newest(value):
            return value
        try:
            return kind.decode(value).encode()
        except UnknownSchemaError:
            return value

    async def behind(self, group: str) -> tuple[int, dict[TopicPartition, int]]:
        """How many records the workers have before them still; and where the topics that they fold end."""
        consumer = await self._connect()
        ends: dict[TopicPartition, int] = {}
        topics = self.topics
        for topic in (topics.sessions, topics.tariffs, topics.locations, *self._ordered):
            ends |= await consumer.end_offsets(_partitions(topic))
        offsets = await committed(self.kafka, group)
        starts = {tp: found.offset for tp, found in offsets.items() if found.offset >= 0}
        return sum(max(0, end - starts.get(tp, 0)) for tp, end in ends.items()), ends

    # -- reading -------------------------------------------------------------------------------------------

    @property
    def _ordered(self) -> list[Topic]:
        """Topics that hold facts, and what the sessions say, in the order in which it is folded."""
        return [self.topics.ledger, self.topics.payments]

    @property
    def _written(self) -> list[Topic]:
        return [*self.topics.conclusions, self.topics.quarantine]

    async def _connect(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            self._consumer = AIOKafkaConsumer(
                bootstrap_servers=self.kafka,
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=4 << 20,
            )
            await self._consumer.start()
        return self._consumer

    async def _span(
        self, consumer: AIOKafkaConsumer, *topics: Topic
    ) -> dict[TopicPartition, tuple[int, int]]:
        """First and end offset of each partition."""
        partitions = [tp for topic in topics for tp in _partitions(topic)]
        starts = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        return {tp: (starts[tp], ends[tp]) for tp in partitions}

    async def _facts(self, *topics: Topic) -> AsyncIterator[list[Fact]]:
        """Every record of the topics up to where they end now, in batches of one partition each."""
        consumer = await self._connect()
        span = await self._span(consumer, *topics)
        waiting = {tp: end for tp, (start, end) in span.items() if start < end}
        if not waiting:
            return
        consumer.assign(list(waiting))
        for tp in waiting:
            consumer.seek(tp, span[tp][0])
        reached = {tp: span[tp][0] for tp in waiting}
        while waiting:
            found: dict[TopicPartition, list[Any]] = await consumer.getmany(
                timeout_ms=500, max_records=_BATCH
            )
            for tp, records in found.items():
                end = waiting.get(tp)
                if end is None:
                    continue
                facts = [
                    Fact(tp.topic, tp.partition, r.offset, r.key, r.value) for r in records if r.offset < end
                ]
                if facts:
                    yield facts
            for tp, end in list(waiting.items()):
                position = min(await consumer.position(tp), end)
                self._read += position - reached[tp]
                reached[tp] = position
                if position >= end:
                    del waiting[tp]
                    consumer.pause(tp)
            self._progress(self._read, max(self._total, self._read))


@retry(
    retry=retry_if_exception(lambda error: isinstance(error, KafkaError) and error.retriable),
    wait=wait_fixed(0.3),
    stop=stop_after_delay(20),
    reraise=True,
)
async def committed(kafka: str, group: str) -> dict[TopicPartition, Any]:
    """A group's offsets. A broker that has just started looks for its coordinator first."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        found: dict[TopicPartition, Any] = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    return found


def _partitions(topic: Topic) -> list[TopicPartition]:
    return [TopicPartition(topic.name, number) for number in range(topic.partitions)]


def _derived(value: bytes) -> str | None:
    """The name under which a record among facts is derived again; None for a fact."""
    try:
        name = name_of(value)
        if name == "claim":
            return f"claim {ClaimRecord.decode(value).id}"
        if name == "charge":
            charge = ChargeRecord.decode(value)
            return f"charge {charge.kind} {charge.key} of {charge.payment}"
        event = Event.decode(value)
    except UnknownSchemaError:
        return None
    return f"{event.module} {event.key}" if event.sender == ISSUER else None


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=16).digest()
