"""Requests: the first answer and the first result count, whatever comes in whichever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.records import Event, event_id
from streams.requests import (
    ANSWERED,
    REMEMBERED,
    RESULTED,
    SECOND,
    Requested,
    fold_request,
    load_memory,
    load_request,
    memory_key,
    timed_out,
)

ASKED = Requested(
    "commands", "START_SESSION", "", "DE*EMS", "ems", "NL*TNM", "tnm", "https://ems.example/results/1"
)


def event(path: list[str], body: bytes, at: int, version: str = "2.2.1") -> Event:
    return Event(
        id=event_id("x", "commands", "PUT", path, body), received_at=at, sender="x", version=version,
        module="commands", method="PUT", key="k", path=path, request_id=None, correlation_id="c", body=body,
    )  # fmt: skip


def folded(*events: Event) -> bytes | None:
    state: bytes | None = None
    for one in events:
        state = fold_request(state, one)
    return state


def test_a_request_waits_from_its_answer_until_its_result() -> None:
    """For as long as the operator said; in whichever version it spoke."""
    asked = event(ASKED.path, b"{}", 1)
    answered = event([ANSWERED], b'{"result": "ACCEPTED", "timeout": 30}', 5)
    request = load_request(folded(asked, answered) or b"")
    assert request.asked == ASKED
    assert request.deadline == 5 + 30 * SECOND
    assert request.correlation_id == "c"
    old = load_request(folded(asked, event([ANSWERED], b'{"result": "ACCEPTED"}', 5, "2.1.1")) or b"")
    assert old.deadline == 5 + 60 * SECOND, "2.1.1 says no time"
    for refused in (b'{"result": "REJECTED", "timeout": 30}', b""):
        assert load_request(folded(asked, event([ANSWERED], refused, 5)) or b"").deadline is None
    late = event([RESULTED, "command_result"], timed_out(request), 9)
    done = load_request(folded(asked, answered, late) or b"")
    assert (done.result, done.resulted_at, done.deadline) == (b'{"result":"TIMEOUT"}', 9, None)
    assert folded(answered) is None, "nobody asked"


said = st.lists(
    st.one_of(
        st.tuples(st.just(ANSWERED), st.sampled_from(["ACCEPTED", "REJECTED"])),
        st.tuples(st.just(RESULTED), st.sampled_from(["ACCEPTED", "FAILED", "TIMEOUT"])),
    ),
    max_size=6,
)


@given(said)
def test_the_first_of_each_counts(story: list[tuple[str, str]]) -> None:
    """A request that has its result waits for nothing, also when its answer comes after it."""
    events = [event(ASKED.path, b"{}", 1)]
    for number, (what, result) in enumerate(story):
        body = f'{{"result": "{result}", "timeout": 3}}'.encode()
        events.append(event([what, "command_result"], body, number + 2))
    request = load_request(folded(*events, *events) or b"")
    first = {what: next((r for w, r in story if w == what), None) for what in (ANSWERED, RESULTED)}
    assert (request.answer is None) == (first[ANSWERED] is None)
    assert (request.result is None) == (first[RESULTED] is None)
    for found, what in ((request.answer, ANSWERED), (request.result, RESULTED)):
        assert found is None or f'"{first[what]}"'.encode() in found
    waits = first[ANSWERED] == "ACCEPTED" and first[RESULTED] is None
    assert (request.deadline is not None) == waits


def test_who_is_behind_a_reservation_is_remembered() -> None:
    """The latest who made it, under a key that no request has."""
    key = memory_key("reservation", "DE*EMS", "r1")
    assert key == "RESERVATION:DE*EMS*R1"
    one, other = event([REMEMBERED, "a", "NL*TNM"], b"", 1), event([REMEMBERED, "b", "NL*ABC"], b"", 2)
    assert load_memory(folded(one, other) or b"").party == "NL*ABC"
