"""Whose behalf a call is on, and which parties it is about: the routing headers against what we know.

A platform may speak for several parties, and says for which one by its OCPI-from headers; without them it
speaks for all of them. By its OCPI-to headers it says whom it wants to hear of; without them, or with ours,
of everybody (transport_and_format "Message Routing Headers", "GET All via Hubs", "Open Routing Request").
"""

from __future__ import annotations

from collections.abc import Iterable

from api.answers import Refusal, Status, invalid
from api.calls import Call
from api.metrics import refused
from api.partners import UNREGISTERED, Registry
from schemas.keys import party_key


class Parties:
    """Reads the routing headers of calls. `us`: our own party, as country code and party id."""

    def __init__(self, registry: Registry, us: tuple[str, str]) -> None:
        self._registry = registry
        self._us = party_key(*us)

    def behind(self, call: Call, roles: Iterable[str]) -> set[str]:
        """Keys of the parties that a call is on behalf of, in any of these roles. Raises Refusal.

        A hub that names itself asks for all who are behind it. It may name a party that is on no connection
        of its own, if there is no other hub that it could be behind.
        """
        spoken = call.partner.parties(roles)
        said = call.routing.sender
        if said is None:
            return spoken
        key = party_key(*said)
        connection = call.partner.connection
        if key in connection.hubs:
            return spoken
        if key in spoken or (
            connection.is_hub and self._registry.by_party(*said) is None and self._is_only(call)
        ):
            return {key}
        refused(call.module, "party")
        raise invalid("OCPI-from-party-id", f"you do not speak for {key} here")

    def _is_only(self, call: Call) -> bool:
        hubs = {one.id for one in self._registry.connections() if one.is_hub and one.stage != UNREGISTERED}
        return hubs == {call.partner.connection.id}

    def wanted(self, call: Call) -> str | None:
        """Key of the party that a call wants to hear of; None: of everybody. Raises Refusal (4001)."""
        to = call.routing.to
        if to is None or party_key(*to) == self._us:
            return None
        if self._registry.by_party(*to) is None:
            raise Refusal(200, Status.UNKNOWN_RECEIVER, f"{party_key(*to)} is not known here")
        return party_key(*to)

    def owners(self, call: Call, role: str) -> list[str]:
        """Keys of the parties in a role that a call may be about. Raises Refusal (4001)."""
        wanted = self.wanted(call)
        if wanted is not None:
            return [wanted]
        return sorted(
            {
                each.key
                for connection in self._registry.connections()
                if connection.stage != UNREGISTERED
                for each in connection.roles
                if each.role == role
            }
        )
