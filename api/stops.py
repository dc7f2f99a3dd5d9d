"""Stops of ad-hoc sessions at their limit, which the log asks for (`streams.limits`): made by the courier.

A stop goes the way of every delivery, from its mark to its outcome; but it is a command, so it has an answer,
and later a result, at a URL of ours. Both are told to the payment that it is for, before they become part of
the request: a crash between the two tells the payment twice, which it does not mind.

That it is about to be sent is written first. A courier that finds it sent, and neither answered nor resulted,
waits for as long as an answer may take: the operator may have it, and its result or the session's end may be
on their way. Only then is it sent again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from api import clock
from api.config import ApiConfig
from api.parcels import Parcel
from api.partners import Connection, Registry
from api.peer import MalformedError, Reply, Routing
from api.view import View
from schemas.keys import object_key, party_of
from schemas.ocpi import wire
from schemas.ocpi.requests import StopSession
from schemas.records import Event, event_id
from schemas.topics import Topic
from streams import objects, requests
from streams.deliveries import SECOND, Outcome
from streams.limits import MODULE_OF_RESULTS
from streams.requests import ANSWERED, RESULTED, SENT, Request

_GOING = ("ACTIVE", "PENDING")

Append = Callable[[Topic, Event], Awaitable[None]]
"""Write an event to a topic, and wait until it is there."""


def told(request: Request, what: str, result: str, sender: str) -> Event:
    """What a payment is told of its stop; `what`: ANSWERED or RESULTED."""
    payment = request.asked.response_url
    path = [session_of(request), what]
    body = msgspec.json.encode({"result": result})
    return Event(
        id=event_id(sender, MODULE_OF_RESULTS, "POST", [payment, *path], body),
        received_at=clock.now(),
        sender=sender,
        version="2.3.0",
        module=MODULE_OF_RESULTS,
        method="POST",
        key=payment,
        path=path,
        request_id=None,
        correlation_id=request.id,
        body=body,
    )


def session_of(request: Request) -> str:
    """Key of the session that is to be stopped."""
    return object_key(*party_of(request.asked.to_party), request.asked.target)


class Stops:
    """What the courier knows of stops. `append`: writes to the log."""

    def __init__(self, config: ApiConfig, view: View, registry: Registry, us: str, append: Append) -> None:
        self._config = config
        self._view = view
        self._registry = registry
        self._us = us
        self._append = append
        self._patience = round(2 * config.partner_timeout * SECOND)
        self._here: set[str] = set()  # sent by this very process, which knows what was answered
        host = "127.0.0.1" if config.host in ("0.0.0.0", "::") else config.host  # noqa: S104
        self._base = (config.public_url or f"http://{host}:{config.port}").rstrip("/")
        self.unmarked: set[str] = set()
        """Those whose operator could not be asked when they came up."""

    def find(self) -> None:
        """Take up what is still to be asked for, as the view has it."""
        for key, state in self._view.states(requests.MODULE):
            if ":" not in key and is_open(requests.load_request(state)):
                self.unmarked.add(key)

    def request(self, key: str) -> Request | None:
        """One of ours; None for others."""
        state = None if ":" in key else self._view.get(requests.MODULE, key)
        found = None if state is None else requests.load_request(state)
        return found if found is not None and found.asked.is_ours else None

    def platform(self, request: Request) -> Connection | None:
        """Where the operator can be asked: its platform, or the hub that it is behind."""
        connection = self._registry.by_party(*party_of(request.asked.to_party))
        if connection is None:
            hubs = [one for one in self._registry.reachable() if one.is_hub]
            connection = hubs[0] if len(hubs) == 1 else None
        return connection if connection in self._registry.reachable() else None

    def again_at(self, key: str) -> int:
        """Before when nothing is sent, in microseconds: another courier did, and its fate is unknown."""
        request = None if key in self._here else self.request(key)
        if request is None or request.sent_at is None or not is_open(request):
            return 0
        return request.sent_at + self._patience

    def parcel(self, connection: Connection, request: Request) -> Parcel | Outcome | None:
        """The command (mod_commands "StopSession Object"); or what has become of it; None: it was answered.

        It is in the name of the provider, as the one whose part it is to send it.
        """
        if not is_open(request):
            return None
        if not self._is_going(request):
            return Outcome.EXPIRED
        version, asked = connection.version or "", request.asked
        url = connection.endpoint(asked.module, "RECEIVER")
        if url is None:
            return Outcome.UNSUPPORTED
        back = f"{self._base}/ocpi/{version}/sender/commands/{asked.name}/{request.id}"
        body = wire.encode("stop_session", version, StopSession(response_url=back, session_id=asked.target))
        routing = None
        if version != "2.1.1":
            routing = Routing(party_of(asked.from_party), party_of(asked.to_party))
        return Parcel("POST", f"{url.rstrip('/')}/{asked.name}", body, routing)

    def _is_going(self, request: Request) -> bool:
        state = self._view.get("sessions", session_of(request))
        if state is None:
            return True  # not read yet: the payment knew it first
        session = objects.load("sessions", state)
        return session.status in _GOING and session.end_date_time is None

    async def sending(self, request: Request) -> None:
        """Keep that it is about to be sent."""
        await self._tell(request, [SENT], b"")
        self._here.add(request.id)

    async def answered(self, connection: Connection, request: Request, reply: Reply) -> None:
        """Keep the operator's answer. Raises MalformedError for what is none."""
        version = connection.version or ""
        try:
            found = wire.decode("command_response", version, reply.data or b"")
        except wire.InvalidObjectError as error:
            raise MalformedError(reply.http, f"no answer to a command: {error}") from None
        operator = request.asked.to_party
        await self._append(self._config.topics.payments, told(request, ANSWERED, str(found.result), operator))
        body = wire.encode("command_response", "2.3.0", found)
        await self._tell(request, [ANSWERED], body, sender=operator)

    async def given_up(self, request: Request, outcome: Outcome) -> None:
        """Keep that it came to nothing."""
        await self._append(self._config.topics.payments, told(request, ANSWERED, outcome.upper(), self._us))
        await self._tell(request, [ANSWERED, str(outcome)], b"")

    async def timed_out(self, request: Request) -> None:
        """Tell the payment that the operator kept silent."""
        await self._append(self._config.topics.payments, told(request, RESULTED, "TIMEOUT", self._us))

    async def _tell(self, request: Request, path: list[str], body: bytes, sender: str | None = None) -> None:
        said_by = sender or self._us
        event = Event(
            id=event_id(said_by, requests.MODULE, "PUT", [request.id, *path, str(clock.now())], body),
            received_at=clock.now(),
            sender=said_by,
            version="2.3.0",
            module=requests.MODULE,
            method="PUT",
            key=request.id,
            path=path,
            request_id=None,
            correlation_id=request.id,
            body=body,
        )
        await self._append(self._config.topics.commands, event)


def is_open(request: Request) -> bool:
    """Whether it is one of ours that is still to be asked for."""
    return request.asked.is_ours and request.answer is None and request.result is None
