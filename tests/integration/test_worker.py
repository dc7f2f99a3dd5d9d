"""The worker on a real broker: killed, paused, fenced, robbed of its store, and every event counted once."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from faust.types import TP

from schemas.records import Event
from schemas.topics import Topic, Topics
from streams import processor as processor_module
from streams.folding import Fact, Folded, Get
from streams.runner import Runner
from streams.store import POSITION, Store
from streams.worker import Folding, Worker, WorkerConfig
from tests.conftest import ROOT
from tests.integration.counting import CountingFold, counting, number_pair
from voltfold.processes import die_with_parent

KEYS = 500


class Running:
    """A counting worker in a process of its own."""

    def __init__(self, kafka: str, topics: Topics, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._arguments = [kafka, topics.prefix, str(topics.partitions), str(folder)]
        self.start()

    def start(self) -> None:
        """Start, or start again, on the same folder."""
        (self.folder / "health.json").unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.counting", *self._arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; wait for the end if it is one that ends."""
        self.process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.process.wait(20)

    def health(self) -> dict[str, Any]:
        """What it said last."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "health.json").read_text())
        except FileNotFoundError:
            return {"ready": False, "partitions": [], "lag": -1}
        return found

    async def until(self, what: Callable[[dict[str, Any]], bool], seconds: float = 30) -> float:
        """Wait for its health to be so; return the seconds that took."""
        started = time.monotonic()
        while not what(health := self.health()):
            if time.monotonic() - started > seconds:
                pytest.fail(f"waited {seconds} s; {health}\n{(self.folder / 'log').read_text()[-6000:]}")
            assert self.process.poll() is None, (self.folder / "log").read_text()[-6000:]
            await asyncio.sleep(0.05)
        return time.monotonic() - started


@pytest.fixture
def start_worker(broker: str, topics: Topics, tmp_path: Path) -> Iterator[Callable[[str], Running]]:
    """Starts counting workers, each by a name, that end with the test."""
    started: list[Running] = []

    def start(name: str) -> Running:
        started.append(Running(broker, topics, tmp_path / name))
        return started[-1]

    yield start
    for running in started:
        running.process.kill()
        running.process.wait()


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    """A worker in this process, ready."""
    task = asyncio.create_task(worker.run())
    try:
        await until(lambda: bool(worker.health()["ready"]) or task.done())
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled(), task.exception()


async def until(what: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something to be so."""
    async with asyncio.timeout(seconds):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def key_of(number: int) -> bytes:
    """The key of an event."""
    return b"DE*ABC*%d" % (number % KEYS)


async def send(kafka: str, topic: Topic, numbers: range, per_second: int | None = None) -> None:
    """Write events of 300 bytes."""
    async with AIOKafkaProducer(
        bootstrap_servers=kafka, acks="all", enable_idempotence=True, linger_ms=5, max_batch_size=256 << 10
    ) as producer:
        started = time.monotonic()
        for done, number in enumerate(numbers):
            await producer.send(topic.name, b"%d " % number + b"." * 300, key=key_of(number))
            if per_second and done % 100 == 0:
                await asyncio.sleep(max(0, started + done / per_second - time.monotonic()))
        await producer.flush()


async def read(kafka: str, topic: Topic) -> list[ConsumerRecord]:
    """All committed records of a topic."""
    partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    found: list[ConsumerRecord] = []
    async with AIOKafkaConsumer(
        bootstrap_servers=kafka, isolation_level="read_committed", enable_auto_commit=False
    ) as consumer:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, 0)
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found.extend(records)
    return found


async def counted_once(kafka: str, topics: Topics, total: int) -> None:
    """Every event is in every conclusion once, and the states in the changelogs are what they must be."""
    expected: dict[bytes, tuple[int, int]] = {}
    for number in range(total):
        count, amount = expected.get(key_of(number), (0, 0))
        expected[key_of(number)] = (count + 1, amount + number)
    for topic in (topics.session_states, topics.ledger, topics.settlement_entries):
        seen = Counter(int(record.value) for record in await read(kafka, topic))
        assert not [number for number, times in seen.items() if times > 1], topic.name
        assert not set(range(total)) - set(seen), topic.name
    for changelog in (topics.sessions_table, topics.ledger_table):
        states = {record.key: record.value for record in await read(kafka, changelog)}
        states.pop(POSITION)
        assert {key: number_pair(state) for key, state in states.items()} == expected, changelog.name


