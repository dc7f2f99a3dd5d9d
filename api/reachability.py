"""Who can be reached: an event for each party whenever that changes, for all who ask or are told.

Spec: mod_hub_client_info. Our own ground for it is what became of the requests to a platform (`api.lane`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from api import clock
from api.lane import Lane
from api.lists import HUB_CLIENT_INFO
from api.log import LogUnavailableError
from api.outbox import Outbox
from api.parcels import addressee
from api.partners import INVITED, REGISTERED, UNREGISTERED, Connection, Registry
from api.view import View
from api.voice import Voice
from schemas.keys import object_key
from schemas.ocpi import wire
from schemas.ocpi.platforms import ClientInfo, ConnectionStatus
from schemas.records import moment
from schemas.topics import Topic
from streams import objects
from streams.deliveries import Mark, digest


class Reachability:
    """Tells of it. `topic`: that of client info; `lanes`: the ways to platforms, as they are at any time."""

    def __init__(
        self,
        topic: Topic,
        view: View,
        registry: Registry,
        outbox: Outbox,
        voice: Voice,
        lanes: Mapping[str, Lane],
    ) -> None:
        self._topic = topic
        self._view = view
        self._registry = registry
        self._outbox = outbox
        self._voice = voice
        self._lanes = lanes

    def introduce(self, connection: Connection) -> None:
        """Tell a platform who can be reached, as far as it was not told before.

        mod_hub_client_info "Push model" is about changes; without this, a platform that comes later would
        have to ask who was there before it.
        """
        if connection.endpoint(HUB_CLIENT_INFO, "RECEIVER") is None:
            return
        for key, state in list(self._view.states(HUB_CLIENT_INFO)):
            info = objects.load(HUB_CLIENT_INFO, state)
            if (
                info.status == ConnectionStatus.SUSPENDED
                or addressee(connection, HUB_CLIENT_INFO, info) is None
            ):
                continue
            mark = Mark(connection.id, clock.now(), HUB_CLIENT_INFO, key)
            known = self._outbox.known(mark)
            if known is None or known.digest != digest(objects.body(state)):
                self._outbox.mark_now(mark)

    async def publish(self) -> None:
        """Write whether each party can be reached, where that changed (mod_hub_client_info)."""
        for status, role in self._statuses():
            key = object_key(role.country_code, role.party_id, role.role)
            state = self._view.get(HUB_CLIENT_INFO, key)
            if state is not None and objects.load(HUB_CLIENT_INFO, state).status == status:
                continue
            now = clock.now()
            info = ClientInfo(
                party_id=role.party_id,
                country_code=role.country_code,
                role=role.role,
                status=status,
                last_updated=moment(now - now % 1000),
            )
            body = wire.encode("client_info", "2.3.0", info)
            path = [role.country_code, role.party_id, str(role.role)]
            event = self._voice.event(HUB_CLIENT_INFO, key, path, body)
            with contextlib.suppress(LogUnavailableError):
                await self._voice.say(self._topic, event)
                await self._view.catch_up(self._view.partitions(self._topic))

    def _statuses(self) -> list[tuple[ConnectionStatus, Any]]:
        """Status and role of every party; of one that is on several platforms, the best."""
        best: dict[str, tuple[ConnectionStatus, Any]] = {}
        order = (
            ConnectionStatus.CONNECTED, ConnectionStatus.OFFLINE, ConnectionStatus.PLANNED,
            ConnectionStatus.SUSPENDED,
        )  # fmt: skip
        for connection in self._registry.connections():
            status = self._status(connection)
            if status is None:
                continue
            if connection.has("HUB"):
                continue  # 2.3.0 has no such role (types "Role"), and of those behind it a hub tells itself
            for role in connection.roles:
                key = object_key(role.country_code, role.party_id, role.role)
                if key not in best or order.index(status) < order.index(best[key][0]):
                    best[key] = (status, role)
        return list(best.values())

    def _status(self, connection: Connection) -> ConnectionStatus | None:
        if connection.stage == REGISTERED:
            lane = self._lanes.get(connection.id)
            if lane is None or not lane.known:
                return None  # not tried yet since the start
            return ConnectionStatus.OFFLINE if lane.circuit.is_open else ConnectionStatus.CONNECTED
        if connection.stage == UNREGISTERED:
            return ConnectionStatus.SUSPENDED
        return ConnectionStatus.PLANNED if connection.stage == INVITED else None
