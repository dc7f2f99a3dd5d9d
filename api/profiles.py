"""Charging profiles and charging preferences: from providers and smart charging services to operators.

A profile is set, asked for or taken away on a session; the operator answers at once whether it will try, and
posts later what came of it (mod_charging_profiles "Flow"). Once somebody has set a profile, it hears from the
operator whenever the active one changes. Preferences are answered at once (mod_sessions "Set: Charging
Preferences").
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import msgspec

from api.answers import Answer, Refusal, Status, invalid
from api.calls import Call
from api.forwarding import Forwarder, Party, segment
from schemas.keys import party_key
from schemas.ocpi import wire
from schemas.ocpi.requests import ChargingProfileResponse, ChargingProfileResponseType
from streams.concerns import concerned
from streams.requests import ANSWERED, Requested

_PROFILE = "profile"
_MODULE = "chargingprofiles"


class Profiles:
    """Handlers of both interfaces of charging profiles, and of charging preferences."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder

    async def receive(self, call: Call) -> Answer:
        """GET, PUT or DELETE of a session's profile, to be passed on (Receiver Interface). Raises Refusal."""
        session = call.ids[0]
        wanted: Any = None
        if call.method == "PUT":
            wanted = wire.decode("set_charging_profile", call.version, call.body)
            response_url = wanted.response_url
        else:
            response_url = call.parameter("response_url") or ""
            if not response_url:
                raise invalid("response_url", "is missing")
        duration = call.parameter("duration") or ""
        if call.method == "GET" and not re.fullmatch(r"\d{1,9}", duration):
            raise invalid("duration", "a number of seconds is needed")
        self._forwarder.check_response_url(call, response_url)
        sender = self._forwarder.sender(call)
        receiver = await self._operator(call, session, sender)
        if receiver is None:
            return _answer(call, ChargingProfileResponseType.UNKNOWN_SESSION)
        target, url = self._forwarder.target(receiver, _MODULE, "RECEIVER")
        asked = Requested(
            _MODULE, call.method, session, party_key(*sender), call.partner.connection.id,
            party_key(*receiver), target.connection.id, response_url,
        )  # fmt: skip

        def ours(uid: str) -> str:
            return f"{call.base_url}/ocpi/{target.version}/sender/{_MODULE}/{uid}"

        def where(uid: str) -> str:
            query = {"duration": duration} if call.method == "GET" else {}
            if call.method != "PUT":
                query["response_url"] = ours(uid)
            return f"{url}/{segment(session)}" + (f"?{urlencode(query)}" if query else "")

        def body(uid: str) -> bytes | None:
            if wanted is None:
                return None
            changed = msgspec.structs.replace(wanted, response_url=ours(uid))
            return wire.encode("set_charging_profile", target.version, changed)

        try:
            body("")
        except (LookupError, ValueError):
            return _answer(call, ChargingProfileResponseType.NOT_SUPPORTED)
        found = await self._forwarder.ask(call, asked, target, call.method, where, body)
        if call.method == "PUT" and found.result == ChargingProfileResponseType.ACCEPTED:
            await self._forwarder.remember(call, _PROFILE, receiver, session, sender)
        data = wire.encode("charging_profile_response", call.version, found)
        return Answer(200, Status.SUCCESS, "Success", data)

    async def result(self, call: Call) -> Answer:
        """What came of a request on a profile (Sender Interface, "POST Method"). Raises Refusal."""
        return await self._forwarder.result(call, call.ids[0], _MODULE)

    async def active(self, call: Call) -> Answer:
        """The active profile has changed; whoever set one hears of it (Sender Interface, "PUT Method")."""
        found = wire.decode("active_charging_profile", call.version, call.body)
        session, sender = call.ids[0], self._forwarder.sender(call)
        memory = self._forwarder.behind(_PROFILE, sender, session)
        receiver = self._forwarder.named(call)
        if receiver is None:
            if memory is None:
                raise invalid("session_id", f"nobody has set a profile on {session}")
            country, _, party = memory.party.partition("*")
            receiver = (country, party)
        target, url = self._forwarder.target(receiver, _MODULE, "SENDER")
        asked = Requested(
            _MODULE, "ACTIVE", session, party_key(*sender), call.partner.connection.id,
            party_key(*receiver), target.connection.id, "",
        )  # fmt: skip
        body = wire.encode("active_charging_profile", target.version, found)
        await self._forwarder.append(call, _evidence(call), asked.path, call.body, call.version, "POST")
        await self._forwarder.send(call, asked, target, "PUT", f"{url}/{segment(session)}", body)
        return Answer(200, Status.SUCCESS, "Success")

    async def preferences(self, call: Call) -> Answer:
        """A driver's preferences, to be passed on (mod_sessions, Sender "PUT Method"). Raises Refusal."""
        found = wire.decode("charging_preferences", call.version, call.body)
        session, sender = call.ids[0], self._forwarder.sender(call)
        receiver = await self._operator(call, session, sender)
        if receiver is None:
            raise Refusal(404, Status.INVALID_PARAMETERS, f"Unknown Session: {session}")
        target, url = self._forwarder.target(receiver, "sessions", "SENDER")
        asked = Requested(
            "sessions", "CHARGING_PREFERENCES", session, party_key(*sender), call.partner.connection.id,
            party_key(*receiver), target.connection.id, "",
        )  # fmt: skip
        try:
            body = wire.encode("charging_preferences", target.version, found)
        except LookupError:
            return Answer(200, Status.SUCCESS, "Success", b'"NOT_POSSIBLE"')
        uid = _evidence(call)
        await self._forwarder.append(call, uid, asked.path, call.body, call.version, "POST")
        where = f"{url}/{segment(session)}/charging_preferences"
        reply = await self._forwarder.send(call, asked, target, "PUT", where, body)
        kind = "charging_preferences_response"
        try:
            answer = wire.decode(kind, target.version, reply.data or b"null")
        except wire.InvalidObjectError as error:
            raise Refusal(
                200, Status.HUB_ERROR, f"{'*'.join(receiver)} answered what is no answer: {error}"
            ) from None
        await self._forwarder.append(
            call, uid, [ANSWERED, kind], reply.data or b"", target.version, sender=party_key(*receiver)
        )
        return Answer(200, Status.SUCCESS, "Success", wire.encode(kind, call.version, answer))

    async def _operator(self, call: Call, session: str, sender: Party) -> Party | None:
        """The operator of a session: as the headers say, else by the session. Raises Refusal."""
        services = "SCSP" in call.partner.roles or call.partner.connection.is_hub
        if (named := self._forwarder.named(call)) is not None:
            foreign = not services and self._forwarder.is_anothers(call, named, session, sender)
            return None if foreign else named
        ours = party_key(*sender)
        owners = await self._forwarder.owners(
            "sessions",
            session,
            lambda found: services or concerned("sessions", found) == ours,
        )
        if len(owners) > 1:
            raise Refusal(
                200, Status.NOT_ENOUGH_INFORMATION,
                "several operators have that session; say in OCPI-to-party-id whom it is for",
            )  # fmt: skip
        return owners[0] if owners else None


def _evidence(call: Call) -> str:
    """The key under which a request that is answered at once is kept."""
    return f"once-{call.request_id}"


def _answer(call: Call, result: ChargingProfileResponseType) -> Answer:
    """An answer of our own, without asking anybody."""
    found = ChargingProfileResponse(result=result, timeout=0)
    data = wire.encode("charging_profile_response", call.version, found)
    return Answer(200, Status.SUCCESS, "Success", data)
