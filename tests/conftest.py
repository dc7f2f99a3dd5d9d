"""What tests share: one real broker and one real engine a run, and names of its own for each test.

Both are started when the first test asks, and die with the test run, however it ends. `make test` runs two
processes side by side, which share nothing: each has a broker and an engine of its own, and takes whole files
(`tests/side_by_side.py`).
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clickhouse_connect
import hypothesis
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from clickhouse_connect.driver.client import Client

from schemas.topics import Topics
from tests.side_by_side import place, scheduler
from voltfold import broker as kafka_broker
from voltfold.ports import free_port as choose_port
from voltfold.processes import die_with_parent
from voltfold.topics import create_topics

ROOT = Path(__file__).parent.parent

# The tests start hundreds of processes. Where nothing writes bytecode, each of them would compile all that it
# imports, which takes longer than everything else that it does to start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# How fast an example is depends on what else the machine does, and says nothing of what is right.
hypothesis.settings.register_profile(
    "voltfold", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("voltfold")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins early."""
    items.sort(key=lambda item: place(item.nodeid, slow=item.get_closest_marker("slow") is not None))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Who runs what, when there is more than one process."""
    return scheduler(config, log)


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            preexec_fn=die_with_parent,
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Kafka broker for the whole run: its `host:port`."""
    folder = tmp_path_factory.mktemp("broker")
    taken: set[int] = set()
    config = kafka_broker.BrokerConfig(folder, choose_port(None, taken), choose_port(None, taken))
    process = _start(kafka_broker.prepare(config), folder / "output.log")
    deadline = time.monotonic() + 60
    while not asyncio.run(kafka_broker.is_ready(config.address)):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the broker did not start:\n{(folder / 'output.log').read_text()[-3000:]}")
        time.sleep(0.1)
    yield config.address
    _stop(process)


@dataclass(frozen=True)
class OwnEngine:
    """An engine that a test started for itself, and may kill."""

    url: str
    process: subprocess.Popen[bytes]


StartEngine = Callable[..., OwnEngine]
"""Starts an engine on a folder, with other fields of EngineConfig; raises RuntimeError if it dies."""


def _start_engine(folder: Path, **options: int) -> OwnEngine:
    port = options.pop("port", None) or choose_port()
    start = (
        "from pathlib import Path; from analytics.engine import EngineConfig, run; "
        f"run(EngineConfig(Path({str(folder / 'data')!r}), port={port}, **{options!r}))"
    )
    process = _start([sys.executable, "-c", start], folder / "output.log")
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{url}/ping", timeout=5).close()
            return OwnEngine(url, process)
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                log = (folder / "output.log").read_text()[-3000:]
                raise RuntimeError(f"the engine did not start:\n{log}") from None
            time.sleep(0.1)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real ClickHouse engine behind its HTTP interface for the whole run: its URL."""
    own = _start_engine(tmp_path_factory.mktemp("engine"))
    yield own.url
    _stop(own.process)


@pytest.fixture
def start_engine() -> Iterator[StartEngine]:
    """Starts engines of a test's own, which end with it."""
    started: list[OwnEngine] = []

    def start(folder: Path, **options: int) -> OwnEngine:
        started.append(_start_engine(folder, **options))
        return started[-1]

    yield start
    for own in started:
        _stop(own.process)


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Chooses a free port, another one at each call."""
    taken: set[int] = set()
    return lambda: choose_port(None, taken)


@pytest.fixture
def prefix() -> str:
    """A topic prefix that no other test has."""
    return f"t-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def group() -> str:
    """A consumer group, or Faust application id, that no other test has."""
    return f"g-{uuid.uuid4().hex[:10]}"


@pytest.fixture
async def topics(broker: str, prefix: str) -> AsyncIterator[Topics]:
    """The catalogue under a prefix of this test's own, 3 partitions wide, created on the broker."""
    catalogue = Topics(prefix, partitions=3)
    await create_topics(broker, catalogue.all())
    yield catalogue
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        mine = [name for name in await admin.list_topics() if name.startswith(prefix)]
        await admin.delete_topics(mine)
    finally:
        await admin.close()


@pytest.fixture
def database(engine: str) -> Iterator[str]:
    """The name of a ClickHouse database of this test's own."""
    name = f"t_{uuid.uuid4().hex[:10]}"
    with _client(engine, "default") as client:
        client.command(f"CREATE DATABASE {name}")
        yield name
        client.command(f"DROP DATABASE IF EXISTS {name}")


@pytest.fixture
def clickhouse(engine: str, database: str) -> Iterator[Client]:
    """An ordinary clickhouse-connect client on this test's database."""
    with _client(engine, database) as client:
        yield client


def _client(url: str, database: str) -> Client:
    host, port = url.removeprefix("http://").split(":")
    return clickhouse_connect.get_client(host=host, port=int(port), database=database)
