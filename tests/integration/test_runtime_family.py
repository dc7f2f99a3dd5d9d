"""The family's runtime: its servers supervised for real, killed, and back; nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from schemas.topics import Topic
from voltfold.family import Family, FolderHeldError, PortTakenError, is_running, read_run
from voltfold.processes import Child, ChildFailedError, Role
from voltfold.settings import Settings
from voltfold.topics import create_topics

SERVERS = ("broker", "analytics")
FACT = Topic("kept", 1, False, "a fact")


@pytest.fixture
async def family(tmp_path: Path) -> AsyncIterator[Family]:
    """A broker and an engine of this test's own."""
    async with Family(Settings(data=tmp_path), only=SERVERS) as family:
        yield family


async def _until_back(family: Family, name: str, old: int) -> None:
    """Wait until a child runs under another pid, and is healthy."""
    deadline = time.monotonic() + 40
    while family.pids.get(name) in (None, old) or not await family.children[name].role.healthy():
        assert time.monotonic() < deadline, f"{name} did not come back"
        await asyncio.sleep(0.05)


async def _say(kafka: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        await producer.send_and_wait("kept", value)


async def _said(kafka: str) -> list[bytes]:
    consumer = AIOKafkaConsumer("kept", bootstrap_servers=kafka, auto_offset_reset="earliest")
    async with consumer:
        found = await consumer.getmany(timeout_ms=3_000)
    return [record.value for records in found.values() for record in records]


async def test_what_it_says_of_itself(family: Family) -> None:
    """URLs and pids are true, and run.json has them; no one else gets the folder."""
    assert set(family.pids) == set(SERVERS)
    assert all(psutil.pid_exists(pid) for pid in family.pids.values())
    run = read_run(family.folder)
    assert run == {"pid": os.getpid(), **family.describe()}
    assert is_running(family.folder) == run
    with pytest.raises(FolderHeldError, match=rf"in use.*process {os.getpid()}"):
        async with Family(Settings(data=family.folder), only=SERVERS):
            pass


async def test_killed_servers_come_back_with_their_data(family: Family) -> None:
    """SIGKILL of the broker and of the engine: another process, the same address, the same data."""
    await create_topics(family.kafka, [FACT])
    await _say(family.kafka, b"before")
    async with httpx.AsyncClient(base_url=family.clickhouse, timeout=30) as http:
        await http.post("/", content="CREATE TABLE t (a UInt8) ENGINE MergeTree ORDER BY a")
        await http.post("/", content="INSERT INTO t VALUES (1)")
        for name in SERVERS:
            old = family.pids[name]
            os.kill(old, signal.SIGKILL)
            await _until_back(family, name, old)
        await _say(family.kafka, b"after")
        assert await _said(family.kafka) == [b"before", b"after"]
        assert (await http.post("/", content="SELECT a FROM t")).text == "1\n"
    run = read_run(family.folder)
    assert run is not None
    assert run["pids"] == family.pids


async def test_a_child_that_hangs_is_replaced(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """SIGSTOP makes its health checks fail; after a while it is killed, and another one started."""
    port = free_port()

    async def answers() -> bool:
        try:
            async with httpx.AsyncClient(timeout=0.3, verify=False) as http:
                return (await http.get(f"http://127.0.0.1:{port}/")).is_success
        except httpx.HTTPError:
            return False

    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    role = Role("server", command, answers, unwell_for=1.0, check_every=0.1)
    child = Child(role, tmp_path / "server.log", 0.5, lambda: None)
    child.start()
    await child.ready()
    old = child.pid
    assert old is not None
    os.kill(old, signal.SIGSTOP)
    deadline = time.monotonic() + 15
    while child.pid in (None, old) or not await answers():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert not psutil.pid_exists(old)
    await child.stop()


async def test_a_role_that_hangs_is_replaced(tmp_path: Path) -> None:
    """No sooner than VOLTFOLD_UNWELL_SECONDS says, by another process at the same address."""
    async with Family(Settings(data=tmp_path, unwell_seconds=4), only=("analytics",)) as family:
        old, role = family.pids["analytics"], family.children["analytics"].role
        os.kill(old, signal.SIGSTOP)
        began = time.monotonic()
        await _until_back(family, "analytics", old)
        # Its last good check may have been an interval before it was stopped.
        assert time.monotonic() - began > 4 - role.check_every
        assert not psutil.pid_exists(old)


async def test_a_restart_keeps_data_and_ports(tmp_path: Path) -> None:
    """Stopped and started again on its folder: the same addresses, the same data; in between nothing runs."""
    settings = Settings(data=tmp_path)
    async with Family(settings, only=SERVERS) as first:
        await create_topics(first.kafka, [FACT])
        await _say(first.kafka, b"kept")
        pids = first.pids.values()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert is_running(tmp_path) is None
    async with Family(settings, only=SERVERS) as second:
        assert (second.kafka, second.clickhouse) == (first.kafka, first.clickhouse)
        assert await _said(second.kafka) == [b"kept"]


async def test_no_orphans_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the supervisor takes its children with it, and the folder can be used again at once."""
    script = (
        "import asyncio; from pathlib import Path\n"
        "from voltfold.family import Family\nfrom voltfold.settings import Settings\n"
        "async def main():\n"
        f"    async with Family(Settings(data=Path({str(tmp_path)!r})), only={SERVERS!r}) as family:\n"
        "        import json; print(json.dumps(family.describe()), flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    pids = json.loads(await supervisor.stdout.readline())["pids"].values()
    assert len(pids) == 2
    supervisor.kill()
    await supervisor.wait()
    deadline = time.monotonic() + 5
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline, "orphans"
        await asyncio.sleep(0.05)
    async with Family(Settings(data=tmp_path), only=SERVERS) as family:
        assert await family.children["broker"].role.healthy()


async def test_a_child_that_cannot_start(tmp_path: Path) -> None:
    """It is tried a few times; then the error names it and shows the end of its log."""

    async def never() -> bool:
        return False

    command = [sys.executable, "-c", "import sys; sys.exit('no reason at all')"]
    child = Child(Role("broken", command, never), tmp_path / "broken.log", 1.0, lambda: None)
    child.start()
    with pytest.raises(ChildFailedError, match=r"broken ended with exit code 1.*\n(.*\n)*no reason at all"):
        await child.ready()
    assert child.restarts == Child.ATTEMPTS - 1
    await child.stop()


async def test_a_child_that_will_not_stop(tmp_path: Path) -> None:
    """One that ignores SIGTERM, and its own children, are killed after the grace."""
    script = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(grandchild.pid, flush=True); time.sleep(600)\n"
    )
    log = tmp_path / "stubborn.log"

    async def spoke() -> bool:
        return bool(log.read_text())

    child = Child(Role("stubborn", [sys.executable, "-c", script], spoke), log, 0.5, lambda: None)
    child.start()
    await child.ready()
    pid, grandchild = child.pid, int(log.read_text())
    assert pid is not None
    began = time.monotonic()
    await child.stop()
    assert 0.4 < time.monotonic() - began < 3
    assert not psutil.pid_exists(pid)
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE


async def test_a_taken_port_is_named(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Before anything is started, and the folder is free again."""
    port = free_port()
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
    async with server:
        with pytest.raises(PortTakenError, match=rf"port {port} .*VOLTFOLD_CLICKHOUSE_PORT"):
            async with Family(Settings(data=tmp_path, clickhouse_port=port), only=SERVERS):
                pass
    assert is_running(tmp_path) is None