async def all_done(kafka: str, topics: Topics, total: int, seconds: float = 60) -> None:
    """Wait until the last conclusion holds as many records as there are events."""
    async with asyncio.timeout(seconds):
        while len(await read(kafka, topics.settlement_entries)) < total:  # noqa: ASYNC110
            await asyncio.sleep(0.3)


async def test_killed_in_mid_stream_and_restarted(
    broker: str, topics: Topics, start_worker: Callable[[str], Running], tmp_path: Path
) -> None:
    """`kill -9` twice under load, a stop, and a lost store: each restart goes on."""
    total = 40_000
    sending = asyncio.create_task(send(broker, topics.sessions, range(total), per_second=12_000))
    worker = start_worker("one")
    for _ in range(2):
        await worker.until(lambda health: health["ready"])
        await asyncio.sleep(0.8)
        worker.signal(signal.SIGKILL)
        worker.start()
    took = await worker.until(lambda health: health["ready"])
    assert took < 8, "the same member on the same folder needs not wait for its own session to expire"
    await sending
    await all_done(broker, topics, total)
    await counted_once(broker, topics, total)

    worker.signal(signal.SIGTERM)
    assert worker.process.returncode == 0
    shutil.rmtree(tmp_path / "one" / "data")
    worker.start()
    await worker.until(lambda health: health["ready"])
    await send(broker, topics.sessions, range(total, total + 1_000))
    await all_done(broker, topics, total + 1_000)
    await counted_once(broker, topics, total + 1_000)


async def test_paused_beyond_its_session_and_taken_over(
    broker: str, topics: Topics, start_worker: Callable[[str], Running]
) -> None:
    """A paused worker loses its partitions, wakes up fenced, joins again; a killed one is replaced."""
    total = 20_000
    one, two = start_worker("one"), start_worker("two")
    for worker in (one, two):
        await worker.until(lambda health: health["ready"] and len(health["partitions"]) == 3)
    sending = asyncio.create_task(send(broker, topics.sessions, range(total), per_second=1_000))
    await asyncio.sleep(1)

    one.signal(signal.SIGSTOP)
    taken_over = await two.until(lambda health: health["ready"] and len(health["partitions"]) == 6)
    assert taken_over < 12
    await asyncio.sleep(1)
    one.signal(signal.SIGCONT)
    for worker in (one, two):
        await worker.until(lambda health: health["ready"] and len(health["partitions"]) == 3)

    two.signal(signal.SIGKILL)
    assert await one.until(lambda health: health["ready"] and len(health["partitions"]) == 6) < 12
    await sending
    await all_done(broker, topics, total)
    await counted_once(broker, topics, total)


async def test_a_worker_that_stops_hands_over_at_once(
    broker: str, topics: Topics, start_worker: Callable[[str], Running]
) -> None:
    """SIGTERM leaves the group; nobody waits for a session to expire."""
    one, two = start_worker("one"), start_worker("two")
    for worker in (one, two):
        await worker.until(lambda health: health["ready"] and len(health["partitions"]) == 3)
    one.signal(signal.SIGTERM)
    assert one.process.returncode == 0
    assert await two.until(lambda health: health["ready"] and len(health["partitions"]) == 6) < 4


