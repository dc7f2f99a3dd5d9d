"""The way to one platform: one lane each, so that none has to wait for another.

A lane sends what is marked, those that changed first in front, and takes from the answers how the platform
is. One that fails again and again is only knocked at (GET of its versions URL; mod_hub_client_info "Still
alive check") until it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from api import clock
from api.config import CourierConfig
from api.lists import HUB_CLIENT_INFO
from api.log import LogUnavailableError
from api.metrics import CIRCUITS, DELIVERIES, DELIVERY_SECONDS
from api.outbox import Known, Outbox
from api.outcomes import Outcomes
from api.packing import Packer
from api.parcels import Parcel
from api.partners import Connection, Registry
from api.peer import MalformedError, PeerError, Peers, RefusedError, UncallableError
from api.stops import Stops
from api.vault import SealError, Vault
from api.view import View
from schemas.keys import object_key
from schemas.ocpi.platforms import ConnectionStatus
from schemas.records import DeliveryRecord
from streams import objects, requests
from streams.deliveries import SECOND, Circuit, Mark, Outcome, Verdict, backoff, gives_up, judge

log = logging.getLogger("voltfold.courier")

_WINDOW = 256  # marks that a lane looks at, at a time


class Depot(Protocol):
    """What all lanes share: the courier."""

    config: CourierConfig
    view: View
    outbox: Outbox
    vault: Vault
    peers: Peers
    stops: Stops
    packer: Packer
    outcomes: Outcomes

    @property
    def registry(self) -> Registry:
        """Who is known."""

    def heard(self, connection: Connection) -> int:
        """When somebody on a platform spoke last, in micros; 0: not since the start."""


@dataclass
class _Trouble:
    """An object that a platform stumbles over: attempts, and when to try again (micros)."""

    attempts: int = 0
    again_at: int = 0
    since: int = 1 << 62  # when it first broke off on it, though it was there


class Lane:
    """The way to one platform."""

    def __init__(self, depot: Depot, name: str) -> None:
        self.wanted = asyncio.Event()
        self.trouble: dict[tuple[str, str, str], _Trouble] = {}
        self.task: asyncio.Task[None] | None = None
        self.known = False  # whether its circuit says anything yet
        self.circuit = Circuit()
        self._depot = depot
        self._config = depot.config
        self._outbox = depot.outbox
        self._name = name
        self._spoke = clock.now()  # when it answered last
        self._took = 0  # when it took something last
        self._stumbles = 0
        self._failed_at = clock.now()
        self.back_at = 0  # when it came back after one of us was away
        if self._offline_before():
            self.circuit = Circuit(opened_at=clock.now())

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
        connection = self._depot.registry.get(self._name)
        for role in connection.roles if connection else ():
            key = object_key(role.country_code, role.party_id, role.role)
            state = self._depot.view.get(HUB_CLIENT_INFO, key)
            if state is not None and objects.load(HUB_CLIENT_INFO, state).status == ConnectionStatus.OFFLINE:
                return True
        return False

    async def _step(self) -> None:
        connection = self._depot.registry.get(self._name)
        if connection is None:
            await asyncio.sleep(1)
            return
        now = clock.now()
        # Whoever speaks to us is there, and may be asked before the pause is over.
        spoke = self.circuit.is_open and self._depot.heard(connection) > self._failed_at + 2 * SECOND
        if not self.circuit.permits(now) and not spoke:
            await asyncio.sleep(min(5.0, (self.circuit.until - now) / SECOND))
            return
        silent = now - max(self._spoke, self._depot.heard(connection)) > self._config.alive * SECOND
        if self.circuit.is_open or silent or not self.known:
            await self._knock(connection)
            return
        group, wait = self._next(now)
        if group:
            await self._send(connection, group)
            return
        self.wanted.clear()
        if not self._next(clock.now())[0]:
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
                again_at = max(again_at, self._depot.stops.again_at(mark.key))
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
            token = self._depot.vault.open(connection.their_token or "")
            await self._depot.peers.call("GET", url or "", token, plain=connection.plain_token)
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
            self.back_at = clock.now()
        self._spoke = clock.now()
        self.circuit = self.circuit.passed(self._spoke)
        self.known = True
        CIRCUITS.labels(self._name).set(0)

    def _failed(self, why: str) -> None:
        self._failed_at = clock.now()
        was_open = self.circuit.is_open
        self.circuit = self.circuit.failed(clock.now(), random.random(), self._config.pace)
        if self.circuit.is_open:
            self.known = True
            CIRCUITS.labels(self._name).set(1)
            if not was_open:
                log.warning("%s cannot be reached: %s", self._name, why)

    def _busy(self, error: RefusedError) -> None:
        asked = int((error.retry_after or 1.0) * SECOND)
        self._spoke = clock.now()
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
            self.circuit = self.circuit.held(clock.now(), pause)
        for mark in down:
            self._wait_with(mark)

    def _wait_with(self, mark: Mark) -> None:
        """Let others go before an object on which the platform breaks off, and takes its time over it."""
        trouble = self.trouble.setdefault(mark.identity, _Trouble(since=clock.now()))
        trouble.attempts += 1
        trouble.again_at = clock.now() + backoff(trouble.attempts, random.random(), self._config.pace)

    async def _deliver(self, connection: Connection, mark: Mark) -> PeerError | None:
        """Deliver one object as it is now; the error when it is to be tried again, or was refused."""
        self._outbox.begin(mark)
        settled = False
        try:
            try:
                sending = self._depot.packer.pack(connection, mark)
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
                self._took = clock.now()
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
                trouble.again_at = clock.now() + pause
                self.trouble[mark.identity] = trouble
            return error
        finally:
            if not settled:
                self._outbox.abandon(mark)

    async def _attempt(self, connection: Connection, mark: Mark, what: Parcel) -> PeerError | None:
        stops = self._depot.stops
        stop = stops.request(mark.key) if mark.module == requests.MODULE else None
        error: PeerError | None = None
        token = self._depot.vault.open(connection.their_token or "")
        if stop is not None:
            await stops.sending(stop)
        started = time.perf_counter()
        try:
            reply = await self._depot.peers.call(
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
            stop = self._depot.stops.request(mark.key)
            if stop is not None:
                await self._depot.stops.given_up(stop, outcome)
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
            at=clock.now(),
        )
        await self._depot.outcomes.settle(record)
        self._outbox.done(mark, Known(outcome, sent))
        if outcome is not Outcome.DELIVERED:
            log.warning("%s did not take %s %s (%s): %s", self._name, mark.module, mark.key, outcome, message)


def _verdict(error: PeerError) -> Verdict:
    if isinstance(error, UncallableError):
        return Verdict.REFUSED  # the URL is the object's fault, and would be next time
    return judge(*_codes(error))


def _codes(error: PeerError | None) -> tuple[int | None, int | None]:
    """HTTP status and OCPI status of a failure, as far as there were any."""
    if isinstance(error, RefusedError):
        return error.http, error.ocpi
    return (error.http, None) if isinstance(error, MalformedError) else (None, None)
