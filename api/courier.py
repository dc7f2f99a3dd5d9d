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
import random
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from rocksdict import WriteBatch

from api.addressed import parcel_of, receiver
from api.config import ApiConfig
from api.ingress import Ingress
from api.log import Log, LogUnavailableError
from api.metrics import CIRCUITS, DELIVERIES, DELIVERY_SECONDS, OUTBOX
from api.outbox import Known, Outbox
from api.parcels import MODULES, Parcel, addressee, parcel
from api.partners import INVITED, REGISTERED, UNREGISTERED, Connection, Registry
from api.peer import MalformedError, PeerError, Peers, RefusedError, Routing, UncallableError
from api.pull import Puller, modules_of
from api.stops import Stops
from api.vault import SealError, Vault, key_in
from api.view import View
from schemas.codec import UnknownSchemaError
from schemas.keys import object_key, party_key
from schemas.ocpi import wire
from schemas.ocpi.platforms import ClientInfo, ConnectionStatus
from schemas.records import DeliveryRecord, Event, event_id, moment
from schemas.topics import Topic
from streams import objects, pulls, requests
from streams.concerns import ADDRESSED
from streams.deliveries import (
    SECOND,
    Circuit,
    Mark,
    Outcome,
    Pace,
    Verdict,
    backoff,
    digest,
    gives_up,
    judge,
    record_key,
)

log = logging.getLogger("voltfold.courier")

_WINDOW = 256  # marks that a lane looks at, at a time
_CHECK = 1.0  # seconds between looks at who there is
_PULLS = 4  # at the same time
_CLIENT_INFO = "hubclientinfo"


@dataclass(frozen=True)
class CourierConfig:
    """One courier. `api`: what it has in common with an API process.

    `in_flight`: requests under way to one platform; `alive`: seconds of silence after which it is asked
    whether it is there; `late`: seconds within which the result of a command is still worth telling; `pull`:
    seconds of silence after which it is asked for what has changed, and 0 for never; `member`: a name that no
    other courier has.
    """

    api: ApiConfig
    in_flight: int = 4
    alive: float = 300.0
    late: float = 600.0
    pull: float = 0.0
    member: str | None = None
    pace: Pace = field(default_factory=Pace)


class _Registry(Registry):
    """Knows when it has changed."""

    changes = 0

    def fold(self, event: Event) -> None:
        """As every registry."""
        super().fold(event)
        self.changes += 1


