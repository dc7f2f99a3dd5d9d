"""Pull: a partner's lists, page by page, through the same door into the log.

For partners that do not push, and for what was missed while one could not be reached (transport_and_format
"Pull and Push", "Offline behaviour"). Each object takes the way of one that was pushed: checked, compared
with what is known, written as an event of its owner, byte for byte. What is known already is not written
again, so it does no harm to ask for too much, and each pull begins a little before the last one ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from api import clock
from api.answers import Refusal
from api.calls import Call
from api.ingress import Ingress
from api.partners import Connection, Partner, Registry
from api.peer import Page, PeerError, Peers, Routing, with_query
from api.routes import ROUTES, Route
from api.vault import SealError, Vault
from api.view import View
from schemas.keys import object_key, party_of
from schemas.ocpi import wire
from schemas.records import micros, moment
from streams import objects
from streams.pulls import DONE, FAILED, RUNNING, Pull

log = logging.getLogger("voltfold.pull")

OWNERS = {
    "locations": ("CPO",),
    "tariffs": ("CPO",),
    "sessions": ("CPO",),
    "cdrs": ("CPO",),
    "tokens": ("EMSP",),
}
"""What can be pulled, and from whom, in an order in which one thing explains the next."""

_OVERLAP = 300 * 1_000_000  # micros before the end of the last pull at which the next one begins
_AT_ONCE = 16  # objects of a page that are written at the same time
_PAGE = 100
_TELL = 2.0  # seconds between two words on how far it has come

Tell = Callable[[Pull], Awaitable[None]]


def modules_of(connection: Connection) -> list[str]:
    """What can be pulled from a platform: what its parties own, where it has a list of it."""
    return [
        module
        for module, roles in OWNERS.items()
        if connection.endpoint(module, "SENDER") and (connection.is_hub or any(map(connection.has, roles)))
    ]


def _routes() -> dict[tuple[str, str], Route]:
    """By version and module: the route by which an object of it would be pushed."""
    return {
        (route.version, route.resource.module): route
        for route in ROUTES
        if route.resource.handler == "objects"
        and route.resource.role == "receiver"
        and route.method == ("POST" if route.resource.module == "cdrs" else "PUT")
        and len(route.ids) < 4
    }


def asked(connection: Connection, module: str) -> list[str]:
    """Whom a list of a module is asked of, one after the other; keys of parties, "" where none is named.

    A hub is asked for all (transport_and_format "GET All via Hubs"); on any other platform each party that
    has such objects, since the routing headers are "addressing the parties, not the platform itself" ("Party
    to Party (without Hub)"). 2.1.1 has no such headers.
    """
    if connection.version == "2.1.1":
        return [""]
    owners = {role.key for role in connection.roles if role.role in OWNERS[module]}
    return sorted(connection.hubs or owners) or [""]


class Puller:
    """Carries out pulls."""

    def __init__(
        self,
        ingress: Ingress,
        view: View,
        registry: Registry,
        peers: Peers,
        vault: Vault,
        party: tuple[str, str],
    ) -> None:
        self._party = party
        self._ingress = ingress
        self._view = view
        self._registry = registry
        self._peers = peers
        self._vault = vault
        self._push = _routes()

    async def run(self, pull: Pull, tell: Tell) -> Pull:
        """Carry out a pull, from where it is; how it ended. `tell` is told how far it has come.

        Raises LogUnavailableError; the pull then goes on where it was told last.
        """
        try:
            partner = self._registry.partner(pull.connection)
            connection = partner.connection if partner else None
            url = connection.endpoint(pull.module, "SENDER") if connection else None
            if partner is None or connection is None or url is None or connection.their_token is None:
                raise LookupError(f"{pull.connection} has no list of {pull.module}, or is not connected")
            token = self._vault.open(connection.their_token)
            first = with_query(url, date_from=pull.since, limit=str(_PAGE))
            if pull.state != RUNNING:
                pull = msgspec.structs.replace(pull, state=RUNNING, began=pull.began or clock.now())
            told = 0.0
            for party in asked(connection, pull.module):
                if pull.party is not None and party < pull.party:
                    continue  # it was asked before we were interrupted
                if pull.party not in (None, party):  # who may tell the same again
                    await self._ingress.catch_up(self._push[connection.version or "", pull.module])
                start = pull.next_url if pull.next_url and pull.party in (None, party) else first
                pull = msgspec.structs.replace(pull, party=party, next_url=start)
                routing = Routing(self._party, party_of(party)) if party else None
                pages = self._peers.pages(start, token, plain=connection.plain_token, routing=routing)
                async for page in pages:
                    pull = await self._take(pull, page, partner)
                    if page.next_url and time.monotonic() - told > _TELL:
                        await tell(pull)
                        told = time.monotonic()
            return self._over(pull, DONE)
        except (PeerError, SealError, LookupError) as error:
            log.warning("the pull of %s from %s failed: %s", pull.module, pull.connection, error)
            return self._over(pull, FAILED, str(error))

    def _over(self, pull: Pull, state: str, error: str | None = None) -> Pull:
        if state == FAILED:
            return msgspec.structs.replace(pull, state=state, error=error, at=clock.now())
        # What changes while pages are read may lie on one that was read before: so not from the newest that
        # was seen, if that is newer than the first page.
        newest = None if pull.newest is None else _stamp(pull.newest)
        reached = min(pull.began, pull.began if newest is None else newest) - _OVERLAP
        return msgspec.structs.replace(
            pull, state=state, party=None, next_url=None, error=None, at=clock.now(), reached=_text(reached)
        )

    async def _take(self, pull: Pull, page: Page, partner: Partner) -> Pull:
        """Take in one page."""
        counts = {"kept": 0, "known": 0, "refused": 0}
        newest = None if pull.newest is None else _stamp(pull.newest)
        began = pull.began if pull.objects else _stamp(page.timestamp) or pull.began
        for start in range(0, len(page.items), _AT_ONCE):
            group = page.items[start : start + _AT_ONCE]
            for what, stamp in await asyncio.gather(*(self._put(pull, item, partner) for item in group)):
                counts[what] += 1
                newest = stamp if newest is None or (stamp is not None and stamp > newest) else newest
        return msgspec.structs.replace(
            pull,
            next_url=page.next_url,
            newest=None if newest is None else _text(newest),
            began=began,
            objects=pull.objects + len(page.items),
            kept=pull.kept + counts["kept"],
            known=pull.known + counts["known"],
            refused=pull.refused + counts["refused"],
            total=page.total,
            at=clock.now(),
        )

    async def _put(self, pull: Pull, item: bytes, partner: Partner) -> tuple[str, int | None]:
        """Take in one object: what became of it, and its last_updated. Raises LogUnavailableError."""
        version = partner.connection.version or ""
        kind = objects.KINDS[pull.module]
        try:
            found = wire.decode(kind, version, item, party=(partner.country_code, partner.party_id))
        except (wire.InvalidObjectError, LookupError) as error:
            log.warning(
                "%s: one of the %s that were pulled is wrong: %s: %.200r",
                pull.connection, pull.module, error, item,
            )  # fmt: skip
            return "refused", None
        stamp = micros(found.last_updated)
        ids = [found.country_code, found.party_id, found.uid if pull.module == "tokens" else found.id]
        if not any(partner.may(role, ids[0], ids[1]) for role in OWNERS[pull.module]):
            log.warning("%s: %s %s is not theirs", pull.connection, pull.module, "*".join(ids))
            return "refused", stamp
        if self._is_known(pull.module, ids, found):
            return "known", stamp
        route = self._push[version, pull.module]
        path = () if pull.module == "cdrs" else tuple(ids)
        call = Call(route, path, partner, f"pull-{pull.run}", pull.run, b"", "", item)
        try:
            answer = await self._ingress.handle(call)
        except (Refusal, wire.InvalidObjectError) as error:
            said = error.answer.message if isinstance(error, Refusal) else str(error)
            log.warning("%s: %s %s: %s", pull.connection, pull.module, "*".join(ids), said)
            return "refused", stamp
        return ("kept" if answer.http in (200, 201) else "refused"), stamp

    def _is_known(self, module: str, ids: list[str], found: Any) -> bool:
        extra = (str(found.type),) if module == "tokens" else ()
        state = self._view.get(module, object_key(*ids, *extra))
        if state is None:
            return False
        known = objects.load(module, state)
        return bool(known == found or (module != "cdrs" and known.last_updated > found.last_updated))


def _stamp(text: str | None) -> int | None:
    """Micros of a DateTime (types "DateTime type"), or None for what is none."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return micros(found if found.tzinfo else found.replace(tzinfo=UTC))


def _text(stamp: int) -> str:
    return f"{moment(stamp):%Y-%m-%dT%H:%M:%S}Z"
