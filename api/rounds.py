"""When partners' lists are pulled: on request, when one of us was away, when nothing was heard for long.

How far each pull is, is an event like any other, so a courier that takes over goes on there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping

import msgspec

from api import clock
from api.config import CourierConfig
from api.lane import Lane
from api.log import LogUnavailableError
from api.partners import Connection
from api.pull import Puller, modules_of
from api.view import View
from api.voice import Voice
from streams import pulls
from streams.deliveries import SECOND, digest

log = logging.getLogger("voltfold.courier")

_AT_ONCE = 4


class Rounds:
    """Begins pulls. `lanes`: the ways to platforms; `heard`: when a platform spoke last, in micros."""

    def __init__(
        self,
        config: CourierConfig,
        view: View,
        puller: Puller,
        voice: Voice,
        lanes: Mapping[str, Lane],
        heard: Callable[[Connection], int],
    ) -> None:
        self._config = config
        self._view = view
        self._puller = puller
        self._voice = voice
        self._lanes = lanes
        self._heard = heard
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._pulling = asyncio.Semaphore(_AT_ONCE)

    async def schedule(self, tasks: asyncio.TaskGroup, connections: Iterable[Connection]) -> None:
        """Begin pulls that were asked for or are under way, and ask for those that are due."""
        for key, state in self._view.states(pulls.MODULE):
            pull = pulls.load(state)
            if not pull.is_over and key not in self._pulls and pull.connection in self._lanes:
                self._pulls[key] = tasks.create_task(self._pull(key, pull))
        if not self._config.pull:
            return
        for connection in connections:
            lane = self._lanes.get(connection.id)
            if lane is None or not lane.known or lane.circuit.is_open:
                continue
            for module in modules_of(connection):
                found = self._view.get(pulls.MODULE, pulls.pull_key(connection.id, module))
                last = None if found is None else pulls.load(found)
                if self._is_due(connection, lane, last):
                    await self._ask(connection.id, module, last)

    def _is_due(self, connection: Connection, lane: Lane, last: pulls.Pull | None) -> bool:
        """Whether it is time: never before, or one of us was away since, or nothing was heard for long.

        The pause is spread by what the connection is called, lest all be asked at once.
        """
        if last is None:
            return True
        if not last.is_over:
            return False
        if lane.back_at > last.at:
            return True
        chance = digest(connection.id.encode())[0] / 255
        pause = self._config.pull * (0.9 + 0.2 * chance) * SECOND
        if last.state == pulls.FAILED:
            if not (last.error or "").startswith("HTTP 4"):  # that would be answered the same again
                pause = min(pause, 300 * SECOND)
            return clock.now() - last.at > pause
        return clock.now() - max(last.at, self._heard(connection)) > pause

    async def _ask(self, connection: str, module: str, last: pulls.Pull | None) -> None:
        """Ask for a pull of what has changed since the last one; of one that failed, for the rest of it."""
        run = digest(f"{connection} {module} {clock.now()}".encode()).hex()
        if last is not None and last.state == pulls.FAILED:
            pull = msgspec.structs.replace(last, run=run, state=pulls.ASKED, error=None, at=clock.now())
        else:
            since = None if last is None else last.reached
            pull = pulls.Pull(connection, module, run, pulls.ASKED, since=since, at=clock.now())
        with contextlib.suppress(LogUnavailableError):
            await self._tell(pull)

    async def _pull(self, key: str, pull: pulls.Pull) -> None:
        try:
            async with self._pulling:
                over = await self._puller.run(pull, self._tell)
            await self._tell(over)
            log.info(
                "%s: %d %s pulled, %d kept, %d refused (%s)",
                over.connection, over.objects, over.module, over.kept, over.refused, over.state,
            )  # fmt: skip
        except LogUnavailableError as error:
            log.warning("the pull of %s waits: %s", key, error)
            await asyncio.sleep(1)
        except Exception:
            log.exception("the pull of %s stumbled", key)
            failed = msgspec.structs.replace(pull, state=pulls.FAILED, error="a defect", at=clock.now())
            with contextlib.suppress(LogUnavailableError):
                await self._tell(failed)
        finally:
            self._pulls.pop(key, None)

    async def _tell(self, pull: pulls.Pull) -> None:
        """Write how far a pull is, and see it in our own view."""
        key = pulls.pull_key(pull.connection, pull.module)
        event = self._voice.event(pulls.MODULE, key, [pull.connection, pull.module], pulls.dump(pull))
        partition, offset = await self._voice.say(self._config.api.topics.parties, event)
        await self._view.reach(partition, offset + 1)

    def cancel(self) -> None:
        """Stop what is under way: whoever has the turn next goes on there."""
        for task in self._pulls.values():
            task.cancel()
