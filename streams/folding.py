"""What a fold is: the seam between the pure core and whatever runs it, live or in a replay.

A fold is handed a batch of one partition's records in log order and a way to read its own state, and answers
with what changes: states to keep and records to write. It never writes itself, knows no clock and no network;
the same records in the same order give the same answer, however they are cut into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

Get = Callable[[bytes], bytes | None]
"""Reads one state by key; None when there is none."""


Gauges = Callable[[Get], Mapping[str, int]]
"""Reads from a partition's states what is known of it as a whole."""


class Fact(NamedTuple):
    """One record of the log, as Kafka holds it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class Output(NamedTuple):
    """One record to write: the topic's full name, the key (which chooses the partition), the bytes."""

    topic: str
    key: bytes
    value: bytes | None


class Folded(NamedTuple):
    """What a batch changed: the last value of each state (None: gone), and every output in order.

    `counts` is for metrics alone: how often something happened that somebody may want to watch.
    """

    changes: dict[bytes, bytes | None]
    outputs: list[Output]
    counts: Mapping[str, int] = MappingProxyType({})


class Fold(Protocol):
    """Folds batches. Never raises for what a record holds: what cannot be folded goes to quarantine."""

    def __call__(self, facts: Sequence[Fact], get: Get) -> Folded: ...
