"""A fold's view of its own state during one batch: typed, each state decoded once and encoded once.

Decoded, a state takes ten times the memory. A fold of many keys calls `relax` between two of its steps: when
too many are held, what changed is encoded and all are let go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from streams.folding import Get

T = TypeVar("T")
L = TypeVar("L")
_GONE: Any = object()
MOST_HELD = 2_000

_encode = msgspec.msgpack.Encoder().encode


class Shelf(Generic[T]):
    """States of one type, under keys that start with one byte of their own."""

    def __init__(self, prefix: bytes, kind: type[T], new: Callable[[], T]) -> None:
        self.prefix = prefix
        self.decode = msgspec.msgpack.Decoder(kind).decode
        self.new = new


class Table:
    """Reads through `get`, keeps what was read and changed; `changes()` is what must be written."""

    def __init__(self, get: Get, most_held: int = MOST_HELD) -> None:
        self._source = get
        self._most_held = most_held
        self._held: dict[bytes, Any] = {}
        self._unsettled: dict[bytes, None] = {}  # names of held states that changed
        self._settled: dict[bytes, bytes | None] = {}  # what changed, in the order of first changes

    def read(self, shelf: Shelf[T], key: str) -> T:
        """A state, or a new one when there is none. Changes to it count once `write` names it."""
        found = self._read(shelf, key)
        if found is None:
            found = self._held[shelf.prefix + key.encode()] = shelf.new()
        return found

    def find(self, shelf: Shelf[T], key: str) -> T | None:
        """A state, or None."""
        return self._read(shelf, key)

    def glance(self, shelf: Shelf[T], key: str, decode: Callable[[bytes], L]) -> T | L | None:
        """A state, or what another decoder reads of it: for a look at many, which are not held."""
        name = shelf.prefix + key.encode()
        held: T | None = self._held.get(name)
        if held is None:
            data = self._get(name)
            return None if data is None else decode(data)
        return None if held is _GONE else held

    def remove(self, shelf: Shelf[T], key: str) -> None:
        """There is no such state from here on."""
        name = shelf.prefix + key.encode()
        self._held[name] = _GONE
        self._unsettled[name] = None

    def write(self, shelf: Shelf[T], key: str, state: T) -> None:
        """This state must be kept as it is at the batch's end."""
        name = shelf.prefix + key.encode()
        self._held[name] = state
        self._unsettled[name] = None

    def _read(self, shelf: Shelf[T], key: str) -> T | None:
        name = shelf.prefix + key.encode()
        held: T | None = self._held.get(name)
        if held is None:
            data = self._get(name)
            if data is None:
                return None
            held = self._held[name] = shelf.decode(data)
        return None if held is _GONE else held

    def _get(self, name: bytes) -> bytes | None:
        return self._settled[name] if name in self._settled else self._source(name)

    def relax(self) -> None:
        """Let go of decoded states if there are many. None that was read before may be used afterwards."""
        if len(self._held) > self._most_held:
            self._settle()
            self._held.clear()

    def _settle(self) -> None:
        held = self._held
        for name in self._unsettled:
            self._settled[name] = None if (one := held[name]) is _GONE else _encode(one)
        self._unsettled.clear()

    def changes(self) -> dict[bytes, bytes | None]:
        """Encoded states by key, None for one that is gone, in the order of their first change."""
        self._settle()
        return self._settled
