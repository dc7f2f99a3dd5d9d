"""The worker: Faust keeps the group and fetches, its agents hand each partition's bundles to its runner.

Faust is asked for three things: membership of the consumer group, the fetching of what is assigned, and
agents over topics. State, transactions and offsets belong to the runners (`streams.processor`,
`streams.forwarder`), so Faust's own acknowledgements, tables, changelogs and recovery stay out.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from faust.types import TP
from filelock import FileLock

from schemas.topics import Topic, Topics
from streams import metrics
from streams.folding import Fold, Gauges
from streams.forwarder import Forwarder, ReferencesOf
from streams.processor import PartitionProcessor, Place
from streams.runner import BATCH_RECORDS, Runner
from streams.store import Memory
from streams.ticker import ClockConfig, Ticker
from streams.transport import BundleApp

log = logging.getLogger("voltfold.worker")

SESSION_SECONDS, HEARTBEAT_SECONDS = 7.0, 0.3
"""A dead worker is missed after the first, a rebalance heard of after the second."""
_PAUSE_SECONDS = 3.0
_CLOSE_SECONDS = 5.0
_STOP_SECONDS = 10.0
_RETRY_SECONDS = 1.0
_LOCK_SECONDS = 2.0
_AT_ONCE = 2
"""Partitions that have a batch in memory: while some wait for their commits, another one folds."""

_FEW = 4_000
_RESTORING = 4


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker needs to know. `data` is a folder of its own: no two workers share one.

    `clock`: how the log is told the time; None: not by this worker.
    """

    kafka: str
    topics: Topics
    data: Path
    clock: ClockConfig | None = None


@dataclass(frozen=True)
class Folding:
    """A fold, the topic it folds, and the topic that keeps its states; both have the same partitions."""

    topic: Topic
    changelog: Topic
    fold: Fold
    gauges: Gauges | None = None
    most_records: int = BATCH_RECORDS
    """Of a batch. Where records of one key share no work, as claims of a pair, a few thousand are enough."""


def standard_foldings(topics: Topics) -> list[Folding]:
    """The folds of a Voltfold: sessions with their pricing, the ledger, and payments."""
    from streams.ledger import LedgerFold
    from streams.payments import PaymentFold
    from streams.sessions import SessionFold

    return [
        Folding(topics.sessions, topics.sessions_table, sessions := SessionFold(topics), sessions.gauges),
        Folding(topics.ledger, topics.ledger_table, LedgerFold(topics), most_records=_FEW),
        Folding(topics.payments, topics.payments_table, PaymentFold(topics), most_records=_FEW),
    ]


