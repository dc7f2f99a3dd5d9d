"""What is still to be delivered, and what became of what was: in the courier's own view, in one RocksDB.

A mark is set in the same write that moves the view past the event that caused it, so a courier that is
killed has lost neither. An outcome is in the log (topic `outbound`) before its mark is taken away; a store
that is new reads them from there, so what was delivered is not delivered again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from rocksdict import Rdict, WriteBatch

from streams.deliveries import Mark, identity_key, mark_of, queue_key, queue_of

# In front of keys in the store; a view's own begin otherwise.
_QUEUE = b"\x01Q"  # by when it changed first
_PLACE = b"\x01P"  # by what it is: since when it is marked
_OUTCOME = b"\x01O"
_POSITION = b"\x01N"  # how far the topic `outbound` has been read


class Known(msgspec.Struct, array_like=True, frozen=True):
    """What became of an object for a platform: the outcome, and the digest of what was sent."""

    outcome: str
    digest: bytes


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Known).decode


class Outbox:
    """Marks and outcomes. `store`: the view's database, asked for each time, as the view may replace it.

    Marks are changed within somebody else's write (`mark`) or one of their own (`done`), all on one thread.
    """

    def __init__(self, store: Callable[[], Rdict]) -> None:
        self._store = store
        self._fresh: dict[bytes, int] = {}  # places in a batch that is not written yet
        # What is being sent now; a change meanwhile is noted, lest the mark be taken away with the old state.
        self._under_way: dict[bytes, int | None] = {}

    # Marks

    def mark(self, writes: WriteBatch, mark: Mark) -> None:
        """Set a mark within a batch; one that is there already keeps its place. Call `written` after it."""
        place = _PLACE + identity_key(*mark.identity)
        if place in self._under_way:
            if self._under_way[place] is None:
                self._under_way[place] = mark.since
            return
        if place in self._fresh or self._store().get(place) is not None:
            return
        self._fresh[place] = mark.since
        writes.put(place, mark.since.to_bytes(8, "big"))
        writes.put(_QUEUE + queue_key(mark), b"")

    def written(self) -> None:
        """The batch is in the store."""
        self._fresh.clear()

    def mark_now(self, mark: Mark) -> None:
        """Set a mark at once."""
        writes = WriteBatch(raw_mode=True)
        self.mark(writes, mark)
        self._store().write(writes)
        self.written()

    def marks(self, connection: str, after: Mark | None = None) -> Iterator[Mark]:
        """A platform's marks, those that changed first in front."""
        prefix = _QUEUE + queue_of(connection)
        start = prefix if after is None else _QUEUE + queue_key(after) + b"\x00"
        for key in self._keys(start):
            if not key.startswith(prefix):
                return
            yield mark_of(key[len(_QUEUE) :])

    def connections(self) -> set[str]:
        """Those for which there are marks."""
        found: set[str] = set()
        start = _QUEUE
        while (key := next(self._keys(start), b"")).startswith(_QUEUE):
            connection = mark_of(key[len(_QUEUE) :]).connection
            found.add(connection)
            start = _QUEUE + queue_of(connection)[:-1] + b"\x01"
        return found

    def _keys(self, start: bytes) -> Iterator[bytes]:
        found: Any = self._store().keys(from_key=start)
        yield from found

    def begin(self, mark: Mark) -> None:
        """From here on its object is read and sent: what changes it now is marked anew."""
        self._under_way[_PLACE + identity_key(*mark.identity)] = None

    def abandon(self, mark: Mark) -> None:
        """It was not delivered, and stays marked as it is."""
        self._under_way.pop(_PLACE + identity_key(*mark.identity), None)

    def done(self, mark: Mark, known: Known | None) -> None:
        """Take a mark away, unless its object changed meanwhile, and keep what became of it."""
        place = _PLACE + identity_key(*mark.identity)
        changed = self._under_way.pop(place, None)
        writes = WriteBatch(raw_mode=True)
        writes.delete(_QUEUE + queue_key(mark))
        if changed is None:
            writes.delete(place)
        else:
            again = Mark(mark.connection, max(changed, mark.since + 1), mark.module, mark.key)
            writes.put(place, again.since.to_bytes(8, "big"))
            writes.put(_QUEUE + queue_key(again), b"")
        if known is not None:
            writes.put(_OUTCOME + identity_key(*mark.identity), _pack(known))
        self._store().write(writes)

    def forget(self, connection: str) -> None:
        """Take all marks of a platform away: nothing is sent to it any more."""
        store = self._store()
        writes = WriteBatch(raw_mode=True)
        for mark in self.marks(connection):
            writes.delete(_QUEUE + queue_key(mark))
            writes.delete(_PLACE + identity_key(*mark.identity))
        store.write(writes)

    # Outcomes

    def known(self, mark: Mark) -> Known | None:
        """What became of an object for a platform before."""
        found: bytes | None = self._store().get(_OUTCOME + identity_key(*mark.identity))
        return None if found is None else _unpack(found)

    def learn(self, identity: tuple[str, str, str], known: Known | None, position: tuple[str, int]) -> None:
        """Take in what the log says became of an object (None: forget it), and how far it was read."""
        writes = WriteBatch(raw_mode=True)
        key = _OUTCOME + identity_key(*identity)
        if known is None:
            writes.delete(key)
        else:
            writes.put(key, _pack(known))
        writes.put(_POSITION + position[0].encode(), position[1].to_bytes(8, "big"))
        self._store().write(writes)

    def position(self, partition: str) -> int:
        """How far a partition of the outbound topic has been read."""
        found: bytes | None = self._store().get(_POSITION + partition.encode())
        return 0 if found is None else int.from_bytes(found, "big")
