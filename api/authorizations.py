"""Real-time authorization: POST tokens/{token_uid}/authorize, answered from the token's state.

A provider need not tell us of its tokens. Of one that nobody told us of, the provider that the routing
headers name is asked, if it can be. Nothing changes by an authorization, so nothing is written.

Spec: mod_tokens "Real-time authorization" and "POST Method" of the sender interface; transport_and_format
"Message Routing".
"""

from __future__ import annotations

from urllib.parse import urlencode

import msgspec

from api.answers import Answer, Refusal, Status
from api.calls import Call
from api.config import ApiConfig
from api.forwarding import Forwarder, segment
from api.ingress import TOKEN_TYPES, token_type
from api.parties import Parties
from api.partners import Registry
from api.view import View
from schemas.keys import object_key, party_key
from schemas.ocpi import wire
from schemas.ocpi.objects import Location
from schemas.ocpi.requests import LocationReferences
from streams import objects
from streams.authorization import authorize
from streams.requests import Requested


class Authorizations:
    """Answers operators who ask whether a token may be used."""

    def __init__(self, config: ApiConfig, view: View, registry: Registry, forwarder: Forwarder) -> None:
        self._view = view
        self._registry = registry
        self._forwarder = forwarder
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
        return await self._passed_on(call, uid, kind, asked)

    async def _passed_on(
        self, call: Call, uid: str, kind: str | None, asked: LocationReferences | None
    ) -> Answer:
        """What the provider says that the headers name. Raises Refusal."""
        unknown = Refusal(404, Status.UNKNOWN_TOKEN, f"Unknown Token: {uid}")
        party = self._forwarder.named(call)
        connection = None if party is None else self._registry.by_party(*party)
        if party is None or connection is None or connection.endpoint("tokens", "SENDER") is None:
            raise unknown
        target, url = self._forwarder.target(party, "tokens", "SENDER")
        sender = party_key(*self._forwarder.sender(call))
        asking = Requested(
            "tokens", "AUTHORIZE", uid, sender, call.partner.connection.id,
            party_key(*party), target.connection.id, "",
        )  # fmt: skip
        url = f"{url}/{segment(uid)}/authorize" + (f"?{urlencode({'type': kind})}" if kind else "")
        body = None if asked is None else wire.encode("location_references", target.version, asked)
        try:
            reply = await self._forwarder.send(call, asking, target, "POST", url, body)
            info = wire.decode("authorization_info", target.version, reply.data or b"", party=party)
        except Refusal as refusal:
            raise unknown if refusal.answer.status == Status.UNKNOWN_TOKEN else refusal from None
        except wire.InvalidObjectError as error:
            said = f"{'*'.join(party)} answered what is no answer: {error}"
            raise Refusal(200, Status.HUB_ERROR, said) from None
        return Answer(200, Status.SUCCESS, "Success", wire.encode("authorization_info", call.version, info))

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
