"""Hub client info, receiver interface: another hub tells us whether its parties can be reached.

Spec: mod_hub_client_info "Receiver Interface". It is a configuration module, which knows no routing. What a
hub says of a party that is connected to ourselves is refused: we know better.
"""

from __future__ import annotations

import logging
from typing import Any

from api import clock
from api.answers import Answer, Refusal, Status, invalid
from api.calls import Call
from api.config import ApiConfig
from api.lists import HUB_CLIENT_INFO
from api.log import Log
from api.metrics import refused
from api.parcels import client_info_for
from api.partners import ROLES, CredentialsRole, Registry, connection_event
from api.view import View
from schemas.keys import object_key
from schemas.ocpi import wire
from schemas.ocpi.platforms import ConnectionStatus
from schemas.records import Event, event_id, micros
from streams import objects

log = logging.getLogger("voltfold.api")

_ATTEMPTS = 5


class ClientInfos:
    """Reads and writes of single client infos."""

    def __init__(self, config: ApiConfig, log_: Log, view: View, registry: Registry) -> None:
        self._topic = config.topics.client_info
        self._parties = view.partition(config.topics.parties, "")
        self._log = log_
        self._view = view
        self._registry = registry

    async def handle(self, call: Call) -> Answer:
        """GET or PUT. Raises Refusal, wire.InvalidObjectError, LogUnavailableError."""
        if not call.partner.connection.is_hub:
            refused(HUB_CLIENT_INFO, "role")
            raise Refusal(404, Status.CLIENT_ERROR, f"Not found: {HUB_CLIENT_INFO} is told by hubs")
        return await (self._put(call) if call.method == "PUT" else self._get(call))

    async def _get(self, call: Call) -> Answer:
        await self._view.catch_up(self._view.partitions(self._topic))
        for role in ROLES:
            state = self._view.get(HUB_CLIENT_INFO, object_key(*call.ids, role))
            if state is not None:
                known = objects.load(HUB_CLIENT_INFO, state)
                told = client_info_for(call.partner.connection, call.version, known)
                data = wire.encode("client_info", call.version, told)
                return Answer(200, Status.SUCCESS, "Success", data)
        raise Refusal(404, Status.CLIENT_ERROR, f"Unknown ClientInfo: {'/'.join(call.ids)}")

    async def _put(self, call: Call) -> Answer:
        new: Any = wire.decode("client_info", call.version, call.body)
        for field, said in zip(("country_code", "party_id"), call.ids, strict=True):
            if getattr(new, field).upper() != said.upper():
                raise invalid(field, f"{getattr(new, field)!r} in the body, {said!r} in the URL")
        ours = self._registry.by_party(new.country_code, new.party_id)
        if ours is not None and ours.id != call.partner.connection.id:
            refused(HUB_CLIENT_INFO, "party")
            raise invalid("party_id", f"{'*'.join(call.ids)} is connected here itself, not by your hub")
        key = object_key(new.country_code, new.party_id, new.role)
        state = self._view.get(HUB_CLIENT_INFO, key)
        body, path = call.body, [new.country_code, new.party_id, str(new.role)]
        sender = call.partner.key
        event = Event(
            id=event_id(sender, HUB_CLIENT_INFO, "PUT", path, body),
            received_at=clock.now(),
            sender=sender,
            version=call.version,
            module=HUB_CLIENT_INFO,
            method="PUT",
            key=key,
            path=path,
            request_id=call.request_id,
            correlation_id=call.correlation_id,
            body=body,
        )
        await self._log.append(self._view.partition(self._topic, key), key.encode(), event.encode())
        if state is None or objects.last_updated(state) <= micros(new.last_updated):
            await self._reach_through(call, new)
        if state is None:
            return Answer(201, Status.SUCCESS, "Success")
        if objects.last_updated(state) > micros(new.last_updated):
            return Answer(200, Status.SUCCESS, "Success: a newer last_updated is already known, which stays")
        return Answer(200, Status.SUCCESS, "Success")

    async def _reach_through(self, call: Call, new: Any) -> None:
        """Note that a party is, or no longer is, behind the hub: it may push for it, and is asked for it.

        In 2.2.1 a hub's credentials name itself alone, and this is how it tells of the others (2.2.1
        credentials "Credentials object").
        """
        told = CredentialsRole(str(new.role), new.country_code.upper(), new.party_id.upper())
        if told.role == "HUB":
            return
        there = new.status in (ConnectionStatus.CONNECTED, ConnectionStatus.OFFLINE)
        for _ in range(_ATTEMPTS):
            hub = self._registry.get(call.partner.connection.id)
            if hub is None or not hub.is_hub:
                return
            others = tuple(one for one in hub.roles if (one.role, one.key) != (told.role, told.key))
            if (len(others) < len(hub.roles)) is there:
                return
            event = connection_event(
                hub.but(roles=(*others, told) if there else others), sender=call.partner.key
            )
            event.request_id, event.correlation_id = call.request_id, call.correlation_id
            offset = await self._log.append(self._parties, event.key.encode(), event.encode())
            await self._view.reach(self._parties, offset + 1)  # another may have been first: then once more
