"""Passing a request on to the party that it is for, and its answer back: what commands, charging profiles and
charging preferences have in common.

A request names its receiver in its headers, or by what it is about: a location, a session, a reservation
(transport_and_format "Message Routing", "Open Routing Request"). It is written to the log before it is passed
on, and so is what comes back. What the receiver refuses is refused in its words; what does not get there is
told by 4001, 4002 or 4003 (status_codes "4xxx: Hub errors").
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import quote

import msgspec

from api import clock, stops
from api.answers import Answer, Refusal, Status, invalid
from api.calls import Call
from api.config import ApiConfig
from api.log import Log
from api.partners import REGISTERED, UNREGISTERED, Connection, Registry
from api.peer import PeerError, Peers, RefusedError, Reply, Routing, UnreachableError, origin
from api.routes import ROUTES
from api.vault import SealError, Vault, key_in
from api.view import View
from schemas.keys import object_key, party_key
from schemas.ocpi import wire
from schemas.records import Event, event_id
from streams import objects, requests
from streams.concerns import NOBODY
from streams.requests import ANSWERED, REMEMBERED, RESULTED, Request, Requested

Party = tuple[str, str]

# Of RFC 3986, what every reader of URLs takes for the same host: no user before it, no backslash anywhere.
_PLAIN = re.compile(r"https?://[\w.:\[\]-]+(?:[/?#][!-\[\]-~]*)?", re.ASCII | re.IGNORECASE)


class Target(msgspec.Struct, frozen=True):
    """Who a request is passed on to: a party, and the platform that it is on."""

    party: Party
    connection: Connection

    @property
    def version(self) -> str:
        """The version that is spoken there."""
        return self.connection.version or ""


@cache
def _spoken(module: str) -> frozenset[str]:
    """The versions that have a module, whatever a platform lists among its endpoints."""
    return frozenset(route.version for route in ROUTES if route.resource.module == module)


class Forwarder:
    """Finds receivers, asks them, and keeps in the log what was asked and answered."""

    def __init__(
        self,
        config: ApiConfig,
        log: Log,
        view: View,
        registry: Registry,
        peers: Peers,
    ) -> None:
        self._topic = config.topics.commands
        self._topics = config.topics
        self._log = log
        self._view = view
        self._registry = registry
        self._peers = peers
        self._vault = config.vault
        self._data = config.data
        self._us = party_key(*config.party)

    # Who

    def sender(self, call: Call) -> Party:
        """The party that a call is from: as its headers say, else the first in a role that may call."""
        said = call.routing.sender
        if said is not None:
            key = party_key(*said)
            for role in call.partner.connection.roles:
                if role.key == key:
                    return role.country_code, role.party_id
            if not call.partner.connection.is_hub:
                raise invalid("OCPI-from-party-id", f"you do not speak for {key}")
            return said
        for role in call.partner.connection.roles:
            if role.role in call.route.resource.callers:
                return role.country_code, role.party_id
        raise AssertionError("the door lets nobody in without a role")

    def named(self, call: Call) -> Party | None:
        """The party that the headers name; None when they name nobody, or us, who are to find out."""
        to = call.routing.to
        return None if to is None or party_key(*to) == self._us else to

    def target(self, party: Party, module: str, interface: str) -> tuple[Target, str]:
        """Where a party can be asked: its platform, and the URL of its module there. Raises Refusal."""
        connection = self._registry.by_party(*party) or self._registry.only_hub()
        if connection is None:
            raise Refusal(200, Status.UNKNOWN_RECEIVER, f"{'*'.join(party)} is not known here")
        if connection.stage != REGISTERED or connection.their_token is None:
            raise Refusal(200, Status.NOT_CONNECTED, f"{'*'.join(party)} is not connected")
        url = connection.endpoint(module, interface)
        if url is None or (connection.version or "") not in _spoken(module):
            raise Refusal(200, Status.NOT_CONNECTED, f"{'*'.join(party)} has no {module} as {interface}")
        return Target(party, connection), url

    def operators(self) -> list[str]:
        """Keys of all operators."""
        return sorted(
            {
                role.key
                for connection in self._registry.connections()
                if connection.stage != UNREGISTERED
                for role in connection.roles
                if role.role == "CPO"
            }
        )

    async def owners(
        self, module: str, name: str, fits: Callable[[Any], bool] = lambda _: True
    ) -> list[Party]:
        """Operators that have an object with this identifier, of those that fit."""
        for newest in (False, True):
            if newest:
                await self._view.catch_up(self._view.partitions(getattr(self._topics, module)))
            found: list[Party] = []
            for operator in self.operators():
                country, _, party = operator.partition("*")
                state = self._view.get(module, object_key(country, party, name))
                if state is not None and fits(objects.load(module, state)):
                    found.append((country, party))
            if found:
                return found
        return []

    def is_anothers(self, call: Call, operator: Party, session: str, sender: Party) -> bool:
        """Whether an operator's session is known to be with the token of somebody else than the caller."""
        state = self._view.get("sessions", object_key(*operator, session))
        whose = NOBODY if state is None else objects.head(state).concerns
        own = {party_key(*sender), *call.partner.parties(call.route.resource.callers)}
        return whose != NOBODY and whose not in own

    def behind(self, what: str, party: Party, name: str) -> requests.Memory | None:
        """Who is behind a reservation or a profile of a party."""
        key = requests.memory_key(what, party_key(*party), name)
        state = self._view.get(requests.MODULE, key)
        return None if state is None else requests.load_memory(state)

    def belongs(self, call: Call, url: str) -> bool:
        """Whether a URL is on a host that the caller's platform has registered, and so may be called."""
        if not _PLAIN.fullmatch(url):
            return False
        with contextlib.suppress(ValueError):
            wanted = origin(url)
            connection = call.partner.connection
            known = [connection.versions_url or "", *(one.url for one in connection.endpoints)]
            for one in known:
                with contextlib.suppress(ValueError):
                    if origin(one) == wanted:
                        return True
        return False

    def check_response_url(self, call: Call, url: str) -> None:
        """Refuse to call what is not the caller's (2001)."""
        if not self.belongs(call, url):
            raise invalid("response_url", "is on none of the hosts that you registered with")

    # Asking

    async def ask(
        self,
        call: Call,
        asked: Requested,
        target: Target,
        method: str,
        url: Callable[[str], str],
        body: Callable[[str], bytes | None],
    ) -> Any:
        """Pass a request on; its answer, canonically. Raises Refusal.

        `url` and `body` are made with the id of the request. The same request again (same X-Request-ID) is
        answered as the first time was, and passed on once.
        """
        path = [asked.module, asked.name, asked.target, call.request_id]
        uid = event_id(call.partner.connection.id, asked.module, call.method, path, call.body).hex()
        state = self._view.get(requests.MODULE, uid)
        if state is not None and (known := requests.load_request(state)).answer:
            return wire.decode(asked.answer_kind, "2.3.0", known.answer)
        await self.append(call, uid, asked.path, call.body, call.version, "POST")
        try:
            reply = await self.send(call, asked, target, method, url(uid), body(uid))
            found = wire.decode(asked.answer_kind, target.version, reply.data or b"")
        except Refusal as refusal:
            await self.append(call, uid, [ANSWERED, str(int(refusal.answer.status))], b"", target.version)
            raise
        except wire.InvalidObjectError as error:
            await self.append(call, uid, [ANSWERED, str(int(Status.HUB_ERROR))], b"", target.version)
            raise Refusal(
                200, Status.HUB_ERROR, f"{'*'.join(target.party)} answered what is no answer: {error}"
            ) from None
        sender = party_key(*target.party)
        await self.append(call, uid, [ANSWERED], reply.data or b"", target.version, sender=sender)
        return found

    async def send(
        self, call: Call, asked: Requested, target: Target, method: str, url: str, body: bytes | None
    ) -> Reply:
        """One request to a receiver, with the correlation id of the one that caused it. Raises Refusal."""
        party = "*".join(target.party)
        routing = None
        if target.version != "2.1.1":
            country, _, name = asked.from_party.partition("*")
            routing = Routing((country, name), target.party)
        try:
            self._vault = self._vault or Vault(key_in(self._data))
            token = self._vault.open(target.connection.their_token or "")
            return await self._peers.call(
                method, url, token, plain=target.connection.plain_token, body=body, routing=routing,
                correlation_id=call.correlation_id,
            )  # fmt: skip
        except UnreachableError as error:
            if error.timed_out:
                raise Refusal(200, Status.FORWARD_TIMEOUT, f"{party} did not answer in time") from None
            raise Refusal(200, Status.NOT_CONNECTED, f"{party} cannot be reached") from None
        except RefusedError as error:
            if error.ocpi is not None and error.ocpi >= 2000:
                raise Refusal(200, error.ocpi, f"{party}: {error.message}") from None
            raise Refusal(200, Status.HUB_ERROR, f"{party} answered HTTP {error.http}") from None
        except (PeerError, SealError) as error:
            raise Refusal(200, Status.HUB_ERROR, f"{party}: {error}") from None

    # Hearing what came of it

    async def result(self, call: Call, uid: str, module: str) -> Answer:
        """Take in what an operator says came of a request, which we asked it for. Raises Refusal.

        The courier brings it to whoever asked; of a stop of our own, the payment is told.
        """
        await self._view.catch_up([self._view.partition(self._topic, uid)])
        state = None if ":" in uid else self._view.get(requests.MODULE, uid)
        request: Request | None = None if state is None else requests.load_request(state)
        if request is None or request.asked.module != module or not _was_asked(request, call):
            raise Refusal(404, Status.CLIENT_ERROR, f"Unknown request: {uid}")
        found = wire.decode(request.asked.result_kind, call.version, call.body)
        if request.result is not None:
            return Answer(200, Status.SUCCESS, "Success: a result was known already, and stays")
        if request.asked.is_ours:
            event = stops.told(request, RESULTED, str(found.result), request.asked.to_party)
            partition = self._view.partition(self._topics.payments, event.key)
            await self._log.append(partition, event.key.encode(), event.encode())
        path = [RESULTED, request.asked.result_kind]
        await self.append(call, uid, path, call.body, call.version, sender=request.asked.to_party)
        return Answer(200, Status.SUCCESS, "Success")

    # The log

    async def remember(self, call: Call, what: str, party: Party, name: str, who: Party) -> None:
        """Keep who is behind something of a party."""
        key = requests.memory_key(what, party_key(*party), name)
        path = [REMEMBERED, call.partner.connection.id, party_key(*who)]
        await self.append(call, key, path, b"", call.version)

    async def append(
        self,
        call: Call,
        key: str,
        path: list[str],
        body: bytes,
        version: str,
        method: str = "PUT",
        sender: str | None = None,
    ) -> None:
        """Write one event of a request. Raises LogUnavailableError."""
        said_by = sender or party_key(*self.sender(call))
        event = Event(
            id=event_id(said_by, requests.MODULE, method, [key, *path], body),
            received_at=clock.now(),
            sender=said_by,
            version=version,
            module=requests.MODULE,
            method=method,
            key=key,
            path=path,
            request_id=call.request_id,
            correlation_id=call.correlation_id,
            body=body,
        )
        partition = self._view.partition(self._topic, key)
        await self._log.append(partition, key.encode(), event.encode())


def _was_asked(request: Request, call: Call) -> bool:
    """Whether it was the caller's platform that was asked; of ours, the fold knew the party alone."""
    connection = call.partner.connection
    if not request.asked.is_ours:
        return request.asked.to_connection == connection.id
    return connection.is_hub or any(role.key == request.asked.to_party for role in connection.roles)


def segment(text: str) -> str:
    """An identifier as a segment of a URL."""
    return quote(text, safe="")
