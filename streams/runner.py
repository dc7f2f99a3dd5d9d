"""Runs one partition: takes bundles in order, without a hole and without a repeat, and survives its errors.

A runner belongs to a partition for as long as the partition belongs to this worker. Faust's actors come and
go with every rebalance; a runner's own task does not, so nothing tears a batch apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from aiokafka.errors import ProducerFenced
from faust.types import TP

from streams import metrics
from streams.folding import Fact
from streams.transport import Bundle

log = logging.getLogger("voltfold.worker")

BATCH_RECORDS = 48_000
BATCH_BYTES = 16 << 20
BATCH_KEYS = 4_000
"""A batch that has much behind it grows so far. What a session costs, it costs once a batch, so one that is
spread over many sessions gains nothing from more of them, and ends before it takes much memory."""
QUEUE_RECORDS = 8_000
QUEUE_BYTES = 1 << 20
_GATHER_SECONDS = 1.0
"""How long a batch may wait for more of what is known to be there."""
FIRST_BACKOFF, LAST_BACKOFF = 0.2, 5.0
FENCED_BACKOFF = 2.0
"""A fenced owner has usually lost the partition, and hears of it within a heartbeat. If it has not, it was
fenced by one that opened too late, and must go on."""
_REWIND_AGAIN = 1.0
FULL_ENOUGH = 500
LONGEST_REST = 0.25
"""Between two batches a runner rests twice as long as the last one took, at most so many seconds, unless
there is plenty to do: transactions cost the same whatever they hold, and a busy machine gets fewer and
fuller ones. One that is not busy commits in milliseconds, and rests as briefly."""


class Source(Protocol):
    """What a runner needs of the consumer that feeds it."""

    def hold(self, tp: TP) -> None:
        """Don't fetch a partition until it is released."""

    def release(self, tp: TP) -> None:
        """Fetch a held partition again."""

    def end(self, tp: TP) -> int | None:
        """Where a partition's log ended when it was last fetched; None when nobody knows."""

    async def rewind(self, tp: TP, offset: int) -> None:
        """Fetch a partition from an offset on."""

    async def beginning(self, tp: TP) -> int:
        """Where a partition's log begins."""

    async def committed(self, tp: TP) -> int | None:
        """The group's position in a partition."""

    async def commit_position(self, tp: TP, offset: int) -> None:
        """Commit the group's position in a partition."""


