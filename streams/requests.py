"""Requests on their way through us: a command or a charging profile, its answer and its result.

A provider asks, an operator answers at once whether it will try, and tells later what came of it
(mod_commands "Flow", mod_charging_profiles "Flow"). The events of one request share a key, its id:

- `requested`: who asked whom for what, with the body as it came,
- `answered`: what the operator said at once; without a body: that it could not be asked,
- `resulted`: what came of it, by the operator; or by us, once it has had its time.

Of a request of our own (`streams.limits`), `sent` says before it leaves that it is about to.

Beside them `remembered`: an event under a key of its own that says who it was that made a reservation or set
a profile, for those requests that name nothing else.

Pure: bytes in, bytes out. The first answer counts, and so does the first result.
"""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.ocpi import wire
from schemas.records import Event

MODULE = "commands"  # of the events, and of states in the view
REQUESTED, ANSWERED, RESULTED, REMEMBERED = "requested", "answered", "resulted", "remembered"
SENT = "sent"

OURS = ""
"""The connection of requests that nobody made but we: a session came to its limit (`streams.limits`)."""

_CANONICAL = "2.3.0"
SECOND = 1_000_000


class Requested(msgspec.Struct, frozen=True):
    """What the path of a `requested` event says. Parties are keys, `CC*PID`; platforms are connections' ids.

    `name`: the command, or the method on the charging profile of a session; `response_url`: where whoever
    asked wants to hear the result, in what they said.
    """

    module: str
    name: str
    target: str
    from_party: str
    from_connection: str
    to_party: str
    to_connection: str
    response_url: str

    @property
    def path(self) -> list[str]:
        """As the event has it."""
        return [REQUESTED, *msgspec.structs.astuple(self)]

    @property
    def is_ours(self) -> bool:
        """Whether we ask for it ourselves; then `response_url` is the payment that it is told to."""
        return self.from_connection == OURS

    @property
    def answer_kind(self) -> str:
        """The kind of the answer in `schemas.ocpi.wire`."""
        return {
            "commands": "command_response",
            "chargingprofiles": "charging_profile_response",
            "sessions": "charging_preferences_response",
        }[self.module]

    @property
    def result_kind(self) -> str:
        """The kind of the result in `schemas.ocpi.wire`."""
        if self.module == "commands":
            return "command_result"
        return {
            "GET": "active_charging_profile_result",
            "PUT": "charging_profile_result",
            "DELETE": "clear_profile_result",
        }[self.name]


class Request(msgspec.Struct, array_like=True):
    """What is kept of a request. `answer`, `result`: canonical JSON; `deadline`: micros, while it waits.

    `sent_at`: when one of ours was sent last, in micros.
    """

    id: str
    asked: Requested
    version: str
    requested_at: int
    correlation_id: str | None = None
    answer: bytes | None = None
    deadline: int | None = None
    result: bytes | None = None
    resulted_at: int | None = None
    sent_at: int | None = None


class Memory(msgspec.Struct, array_like=True):
    """Who is behind something: a connection, and a party on it."""

    connection: str
    party: str


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Request).decode
_unpack_memory = msgspec.msgpack.Decoder(Memory).decode


def load_request(state: bytes) -> Request:
    """The request of a state."""
    return _unpack(state)


def load_memory(state: bytes) -> Memory:
    """The memory of a state under `memory_key`."""
    return _unpack_memory(state)


def memory_key(what: str, party: str, name: str) -> str:
    """Where it is remembered who is behind something: `what` is a reservation or a profile of a party."""
    return f"{what}:{party}*{name}".upper()


def fold_request(current: bytes | None, event: Event) -> bytes | None:
    """The state after an event; `current` itself when nothing changes. Raises wire.InvalidObjectError."""
    match event.path:
        case ["remembered", connection, party]:
            return _pack(Memory(connection, party))
        case ["requested", *fields] if current is None:
            asked = Requested(*fields)
            return _pack(Request(event.key, asked, event.version, event.received_at, event.correlation_id))
        case ["sent"] if current is not None:
            request = _unpack(current)
            request.sent_at = max(request.sent_at or 0, event.received_at)
            return _pack(request)
        case ["answered", *_] if current is not None:
            request = _unpack(current)
            if request.answer is not None:
                return current
            return _pack(_answered(request, event))
        case ["resulted", *_] if current is not None:
            request = _unpack(current)
            if request.result is not None:
                return current
            found = _decoded(request.asked.result_kind, event)
            request.result = wire.encode(request.asked.result_kind, _CANONICAL, found)
            request.resulted_at = event.received_at
            request.deadline = None
            return _pack(request)
        case _:
            return current


def _answered(request: Request, event: Event) -> Request:
    if not event.body:
        request.answer = b""
        return request
    kind = request.asked.answer_kind
    found = _decoded(kind, event)
    request.answer = wire.encode(kind, _CANONICAL, found)
    if getattr(found, "result", None) == "ACCEPTED" and request.result is None:
        request.deadline = event.received_at + found.timeout * SECOND
    return request


def _decoded(kind: str, event: Event) -> Any:
    return wire.decode(kind, event.version, event.body)


def timed_out(request: Request) -> bytes:
    """The result, in 2.3.0, of a request that got none in time (mod_commands "CommandResultType").

    Charging profiles know no time-out: nothing was found to be so, which is UNKNOWN.
    """
    return b'{"result":"TIMEOUT"}' if request.asked.module == "commands" else b'{"result":"UNKNOWN"}'
