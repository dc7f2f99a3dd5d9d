"""The family: every process on this machine, started in order, kept alive, stopped without a trace.

    broker, analytics  ->  topics and migrations  ->  workers, sink, courier, API

Each is `python -m voltfold <role>`, the very command that a container runs, in a process group of its own,
and is told by environment variables where the others are. Ports, once chosen, stay for the family's life, so
that only the process that died has to come back. Should the supervisor itself be killed, the kernel kills its
children.

    async with Family(Settings(data=folder)) as family:
        print(family.api, family.clickhouse, family.kafka, family.pids)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

import aiohttp
from filelock import FileLock, Timeout

from voltfold import broker
from voltfold.jars import Progress, ensure
from voltfold.migrate import migrate
from voltfold.ports import LOOPBACK, free_port, is_free, reachable
from voltfold.processes import Child, Role
from voltfold.settings import Settings

log = logging.getLogger(__name__)

Report = Callable[[str], None]
"""Called with a word on what is being waited for."""


ROLES = ("broker", "analytics", "worker", "sink", "courier", "api")


LEAN = {"MALLOC_ARENA_MAX": "2"}
"""For processes of ours: RocksDB's threads would each keep an arena of freed memory to themselves."""


class FolderHeldError(RuntimeError):
    """Another family lives on the data folder; the message says which process holds it."""


class PortTakenError(RuntimeError):
    """Somebody else listens on a port that was asked for; the message names the port and its setting."""


class Family:
    """All processes on one data folder, or `only` some roles. Use it as an asynchronous context manager.

    Raises FolderHeldError, PortTakenError, ChildFailedError or JarError on entering; then nothing runs.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        only: Collection[str] = ROLES,
        progress: Progress | None = None,
        report: Report | None = None,
    ) -> None:
        self.settings = settings
        self._only = only
        self.folder = settings.folder
        self.children: dict[str, Child] = {}
        self.kafka = ""
        self.clickhouse = ""
        self.api = ""
        self._progress = progress
        self._report = report or (lambda _: None)
        self._lock = FileLock(self.folder / "lock")
        self._http: aiohttp.ClientSession | None = None

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by role, of those that run now."""
        return {name: child.pid for name, child in self.children.items() if child.pid}

    def describe(self) -> dict[str, Any]:
        """Where everything is: URLs and pids, as `voltfold up --json` prints them."""
        return {"api": self.api, "clickhouse": self.clickhouse, "kafka": self.kafka, "pids": self.pids}

    async def __aenter__(self) -> Self:
        self._hold()
        try:
            started = monotonic()
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5))
            self._choose_ports()
            await self._servers()
            await self._ourselves()
            log.info("the family is ready after %.1f s", monotonic() - started)
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop everything, last started first; data stays. Nothing of the family runs when this returns."""
        for tier in (("api",), ("worker", "sink", "courier"), ("broker", "analytics")):
            leaving = [child for name, child in self.children.items() if name.split("-")[0] in tier]
            await asyncio.gather(*(child.stop() for child in leaving))
        self.children.clear()
        if self._http is not None:
            await self._http.close()
        if self._lock.is_locked:
            with contextlib.suppress(FileNotFoundError):
                (self.folder / "run.json").unlink()
            self._lock.release()

    # -- one step each -------------------------------------------------------------------------------------

    def _hold(self) -> None:
        """Take the folder for this family alone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            holder = read_run(self.folder)
            pid = holder.get("pid", "unknown") if holder else "unknown"
            raise FolderHeldError(
                f"{self.folder} is in use: a family is run there by process {pid}"
            ) from None
        (self.folder / "logs").mkdir(exist_ok=True)
        self._note()

    def _choose_ports(self) -> None:
        """Choose ports, those of the last time where they are still free: clients may have kept them."""
        settings, path, taken = self.settings, self.folder / "ports.json", set[int]()
        before: dict[str, int] = {}
        with contextlib.suppress(OSError, ValueError):
            before = json.loads(path.read_text("utf-8"))
        fixed = {
            "api": settings.api_port,
            "kafka": settings.kafka_port,
            "clickhouse": settings.clickhouse_port,
        }
        for name, wanted in fixed.items():
            if wanted and not is_free(wanted, reachable(settings.api_host) if name == "api" else LOOPBACK):
                raise PortTakenError(f"port {wanted} is taken (VOLTFOLD_{name.upper()}_PORT)")
        names = ["api", "kafka", "controller", "clickhouse", "sink", "courier"]
        names += [f"worker-{n}" for n in range(settings.workers)]
        names += [f"api-health-{n}" for n in range(settings.api_workers) if settings.api_workers > 1]
        self.ports = {name: fixed.get(name) or free_port(before.get(name), taken) for name in names}
        path.write_text(json.dumps(self.ports), "utf-8")
        self.kafka = settings.kafka or f"{LOOPBACK}:{self.ports['kafka']}"
        self.clickhouse = settings.clickhouse or ""
        if "analytics" in self._only and not self.clickhouse:
            self.clickhouse = f"http://{LOOPBACK}:{self.ports['clickhouse']}"
        self.api = f"http://{reachable(settings.api_host)}:{self.ports['api']}"

    async def _servers(self) -> None:
        """Start Kafka and ClickHouse, those that are not given; then make topics and tables."""
        if not self.settings.kafka and "broker" in self._only:
            await asyncio.to_thread(ensure, self._progress)
            ports = ["--port", str(self.ports["kafka"]), "--controller-port", str(self.ports["controller"])]
            self._start("broker", ports, lambda: broker.is_ready(self.kafka), check_every=10)
        if self.clickhouse and not self.settings.clickhouse:
            port = ["--port", str(self.ports["clickhouse"])]
            self._start("analytics", port, self._answers(f"{self.clickhouse}/ping"))
        self._report("Kafka and ClickHouse")
        await self._all_ready()
        if {"worker", "sink", "courier", "api"} & set(self._only):
            self._report("topics and tables")
            await migrate(self._told())

    async def _ourselves(self) -> None:
        """Start our own processes, all at once: each waits for what it needs."""
        for number in range(self.settings.workers if "worker" in self._only else 0):
            name = f"worker-{number}"
            port = ["--health-port", str(self.ports[name])]
            self._start(name, ["--number", str(number), *port], self._health(name))
        for name in ("sink", "courier"):
            if name in self._only:
                self._start(name, ["--health-port", str(self.ports[name])], self._health(name))
        if "api" in self._only:
            self._apis()
        self._report("workers, sink, courier and API")
        await self._all_ready()

    def _apis(self) -> None:
        """Start the API processes. Several share a port, so each has another one to be asked how it is."""
        count, host = self.settings.api_workers, reachable(self.settings.api_host)
        for number in range(count):
            name = f"api-{number}" if number else "api"
            port = self.ports["api" if count == 1 else f"api-health-{number}"]
            arguments = ["--number", str(number)] + (["--health-port", str(port)] if count > 1 else [])
            self._start(name, arguments, self._answers(f"http://{host}:{port}/health"))

    # -- small change --------------------------------------------------------------------------------------

    def _told(self) -> Settings:
        """The settings as our processes are told them: with every server and port filled in."""
        return self.settings.but(
            kafka=self.kafka,
            clickhouse=self.clickhouse or None,
            data=self.folder,
            api_port=self.ports["api"],
            sink_member=self.settings.sink_member or "sink",
            courier_member=self.settings.courier_member or "courier",
        )

    def _start(
        self, name: str, arguments: list[str], healthy: Callable[[], Awaitable[bool]], **patience: float
    ) -> None:
        kind = name.split("-")[0]
        command = [sys.executable, "-m", "voltfold", kind, *arguments]
        environment = self._told().environment()
        if kind not in ("broker", "analytics"):
            environment |= LEAN
        role = Role(
            name, command, healthy, environment, **{"unwell_for": self.settings.unwell_seconds, **patience}
        )
        child = Child(role, self.folder / "logs" / f"{name}.log", self.settings.stop_grace, self._note)
        self.children[name] = child
        child.start()

    async def _all_ready(self) -> None:
        """Wait for every child; the first that fails to come up ends the wait."""
        waiting = [asyncio.create_task(child.ready()) for child in self.children.values()]
        try:
            await asyncio.gather(*waiting)
        finally:
            for task in waiting:
                task.cancel()

    def _answers(self, url: str) -> Callable[[], Awaitable[bool]]:
        """A health check: whether a GET of the URL is answered with success."""

        async def check() -> bool:
            assert self._http is not None
            try:
                async with self._http.get(url) as answer:
                    return answer.ok
            except (aiohttp.ClientError, TimeoutError):
                return False

        return check

    def _health(self, name: str) -> Callable[[], Awaitable[bool]]:
        return self._answers(f"http://{reachable(self.settings.health_host)}:{self.ports[name]}/health")

    def _note(self) -> None:
        """Keep run.json true: who holds the folder, where everything is."""
        path = self.folder / "run.json"
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps({"pid": os.getpid(), **self.describe()}, indent=1), "utf-8")
        beside.replace(path)


