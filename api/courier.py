"""The courier: brings what concerns a platform to it, and knows which platforms can be reached.

It follows the log with a read view of its own. Each change is marked for every platform that it concerns;
one lane for each platform sends what is marked, those that changed first in front, in the state they have
then. What became of each delivery is written to the log (topic `outbound`) before its mark goes. A courier
that is killed goes on with the marks that are left, so the worst that a crash does is to send one state of an
object a second time.

A lane whose platform fails again and again only knocks (GET of its versions URL; mod_hub_client_info "Still
alive check") until it is back; others do not notice. Whether a party can be reached is an event like any
other (topic `client-info`), so it is in every view, and is itself delivered to all platforms.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import time
from itertools import islice

from rocksdict import WriteBatch

from api import clock
from api.addressed import receiver
from api.config import CourierConfig
from api.ingress import Ingress
from api.lane import Lane
from api.log import Log, LogUnavailableError
from api.metrics import OUTBOX
from api.outbox import Outbox
from api.outcomes import Outcomes
from api.packing import Packer
from api.parcels import MODULES, addressee
from api.partners import UNREGISTERED, Connection, Registry
from api.peer import Peers
from api.pull import Puller
from api.reachability import Reachability
from api.rounds import Rounds
from api.stops import Stops
from api.turn import Turn
from api.vault import Vault, key_in
from api.view import View
from api.voice import Voice
from schemas.records import Event
from streams import objects, requests
from streams.concerns import ADDRESSED
from streams.deliveries import Mark

log = logging.getLogger("voltfold.courier")

_CHECK = 1.0  # seconds between looks at who there is


class _Registry(Registry):
    """Knows when it has changed."""

    changes = 0

    def fold(self, event: Event) -> None:
        """As every registry."""
        super().fold(event)
        self.changes += 1


class Courier:
    """Runs until it is cancelled. Of several on one log, one delivers (`api.turn`), the others stand by."""

    def __init__(self, config: CourierConfig) -> None:
        self.config = config
        self.registry = _Registry()
        self._reachable: tuple[int, list[Connection]] = (-1, [])
        self.view = View(config.api, self.registry, self)
        self.outbox = Outbox(lambda: self.view.store)
        self.log = Log(config.api.kafka, config.api.limits.write_timeout)
        self.vault = config.api.vault or Vault(key_in(config.api.data))
        self.peers = Peers(timeout=config.api.partner_timeout, per_host=2 * config.in_flight)
        ingress = Ingress(config.api, self.log, self.view)
        puller = Puller(ingress, self.view, self.registry, self.peers, self.vault, config.api.party)
        self._lanes: dict[str, Lane] = {}
        self._deadlines: list[tuple[int, str]] = []
        self._woken: set[str] = set()
        self._heard: dict[str, int] = {}  # by party: when it spoke last
        self._counted = 0.0
        self._turn = Turn(config)
        self._voice = voice = Voice(config.api, self.log, self.view)
        self.stops = Stops(config.api, self.view, self.registry, voice.us, voice.insist)
        self.packer = Packer(config, self.view, self.outbox, self.stops)
        self.outcomes = Outcomes(config.api, self.view, self.outbox, voice, self._again)
        self._reachability = Reachability(
            config.api.topics.client_info, self.view, self.registry, self.outbox, voice, self._lanes
        )
        self._rounds = Rounds(config, self.view, puller, voice, self._lanes, self.heard)

    def health(self) -> dict[str, object]:
        """Whether it delivers (`ready`), and which platforms it cannot reach."""
        return {
            "ready": self.view.ready.is_set() and self.outcomes.loaded.is_set(),
            "delivers": self._turn.is_ours,
            "platforms": len(self._lanes),
            "offline": sorted(name for name, lane in self._lanes.items() if lane.circuit.is_open),
        }

    async def run(self) -> None:
        """Deliver until cancelled. Servers and platforms that are away are waited for."""
        self.view.start()
        self.log.start()
        self.peers.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.outcomes.follow())
                await self.view.ready.wait()
                await self.outcomes.loaded.wait()
                self._find_waiting()
                self.stops.find()
                tasks.create_task(self._turn.run())
                tasks.create_task(self._keep_time())
                while True:
                    self._look_round(tasks)
                    if self._turn.is_ours:
                        self._mark_stops()
                        await self._reachability.publish()
                        await self._rounds.schedule(tasks, self._connections())
                    await self._turn.wait(_CHECK)
        finally:
            await self.peers.stop()
            await self.log.stop()
            await self.view.stop()

    # What changes

    def changed(
        self, module: str, key: str, old: bytes | None, new: bytes | None, event: Event, writes: WriteBatch
    ) -> None:
        """Mark a change for all whom it concerns (`api.view.Follower`)."""
        self._heard[event.sender] = event.received_at
        if module == requests.MODULE:
            self._request_changed(key, old, new, event, writes)
        elif module in MODULES:
            state = new if new is not None else old
            if state is None or not (connections := self._connections()):
                return
            found = objects.load(module, state)
            for connection in connections:
                if (
                    (connection.registered_at or 0) > event.received_at
                    or _speaks(connection, event.sender)
                    or not self._may_hear(connection, event.receiver)
                    or (module not in ADDRESSED and connection.endpoint(module, "RECEIVER") is None)
                ):
                    continue
                if module in ADDRESSED:
                    to = receiver(connection, module, key, objects.head(state).concerns)
                else:
                    to = addressee(connection, module, found)
                if to is not None:
                    self._mark(writes, Mark(connection.id, event.received_at, module, key))

    def _may_hear(self, connection: Connection, receiver: str | None) -> bool:
        """Whether a push is for a platform: it names nobody, a party on it, or one that may be behind it."""
        if receiver is None or any(role.key == receiver for role in connection.roles):
            return True
        return self.registry.only_hub() == connection and not self.registry.has_party(receiver)

    def _connections(self) -> list[Connection]:
        """Those that can be sent to, remembered until the registry changes."""
        if self._reachable[0] != self.registry.changes:
            self._reachable = (self.registry.changes, self.registry.reachable())
        return self._reachable[1]

    def _mark(self, writes: WriteBatch, mark: Mark) -> None:
        self.outbox.mark(writes, mark)
        self._woken.add(mark.connection)

    def written(self) -> None:
        """Let the lanes see what was marked."""
        self.outbox.written()
        for connection in self._woken:
            if (lane := self._lanes.get(connection)) is not None:
                lane.wanted.set()
        self._woken.clear()

    def _request_changed(
        self, key: str, old: bytes | None, new: bytes | None, event: Event, writes: WriteBatch
    ) -> None:
        if new is None or ":" in key:  # somebody's memory
            return
        request = requests.load_request(new)
        if request.deadline is not None:
            heapq.heappush(self._deadlines, (request.deadline, key))
        if request.asked.is_ours:
            if old is None and (connection := self.stops.platform(request)) is not None:
                self._mark(writes, Mark(connection.id, event.received_at, requests.MODULE, key))
            elif old is None:
                self.stops.unmarked.add(key)
            return
        before = old is not None and requests.load_request(old).result is not None
        if request.result is not None and not before:
            mark = Mark(request.asked.from_connection, event.received_at, requests.MODULE, key)
            self._mark(writes, mark)

    def _mark_stops(self) -> None:
        """Mark stops that are not marked yet: what came before the start, or before their operator did."""
        for key in list(self.stops.unmarked):
            request = self.stops.request(key)
            if request is not None and (connection := self.stops.platform(request)) is not None:
                self.outbox.mark_now(Mark(connection.id, request.requested_at, requests.MODULE, key))
                if (lane := self._lanes.get(connection.id)) is not None:
                    lane.wanted.set()
                self.stops.unmarked.discard(key)

    # Requests whose time is up

    def _find_waiting(self) -> None:
        """Take up the deadlines of requests that wait, as the view has them."""
        self._deadlines = [
            (request.deadline, key)
            for key, state in self.view.states(requests.MODULE)
            if ":" not in key and (request := requests.load_request(state)).deadline is not None
        ]
        heapq.heapify(self._deadlines)

    async def _keep_time(self) -> None:
        """Say TIMEOUT for requests that got no result in their time."""
        while True:
            await asyncio.sleep(0.2)
            while self._turn.is_ours and self._deadlines and self._deadlines[0][0] <= clock.now():
                _, key = heapq.heappop(self._deadlines)
                state = self.view.get(requests.MODULE, key)
                request = None if state is None else requests.load_request(state)
                if request is None or request.deadline is None:
                    continue
                if request.deadline > clock.now():
                    heapq.heappush(self._deadlines, (request.deadline, key))
                    break
                path = [requests.RESULTED, request.asked.result_kind]
                event = self._voice.event(requests.MODULE, key, path, requests.timed_out(request))
                with contextlib.suppress(LogUnavailableError):
                    if request.asked.is_ours:
                        await self.stops.timed_out(request)
                    await self._voice.say(self.config.api.topics.commands, event)
                    continue
                heapq.heappush(self._deadlines, (request.deadline, key))
                break

    # Who there is

    def _look_round(self, tasks: asyncio.TaskGroup) -> None:
        """A lane for each platform that can be sent to, and none for the others."""
        reachable = {one.id: one for one in self._connections()} if self._turn.is_ours else {}
        for name in reachable:
            lane = self._lanes.get(name)
            if lane is None or lane.task is None or lane.task.done():
                if lane is None:
                    lane = self._lanes[name] = Lane(self, name)
                    self._reachability.introduce(reachable[name])
                lane.task = tasks.create_task(lane.run())
        for name in set(self._lanes) - set(reachable):
            lane = self._lanes.pop(name)
            if lane.task is not None:
                lane.task.cancel()
        if not self._turn.is_ours:
            self._rounds.cancel()
            return
        if (now := time.monotonic()) - self._counted > 15:
            self._counted = now
            for name in self.outbox.connections() | set(reachable):
                found = self.registry.get(name)
                if found is not None and found.stage == UNREGISTERED:
                    self.outbox.forget(name)
                count = sum(1 for _ in islice(self.outbox.marks(name), 100_000))
                OUTBOX.labels(name).set(count)

    def heard(self, connection: Connection) -> int:
        """When somebody on a platform spoke last, in micros; 0: not since the start."""
        return max((self._heard.get(role.key, 0) for role in connection.roles), default=0)

    def _again(self, connection: str, module: str, key: str) -> None:
        """Somebody wants a delivery once more."""
        if (lane := self._lanes.get(connection)) is not None:
            lane.trouble.pop((connection, module, key), None)
            lane.wanted.set()


def _speaks(connection: Connection, sender: str) -> bool:
    return sender == connection.id or any(role.key == sender for role in connection.roles)