class Runner(ABC):
    """One partition's loop: open, then batch by batch, and again from the start after an error."""

    def __init__(
        self,
        tp: TP,
        source: Source,
        turns: asyncio.Semaphore | None = None,
        most_records: int = BATCH_RECORDS,
    ) -> None:
        """`turns`: how many partitions may have a batch in memory at once; unlimited unless given.

        `most_records`: of a batch, give or take a bundle.
        """
        self.tp = tp
        self._most_records = most_records
        self._turns: AbstractAsyncContextManager[object] = turns or contextlib.nullcontext()
        self.ready = False
        self.failure: str | None = None
        self._source = source
        self._position: int | None = None
        self._queue: deque[Bundle] = deque()
        self._waiting = self._queued = 0  # records and bytes in it
        self._end = 0  # position behind the last record in the queue
        self._checked = -1
        self._rewound = 0.0
        self._news = asyncio.Event()
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = asyncio.Event()
        self._hold()
        self._task = asyncio.create_task(self._run(), name=f"{tp.topic}-{tp.partition}")

    @property
    def position(self) -> int | None:
        """The position up to which everything has been handled and committed; None before the opening."""
        return self._position

    # What the worker calls, on the same loop

    def offer(self, bundle: Bundle) -> None:
        """Take a bundle. Never refuses: when there is enough, the partition is held."""
        if not self.ready or bundle.end <= self._end:
            # Until it is ready: fetched again from wherever the state turns out to be.
            return
        if bundle.start > self._end:
            # Records got lost on the way here. Those that are queued are good.
            if time.monotonic() - self._rewound > _REWIND_AGAIN:
                log.warning(
                    "%s: records from %d to %d are missing; going back", self, self._end, bundle.start
                )
                self._rewind(self._end)
            return
        if bundle.start < self._end:
            bundle = bundle.after(self._end)
        self._end = bundle.end
        if bundle.records:
            self._queue.append(bundle)
            self._waiting += len(bundle.records)
            self._queued += bundle.size
        self._news.set()
        if not self._held and (self._waiting > QUEUE_RECORDS or self._queued > QUEUE_BYTES):
            self._hold()

    def check(self, fetched: int) -> None:
        """Go back if what was fetched has not arrived since the last check; asked every second or so."""
        if self.ready and fetched > self._end:
            if self._checked == self._end:
                log.warning("%s: records from %d to %d never arrived; going back", self, self._end, fetched)
                self._rewind(self._end)
            self._checked = self._end

    async def pause(self, timeout: float) -> None:
        """Begin no further batch, and wait for the one under way."""
        self._resumed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._idle.wait()

    def resume(self) -> None:
        """Go on: the partition stayed here."""
        self._resumed.set()

    async def close(self, timeout: float) -> None:
        """Finish the batch under way, begin no other, and let go."""
        self._closing.set()
        self._news.set()
        self._resumed.set()
        if self.ready:
            await asyncio.wait({self._task}, timeout=timeout)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
        self._release()

    # What differs

    @abstractmethod
    async def _open(self) -> int:
        """Make ready, and return the position to go on from."""

    @abstractmethod
    async def _handle(self, facts: Sequence[Fact], position: int) -> None:
        """Do what is to be done for a batch that ends before a position, and commit that. All or nothing."""

    @abstractmethod
    async def _shut(self) -> None:
        """Let go of everything; may raise."""

    # The loop

    async def _run(self) -> None:
        delay = FIRST_BACKOFF
        while not self._closing.is_set():
            fenced = False
            try:
                started = time.monotonic()
                self._position = await self._open()
                log.info("%s: ready at %s after %.2f s", self, self._position, time.monotonic() - started)
                self._forget_queue()
                self.ready = True
                self.failure = None
                self._rewind(self._position)
                while await self._more():
                    async with self._turns:
                        if not self._may_take():
                            continue
                        self._idle.clear()
                        started = time.monotonic()
                        try:
                            facts, position = await self._gather()
                            await self._handle(facts, position)
                        finally:
                            self._idle.set()
                        self._position = position
                    delay = FIRST_BACKOFF
                    await self._rest(time.monotonic() - started)
            except ProducerFenced as error:
                fenced = True
                metrics.FAILURES.labels(self.tp.topic).inc()
                log.warning("%s: another owner has taken over", self)
                self.failure = repr(error)
            except Exception as error:
                log.warning(
                    "%s: begins again, after %r", self, error, exc_info=not isinstance(error, OSError)
                )
                self.failure = repr(error)
            finally:
                self.ready = False
                self._hold()
                try:
                    await self._shut()
                except Exception as error:
                    log.warning("%s: %r while closing", self, error)
            if fenced:
                delay = FENCED_BACKOFF
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._closing.wait()
            delay = min(2 * delay, LAST_BACKOFF)

    async def _more(self) -> bool:
        """Wait until there is something to take; False when closing."""
        while not self._closing.is_set():
            if not self._resumed.is_set():
                await self._resumed.wait()
                continue
            if self._queue:
                return True
            self._position = self._end
            self._news.clear()
            await self._news.wait()
        return False

    def _may_take(self) -> bool:
        return bool(self._queue) and self._resumed.is_set() and not self._closing.is_set()

    async def _rest(self, seconds: float) -> None:
        """Let the next batch gather; whoever closes the runner ends it."""
        if self._waiting < FULL_ENOUGH:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(2 * seconds, LONGEST_REST)):
                    await self._closing.wait()

    async def _gather(self) -> tuple[list[Fact], int]:
        """The next batch and the position behind it: what is there, and if that is much, what follows at
        once, within limits."""
        facts: list[Fact] = []
        keys: set[bytes | None] = set()
        size, position = self._take(facts, keys, BATCH_BYTES)
        until = time.monotonic() + _GATHER_SECONDS
        while (
            FULL_ENOUGH <= len(facts) < self._most_records
            and size < BATCH_BYTES
            and len(keys) < BATCH_KEYS
            and self._resumed.is_set()
            and not self._closing.is_set()
        ):
            if not self._queue and not await self._arrives(until):
                break
            more, position = self._take(facts, keys, BATCH_BYTES - size)
            size += more
        return facts, position

    async def _arrives(self, until: float) -> bool:
        """Whether more comes, of what the log is known to hold, before a moment."""
        while (end := self._source.end(self.tp)) is not None and self._end < end:
            self._news.clear()
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    await self._news.wait()
            except TimeoutError:
                return bool(self._queue)
            if self._queue or self._closing.is_set():
                return True
        return False

    def _take(self, facts: list[Fact], keys: set[bytes | None], room: int) -> tuple[int, int]:
        """Add what is queued to a batch, to its limits or a little over; bytes, and the position behind."""
        size, position = 0, self._end
        queue = self._queue
        while queue and len(facts) < self._most_records and size < room and len(keys) < BATCH_KEYS:
            bundle = queue.popleft()
            facts += bundle.records
            keys.update([fact.key for fact in bundle.records])
            size += bundle.size
            self._waiting -= len(bundle.records)
            position = bundle.end
        self._queued -= size
        if self._held and self._waiting < QUEUE_RECORDS // 2 and self._queued < QUEUE_BYTES // 2:
            self._release()
        return size, position if queue else self._end

    def _rewind(self, position: int) -> None:
        self._rewound = time.monotonic()
        task = asyncio.ensure_future(self._source.rewind(self.tp, position))
        self._rewinding = task  # a task that nobody holds may be collected
        task.add_done_callback(self._rewind_done)

    def _rewind_done(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.warning("%s: could not go back: %r", self, error)

    def _hold(self) -> None:
        self._held = True
        self._source.hold(self.tp)

    def _release(self) -> None:
        self._held = False
        self._source.release(self.tp)

    def _forget_queue(self) -> None:
        self._queue.clear()
        self._waiting = self._queued = 0
        self._end = self._position or 0
        self._release()

    def __str__(self) -> str:
        return f"{self.tp.topic}-{self.tp.partition}"
