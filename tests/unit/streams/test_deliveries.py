"""Deliveries: the order of marks, what answers mean, and a circuit that opens, probes and closes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.deliveries import (
    SECOND,
    Circuit,
    Mark,
    Outcome,
    Pace,
    Verdict,
    backoff,
    digest,
    gives_up,
    identity_key,
    judge,
    mark_of,
    queue_key,
    queue_of,
)

PACE = Pace(failures=3, first=SECOND, longest=60 * SECOND, attempts=4)
names = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cs"]), max_size=20)
marks = st.builds(Mark, names, st.integers(0, 2**62), names, names)
times = st.integers(0, 2**60)
chances = st.floats(0, 1)


@given(marks, marks)
def test_marks_sort_as_their_bytes(one: Mark, other: Mark) -> None:
    """RocksDB keeps them in the order in which they are sent, and a platform's lie together."""
    assert mark_of(queue_key(one)) == one
    if one.connection == other.connection and one.since != other.since:
        assert (one < other) == (queue_key(one) < queue_key(other))
    assert queue_key(one).startswith(queue_of(one.connection))
    assert queue_key(one).startswith(queue_of(other.connection)) == (one.connection == other.connection)
    assert (identity_key(*one.identity) == identity_key(*other.identity)) == (one.identity == other.identity)


@pytest.mark.parametrize(
    ("http", "ocpi", "verdict"),
    [
        (None, None, Verdict.DOWN),
        (200, 1000, Verdict.ACCEPTED),
        (201, 1999, Verdict.ACCEPTED),
        (200, 2001, Verdict.REFUSED),
        (200, 2003, Verdict.REFUSED),
        (200, 3000, Verdict.STUMBLED),
        (200, 4001, Verdict.REFUSED),
        (200, None, Verdict.STUMBLED),
        (201, None, Verdict.ACCEPTED),
        (204, None, Verdict.ACCEPTED),
        (302, None, Verdict.STUMBLED),
        (400, 2001, Verdict.REFUSED),
        (401, 2000, Verdict.DOWN),
        (404, None, Verdict.REFUSED),
        (405, 2000, Verdict.REFUSED),
        (408, None, Verdict.STUMBLED),
        (429, None, Verdict.BUSY),
        (500, 3000, Verdict.STUMBLED),
        (503, None, Verdict.DOWN),
    ],
)
def test_answers_are_judged(http: int | None, ocpi: int | None, verdict: Verdict) -> None:
    """Each by what it says of the object and of the platform."""
    assert judge(http, ocpi) is verdict


def test_an_object_is_given_up_only_where_that_helps() -> None:
    """Refused at once; stumbled over, after some attempts; never because the platform is down or busy."""
    assert gives_up(Verdict.ACCEPTED, 1, PACE) is Outcome.DELIVERED
    assert gives_up(Verdict.REFUSED, 1, PACE) is Outcome.REFUSED
    assert gives_up(Verdict.STUMBLED, 3, PACE) is None
    assert gives_up(Verdict.STUMBLED, 4, PACE) is Outcome.FAILED
    assert gives_up(Verdict.DOWN, 1000, PACE) is None
    assert gives_up(Verdict.BUSY, 1000, PACE) is None


@given(st.integers(1, 10_000), chances)
def test_a_backoff_grows_and_is_bounded(failures: int, chance: float) -> None:
    """Never below half of the doubled wait, never above the whole, and never beyond the longest."""
    whole = min(PACE.longest, PACE.first * 2 ** (failures - 1))
    assert whole // 2 <= backoff(failures, chance, PACE) <= whole
    assert backoff(failures + 1, chance, PACE) >= backoff(failures, chance, PACE)


def test_a_circuit_opens_probes_and_closes() -> None:
    """The life of a platform that goes and comes back."""
    circuit = Circuit()
    assert circuit.permits(0)
    now = 1_000 * SECOND
    for count in (1, 2):
        circuit = circuit.failed(now, 0.0, PACE)
        assert circuit.failures == count
        assert not circuit.is_open
        assert not circuit.permits(now)
        now = circuit.until
        assert circuit.permits(now)
    circuit = circuit.failed(now, 1.0, PACE)
    assert circuit.opened_at == now
    assert circuit.until == now + 4 * SECOND
    still = circuit.failed(circuit.until, 1.0, PACE)
    assert still.opened_at == now, "since when it is down does not change"
    assert still.until - circuit.until == 8 * SECOND
    assert still.passed(still.until) == Circuit()


def test_who_is_busy_is_let_alone_and_is_not_down() -> None:
    """429 with Retry-After; an answer to what was under way already does not shorten that."""
    circuit = Circuit(failures=2).held(100, 30 * SECOND)
    assert not circuit.is_open
    assert not circuit.permits(100 + 29 * SECOND)
    assert circuit.permits(100 + 30 * SECOND)
    assert circuit.passed(200) == circuit
    assert Circuit().failed(0, 0.0, PACE, asked=500 * SECOND).until == 500 * SECOND


steps = st.lists(st.tuples(st.booleans(), st.integers(0, 100 * SECOND), chances), max_size=40)


@given(steps)
def test_a_circuit_is_open_just_when_enough_failed_in_a_row(story: list[tuple[bool, int, float]]) -> None:
    """Whatever happens before, and it always permits something again within the longest wait."""
    circuit, now, in_a_row = Circuit(), 0, 0
    for passes, later, chance in story:
        now += later
        circuit = circuit.passed(now) if passes else circuit.failed(now, chance, PACE)
        in_a_row = 0 if passes else in_a_row + 1
        assert circuit.is_open == (in_a_row >= PACE.failures)
        assert circuit.permits(now + PACE.longest)
        assert circuit.permits(now) == passes or not circuit.is_open


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_a_digest_tells_states_apart(one: bytes, other: bytes) -> None:
    """And is the same for the same state."""
    assert (digest(one) == digest(other)) == (one == other)
