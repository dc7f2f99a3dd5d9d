"""Which objects a list holds, in which order: an index in the view's own store, and counts over it.

An object stands in the list of its module of whom it concerns (`streams.concerns`), or of everybody, and
then perhaps with the names of those whom alone it is for. The order is that in which objects were created, by
when their first event came into the log, then by key: the same at every API process, and new objects come at
the end (transport_and_format "Paginated Response"). The index holds what lists are filtered by,
`last_updated` and such names, so an object is read only when it is answered.

A `Query` is one list with its filters. It is counted once, in slices between which others are served, and
from then on kept up with every change until nobody has asked for a while. So a page costs what is on it,
however far down it is.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple

import msgspec
from rocksdict import Rdict, WriteBatch

from api.blocks import Blocks
from streams.concerns import BROADCAST, EVERYBODY, is_for
from streams.objects import Head, head

HUB_CLIENT_INFO = "hubclientinfo"
LISTED = {
    "sessions": b"S",
    "cdrs": b"C",
    "tariffs": b"T",
    "locations": b"L",
    "tokens": b"K",
    HUB_CLIENT_INFO: b"H",
    "terminals": b"M",
    "confirmations": b"F",
    "invoicereconciliation": b"I",
}
"""Modules with lists, and what stands for each in the index."""

_INDEX = b"\x02"  # in front of keys in the store; a view's own begin otherwise
_BETWEEN = b"\x00"  # in no identifier: those are printable
_FOR_EVER = 1 << 62  # microseconds
_SLICE = 1000  # entries between two turns of the event loop
_KEPT = 64  # queries
_IDLE = 60.0  # seconds without a question, after which a query is kept no longer


class Wanted(msgspec.Struct, frozen=True):
    """What a list is to hold: of a module, what concerns any of these (`streams.concerns`).

    Of that, what was updated from `since` on and before `until` (microseconds), of this owner alone, and not
    of those `without` which it is (keys of parties). What was only ever pushed to receivers by name has to
    be for one of those `named`.
    """

    module: str
    concerning: tuple[str, ...]
    since: int | None = None
    until: int | None = None
    owner: str | None = None
    without: tuple[str, ...] = ()
    named: tuple[str, ...] = ()

    def has(self, concerns: str) -> bool:
        """Whether an object is wanted as far as this decides, whom it concerns."""
        if self.module in BROADCAST:
            return EVERYBODY in self.concerning and is_for(concerns, self.named)
        return concerns in self.concerning


class Page(NamedTuple):
    """Keys of the objects on a page, and how many match in all."""

    keys: list[str]
    total: int


class _Entry(NamedTuple):
    """An object in the index: in which list, since when (microseconds), and what the list is filtered by."""

    prefix: bytes
    created: int
    stamp: bytes


class _Change(NamedTuple):
    """An entry of the index that came (`before` is None), went (`after` is None) or was updated."""

    prefix: bytes
    position: bytes
    before: bytes | None
    after: bytes | None


class Query:
    """One list, counted."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.prefixes = prefixes(wanted)
        self.blocks = Blocks()
        self.counting: asyncio.Task[None] | None = None
        self.used = 0.0
        self._since = _number(wanted.since) if wanted.since is not None else b""
        self._until = _number(wanted.until) if wanted.until is not None else None
        self._owner = None if wanted.owner is None else wanted.owner.encode() + b"*"
        self._without = tuple(party.encode() + b"*" for party in wanted.without)
        self._named = frozenset(party.encode() for party in wanted.named)
        # Changes since counting began, while it lasts; None before and after.
        self._later: list[_Change] | None = None
        self._counted = False

    def matches(self, position: bytes, stamp: bytes) -> bool:
        """Whether an entry of the index is wanted."""
        if stamp < self._since or (self._until is not None and stamp >= self._until):
            return False
        if self._owner is not None and not position.startswith(self._owner, 8):
            return False
        if self._without and position.startswith(self._without, 8):
            return False
        return len(stamp) == 8 or not self._named.isdisjoint(stamp[8:].split())

    async def count(self, entries: Iterator[tuple[bytes, bytes]]) -> None:
        """Count all entries as they are now."""
        self._later = []
        for number, (position, stamp) in enumerate(entries, 1):
            if self.matches(position, stamp):
                self.blocks.add(position)
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        later, self._later, self._counted = self._later, None, True
        for change in later:
            self.keep_up(change)

    def keep_up(self, change: _Change) -> None:
        """Take in a change."""
        if self._later is not None:
            self._later.append(change)
        elif self._counted:
            was = change.before is not None and self.matches(change.position, change.before)
            is_ = change.after is not None and self.matches(change.position, change.after)
            if is_ and not was:
                self.blocks.add(change.position)
            elif was and not is_:
                self.blocks.remove(change.position)


