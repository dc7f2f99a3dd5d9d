"""Silent sessions: the clock in the log makes them candidates, an update takes them back, in any order."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.records import SessionRecord
from streams import overdue
from streams.clock import KEY, read_tick, tick_event
from streams.folding import Fact
from streams.sessions import SessionFold
from streams.table import Table
from tests.unit.streams.talk import TOPICS, Said, at, cdr, latest, run, session

FOLD = SessionFold(TOPICS)
HOUR = 3_600_000_000


class Clock:
    """A tick, as a record of the log."""

    def __init__(self, now: int, after: int, interval: int = 1) -> None:
        self.event = tick_event(now, interval, after)

    def record(self) -> tuple[bytes, bytes]:
        return KEY, self.event.encode()


def put(number: int, heard: int, minute: int = 0, **changes: Any) -> Said:
    """A session's update, received at a time."""
    body = session(id=f"S{number}", last_updated=at(f"11:{minute:02}:00"), **changes)
    return Said("sessions", "PUT", body, heard)


def candidates(said: list[Any], cuts: tuple[int, ...] = ()) -> set[str]:
    found = latest(run(FOLD, said, cuts))
    return {
        key.decode().removeprefix("NL*TNM*")
        for (topic, key), value in found.items()
        if topic == TOPICS.session_states.name and SessionRecord.decode(value or b"").invalid_candidate
    }


def test_one_interval_is_one_event() -> None:
    """Whoever writes it and whenever in the interval."""
    first, second, third = (tick_event(now, 10, 5) for now in (100, 109, 110))
    assert first == second
    assert first.id != third.id
    assert (read_tick(first.body).now, read_tick(third.body).now) == (100, 110)
    assert first.id != tick_event(100, 10, 6).id


def test_a_silent_session_becomes_a_candidate_and_lives_again() -> None:
    begun, late = put(1, 5 * HOUR), put(1, 60 * HOUR, 1)
    assert candidates([begun]) == set()
    assert candidates([begun, Clock(9 * HOUR - 1, 4 * HOUR)]) == set()
    assert candidates([begun, Clock(9 * HOUR, 4 * HOUR)]) == {"S1"}
    assert candidates([begun, Clock(9 * HOUR, 4 * HOUR), late]) == set()
    assert candidates([begun, Clock(9 * HOUR, 4 * HOUR), late, Clock(64 * HOUR, 4 * HOUR)]) == {"S1"}
    assert candidates([begun, Clock(9 * HOUR, 4 * HOUR), Clock(9 * HOUR + 1, 6 * HOUR)]) == set()


def test_one_that_ended_is_none() -> None:
    """Whether its operator said so, or its bill; a credit brings it back to what was pushed."""
    tick = Clock(99 * HOUR, HOUR)
    assert candidates([put(1, 1), put(2, 1, status="COMPLETED"), put(3, 1, status="INVALID"), tick]) == {"S1"}
    assert candidates([put(1, 1, end_date_time=at("11:00:00")), tick]) == set()
    assert candidates([put(1, 1), Said("cdrs", "POST", cdr(), 2), tick]) == set()
    assert candidates([put(1, 1), tick, Said("cdrs", "POST", cdr(), 2)]) == set()


def test_the_fold_tells_what_happened() -> None:
    """Counts for metrics, and what is known of the partition as a whole."""
    said = [put(1, HOUR), put(2, HOUR), put(2, HOUR), Clock(9 * HOUR, HOUR), put(1, 9 * HOUR, 2), put(1, 1)]
    state: dict[bytes, bytes] = {}
    counts: dict[str, int] = {}
    for offset, one in enumerate(said):
        folded = FOLD([Fact(TOPICS.sessions.name, 0, offset, *one.record())], state.get)
        state |= {key: value for key, value in folded.changes.items() if value is not None}
        for name, count in folded.counts.items():
            counts[name] = counts.get(name, 0) + count
    assert counts == {"repeated": 1, "overdue": 2, "revived": 1, "overtaken": 1}
    assert FOLD.gauges(state.get) == {"candidates": 1, "now": 9 * HOUR}


def test_a_session_that_is_updated_costs_no_further_write() -> None:
    """It is put into a slot when it begins, and not touched there until the deadline comes."""
    state: dict[bytes, bytes] = {}

    def fold(*said: Any) -> set[bytes]:
        facts = [Fact(TOPICS.sessions.name, 0, 0, *one.record()) for one in said]
        changes = FOLD(facts, state.get).changes
        for key, value in changes.items():
            if value is None:
                del state[key]
            else:
                state[key] = value
        return {key[:1] for key in changes}

    assert {b"h", b"o"} <= fold(Clock(1, HOUR), put(1, HOUR))
    for minute in range(1, 5):
        assert not {b"h", b"o"} & fold(put(1, (minute + 1) * HOUR, minute))
    assert {b"h", b"o"} <= fold(Clock(4 * HOUR, HOUR)), "now it moves to where it was last heard of"
    fold(put(1, 5 * HOUR, 9, status="COMPLETED"))
    fold(Clock(99 * HOUR, HOUR))
    assert not [key for key in state if key.startswith(b"o")], "nothing is left of what has ended"