async def test_what_got_lost_on_the_way_is_read_again(
    broker: str, topics: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first bundle, some in between, the last one, whichever never arrives; and what comes twice."""
    arrived, lost, repeated = Counter[TP](), [], []
    offer = Runner.offer

    def unreliable(self: Runner, bundle: Any) -> None:
        arrived[self.tp] += 1
        if arrived[self.tp] % 5 in (1, 2) and bundle.records:
            lost.append(bundle)
            return
        offer(self, bundle)
        if arrived[self.tp] % 5 == 4:
            repeated.append(bundle)
            offer(self, bundle)

    monkeypatch.setattr(Runner, "offer", unreliable)
    worker = Worker(WorkerConfig(broker, topics, tmp_path), counting(topics))
    async with working(worker):
        await send(broker, topics.sessions, range(4_000), per_second=1_500)
        await all_done(broker, topics, 4_000)
    assert lost
    assert repeated
    await counted_once(broker, topics, 4_000)


@pytest.mark.parametrize("step", ["fold", "send", "commit", "committed", "stored"])
async def test_an_error_between_any_two_steps(
    broker: str, topics: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The batch is done again or found done, whichever Kafka says."""
    failed = Counter[str]()

    def fail(where: str) -> None:
        if where == step and failed[where] < 3:
            failed[where] += 1
            raise ConnectionError(f"as if the connection had broken: {where}")

    class Fold(CountingFold):
        def __call__(self, facts: Sequence[Fact], get: Get) -> Folded:
            fail("fold")
            return super().__call__(facts, get)

    class Producer(AIOKafkaProducer):  # type: ignore[misc]
        async def send_offsets_to_transaction(self, *arguments: Any) -> None:
            fail("send")
            await super().send_offsets_to_transaction(*arguments)

        async def commit_transaction(self) -> None:
            fail("commit")
            await super().commit_transaction()
            fail("committed")

    write = Store.write

    def store(self: Store, *arguments: Any) -> None:
        write(self, *arguments)
        fail("stored")

    monkeypatch.setattr(processor_module, "AIOKafkaProducer", Producer)
    monkeypatch.setattr(Store, "write", store)
    folding = Folding(topics.sessions, topics.sessions_table, Fold(topics.session_states, topics.ledger))
    worker = Worker(WorkerConfig(broker, topics, tmp_path), [folding, counting(topics)[1]])
    async with working(worker):
        await send(broker, topics.sessions, range(3_000), per_second=3_000)
        await all_done(broker, topics, 3_000)
    assert failed[step] == 3
    await counted_once(broker, topics, 3_000)


async def test_records_that_cannot_be_folded_stop_nothing(
    broker: str, topics: Topics, tmp_path: Path
) -> None:
    """Whatever bytes a record holds, the fold sees them and the records behind them are folded."""
    async with AIOKafkaProducer(bootstrap_servers=broker, max_request_size=4 << 20) as producer:
        for value in (b"\xff\x00 poison", None, b"", b"\x00" * (3 << 20)):
            for partition in range(3):
                await producer.send_and_wait(topics.sessions.name, value, key=b"k", partition=partition)
                if value is not None:
                    await producer.send_and_wait(topics.sessions.name, value, partition=partition)
    async with working(Worker(WorkerConfig(broker, topics, tmp_path), counting(topics))):
        await send(broker, topics.sessions, range(1_000))
        await all_done(broker, topics, 1_000)
    await counted_once(broker, topics, 1_000)


async def test_references_reach_every_partition_of_the_sessions(
    broker: str, topics: Topics, tmp_path: Path
) -> None:
    """And the group's offset says so, so a restart does not send them again."""
    reference = Event(
        id=b"0" * 16, received_at=0, sender="DE*ABC", version="2.3.0", module="references", method="PUT",
        key="DE*ABC*T", path=[], request_id=None, correlation_id=None, body=b"a tariff",
    )  # fmt: skip

    def references_of(fact: Fact) -> Event | None:
        return reference if fact.value == b"a tariff" else None

    async def forwarded() -> Counter[int]:
        records = await read(broker, topics.sessions)
        assert {record.value for record in records} <= {reference.encode()}
        return Counter(record.partition for record in records)

    worker = Worker(WorkerConfig(broker, topics, tmp_path), [], references_of)
    for times in (1, 2):
        async with working(worker):
            async with AIOKafkaProducer(bootstrap_servers=broker) as producer:
                for value in (b"a tariff", b"nothing"):
                    await producer.send_and_wait(topics.tariffs.name, value, key=b"k")
            async with asyncio.timeout(10):
                while (found := await forwarded()).total() < 3 * times:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            await until(lambda: worker.health()["lag"] == 0)
    assert found == Counter(dict.fromkeys(range(3), 2))
