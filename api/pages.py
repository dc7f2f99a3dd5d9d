"""Sender interfaces: what we have for a caller, as lists page by page, and a location or a part of one.

Spec: transport_and_format "Pagination", "GET All via Hubs"; the chapters' "Sender Interface".

A list is stable: objects stand in the order in which they came into the log, by its own clock, and one that
is new comes behind all that were ever answered. Since partitions may lie on brokers whose clocks differ a
little, the end of a list is only answered once it is a moment old.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any
from urllib.parse import parse_qs, urlencode

import msgspec

from api.answers import Answer, Refusal, Status, invalid
from api.calls import Call
from api.config import ApiConfig
from api.lists import HUB_CLIENT_INFO, Page, Wanted
from api.parcels import client_info_for
from api.parties import Parties
from api.partners import Registry
from api.view import View
from schemas.keys import object_key
from schemas.ocpi import wire
from schemas.ocpi.objects import DateTime, utc
from schemas.records import micros
from schemas.topics import Topic
from streams import objects
from streams.concerns import ADDRESSED, EVERYBODY, is_for

log = logging.getLogger("voltfold.api")

LARGEST_PAGE = 500
_PAGE_BYTES = 4 << 20  # a page ends with the object that makes it larger
_AT_ONCE = 8  # pages that are put together at the same time; each may hold that much
_SLICE = 16  # objects between two turns of the event loop
_LARGEST = (1 << 63) - 1


class Asked(msgspec.Struct, frozen=True):
    """The query of a list. `since` and `until` in microseconds; `filters` as the caller wrote them."""

    offset: int = 0
    limit: int = LARGEST_PAGE
    since: int | None = None
    until: int | None = None
    filters: tuple[tuple[str, str], ...] = ()


def asked(query: bytes) -> Asked:
    """What a query asks for (transport_and_format "Paginated Request"). Raises Refusal (2001)."""
    found = {
        name: values[-1] for name, values in parse_qs(query.decode("latin-1"), keep_blank_values=True).items()
    }
    filters = tuple((name, found[name]) for name in ("date_from", "date_to") if name in found)
    times = {name: _moment(name, text) for name, text in filters}
    limit = _whole("limit", found.get("limit", str(LARGEST_PAGE)), 1)
    return Asked(
        _whole("offset", found.get("offset", "0"), 0), min(limit, LARGEST_PAGE),
        times.get("date_from"), times.get("date_to"), filters,
    )  # fmt: skip


def _whole(name: str, text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and least <= int(text) <= _LARGEST):
        raise invalid(name, f"{text!r} is no whole number of {least} or more")
    return int(text)


class _Moment(msgspec.Struct):
    value: DateTime

    def __post_init__(self) -> None:
        utc(self, "value", self.value)


def _moment(name: str, text: str) -> int:
    try:
        found = msgspec.convert({"value": text}, _Moment)
    except msgspec.ValidationError:
        raise invalid(name, f"{text!r} is no DateTime in UTC, such as 2026-01-05T08:00:00Z") from None
    return micros(found.value)


class Pages:
    """Answers GET on sender interfaces."""

    def __init__(self, config: ApiConfig, view: View, registry: Registry) -> None:
        self._topics: dict[str, Topic] = {
            **{name: getattr(config.topics, name) for name in ("locations", "tariffs", "tokens", "sessions")},
            "cdrs": config.topics.sessions,
            HUB_CLIENT_INFO: config.topics.client_info,
            "terminals": config.topics.terminals,
            "confirmations": config.topics.payments,
            "invoicereconciliation": config.topics.ledger,
        }
        self._settle = config.settle
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._view = view
        self._parties = Parties(registry, config.party)

    async def page(self, call: Call) -> Answer:
        """A page of a list. Raises Refusal."""
        question = asked(call.query)
        wanted = self._wanted(call, question)
        page = await self._find(wanted, question)
        async with self._turns:
            data, count = await self._read(call, wanted, page.keys)
        headers = [(b"x-total-count", b"%d" % page.total), (b"x-limit", b"%d" % question.limit)]
        after = question.offset + count
        if count and after < page.total:
            query = urlencode([*question.filters, ("offset", after), ("limit", question.limit)])
            headers.append((b"link", f'<{call.base_url}{call.route.path}?{query}>; rel="next"'.encode()))
        return Answer(200, Status.SUCCESS, "Success", data, tuple(headers))

    def _wanted(self, call: Call, question: Asked) -> Wanted:
        """The list that a caller may see. What belongs to parties on its own platform is not told it."""
        module, partner = call.route.resource.kept, call.partner
        own = tuple(sorted({role.key for role in partner.connection.roles}))
        since, until = question.since, question.until
        if module == HUB_CLIENT_INFO:  # a configuration module, which knows no routing
            return Wanted(module, (EVERYBODY,), since, until, without=own)
        parties = self._parties.behind(call, call.route.resource.callers)
        owner = self._parties.wanted(call)
        if module in ("sessions", "cdrs") or module in ADDRESSED:
            return Wanted(module, tuple(sorted(parties)), since, until, owner)
        return Wanted(module, (EVERYBODY,), since, until, owner, own, tuple(sorted(parties)))

    async def _find(self, wanted: Wanted, question: Asked) -> Page:
        partitions = self._view.partitions(self._topics[wanted.module])
        lists = self._view.lists
        await self._view.catch_up(partitions)
        newest = lists.newest(wanted)
        if newest is None:
            return await lists.page(wanted, question.offset, question.limit)
        created, learned = newest
        page = await lists.page(
            wanted, question.offset, question.limit, created - int(self._settle * 1_000_000)
        )
        if question.offset + question.limit < page.total:
            # Of those that are not settled yet, only the order may change: a total never goes back.
            return page._replace(total=(await lists.page(wanted, 0, 0, created)).total)
        # The end is in sight. What comes now could be a little older than the newest that is there.
        wait = learned + self._settle - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
            await self._view.catch_up(partitions)
        return await lists.page(wanted, question.offset, question.limit, created)

    async def _read(self, call: Call, wanted: Wanted, keys: list[str]) -> tuple[bytes, int]:
        """The objects of a page as JSON, and how many of its keys they stand for."""
        parts: list[bytes] = []
        size = 0
        for number, key in enumerate(keys, 1):
            state = self._view.get(wanted.module, key)
            if state is not None and wanted.has(objects.head(state).concerns):
                try:
                    parts.append(self._said(call, wanted.module, state))
                    size += len(parts[-1])
                except (ValueError, ArithmeticError) as error:  # what a version cannot say
                    log.warning("%s %s cannot be said in %s: %s", wanted.module, key, call.version, error)
            if size > _PAGE_BYTES:
                return b"[%s]" % b",".join(parts), number
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        return b"[%s]" % b",".join(parts), len(keys)

    def _said(self, call: Call, module: str, state: bytes) -> bytes:
        """An object in the version of the call."""
        kind = objects.KINDS[module]
        if call.version == "2.3.0" and module != HUB_CLIENT_INFO:
            return objects.body(state)
        found: Any = objects.load(module, state)
        if module == HUB_CLIENT_INFO:
            found = client_info_for(call.partner.connection, call.version, found)
        place = self._view.place(module, found) if call.version == "2.1.1" else None
        return wire.encode(kind, call.version, found, place=place)

    async def get(self, call: Call) -> Answer:
        """A location, EVSE or connector (mod_locations "GET Object"). Raises Refusal.

        The URL does not tell whose location it is. Where several operators have one with this id, the
        OCPI-to headers have to.
        """
        parties = self._parties.behind(call, call.route.resource.callers)
        owners = self._parties.owners(call, "CPO")
        await self._view.catch_up(self._view.partitions(self._topics[call.module]))
        found = []
        for owner in owners:
            state = self._view.get(call.module, object_key(*owner.split("*", 1), call.ids[0]))
            if state is not None and is_for(objects.head(state).concerns, parties):
                found.append((owner, state))
        if len(found) > 1:
            raise Refusal(
                200,
                Status.NOT_ENOUGH_INFORMATION,
                f"{' and '.join(owner for owner, _ in found)} have a location {call.ids[0]}: "
                "say which one by OCPI-to-country-code and OCPI-to-party-id",
            )
        part = objects.part(objects.load(call.module, found[0][1]), call.ids[1:]) if found else None
        if part is None:
            resource = call.route.resource
            raise Refusal(404, resource.unknown, f"Unknown {resource.title}: {'/'.join(call.ids)}")
        return Answer(
            200, Status.SUCCESS, "Success", wire.encode(call.route.resource.kind, call.version, part)
        )