class Lists:
    """The index, and the queries over it. `store`: the view's database, asked for each time."""

    def __init__(self, store: Callable[[], Rdict]) -> None:
        self._store = store
        self._changes: list[_Change] = []
        self._queries: dict[Wanted, Query] = {}
        self._by_prefix: defaultdict[bytes, list[Query]] = defaultdict(list)
        self._newest: dict[bytes, tuple[int, float]] = {}
        self._turn = asyncio.Lock()
        self._looked = 0.0

    # What changes

    def begin(self) -> None:
        """A new batch; what was told of one that was never written is forgotten."""
        self._changes.clear()

    def changed(
        self, module: str, key: str, old: bytes | None, new: bytes | None, writes: WriteBatch
    ) -> None:
        """Keep the index in step with a state, in the same write. Call `written` after it."""
        before = None if old is None else _entry(module, head(old))
        after = None if new is None else _entry(module, head(new))
        if before and after and before[:2] == after[:2]:
            if before.stamp != after.stamp:
                self._put(key, before, after, writes)
            return
        if before:
            self._put(key, before, None, writes)
        if after:
            self._put(key, None, after, writes)
            known = self._newest.get(after.prefix)
            if known is None or after.created > known[0]:
                self._newest[after.prefix] = (after.created, time.monotonic())

    def _put(self, key: str, before: _Entry | None, after: _Entry | None, writes: WriteBatch) -> None:
        there = before or after
        assert there is not None
        position = _number(there.created) + key.encode()
        if after is None:
            writes.delete(there.prefix + position)
        else:
            writes.put(there.prefix + position, after.stamp)
        if self._queries:
            was, stamp = (None if one is None else one.stamp for one in (before, after))
            self._changes.append(_Change(there.prefix, position, was, stamp))

    def written(self) -> None:
        """The changes told of are in the store."""
        if self._queries:
            for change in self._changes:
                for query in self._by_prefix.get(change.prefix, ()):
                    query.keep_up(change)
            self._forget_idle()
        self._changes.clear()

    def restart(self) -> None:
        """The store is another one now."""
        self._queries.clear()
        self._by_prefix.clear()
        self._newest.clear()

    # Reading

    def newest(self, wanted: Wanted) -> tuple[int, float] | None:
        """When the last object was created that may be wanted, in micros, and when we learned of it, as
        `time.monotonic` has it. None: there was none since the start.
        """
        known = [self._newest.get(prefix) for prefix in prefixes(wanted)]
        return max((one for one in known if one), default=None)

    async def page(self, wanted: Wanted, offset: int, limit: int, until: int = _FOR_EVER) -> Page:
        """A page of a list: `limit` objects at the most, from the one at `offset` on.

        Objects created after `until` (micros) are not in it yet.
        """
        query = await self._query(wanted)
        end = _number(until + 1)
        blocks = query.blocks
        # All that is read is read as it is now, though the reading takes its time.
        total, rest = blocks.up_to(end)
        if blocks.exact:
            return Page(
                [
                    position[8:].decode()
                    for position in blocks.known(offset, min(limit, max(0, total - offset)))
                ],
                total,
            )
        uncounted = self._entries(query, rest)
        start, skip = blocks.find(offset)
        entries = self._entries(query, start)
        async for position, stamp in _in_slices(uncounted):
            if position >= end:
                break
            total += query.matches(position, stamp)
        keys: list[str] = []
        if limit:
            async for position, stamp in _in_slices(entries):
                if position >= end:
                    break
                if query.matches(position, stamp):
                    if skip:
                        skip -= 1
                        continue
                    keys.append(position[8:].decode())
                    if len(keys) == limit:
                        break
        return Page(keys, total)

    async def _query(self, wanted: Wanted) -> Query:
        self._forget_idle()
        query = self._queries.get(wanted)
        if query is None:
            query = self._queries[wanted] = Query(wanted)
            for prefix in query.prefixes:
                self._by_prefix[prefix].append(query)
            query.counting = asyncio.create_task(self._count(query))
        query.used = time.monotonic()
        if query.counting is not None:
            await asyncio.shield(query.counting)
        return query

    async def _count(self, query: Query) -> None:
        try:
            async with self._turn:  # one at a time, lest many at once leave nobody else a turn
                await query.count(self._entries(query, b""))
            query.counting = None
        except BaseException:
            self._drop(query)
            raise

    def _entries(self, query: Query, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Positions and last_updated of all entries from a position on, as they are now."""
        store = self._store()
        found: list[Iterator[tuple[bytes, bytes]]] = []
        for prefix in query.prefixes:
            items: Any = store.items(from_key=prefix + start)  # a snapshot, taken here
            found.append(_without_prefix(items, prefix))
        return found[0] if len(found) == 1 else heapq.merge(*found)

    def _forget_idle(self) -> None:
        now = time.monotonic()
        if now - self._looked < 1.0 and len(self._queries) <= _KEPT:
            return
        self._looked = now
        idle = sorted(
            (query for query in self._queries.values() if query.counting is None),
            key=lambda query: query.used,
        )
        surplus = len(self._queries) - _KEPT
        for number, query in enumerate(idle):
            if number < surplus or now - query.used > _IDLE:
                self._drop(query)

    def _drop(self, query: Query) -> None:
        if self._queries.get(query.wanted) is query:
            del self._queries[query.wanted]
            for prefix in query.prefixes:
                self._by_prefix[prefix].remove(query)
                if not self._by_prefix[prefix]:
                    del self._by_prefix[prefix]


def prefixes(wanted: Wanted) -> tuple[bytes, ...]:
    """What the entries of a list begin with in the index."""
    return tuple(_prefix(wanted.module, party) for party in wanted.concerning)


@lru_cache(4096)
def _prefix(module: str, party: str) -> bytes:
    return _INDEX + LISTED[module] + party.encode() + _BETWEEN


def _entry(module: str, there: Head) -> _Entry:
    """Its stamp is last_updated, and behind it the names of those whom alone it is for."""
    party, names = (EVERYBODY, there.concerns.encode()) if module in BROADCAST else (there.concerns, b"")
    return _Entry(_prefix(module, party), there.created, _number(there.last_updated) + names)


def _number(micros: int) -> bytes:
    """Bytes that sort as microseconds do, those before 1970 in front."""
    return _pack(micros + _OFFSET)


_pack = Struct(">Q").pack
_OFFSET = 1 << 63


def _without_prefix(items: Iterator[tuple[bytes, bytes]], prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    length = len(prefix)
    for key, value in items:
        if not key.startswith(prefix):
            return
        yield key[length:], value


async def _in_slices(entries: Iterator[tuple[bytes, bytes]]) -> Any:
    """The same, with a turn for others now and then."""
    for number, entry in enumerate(entries, 1):
        yield entry
        if number % _SLICE == 0:
            await asyncio.sleep(0)
