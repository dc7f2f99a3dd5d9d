"""Versions of a thing by event time: which one was in force when, whatever order they arrived in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Version(msgspec.Struct, Generic[T], array_like=True):
    """What a thing was from `since` on; when we received it first and last. All in microseconds."""

    since: int
    first: int
    last: int
    value: T


def add_version(versions: list[Version[T]], since: int, received_at: int, value: T) -> bool:
    """Add one; whether that is news. The outcome depends on the set of those added, not on their order."""
    for known in versions:
        if known.since == since and known.value == value:
            changed = received_at < known.first or received_at > known.last
            known.first, known.last = min(known.first, received_at), max(known.last, received_at)
            return changed
    versions.append(Version(since, received_at, received_at, value))
    return True


def in_force(
    versions: list[Version[T]], moment: int, suits: Callable[[T], bool] = lambda _: True
) -> Version[T] | None:
    """The newest suitable version in force at a moment; of two with one `since`, that received last."""
    found = [one for one in versions if one.since <= moment and suits(one.value)]
    return _last(found, lambda one: (one.since, one.last))


def earliest(versions: list[Version[T]], suits: Callable[[T], bool] = lambda _: True) -> Version[T] | None:
    """The oldest version that suits: for what happened before anything was known."""
    found = [one for one in versions if suits(one.value)]
    return _last(found, lambda one: (-one.since, one.last))


def _last(found: list[Version[T]], order: Callable[[Version[T]], tuple[int, int]]) -> Version[T] | None:
    if len(found) < 2:
        return found[0] if found else None
    top = max(map(order, found))
    same = [one for one in found if order(one) == top]
    return same[0] if len(same) == 1 else max(same, key=lambda one: msgspec.msgpack.encode(one.value))
