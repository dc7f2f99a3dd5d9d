"""What benchmarks of several workers share: a broker, worker processes, events, and how far they are."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

sys.path.insert(0, str(Path(__file__).parent))

from fold import session_event

from schemas.topics import Topics
from voltfold import broker
from voltfold.ports import free_port
from voltfold.processes import die_with_parent
from voltfold.topics import create_topics


@contextmanager
def kafka(folder: Path) -> Iterator[str]:
    """A broker of one's own."""
    taken: set[int] = set()
    config = broker.BrokerConfig(folder, free_port(None, taken), free_port(None, taken))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.log").open("wb") as log:
        process = subprocess.Popen(broker.prepare(config), stdout=log, stderr=log, preexec_fn=die_with_parent)
    try:
        while not asyncio.run(broker.is_ready(config.address)):
            time.sleep(0.2)
        yield config.address
    finally:
        process.kill()
        process.wait()


class Worker:
    """A `voltfold worker` process."""

    def __init__(self, address: str, topics: Topics, folder: Path, number: int) -> None:
        self.number = number
        self._port = free_port()
        self._folder = folder
        self._env = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parent.parent),
            "VOLTFOLD_KAFKA": address,
            "VOLTFOLD_TOPIC_PREFIX": topics.prefix,
            "VOLTFOLD_PARTITIONS": str(topics.partitions),
            "VOLTFOLD_DATA": str(folder),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait for nothing."""
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "voltfold", "worker", "--number", str(self.number)]
        with (self._folder / f"worker-{self.number}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--health-port", str(self._port)], env=self._env, stdout=log, stderr=log,
                preexec_fn=die_with_parent,
            )  # fmt: skip

    def health(self) -> dict[str, Any]:
        """What it says of itself; empty while it says nothing."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health", timeout=2) as answer:
                found: dict[str, Any] = json.loads(answer.read())
        except OSError as error:
            body = getattr(error, "read", lambda: b"")()
            found = json.loads(body) if body.startswith(b"{") else {}
        return found

    def ready(self) -> bool:
        """Whether it has partitions, and their states."""
        found = self.health()
        return bool(found.get("ready")) and bool(found.get("partitions"))

    def resident(self) -> int:
        """Megabytes of memory."""
        assert self.process is not None
        return round(psutil.Process(self.process.pid).memory_info().rss / 1e6)

    def signal(self, number: signal.Signals) -> None:
        """SIGKILL, SIGSTOP, SIGCONT."""
        assert self.process is not None
        self.process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.process.wait()


async def until(holds: Any, seconds: float, what: str) -> float:
    """Wait until something holds; how long that took."""
    began = time.perf_counter()
    while not await asyncio.to_thread(holds):
        if time.perf_counter() - began > seconds:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        await asyncio.sleep(0.02)
    return time.perf_counter() - began


async def write(address: str, topics: Topics, numbers: range, updates: range = range(1)) -> None:
    """Write events of sessions to the log."""
    async with AIOKafkaProducer(
        bootstrap_servers=address, acks="all", linger_ms=5, max_batch_size=256 << 10, compression_type="lz4"
    ) as producer:
        for update in updates:
            for number in numbers:
                key, event = session_event(number, update)
                await producer.send(topics.sessions.name, event.encode(), key)
        await producer.flush()


class Progress:
    """How much of the sessions topic the workers' group has committed."""

    def __init__(self, address: str, topics: Topics) -> None:
        self._admin = AIOKafkaAdminClient(bootstrap_servers=address)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=address)
        self._group = f"{topics.prefix}-worker"
        self._partitions = [TopicPartition(topics.sessions.name, n) for n in range(topics.partitions)]

    async def __aenter__(self) -> Progress:
        await self._admin.start()
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._admin.close()
        await self._consumer.stop()

    async def committed(self) -> dict[int, int]:
        """Offsets by partition."""
        found = await self._admin.list_consumer_group_offsets(self._group)
        return {tp.partition: max(0, found[tp].offset) for tp in self._partitions if tp in found}

    async def ends(self) -> dict[int, int]:
        """Ends of the log by partition."""
        return {tp.partition: end for tp, end in (await self._consumer.end_offsets(self._partitions)).items()}

    async def caught_up(self, ends: dict[int, int], seconds: float) -> float:
        """Wait until all up to some ends is committed; how long that took."""
        began = time.perf_counter()
        while True:
            done = await self.committed()
            if all(done.get(partition, 0) >= end for partition, end in ends.items()):
                return time.perf_counter() - began
            if time.perf_counter() - began > seconds:
                raise TimeoutError(f"not caught up within {seconds:g} s")
            await asyncio.sleep(0.02)


async def prepare(address: str, prefix: str, partitions: int = 12) -> Topics:
    """Topics under a prefix."""
    topics = Topics(prefix, partitions)
    await create_topics(address, topics.all())
    return topics
