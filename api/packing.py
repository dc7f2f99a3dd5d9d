"""From a mark to the request that settles it: what a platform is told of an object as it is now."""

from __future__ import annotations

from typing import Any

import msgspec

from api import clock
from api.addressed import parcel_of, receiver
from api.config import CourierConfig
from api.outbox import Outbox
from api.parcels import Parcel, addressee, parcel
from api.partners import Connection
from api.peer import Routing
from api.stops import Stops
from api.view import View
from schemas.keys import party_of
from schemas.ocpi import wire
from streams import objects, requests
from streams.concerns import ADDRESSED
from streams.deliveries import SECOND, Mark, Outcome, digest

Packed = tuple[Parcel | Outcome, bytes]
"""The request to be made, or the outcome that is clear without one; and the digest of its object."""


class Packer:
    """Packs what is marked."""

    def __init__(self, config: CourierConfig, view: View, outbox: Outbox, stops: Stops) -> None:
        self._config = config
        self._view = view
        self._outbox = outbox
        self._stops = stops

    def pack(self, connection: Connection, mark: Mark) -> Packed | None:
        """What settles a mark. None: nothing is to be told, since this very state was settled before.

        Raises ValueError or ArithmeticError for an object that the platform's version cannot say.
        """
        if mark.module == requests.MODULE:
            if (stop := self._stops.request(mark.key)) is not None:
                made = self._stops.parcel(connection, stop)
                return None if made is None else (made, digest(mark.key.encode()))
            return self._result(connection, mark)
        state = self._view.get(mark.module, mark.key)
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
    ) -> Packed | None:
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
        return self._view.place(module, found) if connection.version == "2.1.1" else None

    def _result(self, connection: Connection, mark: Mark) -> Packed | None:
        """The result of a request, to be posted where whoever asked wants it (mod_commands "POST Method")."""
        state = self._view.get(requests.MODULE, mark.key)
        request = None if state is None else requests.load_request(state)
        if request is None or request.result is None:
            return None
        now = digest(request.result)
        before = self._outbox.known(mark)
        if before is not None and before.digest == now:
            return None
        if clock.now() - (request.resulted_at or 0) > self._config.late * SECOND:
            return Outcome.EXPIRED, now
        kind = request.asked.result_kind
        try:
            found = wire.decode(kind, "2.3.0", request.result)
            body = wire.encode(kind, connection.version or request.version, found)
        except LookupError:
            return Outcome.UNSUPPORTED, now
        routing = None
        if connection.version != "2.1.1":
            routing = Routing(party_of(request.asked.to_party), party_of(request.asked.from_party))
        return Parcel("POST", request.asked.response_url, body, routing), now


class Gone(msgspec.Struct):
    """An object that is no more: what is left is its name."""

    country_code: str
    party_id: str
    id: str