def read_run(folder: Path) -> dict[str, Any] | None:
    """What run.json of a data folder says: the supervisor's pid, URLs, pids. None when there is none."""
    try:
        found: dict[str, Any] = json.loads((folder / "run.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found


def is_running(folder: Path) -> dict[str, Any] | None:
    """What run.json says, if the family it speaks of is alive; else None."""
    if not (folder / "lock").exists():
        return None
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return read_run(folder)
    lock.release()
    return None


LAST = Path(".voltfold/last")
"""Names the data folder of the family that was used last in this working directory."""


def remember(folder: Path) -> None:
    """Make a family the one that later commands mean."""
    LAST.parent.mkdir(exist_ok=True)
    LAST.write_text(f"{folder}\n", "utf-8")


def last_used() -> Path | None:
    """The data folder of the family that was used last, if one was."""
    try:
        return Path(LAST.read_text("utf-8").strip())
    except OSError:
        return None


def servers_of(settings: Settings, data: Path | None = None) -> Settings:
    """Settings that name the servers of a family: of the folder `data`, else of VOLTFOLD_KAFKA and
    VOLTFOLD_CLICKHOUSE, else of the family that was used last. Raises LookupError when none of them runs.
    """
    if data is None and settings.kafka:
        return settings
    folder = data.absolute() if data else settings.data or last_used() or settings.folder
    found = is_running(folder)
    if not found or not found["kafka"]:
        raise LookupError(f"no family runs on {folder}: start one with `voltfold up --data {folder}`")
    return settings.but(kafka=found["kafka"], clickhouse=found["clickhouse"], data=folder)
