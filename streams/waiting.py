"""Which payments have waited too long for a capture or a CDR: found when the time passes, without a scan.

A payment that waits lies in the slots of `streams.overdue` by when it began to. A clock event moves the
deadline, and those that it passes, in either direction, are to be concluded again. Whether one is missing
follows from the payment and the newest clock event alone, whichever of them came first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from streams import overdue
from streams.clock import Tick
from streams.table import Shelf, Table


class KeptClock(msgspec.Struct, array_like=True):
    """A partition's time. `swept`: the last slot of `overdue` that was looked through."""

    tick: Tick | None = None
    swept: int = -1

    @property
    def deadline(self) -> int | None:
        """What has been waited for since then or before, in microseconds, is missing."""
        return None if self.tick is None else self.tick.now - self.tick.missing_after


_clock = Shelf(b"n", KeptClock, KeptClock)

Since = Callable[[str], int | None]
"""When a payment began to wait, in microseconds; None: it does not."""


def clock(table: Table) -> KeptClock:
    """What time it is in the partition."""
    return table.find(_clock, "") or KeptClock()


def advance(table: Table, tick: Tick, since: Since) -> Iterator[str]:
    """Take a clock event in; payments for which the passing of time may make a difference."""
    kept = table.read(_clock, "")
    if kept.tick is not None and tick <= kept.tick:
        return
    before = kept.deadline
    kept.tick = tick
    after = kept.deadline
    assert after is not None
    table.write(_clock, "", kept)
    if before == after:
        return
    until = overdue.hour_of(after if before is None else max(before, after))
    first = None if before is None else overdue.hour_of(min(before, after))
    kept.swept = max(kept.swept, until)

    def belongs(key: str) -> int | None:
        moment = since(key)
        return None if moment is None else overdue.hour_of(moment)

    yield from overdue.sweep(table, first, until, belongs)