class Courier:
    """Runs until it is cancelled. Of several on one log, one delivers, and the others stand by (`_Turn`)."""

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
        self.puller = Puller(ingress, self.view, self.registry, self.peers, self.vault, config.api.party)
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._pulling = asyncio.Semaphore(_PULLS)
        self._lanes: dict[str, Lane] = {}
        self._deadlines: list[tuple[int, str]] = []
        self._loaded = asyncio.Event()
        self._woken: set[str] = set()
        self._turn = _Turn(config)
        us = party_key(*config.api.party)
        self.stops = Stops(config.api, self.view, self.registry, us, self._insist)
        self._heard: dict[str, int] = {}  # by party: when it spoke last
        self._counted = 0.0

    def health(self) -> dict[str, object]:
        """Whether it delivers (`ready`), and which platforms it cannot reach."""
        return {
            "ready": self.view.ready.is_set() and self._loaded.is_set(),
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
                tasks.create_task(self._follow_outcomes())
                await self.view.ready.wait()
                await self._loaded.wait()
                self._find_waiting()
                self.stops.find()
                tasks.create_task(self._turn.run())
                tasks.create_task(self._keep_time())
                while True:
                    self._look_round(tasks)
                    if self._turn.is_ours:
                        self._mark_stops()
                        await self._publish()
                        await self._schedule(tasks)
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
            while self._turn.is_ours and self._deadlines and self._deadlines[0][0] <= _now():
                _, key = heapq.heappop(self._deadlines)
                state = self.view.get(requests.MODULE, key)
                request = None if state is None else requests.load_request(state)
                if request is None or request.deadline is None:
                    continue
                if request.deadline > _now():
                    heapq.heappush(self._deadlines, (request.deadline, key))
                    break
                path = [requests.RESULTED, request.asked.result_kind]
                event = self._event(requests.MODULE, key, path, requests.timed_out(request))
                with contextlib.suppress(LogUnavailableError):
                    if request.asked.is_ours:
                        await self.stops.timed_out(request)
                    await self._append(self.config.api.topics.commands, event)
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
                    self._introduce(reachable[name])
                lane.task = tasks.create_task(lane.run())
        for name in set(self._lanes) - set(reachable):
            lane = self._lanes.pop(name)
            if lane.task is not None:
                lane.task.cancel()
        if not self._turn.is_ours:
            for task in self._pulls.values():
                task.cancel()
            return
        if (now := time.monotonic()) - self._counted > 15:
            self._counted = now
            for name in self.outbox.connections() | set(reachable):
                found = self.registry.get(name)
                if found is not None and found.stage == UNREGISTERED:
                    self.outbox.forget(name)
                count = sum(1 for _ in islice(self.outbox.marks(name), 100_000))
                OUTBOX.labels(name).set(count)

    def _introduce(self, connection: Connection) -> None:
        """Tell a platform who can be reached, as far as it was not told before.

        mod_hub_client_info "Push model" is about changes; without this, a platform that comes later would
        have to ask who was there before it.
        """
        if connection.endpoint(_CLIENT_INFO, "RECEIVER") is None:
            return
        for key, state in list(self.view.states(_CLIENT_INFO)):
            info = objects.load(_CLIENT_INFO, state)
            if info.status == ConnectionStatus.SUSPENDED or addressee(connection, _CLIENT_INFO, info) is None:
                continue
            mark = Mark(connection.id, _now(), _CLIENT_INFO, key)
            known = self.outbox.known(mark)
            if known is None or known.digest != digest(objects.body(state)):
                self.outbox.mark_now(mark)

    async def _publish(self) -> None:
        """Write whether each party can be reached, where that changed (mod_hub_client_info)."""
        for status, role in self._statuses():
            key = object_key(role.country_code, role.party_id, role.role)
            state = self.view.get(_CLIENT_INFO, key)
            if state is not None and objects.load(_CLIENT_INFO, state).status == status:
                continue
            now = _now()
            info = ClientInfo(
                party_id=role.party_id,
                country_code=role.country_code,
                role=role.role,
                status=status,
                last_updated=moment(now - now % 1000),
            )
            body = wire.encode("client_info", "2.3.0", info)
            path = [role.country_code, role.party_id, str(role.role)]
            event = self._event(_CLIENT_INFO, key, path, body)
            with contextlib.suppress(LogUnavailableError):
                await self._append(self.config.api.topics.client_info, event)
                await self.view.catch_up(self.view.partitions(self.config.api.topics.client_info))

    def _statuses(self) -> list[tuple[ConnectionStatus, Any]]:
        """Status and role of every party; of one that is on several platforms, the best."""
        best: dict[str, tuple[ConnectionStatus, Any]] = {}
        order = (
            ConnectionStatus.CONNECTED, ConnectionStatus.OFFLINE, ConnectionStatus.PLANNED,
            ConnectionStatus.SUSPENDED,
        )  # fmt: skip
        for connection in self.registry.connections():
            status = self._status(connection)
            if status is None:
                continue
            if connection.has("HUB"):
                continue  # 2.3.0 has no such role (types "Role"), and of those behind it a hub tells itself
            for role in connection.roles:
                key = object_key(role.country_code, role.party_id, role.role)
                if key not in best or order.index(status) < order.index(best[key][0]):
                    best[key] = (status, role)
        return list(best.values())

    def _status(self, connection: Connection) -> ConnectionStatus | None:
        if connection.stage == REGISTERED:
            lane = self._lanes.get(connection.id)
            if lane is None or not lane.known:
                return None  # not tried yet since the start
            return ConnectionStatus.OFFLINE if lane.circuit.is_open else ConnectionStatus.CONNECTED
        if connection.stage == UNREGISTERED:
            return ConnectionStatus.SUSPENDED
        return ConnectionStatus.PLANNED if connection.stage == INVITED else None

    def heard(self, connection: Connection) -> int:
        """When somebody on a platform spoke last, in micros; 0: not since the start."""
        return max((self._heard.get(role.key, 0) for role in connection.roles), default=0)

    # Pulls

    async def _schedule(self, tasks: asyncio.TaskGroup) -> None:
        """Begin pulls that were asked for or are under way, and ask for those that are due."""
        for key, state in self.view.states(pulls.MODULE):
            pull = pulls.load(state)
            if not pull.is_over and key not in self._pulls and pull.connection in self._lanes:
                self._pulls[key] = tasks.create_task(self._pull(key, pull))
        if not self.config.pull:
            return
        for connection in self._connections():
            lane = self._lanes.get(connection.id)
            if lane is None or not lane.known or lane.circuit.is_open:
                continue
            for module in modules_of(connection):
                found = self.view.get(pulls.MODULE, pulls.pull_key(connection.id, module))
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
        pause = self.config.pull * (0.9 + 0.2 * chance) * SECOND
        if last.state == pulls.FAILED:
            if not (last.error or "").startswith("HTTP 4"):  # that would be answered the same again
                pause = min(pause, 300 * SECOND)
            return _now() - last.at > pause
        return _now() - max(last.at, self.heard(connection)) > pause

    async def _ask(self, connection: str, module: str, last: pulls.Pull | None) -> None:
        """Ask for a pull of what has changed since the last one; of one that failed, for the rest of it."""
        run = digest(f"{connection} {module} {_now()}".encode()).hex()
        if last is not None and last.state == pulls.FAILED:
            pull = msgspec.structs.replace(last, run=run, state=pulls.ASKED, error=None, at=_now())
        else:
            since = None if last is None else last.reached
            pull = pulls.Pull(connection, module, run, pulls.ASKED, since=since, at=_now())
        with contextlib.suppress(LogUnavailableError):
            await self._tell(pull)

    async def _pull(self, key: str, pull: pulls.Pull) -> None:
        try:
            async with self._pulling:
                over = await self.puller.run(pull, self._tell)
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
            failed = msgspec.structs.replace(pull, state=pulls.FAILED, error="a defect", at=_now())
            with contextlib.suppress(LogUnavailableError):
                await self._tell(failed)
        finally:
            self._pulls.pop(key, None)

    async def _tell(self, pull: pulls.Pull) -> None:
        """Write how far a pull is, and see it in our own view."""
        key = pulls.pull_key(pull.connection, pull.module)
        event = self._event(pulls.MODULE, key, [pull.connection, pull.module], pulls.dump(pull))
        topic = self.config.api.topics.parties
        partition = self.view.partition(topic, key)
        offset = await self.log.append(partition, key.encode(), event.encode())
        await self.view.reach(partition, offset + 1)

    # The log

    def _event(self, module: str, key: str, path: list[str], body: bytes) -> Event:
        us = party_key(*self.config.api.party)
        return Event(
            id=event_id(us, module, "PUT", [key, *path], body),
            received_at=_now(),
            sender=us,
            version="2.3.0",
            module=module,
            method="PUT",
            key=key,
            path=path,
            request_id=None,
            correlation_id=None,
            body=body,
        )

    async def _append(self, topic: Topic, event: Event) -> None:
        partition = self.view.partition(topic, event.key)
        await self.log.append(partition, event.key.encode(), event.encode())

    async def _insist(self, topic: Topic, event: Event) -> None:
        """Write an event, and wait until Kafka has it."""
        await self._until_there(self.view.partition(topic, event.key), event.key, event.encode())

    async def settle(self, record: DeliveryRecord) -> None:
        """Write what became of a delivery, and wait until Kafka has it."""
        topic = self.config.api.topics.outbound
        key = record_key(record.connection, record.module, record.key)
        await self._until_there(_partition(topic, key), key, record.encode())

    async def _until_there(self, partition: TopicPartition, key: str, value: bytes) -> None:
        delay = 0.2
        while True:
            try:
                await self.log.append(partition, key.encode(), value)
            except LogUnavailableError as error:
                log.warning("what became of %s cannot be written yet: %s", key, error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, 5.0)
            else:
                return

    async def _follow_outcomes(self) -> None:
        """Keep what the topic `outbound` says: after a start all that is missing, then what others ask for.

        A record without value asks for another delivery (`voltfold outbound retry`).
        """
        topic = self.config.api.topics.outbound
        partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        while True:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.config.api.kafka,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=200,
            )
            try:
                await self.view.ready.wait()  # by then it is settled which log the store belongs to
                await consumer.start()
                consumer.assign(partitions)
                ends = await consumer.end_offsets(partitions)
                for partition in partitions:
                    consumer.seek(partition, self.outbox.position(_name(partition)))
                while True:
                    batch = await consumer.getmany(timeout_ms=500, max_records=2000)
                    for partition, records in batch.items():
                        for record in records:
                            self._learn(partition, record)
                    if not self._loaded.is_set():
                        there = [await consumer.position(tp) >= ends[tp] for tp in partitions]
                        if all(there):
                            self._loaded.set()
            except (KafkaError, OSError) as error:
                log.warning("reading outcomes failed, trying again: %s", error)
                await asyncio.sleep(1)
            finally:
                await consumer.stop()

    def _learn(self, partition: TopicPartition, record: Any) -> None:
        position = (_name(partition), record.offset + 1)
        try:
            connection, module, key = record.key.decode().split("|", 2)
            if record.value is not None:
                found = DeliveryRecord.decode(record.value)
                known = Known(found.outcome, found.digest)
                self.outbox.learn((connection, module, key), known, position)
                return
        except (UnknownSchemaError, ValueError) as error:
            log.warning("%s offset %d: %s", _name(partition), record.offset, error)
            return
        self.outbox.learn((connection, module, key), None, position)
        self.outbox.mark_now(Mark(connection, record.timestamp * 1000, module, key))
        if (lane := self._lanes.get(connection)) is not None:
            lane.trouble.pop((connection, module, key), None)
            lane.wanted.set()


