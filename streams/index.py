"""Which sessions a reference matters to: by reference and day of start, in chunks that stay small.

So a tariff that arrives late finds the sessions that it re-prices without a scan, and a new session adds
itself with one small write.
"""

from __future__ import annotations

from collections.abc import Iterator

from streams.table import Shelf, Table

_DAY = 86_400_000_000
_CHUNK = 32

_days: Shelf[dict[int, int]] = Shelf(b"d", dict[int, int], dict)  # day -> sessions on it
_chunks: Shelf[list[str]] = Shelf(b"i", list[str], list)


def add(table: Table, reference: str, started_at: int, session: str) -> None:
    """Note that a session which started then depends on a reference. The caller adds each once."""
    day = started_at // _DAY
    days = table.read(_days, reference)
    count = days.get(day, 0)
    days[day] = count + 1
    table.write(_days, reference, days)
    name = f"{reference}\0{day}\0{count // _CHUNK}"
    chunk = table.read(_chunks, name)
    chunk.append(session)
    table.write(_chunks, name, chunk)


def dependents(table: Table, reference: str, since: int | None) -> Iterator[str]:
    """Sessions that depend on a reference and start on the day of `since` or later; None: all of them."""
    days = table.find(_days, reference) or {}
    for day in sorted(days):
        if since is None or day >= since // _DAY:
            for number in range(-(-days[day] // _CHUNK)):
                yield from table.find(_chunks, f"{reference}\0{day}\0{number}") or ()
