"""Real-time authorization: POST tokens/{token_uid}/authorize, answered from the token's state.

Spec: mod_tokens "Real-time authorization" and "POST Method" of the sender interface. Nothing changes by it,
so nothing is written.
"""

from __future__ import annotations

import msgspec

from api.answers import Answer, Refusal, Status
from api.calls import Call
from api.config import ApiConfig
from api.ingress import TOKEN_TYPES, token_type
from api.parties import Parties
from api.partners import Registry
from api.view import View
from schemas.keys import object_key
from schemas.ocpi import wire
from schemas.ocpi.objects import Location
from schemas.ocpi.requests import LocationReferences
from streams import objects
from streams.authorization import authorize


class Authorizations:
    """Answers operators who ask whether a token may be used."""

    def __init__(self, config: ApiConfig, view: View, registry: Registry) -> None:
        self._view = view
        self._partitions = [
            *view.partitions(config.topics.tokens),
            *view.partitions(config.topics.locations),
        ]
        self._parties = Parties(registry, config.party)

    async def handle(self, call: Call) -> Answer:
        """ALLOWED, BLOCKED or NOT_ALLOWED. Raises Refusal, wire.InvalidObjectError.

        2004 under HTTP 404 for a token that nobody has; 2002 when several providers have one and the OCPI-to
        headers do not say whose it is.
        """
        asked = wire.decode("location_references", call.version, call.body) if call.body.strip() else None
        operators = self._parties.behind(call, call.route.resource.callers)
        providers = self._parties.owners(call, "EMSP")
        kind = token_type(call.query)
        uid = call.ids[0]
        await self._view.catch_up(self._partitions)
        for name in TOKEN_TYPES if kind is None else (kind,):
            states = [
                state
                for provider in providers
                if (state := self._view.get("tokens", object_key(*provider.split("*", 1), uid, name)))
            ]
            if len(states) > 1:
                raise Refusal(
                    200,
                    Status.NOT_ENOUGH_INFORMATION,
                    f"{len(states)} providers have a token {uid} of type {name}: say whose it is by "
                    "OCPI-to-country-code and OCPI-to-party-id",
                )
            if states:
                location = self._location(operators, asked)
                info = authorize(objects.load("tokens", states[0]), asked, location)
                data = wire.encode("authorization_info", call.version, info)
                if call.version == "2.1.1" and info.location is not None:
                    data = _with_connectors(data, call.body, location)
                return Answer(200, Status.SUCCESS, "Success", data)
        raise Refusal(404, Status.UNKNOWN_TOKEN, f"Unknown Token: {uid}")

    def _location(self, operators: set[str], asked: LocationReferences | None) -> Location | None:
        """The location that is asked for, of one of these operators."""
        if asked is None:
            return None
        for operator in sorted(operators):
            key = object_key(*operator.split("*", 1), asked.location_id)
            state = self._view.get("locations", key)
            if state is not None:
                found: Location = objects.load("locations", state)
                return found
        return None


def _with_connectors(data: bytes, body: bytes, location: Location | None) -> bytes:
    """An answer of 2.1.1 with those of the connectors asked for that its EVSEs have; 2.1.1 alone names them
    (2.1.1 mod_tokens "LocationReferences class").
    """
    info = msgspec.json.decode(data)
    there = None
    if location is not None:
        uids = {uid.upper() for uid in info["location"].get("evse_uids", ())}
        there = {
            connector.id.upper()
            for evse in location.evses
            if not uids or evse.uid.upper() in uids
            for connector in evse.connectors
        }
    asked = msgspec.json.decode(body).get("connector_ids") or []
    found = [name for name in asked if there is None or name.upper() in there]
    if found:
        info["location"]["connector_ids"] = found
    return msgspec.json.encode(info)
