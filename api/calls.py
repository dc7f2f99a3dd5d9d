"""What a handler is: the seam between the door and the modules behind it.

The door authenticates, finds the route, checks that the caller may call it, reads the body within its limits,
and hands a `Call` to the handler that the route names. Whoever adds a module adds rows to `api.routes` and a
handler to the mapping in `api.server`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import parse_qs

import msgspec

from api.answers import Answer
from api.partners import Partner
from api.routes import Route


class Routing(NamedTuple):
    """The routing headers as they came, "" for one that did not (transport_and_format "Message Routing")."""

    to_country_code: str = ""
    to_party_id: str = ""
    from_country_code: str = ""
    from_party_id: str = ""

    @property
    def to(self) -> tuple[str, str] | None:
        """Whom the message is for, if it says."""
        return (self.to_country_code, self.to_party_id) if self.to_party_id else None

    @property
    def sender(self) -> tuple[str, str] | None:
        """Whom the message is from, if it says."""
        return (self.from_country_code, self.from_party_id) if self.from_party_id else None


NO_ROUTING = Routing()


class Call(msgspec.Struct):
    """A request as the door hands it on.

    `ids`: the identifiers of the URL in the order of the route; `base_url`: where we are, as the caller sees
    it, without a slash at its end; `authorization`: the header of that name, as it came.
    """

    route: Route
    ids: tuple[str, ...]
    partner: Partner
    request_id: str
    correlation_id: str
    query: bytes
    base_url: str
    body: bytes = b""
    routing: Routing = NO_ROUTING
    authorization: bytes = b""

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.route.method

    @property
    def version(self) -> str:
        """The version of OCPI that is spoken."""
        return self.route.version

    @property
    def role(self) -> str:
        """The interface that is called: sender or receiver."""
        return self.route.resource.role

    @property
    def module(self) -> str:
        """The module's identifier."""
        return self.route.resource.module

    def parameter(self, name: str) -> str | None:
        """The last value of a query parameter, "" for an empty one, None without one."""
        found = parse_qs(self.query.decode("latin-1"), keep_blank_values=True).get(name)
        return found[-1] if found else None


Handler = Callable[[Call], Awaitable[Answer]]
"""Answers a call. Raises Refusal, wire.InvalidObjectError for its body, LogUnavailableError."""