class _Seldom(logging.Filter):
    """Lets the same kind of message pass once in ten seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = (record.name, str(record.msg))
        if record.created - self._passed.get(kind, 0) < 10:
            return False
        self._passed[kind] = record.created
        return True


def _quiet() -> None:
    """Keep the log readable: each of some twenty clients tells of an outage many times a second."""
    for noisy in ("aiokafka", "faust", "mode", "streams.transport"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns of what it tries again by itself; what it gives up reaches the runner as an error.
    logging.getLogger("aiokafka.producer").setLevel(logging.ERROR)
    for repeated in ("aiokafka", "aiokafka.consumer.fetcher", "aiokafka.consumer.group_coordinator"):
        logger = logging.getLogger(repeated)
        if not any(isinstance(known, _Seldom) for known in logger.filters):
            logger.addFilter(_Seldom())


class Worker:
    """One process's share of the partitions, as the group deals them out."""

    def __init__(
        self,
        config: WorkerConfig,
        foldings: Sequence[Folding] | None = None,
        references_of: ReferencesOf | None = None,
    ) -> None:
        """Other folds, or another source of references, than the standard ones are for tests."""
        topics = config.topics
        if foldings is None:
            from streams.references import references_of as standard_references

            foldings, references_of = standard_foldings(topics), references_of or standard_references
        self._config = config
        self._foldings = {folding.topic.name: folding for folding in foldings}
        self._references_of = references_of
        self._memory = Memory()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._restoring = asyncio.Semaphore(_RESTORING)
        self._runners: dict[TP, Runner] = {}
        self._assigned = False
        self._generation = -1
        self._app: BundleApp | None = None
        self._cluster = ""

    async def run(self) -> None:
        """Work until cancelled; then finish what is under way and leave the group.

        Whatever stops Faust, it is started again: an outage of Kafka is waited out. Raises filelock.Timeout
        when another worker runs on the same folder.
        """
        _quiet()
        # What lives for ever need not be looked at again; batches free themselves by reference count.
        gc.collect()
        gc.freeze()
        gc.set_threshold(500_000, 10, 10)
        self._config.data.mkdir(parents=True, exist_ok=True)
        # Blocks nobody for long: a folder that is in use belongs to a worker that runs, which is an error.
        with FileLock(self._config.data / "lock", timeout=_LOCK_SECONDS):
            while True:
                try:
                    self._cluster = await self._find_cluster()
                    await self._serve()
                except (KafkaError, OSError) as error:
                    log.warning("the worker begins again, after %r", error)
                except Exception:
                    log.exception("the worker begins again")
                await asyncio.sleep(_RETRY_SECONDS)

    def health(self) -> dict[str, object]:
        """Ready once the group has dealt and every partition's state is restored."""
        runners = list(self._runners.items())
        return {
            "ready": self._assigned and all(runner.ready for _, runner in runners),
            "partitions": [f"{tp.topic}-{tp.partition}" for tp, _ in sorted(runners)],
            "restoring": [str(runner) for _, runner in runners if not runner.ready],
            "failures": {str(runner): runner.failure for _, runner in runners if runner.failure},
            "lag": sum(self._lag().values()),
        }

    def _lag(self) -> Counter[str]:
        lag: Counter[str] = Counter(dict.fromkeys(self._topics(), 0))
        for tp, runner in self._runners.items():
            end = self._app.bundles.end(tp) if self._app is not None else None
            if end is not None:
                lag[tp.topic] += max(0, end - (runner.position or 0))
        return lag

    def _topics(self) -> list[str]:
        referring = [self._config.topics.tariffs, self._config.topics.locations]
        return [*self._foldings, *(topic.name for topic in referring if self._references_of is not None)]

    async def _find_cluster(self) -> str:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._config.kafka, request_timeout_ms=5_000)
        try:
            await admin.start()
            return str((await admin.describe_cluster())["cluster_id"])
        finally:
            await admin.close()

    def _identity(self) -> str:
        """The worker's name in the group, which stays with its folder: a restart is the same member."""
        file = self._config.data / "identity"
        if not file.exists():
            file.with_suffix(".new").write_text(uuid.uuid4().hex)
            file.with_suffix(".new").rename(file)
        return file.read_text()

    # Faust

    def _create_app(self) -> BundleApp:
        config = self._config
        app = BundleApp(
            f"{config.topics.prefix}-worker",
            broker=[f"kafka://{server}" for server in config.kafka.split(",")],
            datadir=str(config.data / "faust"),
            store="memory://",
            autodiscover=False,
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            table_standby_replicas=0,
            broker_session_timeout=SESSION_SECONDS,
            broker_heartbeat_interval=HEARTBEAT_SECONDS,
            consumer_auto_offset_reset="earliest",
            consumer_group_instance_id=self._identity(),
            stream_wait_empty=False,
        )
        revoked: Any = self._on_revoked
        assigned: Any = self._on_assigned
        app.on_partitions_revoked.connect(revoked)
        app.on_partitions_assigned.connect(assigned)
        for name in self._foldings:
            self._add_agent(app, name.removeprefix(f"{config.topics.prefix}."), [name])
        if self._references_of is not None:
            self._add_agent(app, "references", [config.topics.tariffs.name, config.topics.locations.name])
        return app

    def _add_agent(self, app: BundleApp, name: str, topics: list[str]) -> None:
        async def agent(stream: Any) -> None:
            async for event in stream.events():
                if runner := self._runners.get(event.message.tp):
                    runner.offer(event.value)

        # Raw bytes pass through Faust's codecs as they are, and so does a bundle.
        raw: Any = {
            "key_type": bytes,
            "value_type": bytes,
            "key_serializer": "raw",
            "value_serializer": "raw",
        }
        app.agent(app.topic(*topics, acks=False, **raw), name=name)(agent)

    async def _serve(self) -> None:
        app = self._app = self._create_app()
        beside = [asyncio.create_task(self._report(app))]
        if (clock := self._config.clock) is not None:
            topics = self._config.topics.clocked
            ticker = Ticker(self._config.kafka, topics, clock, lambda: self._owned())
            beside.append(asyncio.create_task(ticker.run()))
        try:
            await app.start()
            await app._crashed.wait()
            raise RuntimeError(f"Faust stopped: {app.crash_reason!r}")
        finally:
            for task in beside:
                task.cancel()
            self._assigned = False
            # Our own transactions first, then the group: the next owner finds everything committed.
            await self._close(list(self._runners))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await app.stop()
            self._app = None

    def _owned(self) -> list[TP]:
        """Partitions whose states are at hand."""
        return [tp for tp, runner in self._runners.items() if self._assigned and runner.ready]

    def _report_gauges(self) -> None:
        found = []
        for tp, runner in self._runners.items():
            folding = self._foldings.get(tp.topic)
            if folding and folding.gauges and isinstance(runner, PartitionProcessor):
                found.append(runner.gauges(folding.gauges))
        known = [one for one in found if one is not None]
        metrics.CANDIDATES.set(sum(one["candidates"] for one in known))
        metrics.CLOCK.set(min((one["now"] for one in known), default=0) / 1e6)

    async def _report(self, app: BundleApp) -> None:
        while True:
            await asyncio.sleep(1)
            for topic, lag in self._lag().items():
                metrics.LAG.labels(topic).set(lag)
            for tp, runner in self._runners.items():
                if self._assigned and (fetched := app.bundles.fetched(tp)) is not None:
                    runner.check(fetched)
            self._report_gauges()
            owned = Counter(tp.topic for tp in self._runners)
            for topic in self._topics():
                metrics.PARTITIONS.labels(topic).set(owned[topic])

    # The group

    async def _on_revoked(self, app: Any, tps: Collection[TP], **_: Any) -> None:
        """A rebalance begins: let transactions end. Most partitions will stay here, with their stores."""
        self._assigned = False
        await asyncio.gather(*(runner.pause(_PAUSE_SECONDS) for runner in self._runners.values()))

    async def _on_assigned(self, app: Any, tps: Collection[TP], **_: Any) -> None:
        """The group has dealt: let go of what went to others, open what came, go on with what stayed."""
        wanted = {TP(tp.topic, tp.partition) for tp in tps}
        # A worker that slept through a rebalance must open again what others may have had meanwhile.
        generation = app.consumer_generation_id
        missed = generation > self._generation + 1
        self._generation = generation
        await self._close([tp for tp in self._runners if missed or tp not in wanted])
        for tp in sorted(wanted):
            if tp in self._runners:
                self._runners[tp].resume()
            else:
                self._runners[tp] = self._runner(tp)(app)
        self._assigned = True
        log.info("the group dealt %d partitions", len(wanted))

    def _runner(self, tp: TP) -> Callable[[BundleApp], Runner]:
        config = self._config
        folding = self._foldings.get(tp.topic)
        if folding is None:
            references_of = self._references_of
            assert references_of is not None
            return lambda app: Forwarder(tp, app.bundles, config.kafka, references_of, config.topics.sessions)
        place = Place(
            kafka=config.kafka,
            cluster=self._cluster,
            group=f"{config.topics.prefix}-worker",
            prefix=config.topics.prefix,
            data=config.data,
            partitions={topic.name: topic.partitions for topic in config.topics.all()},
            restoring=self._restoring,
        )
        return lambda app: PartitionProcessor(
            tp, app.bundles, place, folding.fold, folding.changelog.name, self._memory, self._turns,
            folding.most_records,
        )  # fmt: skip

    async def _close(self, tps: Collection[TP]) -> None:
        closing = [self._runners.pop(tp) for tp in tps]
        await asyncio.gather(*(runner.close(_CLOSE_SECONDS) for runner in closing))
