"""The ad-hoc session that comes to its limit is stopped once; what never comes is told by the log's clock."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.payments import ChargeRecord, PaymentRecord
from schemas.records import Event, event_id
from streams.clock import HOUR, Tick, tick_event
from streams.clock import KEY as CLOCK
from streams.folding import Fact
from streams.limits import MODULE_OF_RESULTS, is_reached, request_to_stop
from streams.payments import PaymentFold
from streams.replay import Memory
from streams.requests import ANSWERED, RESULTED, fold_request, load_request
from tests.unit.streams.talk import TOPICS, Said, at
from tests.unit.streams.test_payments import (
    CARD,
    KEY,
    PTP,
    ad_hoc,
    bill,
    charged,
    confirmed,
    priced,
    requested,
    reserving,
)

SESSION = "NL*TNM*S1"
TARIFF = Said("tariffs", "PUT", reserving())
TARIFF.event.version = "2.3.0"


def tick(now: int = 0, missing_after: int = 72 * HOUR, percent: int = 95) -> Fact:
    """What the clock says in the payments topic."""
    event = tick_event(now, 1, HOUR, missing_after, percent)
    return Fact(TOPICS.payments.name, 0, 0, CLOCK, event.encode())


def costs(*amounts: float, **changes: Any) -> list[Fact]:
    """A session's charges while it costs ever more, of 60 reserved."""
    said = [
        ad_hoc(total_cost=priced(amount), last_updated=at(f"11:{minute:02}:00"), **changes)
        for minute, amount in enumerate(amounts)
    ]
    return charged(TARIFF, *said, cuts=range(len(said) + 1))


def heard(what: str, result: str) -> Fact:
    """What a payment is told of its stop."""
    body = json.dumps({"result": result}).encode()
    event = Event(
        id=event_id("NL*TNM", MODULE_OF_RESULTS, "POST", [what], body), received_at=5, sender="NL*TNM",
        version="2.3.0", module=MODULE_OF_RESULTS, method="POST", key=KEY, path=[SESSION, what],
        request_id=None, correlation_id=None, body=body,
    )  # fmt: skip
    return Fact(TOPICS.payments.name, 0, 0, KEY.encode(), event.encode())


def folded(facts: list[Fact], cuts: Iterable[int] = ()) -> tuple[list[Event], PaymentRecord | None]:
    """The stops that are asked for, and the latest record of the payment."""
    fold = Memory(PaymentFold(TOPICS))
    places = sorted({0, len(facts), *(cut for cut in cuts if 0 < cut < len(facts))})
    stops, record = [], None
    for start, end in itertools.pairwise(places):
        for one in fold(facts[start:end]):
            assert one.topic != TOPICS.quarantine.name, one
            if one.topic == TOPICS.commands.name:
                stops.append(Event.decode(one.value or b""))
                assert one.key == stops[-1].key.encode()
            elif one.topic == TOPICS.payment_states.name:
                record = PaymentRecord.decode(one.value or b"")
    return stops, record


def record(*facts: Fact) -> PaymentRecord:
    found = folded(list(facts))[1]
    assert found is not None
    return found


def test_a_session_at_its_limit_is_stopped_once() -> None:
    """In the provider's name, at 95 % of what was reserved; what the operator says is on the payment."""
    facts = [tick(), *costs(20, 56.99, 57, 70)]
    assert [len(folded(facts[:count])[0]) for count in range(6)] == [0, 0, 0, 0, 1, 1]
    (stop,), found = folded(facts)
    assert found is not None
    assert (found.status, found.issues, found.stop) == ("charging", ["over_limit"], "asked")
    request = load_request(fold_request(None, stop) or b"")
    asked = request.asked
    assert asked.is_ours
    assert (asked.module, asked.name, asked.target) == ("commands", "STOP_SESSION", "S1")
    assert (asked.from_party, asked.to_party, asked.response_url) == (PTP, "NL*TNM", KEY)
    assert record(*facts, heard(ANSWERED, "ACCEPTED")).stop == "agreed"
    done = [heard(ANSWERED, "ACCEPTED"), heard(RESULTED, "ACCEPTED"), heard(RESULTED, "TIMEOUT")]
    assert record(*facts, *done).stop == "stopped"
    assert record(*facts, *reversed(done[:2])).stop == "stopped"
    for refused in (heard(ANSWERED, "UNKNOWN_SESSION"), heard(RESULTED, "UNKNOWN_SESSION")):
        found = record(*facts, refused)
        assert (found.stop, found.issues) == ("unknown_session", ["not_stopped", "over_limit"])
        assert found.status == "charging"
    over = charged(TARIFF, ad_hoc(total_cost=priced(70)), bill(70))
    found = record(*facts, heard(ANSWERED, "REJECTED"), *over)
    assert (found.status, found.stop, found.issues) == ("awaiting_capture", "rejected", ["over_limit"])


