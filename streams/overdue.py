"""Which running sessions have been silent for too long: found when the time passes, without a scan.

A timer wheel with a slot for each hour. A running session lies in the slot of the hour in which it was last
heard of, or in an earlier one that the deadline has not reached: it is not moved with every update, but when
the deadline comes to its slot. Then those that ended are dropped, and those that were heard of since move on.
So a session costs one small write when it begins, and none while it is updated; however full its slot is, for
a session remembers which one it is in.

The deadline may go back, when sessions may be silent for longer than before. Slots that it has passed hold
overdue sessions under the very hour they were last heard of, so it finds those that are no longer overdue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from streams.table import Shelf, Table

_HOUR = 3_600_000_000
_CHUNK = 64

_slots: Shelf[dict[int, int]] = Shelf(b"h", dict[int, int], dict)  # hour -> sessions in its slot
_chunks: Shelf[list[str]] = Shelf(b"o", list[str], list)


def hour_of(moment: int) -> int:
    """The slot of a moment in microseconds."""
    return moment // _HOUR


def add(table: Table, hour: int, session: str) -> None:
    """Put a session into a slot that it is not in."""
    slots = table.read(_slots, "")
    count = slots.get(hour, 0)
    slots[hour] = count + 1
    table.write(_slots, "", slots)
    name = f"{hour}\0{count // _CHUNK}"
    chunk = table.read(_chunks, name)
    chunk.append(session)
    table.write(_chunks, name, chunk)


def watch(table: Table, session: str, place: int, listed: int | None, swept: int) -> int:
    """Have a session looked at when the deadline comes to where it belongs, `place`; where it is then.

    `listed`: the slot that it was put into last; `swept`: the last slot that was looked through.
    """
    if listed is not None:
        if swept < listed <= place:
            return listed  # it is in a slot that will be looked through before it can be overdue
        if listed != place:
            discard(table, listed, session)
        elif holds(table, place, session):
            return place  # else it had ended when its slot was looked through
    add(table, place, session)
    return place


def holds(table: Table, hour: int, session: str) -> bool:
    """Whether a session is in a slot."""
    return session in _held(table, hour, table.read(_slots, "").get(hour, 0))


def discard(table: Table, hour: int, session: str) -> None:
    """Take a session out of a slot, if it is in there: the slot's last one takes its place."""
    slots = table.read(_slots, "")
    count = slots.get(hour, 0)
    names = _names(hour, count)
    name = next((one for one in names if session in table.read(_chunks, one)), None)
    if name is None:
        return
    chunk, last_name = table.read(_chunks, name), names[-1]
    last = table.read(_chunks, last_name)
    chunk[chunk.index(session)] = last[-1]
    table.write(_chunks, name, chunk)
    last.pop()
    if last:
        table.write(_chunks, last_name, last)
    else:
        table.remove(_chunks, last_name)
    if count > 1:
        slots[hour] = count - 1
    else:
        del slots[hour]
    table.write(_slots, "", slots)


def sweep(table: Table, since: int | None, until: int, belongs: Callable[[str], int | None]) -> Iterator[str]:
    """The running sessions of all slots from one hour (None: the first) to another, included.

    `belongs` tells the hour in which a running session was last heard of, None for one that has ended. Each
    is put where it belongs. The caller goes through to the end.
    """
    slots = table.read(_slots, "")
    known: dict[int, set[str]] = {}
    for hour in sorted(slots):
        if hour <= until and (since is None or since <= hour):
            before = list(_held(table, hour, slots[hour]))
            found = {session: belongs(session) for session in before}
            staying = [session for session, place in found.items() if place == hour]
            if staying != before:
                _replace(table, hour, len(before), staying)
            for session, place in found.items():
                if place is not None:
                    if place != hour:
                        if place not in known:
                            known[place] = set(_held(table, place, slots.get(place, 0)))
                        if session not in known[place]:
                            known[place].add(session)
                            add(table, place, session)
                    yield session


def _names(hour: int, count: int) -> list[str]:
    """Keys of the chunks of a slot that holds `count` sessions."""
    return [f"{hour}\0{number}" for number in range(-(-count // _CHUNK))]


def _held(table: Table, hour: int, count: int) -> Iterator[str]:
    for name in _names(hour, count):
        yield from table.find(_chunks, name) or ()


def _replace(table: Table, hour: int, count: int, sessions: list[str]) -> None:
    """Give a slot that holds `count` sessions other content."""
    slots = table.read(_slots, "")
    slots.pop(hour, None)
    if sessions:
        slots[hour] = len(sessions)
    table.write(_slots, "", slots)
    for number, name in enumerate(_names(hour, count)):
        chunk = sessions[number * _CHUNK : (number + 1) * _CHUNK]
        if chunk:
            table.write(_chunks, name, chunk)
        else:
            table.remove(_chunks, name)
