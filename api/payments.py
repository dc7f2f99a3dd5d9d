"""The payments module, both sides: to operators we stand for the providers, to them for the operators.

What a provider (PTP) says of its terminals and captures is kept, and the courier brings it to the operator
(CPO) that it is for; what an operator changes of a terminal, to the provider. Whom a terminal is for is said
by the OCPI-to headers, by the terminal itself, by the activation before it, or by the locations assigned to
it; whom a confirmation is for, by the headers, or by the StartSession with its authorization reference.
Activating and deactivating is asked of the provider at once, and kept when it has agreed.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from api.answers import Answer, Refusal, Status, invalid
from api.calls import Call
from api.config import ApiConfig
from api.forwarding import Forwarder, Party
from api.keeper import Keeper
from api.log import Log
from api.parties import Parties
from api.partners import Registry
from api.view import View
from schemas.keys import object_key, party_key, party_of
from schemas.ocpi import wire
from schemas.ocpi.payments import NewTerminal, TerminalUpdate
from schemas.payments import payment_key
from streams import objects, terminals
from streams.concerns import NOBODY
from streams.payments import AUTHORIZATIONS, MODULE, START
from streams.requests import Requested

_AUTHORIZATION, _ACTIVATION = "authorization", "activation"


class Payments:
    """Handlers of both interfaces. All raise Refusal, InvalidObjectError and LogUnavailableError."""

    def __init__(
        self, config: ApiConfig, log: Log, view: View, registry: Registry, forwarder: Forwarder
    ) -> None:
        self._topics = config.topics
        self._view = view
        self._forwarder = forwarder
        self._keeper = Keeper(log, view)
        self._parties = Parties(registry, config.party)

    # Terminals, to providers

    async def create(self, call: Call) -> Answer:
        """Receiver Interface, "POST Terminal Method"."""
        new = wire.decode("new_terminal", call.version, call.body)
        provider = self._forwarder.sender(call)
        key = object_key(*provider, new.terminal_id)
        state = await self._state(terminals.MODULE, key)
        operator = await self._operator(call, provider, new, state)
        path = [*provider, new.terminal_id, *operator]
        await self._keeper.keep(
            call, self._topics.terminals, key, path, module=terminals.MODULE, sender=provider
        )
        return _created(call, state is None, "terminals", new.terminal_id)

    async def terminal_here(self, call: Call) -> Answer:
        """Receiver Interface, "GET Terminal Method": the provider's own, as we have it."""
        provider = self._forwarder.sender(call)
        state = await self._state(terminals.MODULE, object_key(*provider, call.ids[0]))
        return _answer(call, terminals.MODULE, state)

    async def _operator(
        self, call: Call, provider: Party, new: NewTerminal, state: bytes | None
    ) -> Party | tuple[()]:
        """Whom a terminal is for, as far as it can be told."""
        if (wanted := self._parties.wanted(call)) is not None:
            return party_of(wanted)
        if new.country_code and new.party_id:
            return new.country_code, new.party_id
        if state is not None and (known := objects.head(state).concerns) != NOBODY:
            return party_of(known)
        for name in (new.terminal_id, new.reference or ""):
            if name and (operator := await self._behind(_ACTIVATION, provider, name)):
                return operator
        owners = {
            owner for name in new.location_ids for owner in await self._forwarder.owners("locations", name)
        }
        return owners.pop() if len(owners) == 1 else ()

    # Terminals, to operators

    async def terminal(self, call: Call) -> Answer:
        """Sender Interface, "GET", "PUT" and "PATCH Terminal Method"."""
        provider, state = await self._assigned(call)
        if call.method == "GET":
            return _answer(call, terminals.MODULE, state)
        current = objects.load(terminals.MODULE, state)
        if call.method == "PUT":
            _same(
                "terminal_id",
                wire.decode("terminal_update", call.version, call.body).terminal_id,
                call.ids[0],
            )
        operator = self._forwarder.sender(call)
        key = object_key(*provider, call.ids[0])
        path = [*provider, call.ids[0], *operator]
        event = self._keeper.event(call, key, path, module=terminals.MODULE, sender=operator)
        new = terminals.after(current, event)
        assert new is not None
        _same("terminal_id", new.terminal_id, call.ids[0])
        _same("party_id", new.party_id, current.party_id or operator[1])
        _same("country_code", new.country_code, current.country_code or operator[0])
        await self._keeper.keep(
            call, self._topics.terminals, key, path, module=terminals.MODULE, sender=operator
        )
        if new.last_updated < current.last_updated:
            return Answer(
                200, Status.SUCCESS,
                "Success: kept as evidence, but a newer last_updated is already known",
            )  # fmt: skip
        return Answer(200, Status.SUCCESS, "Success")

    async def activate(self, call: Call) -> Answer:
        """Sender Interface, "POST Activate Terminal Method"."""
        wanted: TerminalUpdate = wire.decode("terminal_update", call.version, call.body)
        providers = self._parties.owners(call, "PTP")
        if len(providers) != 1:
            raise Refusal(
                200, Status.NOT_ENOUGH_INFORMATION,
                "say in OCPI-to-party-id which payment terminal provider this is for",
            )  # fmt: skip
        provider, operator = party_of(providers[0]), self._forwarder.sender(call)
        body = wire.encode("terminal_update", call.version, wanted)
        await self._ask(call, provider, operator, "terminals/activate", body)
        name = wanted.terminal_id or f"#{wanted.reference or ''}"
        await self._keeper.keep(
            call, self._topics.terminals, object_key(*provider, name),
            [*provider, name, *operator, terminals.ACTIVATE], module=terminals.MODULE, sender=operator,
        )  # fmt: skip
        for one in (wanted.terminal_id, wanted.reference):
            if one:
                await self._forwarder.remember(call, _ACTIVATION, provider, one, operator)
        return Answer(200, Status.SUCCESS, "Success")

    async def deactivate(self, call: Call) -> Answer:
        """Sender Interface, "POST Deactivate Terminal Method"."""
        provider, _ = await self._assigned(call)
        operator, name = self._forwarder.sender(call), call.ids[0]
        await self._ask(
            call, provider, operator, f"terminals/{quote(name, safe='')}/deactivate", call.body or None
        )
        await self._keeper.keep(
            call, self._topics.terminals, object_key(*provider, name),
            [*provider, name, *operator, terminals.DEACTIVATE], module=terminals.MODULE, sender=operator,
        )  # fmt: skip
        return Answer(200, Status.SUCCESS, "Success")

    async def _ask(self, call: Call, provider: Party, operator: Party, what: str, body: bytes | None) -> None:
        target, url = self._forwarder.target(provider, MODULE_ID, "SENDER")
        asked = Requested(
            MODULE_ID, what, "", party_key(*operator), call.partner.connection.id,
            party_key(*provider), target.connection.id, "",
        )  # fmt: skip
        await self._forwarder.send(call, asked, target, "POST", f"{url.rstrip('/')}/{what}", body)

    async def _assigned(self, call: Call) -> tuple[Party, bytes]:
        """The terminal of an URL, which has to be one for the caller. Raises Refusal (404)."""
        return await self._found(call, terminals.MODULE)

    # Confirmations

    async def confirm(self, call: Call) -> Answer:
        """Receiver Interface, "POST Financial Advice Confirmation Method"."""
        found = wire.decode("financial_advice_confirmation", call.version, call.body)
        provider = self._forwarder.sender(call)
        key = object_key(*provider, found.id)
        state = await self._state(MODULE, key)
        operator: Party | tuple[()] = ()
        if (wanted := self._parties.wanted(call)) is not None:
            operator = party_of(wanted)
        elif state is not None and (known := objects.head(state).concerns) != NOBODY:
            operator = party_of(known)
        else:
            operator = await self._behind(_AUTHORIZATION, provider, found.authorization_reference)
        if state is not None:
            before = objects.load(MODULE, state)
            _same("authorization_reference", found.authorization_reference, before.authorization_reference)
        await self._keeper.keep(
            call, self._topics.payments, key, [*provider, found.id, *operator], module=MODULE,
            sender=provider, log_key=payment_key(provider, found.authorization_reference),
        )  # fmt: skip
        return _created(call, state is None, "financial-advice-confirmations", found.id)

    async def confirmation_here(self, call: Call) -> Answer:
        """Receiver Interface, "GET Financial Advice Confirmation Method"."""
        provider = self._forwarder.sender(call)
        state = await self._state(MODULE, object_key(*provider, call.ids[0]))
        return _answer(call, MODULE, state)

    async def confirmation(self, call: Call) -> Answer:
        """Sender Interface, "GET Financial Advice Confirmation Method"."""
        _, state = await self._found(call, MODULE)
        return _answer(call, MODULE, state)

    # Authorizations

    async def authorized(self, call: Call, command: Any, sender: Party, operator: Party) -> None:
        """Take note of a StartSession that an operator has accepted, if it has a reference."""
        reference = command.authorization_reference
        if reference is None:
            return
        await self._forwarder.remember(call, _AUTHORIZATION, sender, reference, operator)
        key = payment_key((command.token.country_code, command.token.party_id), reference)
        await self._keeper.keep(
            call, self._topics.payments, key, [START, *operator], module=AUTHORIZATIONS, sender=sender
        )

    # What is known

    async def _behind(self, what: str, provider: Party, name: str) -> Party | tuple[()]:
        """The operator behind an activation or an authorization, as all API processes know it."""
        await self._view.catch_up(self._view.partitions(self._topics.commands))
        memory = self._forwarder.behind(what, provider, name)
        return () if memory is None else party_of(memory.party)

    async def _state(self, module: str, key: str) -> bytes | None:
        topic = self._topics.terminals if module == terminals.MODULE else self._topics.payments
        # A confirmation lies where its payment lies, which its id does not tell.
        partitions = (
            [self._view.partition(topic, key)] if module == terminals.MODULE else self._view.partitions(topic)
        )
        await self._view.catch_up(partitions)
        return self._view.get(module, key)

    async def _found(self, call: Call, module: str) -> tuple[Party, bytes]:
        """An object for the caller, and the provider that it belongs to. Raises Refusal (404, 2002)."""
        callers = self._parties.behind(call, call.route.resource.callers)
        found = []
        for owner in self._parties.owners(call, "PTP"):
            provider = party_of(owner)
            state = await self._state(module, object_key(*provider, call.ids[0]))
            if state is not None and objects.head(state).concerns in callers:
                found.append((provider, state))
        if len(found) > 1:
            raise Refusal(
                200, Status.NOT_ENOUGH_INFORMATION,
                "several providers have that; say in OCPI-to-party-id whose it is",
            )  # fmt: skip
        if not found:
            raise _unknown(call)
        return found[0]


MODULE_ID = "payments"


def _unknown(call: Call) -> Refusal:
    resource = call.route.resource
    return Refusal(404, resource.unknown, f"Unknown {resource.title}: {'/'.join(call.ids)}")


def _answer(call: Call, module: str, state: bytes | None) -> Answer:
    if state is None:
        raise _unknown(call)
    data = wire.encode(objects.KINDS[module], call.version, objects.load(module, state))
    return Answer(200, Status.SUCCESS, "Success", data)


def _created(call: Call, new: bool, what: str, name: str) -> Answer:
    url = f"{call.base_url}/ocpi/{call.version}/receiver/{MODULE_ID}/{what}/{quote(name, safe='')}"
    return Answer(201 if new else 200, Status.SUCCESS, "Success", headers=((b"location", url.encode()),))


def _same(field: str, said: str | None, known: str | None) -> None:
    if said is not None and known is not None and said.upper() != known.upper():
        raise invalid(field, f"{said!r} in the body, and {known!r} here")
