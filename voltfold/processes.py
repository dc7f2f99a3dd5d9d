"""Child processes: in groups of their own, kept healthy, restarted when they die, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
PARENT = "VOLTFOLD_PARENT"
"""Environment variable by which a child learns whose death to follow."""

LOG_SIZE = 16 << 20
"""Bytes after which a child's log is set aside (one older log is kept)."""


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to kill this process when the thread that started it ends; exec keeps it so.

    Called in the child. `parent` is the pid that started it: when that is gone already, it ends here.
    Linux only; elsewhere it does nothing, and a supervisor that is killed leaves its children behind.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(0)


def follow_parent() -> None:
    """Do that for a process that a supervisor started; any other one is left alone."""
    if parent := os.environ.pop(PARENT, None):
        die_with_parent(int(parent))


@dataclass(frozen=True)
class Role:
    """What one child is: its command, how to see that it is well, and how patient to be (in seconds)."""

    name: str
    command: Sequence[str]
    healthy: Callable[[], Awaitable[bool]]
    environment: Mapping[str, str] = field(default_factory=dict)
    start_within: float = 60.0
    check_every: float = 2.0
    unwell_for: float = 45.0
    """How long checks may fail, once it was well, before it is killed and started again."""


class ChildFailedError(RuntimeError):
    """A child did not come up; carries its name and the end of its log."""

    def __init__(self, name: str, why: str, log_tail: str) -> None:
        super().__init__(f"{name} {why}" + (f"; the end of its log:\n{log_tail}" if log_tail else ""))
        self.name = name


class Child:
    """One supervised process: `start` it, wait for `ready`, `stop` it; in between it is brought back to life.

    `changed` is called whenever its pid has changed.
    """

    ATTEMPTS, KILLED = 4, 20
    """How often it may die before it was ever ready: by its own doing, or at somebody's hand (SIGKILL)."""

    def __init__(self, role: Role, log_file: Path, grace: float, changed: Callable[[], None]) -> None:
        self.role = role
        self.pid: int | None = None
        self.restarts = 0
        self._log_file = log_file
        self._grace = grace
        self._changed = changed
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The role's name, such as `worker-0`."""
        return self.role.name

    def start(self) -> None:
        """Start it, in the background."""
        self._task = asyncio.create_task(self._supervise(), name=f"supervise {self.name}")

    async def ready(self) -> None:
        """Wait until it was healthy for the first time; raises ChildFailedError when it does not come up."""
        await asyncio.shield(self._ready)

    async def stop(self) -> None:
        """End it: SIGTERM to its group, SIGKILL after the grace. Nothing of it is left when this returns."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if not self._ready.done():
            self._ready.cancel()

    async def _supervise(self) -> None:
        """Run it again and again: at once after its first death, then after pauses that double up to 10 s."""
        quick_deaths = own_deaths = 0
        while True:
            began = monotonic()
            try:
                why = await self._live()
            except OSError as error:
                why = f"could not be started: {error}"
            own_deaths += why != _KILLED
            hopeless = own_deaths >= self.ATTEMPTS or self.restarts + 1 >= self.KILLED
            if not self._ready.done() and hopeless:
                self._ready.set_exception(ChildFailedError(self.name, why, tail(self._log_file)))
                return
            quick_deaths = 0 if monotonic() - began > 60 else quick_deaths + 1
            pause = 0.0 if quick_deaths <= 1 else min(10.0, 0.25 * 2**quick_deaths)
            log.warning("%s %s; starting it again%s", self.name, why, f" in {pause:g} s" if pause else "")
            self.restarts += 1
            await asyncio.sleep(pause)

    async def _live(self) -> str:
        """One life: from its start to its end, however that comes. Returns what happened."""
        _set_aside(self._log_file)
        with self._log_file.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *self.role.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.role.environment, PARENT: str(os.getpid())},
                process_group=0,
            )
        self.pid = process.pid
        self._changed()
        ended = asyncio.create_task(process.wait())
        watched = asyncio.create_task(self._watch())
        try:
            await asyncio.wait({ended, watched}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return _described(ended.result())
            return watched.result()
        finally:
            watched.cancel()
            await asyncio.shield(self._end(process, ended))
            self.pid = None
            self._changed()

    async def _watch(self) -> str:
        """Check its health for as long as it is well enough; returns why it must end."""
        patience, was_ready = self.role.start_within, False
        last_well = monotonic()
        while True:
            try:
                well = await asyncio.wait_for(self.role.healthy(), self.role.unwell_for)
            except Exception as error:  # a check that fails in any way is a failed check
                log.debug("%s: health check: %r", self.name, error)
                well = False
            if well:
                last_well = monotonic()
                if not was_ready:
                    was_ready, patience = True, self.role.unwell_for
                    if not self._ready.done():
                        self._ready.set_result(None)
            elif monotonic() - last_well > patience:
                return f"was not healthy for {patience:.0f} s"
            if was_ready:
                _set_aside(self._log_file)
            await asyncio.sleep(self.role.check_every if was_ready else 0.1)

    async def _end(self, process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
        """See to it that the whole group is gone."""
        if not ended.done():
            kill_group(process.pid, signal.SIGTERM)
            await asyncio.wait({ended}, timeout=self._grace)
            if not ended.done():
                log.warning("%s did not stop within %g s: killing it", self.name, self._grace)
        kill_group(process.pid, signal.SIGKILL)
        await ended
        # Its own children are no children of ours, and may take a moment longer to be gone.
        deadline = monotonic() + 1
        while monotonic() < deadline and group_exists(process.pid):  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.01)


def kill_group(pid: int, signum: signal.Signals) -> None:
    """Signal a process group; one that is gone already is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)


def group_exists(pid: int) -> bool:
    """Whether a process group has members."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16_384))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _set_aside(path: Path) -> None:
    """Copy a log that has grown too large, and empty it under its writer, who appends."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_SIZE:
            path.with_suffix(".log.1").write_bytes(path.read_bytes())
            os.truncate(path, 0)


_KILLED = "ended by SIGKILL"


def _described(returncode: int) -> str:
    if returncode < 0:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(-returncode).name}"
    return f"ended with exit code {returncode}"
