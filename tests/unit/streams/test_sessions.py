"""The session fold: PUT, PATCH, CDR, tariffs and locations in any order, cut into any batches."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import BillRecord, ClaimRecord, QuarantineRecord, SessionRecord, moment
from streams.folding import Fact, Output
from streams.sessions import SessionFold
from tests.unit.streams.talk import TOPICS, Said, at, cdr, latest, location, period, run, session, tariff

FOLD = SessionFold(TOPICS)
KNOWN = [Said("tariffs", "PUT", tariff(), 1), Said("locations", "PUT", location(), 1)]


def fold(*said: Said, cuts: tuple[int, ...] = ()) -> list[Output]:
    return run(FOLD, said, cuts)


def states(outputs: list[Output]) -> dict[str, SessionRecord]:
    found = {
        key: value for (topic, key), value in latest(outputs).items() if topic == TOPICS.session_states.name
    }
    return {key.decode(): SessionRecord.decode(value or b"") for key, value in found.items()}


def bills(outputs: list[Output]) -> dict[str, BillRecord]:
    found = {key: value for (topic, key), value in latest(outputs).items() if topic == TOPICS.bills.name}
    return {key.decode(): BillRecord.decode(value or b"") for key, value in found.items()}


def claims(outputs: list[Output]) -> list[ClaimRecord]:
    return [ClaimRecord.decode(one.value or b"") for one in outputs if one.topic == TOPICS.ledger.name]


def latest_claims(outputs: list[Output]) -> dict[str, bytes]:
    return {one.id: one.encode() for one in claims(outputs)}


def refused(outputs: list[Output]) -> list[tuple[str, str]]:
    found = [
        QuarantineRecord.decode(one.value or b"") for one in outputs if one.topic == TOPICS.quarantine.name
    ]
    return [(one.reason, one.message) for one in found]


def test_a_session_has_a_running_price() -> None:
    record = states(fold(*KNOWN, Said("sessions", "PUT", session(), 7)))["NL*TNM*S1"]
    assert (record.status, record.kwh, record.received_at) == ("ACTIVE", 10, 7)
    assert (record.price_before_taxes, record.price_after_taxes) == (Decimal("3"), Decimal("3.6"))
    assert [(one.kwh, one.charging, one.tariff_id) for one in record.periods] == [(10, True, "T1")]
    assert moment(record.periods[0].ended_at).hour == 11, "to the last update"
    assert record.warnings == []
    assert len(record.tariffs) == 1


def test_patch_merges_and_appends_periods() -> None:
    patch = {
        "kwh": 15,
        "charging_periods": [period("11:00:00", 5, 1)],
        "last_updated": at("12:00:00"),
    }
    record = states(fold(*KNOWN, Said("sessions", "PUT", session()), Said("sessions", "PATCH", patch)))[
        "NL*TNM*S1"
    ]
    assert (record.kwh, len(record.periods), record.currency) == (15, 2, "EUR")
    assert record.price_before_taxes == Decimal("4.5")


def test_older_never_overwrites_newer() -> None:
    old = Said("sessions", "PUT", session(kwh=5, last_updated=at("10:30:00")))
    stale = Said("sessions", "PATCH", {"kwh": 6, "last_updated": at("10:45:00")})
    outputs = fold(*KNOWN, Said("sessions", "PUT", session()), old, stale)
    assert states(outputs)["NL*TNM*S1"].kwh == 10


def test_the_same_again_changes_nothing() -> None:
    patch = Said(
        "sessions", "PATCH", {"charging_periods": [period("11:00:00", 5, 1)], "last_updated": at("11:00:00")}
    )
    put = Said("sessions", "PUT", session())
    once, thrice = fold(*KNOWN, put, patch), fold(*KNOWN, put, patch, patch, put, patch)
    assert latest(once) == latest(thrice)


def test_a_cdr_closes_its_session_whichever_comes_first() -> None:
    put, post = Said("sessions", "PUT", session()), Said("cdrs", "POST", cdr(), 9)
    after, before = fold(*KNOWN, put, post), fold(*KNOWN, post, put)
    assert latest(after) == latest(before)
    record = states(after)["NL*TNM*S1"]
    assert (record.status, record.kwh, record.cdr_id, record.received_at) == ("COMPLETED", 20, "C1", 9)
    assert record.price_after_taxes == Decimal("7.2")
    bill = bills(after)["NL*TNM*C1"]
    assert (bill.verdict, bill.tariff_source, bill.late_tariff) == ("match", "log", False)


def test_a_wrong_bill_is_found() -> None:
    bill = bills(fold(*KNOWN, Said("cdrs", "POST", cdr(6.5))))["NL*TNM*C1"]
    assert bill.verdict == "overcharged"
    assert bill.reason
    total = bill.amounts[0]
    assert (total.total, total.billed_before_taxes, total.priced_before_taxes) == ("total_cost", 6.5, 6)


def test_a_cdr_is_final() -> None:
    post, other = Said("cdrs", "POST", cdr()), Said("cdrs", "POST", cdr(7.0))
    outputs = fold(*KNOWN, post, post, other)
    assert len(claims(outputs)) == 1
    assert bills(outputs)["NL*TNM*C1"].amounts[0].billed_before_taxes == 6
    assert [reason for reason, _ in refused(outputs)] == ["cdr_conflict"]


def test_a_claim_is_what_was_billed() -> None:
    (claim,) = claims(fold(Said("cdrs", "POST", cdr(6.5), 9)))
    assert (claim.creditor, claim.debtor, claim.currency) == ("NL*TNM", "DE*EMS", "EUR")
    assert (claim.before_taxes, claim.taxes) == (Decimal("6.5"), Decimal("1.3"))
    assert (claim.id, claim.session_key, claim.occurred_at) == ("NL*TNM*C1", "NL*TNM*S1", 9)


def test_a_credit_takes_back_and_the_new_cdr_stands() -> None:
    credit = cdr(
        6.5,
        id="C1-CREDIT",
        credit=True,
        credit_reference_id="C1",
        total_cost={"excl_vat": -6.5, "incl_vat": -7.8},
    )
    outputs = fold(
        *KNOWN,
        Said("cdrs", "POST", cdr(6.5)),
        Said("cdrs", "POST", credit),
        Said("cdrs", "POST", cdr(6.0, id="C2")),
    )
    found = claims(outputs)
    assert sum(one.before_taxes + one.taxes for one in found) == Decimal("7.2")
    assert [one.credit_of for one in found] == [None, "NL*TNM*C1", None]
    assert states(outputs)["NL*TNM*S1"].cdr_id == "C2"


def test_a_tariff_that_comes_late_prices_again_and_says_so() -> None:
    post = Said("cdrs", "POST", cdr(), 5)
    early = bills(fold(KNOWN[1], post))["NL*TNM*C1"]
    assert (early.verdict, early.tariff_source) == ("cannot_be_priced", "none")
    late = bills(fold(KNOWN[1], post, Said("tariffs", "PUT", tariff(), 6)))["NL*TNM*C1"]
    assert (late.verdict, late.tariff_source, late.late_tariff) == ("match", "log", True)


def test_the_version_in_force_at_the_start_applies() -> None:
    newer = tariff(0.9, last_updated=at("10:30:00"))
    outputs = fold(*KNOWN, Said("sessions", "PUT", session()), Said("tariffs", "PUT", newer, 2))
    assert states(outputs)["NL*TNM*S1"].price_before_taxes == 3
    older = tariff(0.9, last_updated=at("09:30:00"))
    outputs = fold(*KNOWN, Said("sessions", "PUT", session()), Said("tariffs", "PUT", older, 2))
    assert states(outputs)["NL*TNM*S1"].price_before_taxes == 9


def test_the_cdrs_own_tariff_serves_when_the_log_has_none() -> None:
    bill = bills(fold(KNOWN[1], Said("cdrs", "POST", cdr(tariffs=[tariff()]))))["NL*TNM*C1"]
    assert (bill.verdict, bill.tariff_source) == ("match", "cdr")


def test_the_connectors_tariff_serves_when_periods_name_none() -> None:
    bare = session(charging_periods=[period("10:00:00", 10, 1, tariff=None)])
    record = states(fold(*KNOWN, Said("sessions", "PUT", bare)))["NL*TNM*S1"]
    assert record.price_before_taxes == 3


def test_time_of_day_is_the_locations() -> None:
    night = tariff()
    night["elements"].insert(
        0,
        {
            "price_components": [{"type": "ENERGY", "price": 0.1, "vat": 20, "step_size": 1}],
            "restrictions": {"start_time": "18:00", "end_time": "23:59"},
        },
    )
    put = Said("sessions", "PUT", session())
    for zone, price in [("Europe/Amsterdam", 3), ("Asia/Tokyo", 1)]:
        outputs = fold(Said("tariffs", "PUT", night), Said("locations", "PUT", location(zone)), put)
        assert states(outputs)["NL*TNM*S1"].price_before_taxes == price


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Said("sessions", "PATCH", {"kwh": 1, "last_updated": at("11:00:00")}), "unknown_object"),
        (Said("sessions", "PUT", b'{"truncated'), "invalid_object"),
        (Said("sessions", "PUT", session(status="NONSENSE")), "invalid_object"),
        (Said("sessions", "DELETE", session()), "unknown_method"),
    ],
)
def test_what_cannot_be_folded_goes_to_quarantine_and_the_stream_goes_on(said: Said, reason: str) -> None:
    outputs = fold(*KNOWN, said, Said("sessions", "PUT", session(id="S2")))
    assert [found for found, _ in refused(outputs)] == [reason]
    assert list(states(outputs)) == ["NL*TNM*S2"]


SCENE: list[list[Said]] = [
    [
        Said("sessions", "PUT", session(), 1),
        Said("sessions", "PATCH", {"kwh": 12, "last_updated": at("11:10:00")}, 2),
        Said(
            "sessions",
            "PATCH",
            {"charging_periods": [period("11:10:00", 5, 0.5)], "kwh": 15, "last_updated": at("11:30:00")},
            3,
        ),
    ],
    [Said("cdrs", "POST", cdr(), 4)],
    [
        Said(
            "cdrs",
            "POST",
            cdr(
                id="C1-CREDIT",
                credit=True,
                credit_reference_id="C1",
                total_cost={"excl_vat": -6, "incl_vat": -7.2},
            ),
            5,
        )
    ],
    [Said("cdrs", "POST", cdr(7, id="C2"), 6)],
    [Said("sessions", "PUT", session(id="S2", evse_uid="e1"), 7)],
    [Said("tariffs", "PUT", tariff(), 8)],
    [Said("tariffs", "PUT", tariff(0.4, last_updated=at("09:00:00")), 9)],
    [Said("tariffs", "PUT", tariff(0.9, last_updated=at("23:00:00")), 10)],
    [Said("locations", "PUT", location(), 11)],
    [Said("locations", "PUT", location("Europe/London", last_updated=at("08:00:00")), 12)],
]


@st.composite
def interleavings(draw: Any) -> list[Said]:
    """The scene with each strand in order, the strands mixed, and some of it said twice."""
    strands = [list(strand) for strand in SCENE]
    mixed: list[Said] = []
    while strands:
        strand = draw(st.sampled_from(strands))
        one = strand.pop(0)
        mixed += [one] * draw(st.integers(1, 2))
        if not strand:
            strands.remove(strand)
    return mixed


@settings(max_examples=150, deadline=None)
@given(interleavings(), st.lists(st.integers(1, 25), max_size=6))
def test_the_latest_records_do_not_depend_on_order_or_batches(said: list[Said], cuts: list[int]) -> None:
    plain = run(FOLD, [one for strand in SCENE for one in strand])
    other = run(FOLD, said, cuts)
    without = {TOPICS.ledger.name}
    expected = {key: value for key, value in latest(plain).items() if key[0] not in without}
    assert {key: value for key, value in latest(other).items() if key[0] not in without} == expected
    assert latest_claims(other) == latest_claims(plain)
    assert refused(other) == []


@settings(max_examples=50, deadline=None)
@given(interleavings(), st.integers(0, 6))
def test_letting_go_of_states_within_a_batch_shows_nowhere(said: list[Said], most: int) -> None:
    facts = [Fact(TOPICS.sessions.name, 0, offset, *one.record()) for offset, one in enumerate(said)]
    assert SessionFold(TOPICS, most)(facts, {}.get) == FOLD(facts, {}.get)


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(value: bytes) -> None:
    folded = FOLD([Fact(TOPICS.sessions.name, 0, 0, b"k", value)], {}.get)
    assert [one.topic for one in folded.outputs] == [TOPICS.quarantine.name]
    assert folded.changes == {}
    json.dumps(refused(folded.outputs))