class _Turn(ConsumerRebalanceListener):  # type: ignore[misc]
    """Whose turn it is: of a consumer group on a topic of one partition, one member has it.

    Under a `member` name, a courier that was killed has its turn again as soon as it is back; another one
    takes over when it has not been heard of for 10 seconds.
    """

    def __init__(self, config: CourierConfig) -> None:
        self._config = config
        self._changed = asyncio.Event()
        self.is_ours = False

    async def run(self) -> None:
        """Be a member until cancelled."""
        topics = self._config.api.topics
        while True:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._config.api.kafka,
                group_id=f"{topics.prefix}-courier",
                group_instance_id=self._config.member,
                enable_auto_commit=False,
                auto_offset_reset="latest",
                session_timeout_ms=10_000,
                heartbeat_interval_ms=2_000,
            )
            consumer.subscribe([topics.client_info.name], listener=self)
            try:
                await consumer.start()
                while True:
                    await consumer.getmany(timeout_ms=1_000)
            except (KafkaError, OSError) as error:
                log.warning("the couriers' group cannot be reached, trying again: %s", error)
                await asyncio.sleep(1)
            finally:
                self._set(False)
                await consumer.stop()

    async def wait(self, seconds: float) -> None:
        """Until it changes, or for so long."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """It may be another's turn."""
        self._set(False)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Whoever is given the partition has the turn."""
        self._set(bool(assigned))

    def _set(self, ours: bool) -> None:
        if ours != self.is_ours:
            self.is_ours = ours
            self._changed.set()
            log.info("this courier %s", "delivers" if ours else "stands by")


@dataclass
class _Trouble:
    """An object that a platform stumbles over: attempts, and when to try again (micros)."""

    attempts: int = 0
    again_at: int = 0
    since: int = 1 << 62  # when it first broke off on it, though it was there


class Lane:
    """The way to one platform."""

    def __init__(self, courier: Courier, name: str) -> None:
        self.wanted = asyncio.Event()
        self.trouble: dict[tuple[str, str, str], _Trouble] = {}
        self.task: asyncio.Task[None] | None = None
        self.known = False  # whether its circuit says anything yet
        self.circuit = Circuit()
        self._courier = courier
        self._config = courier.config
        self._outbox = courier.outbox
        self._name = name
        self._spoke = _now()  # when it answered last
        self._took = 0  # when it took something last
        self._stumbles = 0
        self._failed_at = _now()
        self.back_at = 0  # when it came back after one of us was away
        if self._offline_before():
            self.circuit = Circuit(opened_at=_now())

    async def run(self) -> None:
        """Deliver, or knock, until cancelled."""
        while True:
            try:
                await self._step()
            except LogUnavailableError as error:
                log.warning("%s: %s", self._name, error)
                await asyncio.sleep(1)
            except Exception:
                log.exception("the lane to %s stumbled, and goes on", self._name)
                await asyncio.sleep(1)

    def _offline_before(self) -> bool:
        connection = self._courier.registry.get(self._name)
        for role in connection.roles if connection else ():
            key = object_key(role.country_code, role.party_id, role.role)
            state = self._courier.view.get(_CLIENT_INFO, key)
            if state is not None and objects.load(_CLIENT_INFO, state).status == ConnectionStatus.OFFLINE:
                return True
        return False

    async def _step(self) -> None:
        connection = self._courier.registry.get(self._name)
        if connection is None:
            await asyncio.sleep(1)
            return
        now = _now()
        # Whoever speaks to us is there, and may be asked before the pause is over.
        spoke = self.circuit.is_open and self._courier.heard(connection) > self._failed_at + 2 * SECOND
        if not self.circuit.permits(now) and not spoke:
            await asyncio.sleep(min(5.0, (self.circuit.until - now) / SECOND))
            return
        silent = now - max(self._spoke, self._courier.heard(connection)) > self._config.alive * SECOND
        if self.circuit.is_open or silent or not self.known:
            await self._knock(connection)
            return
        group, wait = self._next(now)
        if group:
            await self._send(connection, group)
            return
        self.wanted.clear()
        if not self._next(_now())[0]:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait, self._config.alive)):
                    await self.wanted.wait()

    def _next(self, now: int) -> tuple[list[Mark], float]:
        """What is sent next: marks of one module, the oldest first; seconds until it is worth looking again.

        One module at a time: a session is not overtaken by its CDR, nor a location by its sessions.
        """
        group: list[Mark] = []
        wait = 60.0
        for mark in islice(self._outbox.marks(self._name), _WINDOW + len(self.trouble)):
            trouble = self.trouble.get(mark.identity)
            again_at = trouble.again_at if trouble is not None else 0
            if mark.module == requests.MODULE:
                again_at = max(again_at, self._courier.stops.again_at(mark.key))
            if again_at > now:
                wait = min(wait, (again_at - now) / SECOND)
                continue
            if group and mark.module != group[0].module:
                break
            group.append(mark)
            if len(group) == self._config.in_flight:
                break
        return group, wait

    async def _knock(self, connection: Connection) -> bool:
        """Ask a platform whether it is there."""
        url = connection.versions_url
        try:
            token = self._courier.vault.open(connection.their_token or "")
            await self._courier.peers.call("GET", url or "", token, plain=connection.plain_token)
        except (PeerError, SealError) as error:
            verdict = _verdict(error) if isinstance(error, PeerError) else Verdict.DOWN
            if verdict is Verdict.BUSY and isinstance(error, RefusedError):
                self._busy(error)
                return True
            self._failed(str(error))
            return False
        self._passed()
        return True

    def _passed(self) -> None:
        if self.circuit.is_open:
            log.info("%s can be reached again", self._name)
        if self.circuit.is_open or not self.known:  # it was away, or we were
            self.back_at = _now()
        self._spoke = _now()
        self.circuit = self.circuit.passed(self._spoke)
        self.known = True
        CIRCUITS.labels(self._name).set(0)

    def _failed(self, why: str) -> None:
        self._failed_at = _now()
        was_open = self.circuit.is_open
        self.circuit = self.circuit.failed(_now(), random.random(), self._config.pace)
        if self.circuit.is_open:
            self.known = True
            CIRCUITS.labels(self._name).set(1)
            if not was_open:
                log.warning("%s cannot be reached: %s", self._name, why)

    def _busy(self, error: RefusedError) -> None:
        asked = int((error.retry_after or 1.0) * SECOND)
        self._spoke = _now()
        self.circuit = self.circuit.held(self._spoke, min(asked, 600 * SECOND))
        self.known = True
        CIRCUITS.labels(self._name).set(0)

    async def _send(self, connection: Connection, group: list[Mark]) -> None:
        """Send some at once, and take from the answers how the platform is."""
        outcomes = await asyncio.gather(*(self._deliver(connection, mark) for mark in group))
        errors = [error for error in outcomes if error is not None]
        down = [
            mark
            for mark, error in zip(group, outcomes, strict=True)
            if error is not None and _verdict(error) is Verdict.DOWN
        ]
        verdicts = [_verdict(error) for error in errors]
        alive = len(errors) < len(outcomes) or Verdict.REFUSED in verdicts
        if alive:
            self._stumbles = 0
            self._passed()
        for error, verdict in zip(errors, verdicts, strict=True):
            if verdict is Verdict.BUSY and isinstance(error, RefusedError):
                self._busy(error)
                return
        if not errors:
            return
        if not alive:
            if down and self.circuit.failures:
                self._failed(str(errors[verdicts.index(Verdict.DOWN)]))
                return
            if not await self._knock(connection):
                return
            # It is there, so it is the objects that it stumbles over.
            self._stumbles += 1
            pause = backoff(self._stumbles, random.random(), self._config.pace)
            self.circuit = self.circuit.held(_now(), pause)
        for mark in down:
            self._wait_with(mark)

    def _wait_with(self, mark: Mark) -> None:
        """Let others go before an object on which the platform breaks off, and takes its time over it."""
        trouble = self.trouble.setdefault(mark.identity, _Trouble(since=_now()))
        trouble.attempts += 1
        trouble.again_at = _now() + backoff(trouble.attempts, random.random(), self._config.pace)

    async def _deliver(self, connection: Connection, mark: Mark) -> PeerError | None:
        """Deliver one object as it is now; the error when it is to be tried again, or was refused."""
        self._outbox.begin(mark)
        settled = False
        try:
            try:
                sending = self._sending(connection, mark)
            except (ValueError, ArithmeticError) as broken:
                # It cannot be said in the platform's version; what comes behind it goes on.
                log.exception("%s: %s %s cannot be written", self._name, mark.module, mark.key)
                await self._settle(mark, Outcome.UNSUPPORTED, b"", 0, None, str(broken))
                settled = True
                return None
            if sending is None:
                self._outbox.done(mark, None)
                settled = True
                return None
            what, known = sending
            if isinstance(what, Outcome):
                await self._settle(mark, what, known, 0, None, "")
                settled = True
                return None
            error = await self._attempt(connection, mark, what)
            trouble = self.trouble.get(mark.identity, _Trouble())
            verdict = Verdict.ACCEPTED if error is None else _verdict(error)
            if verdict is Verdict.ACCEPTED:
                error = None
            if verdict is Verdict.STUMBLED:
                trouble.attempts += 1
            elif verdict is Verdict.ACCEPTED:
                self._took = _now()
            outcome = gives_up(
                Verdict.STUMBLED if verdict is Verdict.DOWN and self._took > trouble.since else verdict,
                trouble.attempts,
                self._config.pace,
            )
            if outcome is not None:
                await self._settle(mark, outcome, known, trouble.attempts + 1, error, str(error or ""))
                settled = True
                self.trouble.pop(mark.identity, None)
            elif verdict is Verdict.STUMBLED:
                pause = backoff(trouble.attempts, random.random(), self._config.pace)
                trouble.again_at = _now() + pause
                self.trouble[mark.identity] = trouble
            return error
        finally:
            if not settled:
                self._outbox.abandon(mark)

    def _sending(self, connection: Connection, mark: Mark) -> tuple[Parcel | Outcome, bytes] | None:
        """The request to be made, or the outcome that is clear without one; and the digest of its object.

        None: nothing is to be told, since this very state was settled before.
        """
        if mark.module == requests.MODULE:
            if (stop := self._courier.stops.request(mark.key)) is not None:
                made = self._courier.stops.parcel(connection, stop)
                return None if made is None else (made, digest(mark.key.encode()))
            return self._result(connection, mark)
        state = self._courier.view.get(mark.module, mark.key)
        before = self._outbox.known(mark)
        body = b"" if state is None else objects.body(state)
        now = digest(body)
        if before is not None and before.digest == now:
            return None
        if mark.module in ADDRESSED:
            return self._addressed(connection, mark, state, before is not None and bool(before.digest), now)
        if state is None:
            if before is None or mark.module != "tariffs":
                return None  # it never got there
            country, party, name = mark.key.split("*", 2)
            found: Any = Gone(country, party, name)
        else:
            found = objects.load(mark.module, state)
            if addressee(connection, mark.module, found) is None:
                return None  # it did concern it once
        made = parcel(
            connection, mark.module, found, self._config.api.party, gone=state is None,
            place=self._place(connection, mark.module, found),
        )  # fmt: skip
        return (Outcome.UNSUPPORTED if made is None else made), now

    def _addressed(
        self, connection: Connection, mark: Mark, state: bytes | None, again: bool, now: bytes
    ) -> tuple[Parcel | Outcome, bytes] | None:
        """The request that brings what is for one party."""
        if state is None and not (again and mark.module == "invoicereconciliation"):
            return None
        if state is not None:
            concerns = objects.head(state).concerns
            if receiver(connection, mark.module, mark.key, concerns) is None:
                return None
        made = parcel_of(connection, mark.module, mark.key, state, again=again)
        return (Outcome.UNSUPPORTED if made is None else made), now

    def _place(self, connection: Connection, module: str, found: Any) -> Any:
        """The location that a session of 2.1.1 embeds, if it is known."""
        return self._courier.view.place(module, found) if connection.version == "2.1.1" else None

    def _result(self, connection: Connection, mark: Mark) -> tuple[Parcel | Outcome, bytes] | None:
        """The result of a request, to be posted where whoever asked wants it (mod_commands "POST Method")."""
        state = self._courier.view.get(requests.MODULE, mark.key)
        request = None if state is None else requests.load_request(state)
        if request is None or request.result is None:
            return None
        now = digest(request.result)
        before = self._outbox.known(mark)
        if before is not None and before.digest == now:
            return None
        if _now() - (request.resulted_at or 0) > self._config.late * SECOND:
            return Outcome.EXPIRED, now
        kind = request.asked.result_kind
        try:
            found = wire.decode(kind, "2.3.0", request.result)
            body = wire.encode(kind, connection.version or request.version, found)
        except LookupError:
            return Outcome.UNSUPPORTED, now
        routing = None
        if connection.version != "2.1.1":
            routing = Routing(_party(request.asked.to_party), _party(request.asked.from_party))
        return Parcel("POST", request.asked.response_url, body, routing), now

    async def _attempt(self, connection: Connection, mark: Mark, what: Parcel) -> PeerError | None:
        stops = self._courier.stops
        stop = stops.request(mark.key) if mark.module == requests.MODULE else None
        error: PeerError | None = None
        token = self._courier.vault.open(connection.their_token or "")
        if stop is not None:
            await stops.sending(stop)
        started = time.perf_counter()
        try:
            reply = await self._courier.peers.call(
                what.method, what.url, token, plain=connection.plain_token, body=what.body,
                routing=what.routing, correlation_id=mark.key if stop is not None else None,
            )  # fmt: skip
            if stop is not None:
                await stops.answered(connection, stop, reply)
        except PeerError as failed:
            error = failed
            if what.method == "DELETE" and isinstance(failed, RefusedError) and failed.http == 404:
                error = None  # gone there, too
        verdict = Verdict.ACCEPTED if error is None else _verdict(error)
        DELIVERIES.labels(self._name, mark.module, verdict).inc()
        DELIVERY_SECONDS.labels(self._name).observe(time.perf_counter() - started)
        return error

    async def _settle(
        self,
        mark: Mark,
        outcome: Outcome,
        sent: bytes,
        attempts: int,
        error: PeerError | None,
        message: str,
    ) -> None:
        """Write what became of it, then take the mark away."""
        if mark.module == requests.MODULE and outcome is not Outcome.DELIVERED:
            stop = self._courier.stops.request(mark.key)
            if stop is not None:
                await self._courier.stops.given_up(stop, outcome)
        http, ocpi = _codes(error)
        if error is None and outcome is Outcome.DELIVERED:
            http = ocpi = None
        record = DeliveryRecord(
            connection=mark.connection,
            module=mark.module,
            key=mark.key,
            outcome=outcome,
            digest=sent,
            attempts=attempts,
            http=http,
            ocpi=ocpi,
            message=message,
            since=mark.since,
            at=_now(),
        )
        await self._courier.settle(record)
        self._outbox.done(mark, Known(outcome, sent))
        if outcome is not Outcome.DELIVERED:
            log.warning("%s did not take %s %s (%s): %s", self._name, mark.module, mark.key, outcome, message)


class Gone(msgspec.Struct):
    """An object that is no more: what is left is its name."""

    country_code: str
    party_id: str
    id: str


def _speaks(connection: Connection, sender: str) -> bool:
    return sender == connection.id or any(role.key == sender for role in connection.roles)


def _verdict(error: PeerError) -> Verdict:
    if isinstance(error, UncallableError):
        return Verdict.REFUSED  # the URL is the object's fault, and would be next time
    return judge(*_codes(error))


def _codes(error: PeerError | None) -> tuple[int | None, int | None]:
    """HTTP status and OCPI status of a failure, as far as there were any."""
    if isinstance(error, RefusedError):
        return error.http, error.ocpi
    return (error.http, None) if isinstance(error, MalformedError) else (None, None)


def _party(key: str) -> tuple[str, str]:
    country, _, party = key.partition("*")
    return country, party


def _partition(topic: Any, key: str) -> TopicPartition:
    return TopicPartition(topic.name, (murmur2(key.encode()) & 0x7FFFFFFF) % topic.partitions)


def _name(partition: TopicPartition) -> str:
    return f"{partition.topic}-{partition.partition}"


def _now() -> int:
    return time.time_ns() // 1000