@pytest.mark.parametrize(
    "facts",
    [
        costs(70),  # a log without a clock
        [tick(percent=0), *costs(70)],
        [tick(), *costs(70, status="COMPLETED")],
        [tick(), *costs(70, status="RESERVATION")],
        [tick(), *costs(70, end_date_time=at("11:00:00"))],
        [tick(), *charged(TARIFF, bill(70))],
        [tick(), *charged(ad_hoc(total_cost=priced(70)))],  # nobody said what was to be reserved
    ],
)
def test_sessions_that_are_not_stopped(facts: list[Fact]) -> None:
    assert folded(facts)[0] == []


def test_only_a_card_has_a_limit() -> None:
    """A contract's session with an authorization reference is paid by contract, whatever it costs."""
    charge = ChargeRecord.decode(costs(70)[0].value or b"")
    assert charge.token_type == CARD["type"]
    assert is_reached(charge, Tick(0, 1))
    charge.token_type = "APP_USER"
    assert not is_reached(charge, Tick(0, 1))


@given(
    st.lists(st.integers(1, 80), min_size=1, max_size=6),
    st.lists(st.integers(0, 9), max_size=4),
    st.integers(1, 100),
)
@settings(deadline=None)
def test_batches_decide_nothing(amounts: list[int], cuts: list[int], percent: int) -> None:
    """The same request, byte for byte, at the first charge that is high enough; a request for a request."""
    charges = costs(*amounts)
    stops, found = folded([tick(percent=percent), *charges], cuts)
    reached = [one for one in amounts if 100 * one >= percent * 60]
    assert [stop.encode() for stop in stops] == [
        stop.encode() for stop in folded([tick(percent=percent), *charges])[0]
    ]
    assert len(stops) == bool(reached)
    assert found is not None
    assert (found.stop == "asked") == bool(reached)
    for stop in stops:
        again = request_to_stop(ChargeRecord.decode(charges[-1].value or b""))
        assert (stop.key, stop.id) == (again.key, again.id)


def test_what_never_comes_is_missing_until_it_does() -> None:
    """A capture, and a CDR; by the clock that the log has, whatever it said before or says later."""
    late = tick(100 * HOUR)
    final = charged(TARIFF, bill(12))
    found = record(tick(), *final, late)
    assert (found.status, found.issues, found.due) == ("missing_capture", ["missing_capture"], 12)
    assert record(tick(), *final, tick(71 * HOUR)).status == "awaiting_capture"
    assert record(tick(), *final, late, tick(101 * HOUR, 200 * HOUR)).status == "awaiting_capture"
    found = record(tick(), *final, late, confirmed(12))
    assert (found.status, found.issues) == ("matched", [])
    ended = costs(5, status="COMPLETED")
    found = record(tick(), *ended, late)
    assert (found.status, found.issues) == ("missing_cdr", ["missing_cdr"])
    # The CDR is news: from there on it is its capture that is waited for.
    assert record(tick(), *ended, late, *final, tick(100 * HOUR + 1)).status == "missing_capture"
    for nothing in (costs(5), charged(TARIFF, bill(0)), charged(TARIFF, bill(12, invoice_reference_id=None))):
        assert not record(tick(), *nothing, late).issues
    assert record(*final, late).status == "awaiting_capture", "older than the log's clock"


@given(st.permutations(range(5)), st.lists(st.integers(0, 9), max_size=5), st.data())
@settings(deadline=None)
def test_neither_order_nor_batches_decide_what_is_missing(
    order: list[int], cuts: list[int], data: st.DataObject
) -> None:
    """The state follows from what is known and from the newest tick."""
    hours = [data.draw(st.integers(0, 200)) for _ in range(3)]
    others = [*(tick(one * HOUR, 50 * HOUR) for one in hours), requested(), *charged(TARIFF, bill(12))]
    facts = [tick(), *(others[one] for one in order)]
    found = folded(facts, cuts)[1]
    assert found == folded([tick(), *others[3:], *others[:3]])[1]
    assert found is not None
    since = found.waiting_since
    assert (found.status == "missing_capture") == (max(hours) * HOUR - 50 * HOUR >= since)


def test_the_state_of_an_older_version_is_read() -> None:
    """Of a version that knew neither clock nor limits: what comes next makes of it what it makes of ours."""
    before, after = [requested(), *costs(20)], [tick(), *costs(58)[-1:], tick(100 * HOUR)]
    folds = [Memory(PaymentFold(TOPICS)), Memory(PaymentFold(TOPICS))]
    for fold in folds:
        fold(before)
    old = folds[1].state
    for key, value in old.items():
        old[key] = msgspec.msgpack.encode(msgspec.msgpack.decode(value)[:5])
    assert old != folds[0].state
    ours, theirs = (fold(after) for fold in folds)
    assert ours == theirs
    assert [one.topic for one in ours].count(TOPICS.commands.name) == 1
