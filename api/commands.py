"""Commands: from providers to operators, and their results back (mod_commands).

Whom a command is for is said by its headers, by its location, its session or its reservation. The operator
is asked at once and its answer handed back; the result it posts to a URL of ours, and the courier brings it
to the `response_url` of whoever asked. An operator that says nothing in the time that it named has said
TIMEOUT.
"""

from __future__ import annotations

from typing import Any

import msgspec

from api.answers import Answer, Refusal, Status, invalid
from api.calls import Call
from api.forwarding import Forwarder, Party
from api.payments import Payments
from schemas.keys import party_key
from schemas.ocpi import wire
from schemas.ocpi.requests import COMMANDS, CommandResponse, CommandResponseType
from streams.concerns import concerned
from streams.requests import Requested

_RESERVATION = "reservation"


class Commands:
    """Handlers of both interfaces."""

    def __init__(self, forwarder: Forwarder, payments: Payments) -> None:
        self._forwarder = forwarder
        self._payments = payments

    async def receive(self, call: Call) -> Answer:
        """A command, to be passed on (Receiver Interface, "POST Method"). Raises Refusal."""
        name = call.ids[0].upper()
        if (kind := COMMANDS.get(name)) is None:
            raise invalid("command", f"{call.ids[0]!r} is none of {', '.join(COMMANDS)}")
        sender = self._forwarder.sender(call)
        try:
            command = wire.decode(kind, call.version, call.body, party=sender)
        except LookupError:
            return _answer(call, CommandResponseType.NOT_SUPPORTED)
        self._forwarder.check_response_url(call, command.response_url)
        _check_token(call, command, sender)
        receiver = self._forwarder.named(call)
        if receiver is None:
            receiver = await self._receiver(name, command, sender)
        elif name == "STOP_SESSION" and self._forwarder.is_anothers(
            call, receiver, command.session_id, sender
        ):
            receiver = None
        if receiver is None:
            return _answer(call, CommandResponseType.UNKNOWN_SESSION)
        target, url = self._forwarder.target(receiver, "commands", "RECEIVER")
        asked = Requested(
            "commands", name, "", party_key(*sender), call.partner.connection.id,
            party_key(*receiver), target.connection.id, command.response_url,
        )  # fmt: skip
        try:
            wire.encode(kind, target.version, command)
        except (LookupError, ValueError):
            return _answer(call, CommandResponseType.NOT_SUPPORTED)

        def body(uid: str) -> bytes:
            ours = f"{call.base_url}/ocpi/{target.version}/sender/commands/{name}/{uid}"
            return wire.encode(kind, target.version, msgspec.structs.replace(command, response_url=ours))

        found = await self._forwarder.ask(call, asked, target, "POST", lambda _: f"{url}/{name}", body)
        if name == "RESERVE_NOW" and found.result == CommandResponseType.ACCEPTED:
            await self._forwarder.remember(call, _RESERVATION, sender, command.reservation_id, receiver)
        if name == "START_SESSION" and found.result == CommandResponseType.ACCEPTED:
            await self._payments.authorized(call, command, sender, receiver)
        return Answer(200, Status.SUCCESS, "Success", wire.encode("command_response", call.version, found))

    async def result(self, call: Call) -> Answer:
        """What came of a command (Sender Interface, "POST Method"). Raises Refusal."""
        return await self._forwarder.result(call, call.ids[1], "commands")

    async def _receiver(self, name: str, command: Any, sender: Party) -> Party | None:
        """The operator that a command is for, by what it is about. None: no such session. Raises Refusal."""
        if name == "CANCEL_RESERVATION":
            memory = self._forwarder.behind(_RESERVATION, sender, command.reservation_id)
            if memory is None:
                raise Refusal(
                    200, Status.NOT_ENOUGH_INFORMATION,
                    "reservation_id: is not known here; say in OCPI-to-party-id whom it is for",
                )  # fmt: skip
            country, _, party = memory.party.partition("*")
            return country, party
        if name == "STOP_SESSION":
            ours = party_key(*sender)
            owners = await self._forwarder.owners(
                "sessions",
                command.session_id,
                lambda found: concerned("sessions", found) == ours,
            )
        else:
            owners = await self._forwarder.owners("locations", command.location_id)
            if not owners:
                raise Refusal(
                    200, Status.UNKNOWN_LOCATION, f"location_id: {command.location_id} is not known"
                )
        if len(owners) > 1:
            raise Refusal(
                200, Status.NOT_ENOUGH_INFORMATION,
                "several operators have that; say in OCPI-to-party-id whom it is for",
            )  # fmt: skip
        return owners[0] if owners else None


def _check_token(call: Call, command: Any, sender: Party) -> None:
    """Refuse tokens of others (mod_commands "StartSession Object", "ReserveNow Object")."""
    token = getattr(command, "token", None)
    if token is None or call.partner.connection.is_hub:
        return
    owner = party_key(token.country_code, token.party_id)
    if owner != party_key(*sender) and owner not in call.partner.parties(call.route.resource.callers):
        raise invalid("token", f"belongs to {owner}, for whom you do not speak")


def _answer(call: Call, result: CommandResponseType) -> Answer:
    """An answer of our own, without asking anybody."""
    found = CommandResponse(result=result, timeout=0)
    return Answer(200, Status.SUCCESS, "Success", wire.encode("command_response", call.version, found))