said = st.one_of(
    st.builds(
        lambda number, heard, minute, ended: put(
            number, heard, minute, **({"status": "COMPLETED"} if ended else {})
        ),
        st.integers(1, 4),
        st.integers(0, 12).map(lambda quarter: quarter * HOUR // 4),
        st.integers(0, 9),
        st.integers(0, 5).map(lambda dice: dice == 0),
    ),
    st.builds(
        Clock,
        st.integers(0, 16).map(lambda quarter: quarter * HOUR // 4),
        st.integers(0, 6).map(lambda half: half * HOUR // 2),
    ),
    st.builds(
        lambda number, heard: Said("cdrs", "POST", cdr(id=f"C{number}", session_id=f"S{number}"), heard),
        st.integers(1, 4),
        st.integers(0, 12).map(lambda quarter: quarter * HOUR // 4),
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(said, max_size=30), st.lists(st.integers(1, 29), max_size=6))
@example([put(1, 2 * HOUR), Clock(8 * HOUR, 0), Clock(8 * HOUR + 1, 7 * HOUR), put(1, HOUR, 5)], [])
def test_who_is_a_candidate_is_a_function_of_the_events(said: list[Any], cuts: list[int]) -> None:
    """However they are cut; and just those that a look at every session finds."""
    ticks = [read_tick(one.event.body) for one in said if isinstance(one, Clock)]
    last: dict[str, tuple[str, int, bool]] = {}
    seen: dict[str, list[bytes]] = {}
    billed = set()
    for one in said:
        if isinstance(one, Clock):
            continue
        body = json.loads(one.event.body)
        if one.module == "cdrs":
            billed.add(body["session_id"])
            continue
        known = last.get(body["id"])
        if known is None or body["last_updated"] > known[0]:
            seen[body["id"]] = []
        elif body["last_updated"] < known[0] or one.event.id in seen[body["id"]]:
            continue
        seen[body["id"]].append(one.event.id)
        running = body["status"] == "ACTIVE"
        last[body["id"]] = (body["last_updated"], one.event.received_at, running)
    deadline = max(ticks).now - max(ticks).stale_after if ticks else None
    expected = {
        name
        for name, (_, heard, running) in last.items()
        if running and name not in billed and deadline is not None and heard <= deadline
    }
    assert candidates(said, tuple(cuts)) == expected
    assert candidates(said, tuple(range(len(said)))) == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200)), max_size=300, unique=True))
def test_slots_hold_what_was_put_in(entries: list[tuple[int, int]]) -> None:
    """And nothing of what was taken out, through a table that is written and read again."""
    state: dict[bytes, bytes] = {}

    def kept(table: Table) -> Table:
        for key, value in table.changes().items():
            if value is None:
                state.pop(key, None)
            else:
                state[key] = value
        return Table(state.get)

    table = Table(state.get)
    for hour, number in entries:
        overdue.add(table, hour, f"S{number}")
    table = kept(table)
    for hour, number in entries[::3]:
        overdue.discard(table, hour, f"S{number}")
    table = kept(table)
    left = [one for one in entries if one not in entries[::3]]
    assert all(
        overdue.holds(table, hour, f"S{number}") == ((hour, number) in left) for hour, number in entries
    )
    assert sorted(overdue.sweep(table, None, 9, lambda _: 7)) == sorted(f"S{number}" for _, number in left)
    kept(table)
    assert {key for key in state if key[:1] == b"o"} <= {b"o7\0%d" % number for number in range(5)}


def test_a_full_slot_costs_no_more_than_an_empty_one() -> None:
    """A hundred thousand sessions that begin within one hour: each costs what the first one did."""
    state: dict[bytes, bytes | None] = {}
    reads = 0

    def get(key: bytes) -> bytes | None:
        nonlocal reads
        reads += 1
        return state.get(key)

    sizes = []
    for batch in range(0, 100_000, 1000):
        table = Table(get)
        reads = 0
        for number in range(batch, batch + 1000):
            assert overdue.watch(table, f"S{number}", 7, None, 3) == 7
            assert overdue.watch(table, f"S{number}", 8, 7, 3) == 7, "an update moves nothing"
        changes = table.changes()
        sizes.append((reads, len(changes)))
        state.update(changes)
    assert max(sizes) <= (20, 20), "the slots, and the chunks that these go into"
    found = list(overdue.sweep(Table(get), None, 7, lambda _: None))
    assert found == []
    assert len(set(overdue.sweep(Table(get), None, 7, lambda _: 7))) == 100_000
