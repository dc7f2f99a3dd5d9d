"""The books: what is settled, held, taken back, closed and paid."""

from __future__ import annotations

import itertools
from decimal import Decimal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.records import ClaimRecord, EntryRecord, Event, TaxRecord, quantized
from schemas.settlement import Fee, read_references
from streams.folding import Fact
from streams.ledger.periods import Period, period_named, period_of
from streams.ledger.settling import evident_rate
from streams.ledger.statements import closed_statement, open_statement, payment_state
from tests.unit.streams.books import (
    CPO,
    EMSP,
    HUB,
    TOPICS,
    Books,
    at,
    balance,
    claim,
    close,
    credit,
    decide,
    key_of,
    paid,
    policy,
)

MARCH, APRIL, MAY = "NLTNM-DEEMS-EUR-202603", "NLTNM-DEEMS-EUR-202604", "NLTNM-DEEMS-EUR-202605"


def test_a_claim_becomes_a_balanced_entry() -> None:
    books = Books().hear(claim())
    (entry,) = books.entries
    assert {leg.account: leg.amount for leg in entry.legs} == {
        "DE*EMS:payable:NL*TNM": Decimal("12.1"),
        "NL*TNM:revenue:DE*EMS": Decimal("-10"),
        "NL*TNM:tax:DE*EMS:VAT 21%": Decimal("-2.1"),
    }
    assert (entry.kind, entry.sequence, entry.statement, entry.late) == ("cdr", 1, MARCH, False)
    assert entry.id.startswith("NL*TNM*C1#1-")
    assert entry.event_id == claim().event_id
    assert entry.tariffs == claim().tariffs
    assert books.claims["NL*TNM*C1"].status == "posted"


def test_a_claim_is_posted_once() -> None:
    books = Books().hear(claim(), claim()).hear(claim())
    assert len(books.entries) == 1


def test_a_price_that_comes_late_changes_nothing_of_what_is_settled_as_billed() -> None:
    books = Books().hear(claim(priced=None)).hear(claim(priced="9"))
    assert len(books.entries) == 1
    assert books.owed() == Decimal("12.1")


def test_a_price_that_comes_late_is_posted_anew_when_it_is_what_counts() -> None:
    books = Books().hear(policy("as_priced"), claim(priced="10")).hear(claim(priced="9"))
    first, back, again = books.entries
    assert (back.kind, back.reverses, back.amount) == ("correction", first.id, -first.amount)
    assert (again.kind, again.amount) == ("correction", Decimal("10.89"))
    assert len({one.id for one in books.entries}) == 3
    assert books.owed() == Decimal("10.89")


@pytest.mark.parametrize(
    ("mode", "priced", "status", "reason", "owed"),
    [
        ("as_billed", "9", "posted", "", "12.1"),
        ("as_billed", None, "posted", "", "12.1"),
        ("as_priced", "9", "posted", "", "10.89"),
        ("as_priced", None, "held", "cannot_be_priced", "0"),
        ("within_tolerance", "9.96", "posted", "", "12.1"),
        ("within_tolerance", "9.9", "held", "outside_tolerance", "0"),
        ("within_tolerance", None, "held", "cannot_be_priced", "0"),
    ],
)
def test_policies(mode: str, priced: str | None, status: str, reason: str, owed: str) -> None:
    asked = [policy(mode, tolerance_amount=Decimal("0.05")), claim(priced=priced)]
    for order in (asked, asked[::-1]):
        books = Books()
        for one in order:
            books.hear(one)
        found = books.claims["NL*TNM*C1"]
        assert (found.status, found.reason) == (status, reason)
        assert books.owed() == Decimal(owed)


def test_a_policy_holds_from_its_moment_on() -> None:
    books = Books().hear(claim("C1", priced="9"), claim("C2", priced="9", on="2026-03-20T10:00"))
    books.hear(policy("as_priced", since="2026-03-16"))
    assert books.owed() == Decimal("12.1") + Decimal("10.89")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_a_held_claim_is_resolved_by_a_credit_and_a_new_cdr(order: tuple[int, ...]) -> None:
    wrong = claim("C1", "12", priced="10")
    right = claim("C2", "10", session_id="S-C1", session_key="NL*TNM*S-C1", occurred_at=wrong.occurred_at + 9)
    told = [wrong, credit(wrong), right]
    books = Books().hear(policy("within_tolerance"))
    for number in order:
        books.hear(told[number])
    found = {name: one.status for name, one in books.claims.items()}
    assert found == {"NL*TNM*C1": "void", "NL*TNM*C1-CREDIT": "void", "NL*TNM*C2": "posted"}
    assert books.owed() == Decimal("12.1")


@pytest.mark.parametrize(
    ("verdict", "status", "owed"),
    [("accept", "posted", "14.52"), ("reject", "rejected", "0")],
)
def test_a_held_claim_is_resolved_by_a_decision(verdict: str, status: str, owed: str) -> None:
    held = claim("C1", "12", priced="10")
    for told in ([held, decide(held.id, verdict)], [decide(held.id, verdict), held]):
        books = Books().hear(policy("within_tolerance")).hear(*told)
        assert books.claims[held.id].status == status
        assert books.claims[held.id].why == "looked into it"
        assert books.owed() == Decimal(owed)


def test_the_last_decision_counts_and_takes_the_posting_back() -> None:
    held = claim("C1", "12", priced="10")
    books = Books().hear(policy("within_tolerance"), held)
    books.hear(decide(held.id, "reject", "2026-04-03"), decide(held.id, "accept", "2026-04-02"))
    assert books.owed() == 0
    books.hear(decide(held.id, "accept", "2026-04-04"))
    assert books.owed() == Decimal("14.52")


def test_a_session_is_not_settled_twice() -> None:
    first = claim("C1")
    second = claim("C2", session_id="S-C1", session_key="NL*TNM*S-C1", on="2026-03-15T11:00")
    for told in ([first, second], [second, first]):
        books = Books().hear(policy("as_priced"), *told)
        assert books.claims[second.id].reason == "session_billed_twice"
        assert books.owed() == Decimal("12.1")


def test_no_credit_is_above_its_original() -> None:
    original = claim()
    parts = [credit(original, f"K{n}", "0.4") for n in range(3)]
    for told in ([original, *parts], [*parts, original], [*reversed(parts), original]):
        books = Books().hear(*told)
        states = sorted(books.claims[one.id].status for one in parts)
        assert states == ["held", "posted", "posted"]
        assert books.owed() == Decimal("12.1") * Decimal("0.2")


def test_a_credit_without_original_is_held_until_it_comes() -> None:
    original = claim()
    books = Books().hear(credit(original))
    assert books.claims["NL*TNM*C1-CREDIT"].reason == "original_unknown"
    books.hear(original)
    assert books.owed() == 0
    assert books.claims["NL*TNM*C1-CREDIT"].status == "posted"
    assert sorted(one.kind for one in books.entries) == ["cdr", "credit"]


def test_a_credit_in_another_currency_or_with_the_wrong_sign_is_held() -> None:
    original = claim()
    odd = msgspec.structs.replace(credit(original, "K1"), currency="CHF")
    plus = msgspec.structs.replace(claim("K2"), credit=True, credit_of=original.id)
    books = Books().hear(original, odd, plus)
    assert books.claims[odd.id].reason == "original_differs"
    assert books.claims[plus.id].reason == "credit_not_negative"
    assert books.owed() == Decimal("12.1")


def test_a_full_credit_of_what_was_settled_as_priced_leaves_nothing() -> None:
    original = claim("C1", "12", priced="10")
    for told in ([original, credit(original)], [credit(original), original]):
        books = Books().hear(policy("as_priced"), *told)
        assert books.owed() == 0
        assert not books.accounts


def test_a_part_credit_that_mends_the_price_changes_nothing_of_what_is_settled_as_priced() -> None:
    original = claim("C1", "12", priced="9")
    books = Books().hear(policy("as_priced"), original, credit(original, "K1", "0.25"))
    assert books.owed() == Decimal("9") * Decimal("1.21")
    assert books.claims["NL*TNM*K1"].reason == "covered_by_price"
    books.hear(
        credit(
            original,
            "K2",
            "0.5",
        )
    )
    assert books.owed() == Decimal("3") * Decimal("1.21")


def test_an_unknown_currency_is_held() -> None:
    books = Books().hear(claim(currency="XXX"))
    assert books.claims["NL*TNM*C1"].reason == "unknown_currency"
    assert books.entries == []


def test_fees_go_to_the_hub_and_follow_what_is_settled() -> None:
    fee = Fee(
        currency="EUR",
        party=HUB,
        payer=CPO,
        fixed=Decimal("0.10"),
        per_kwh=Decimal("0.01"),
        percent=Decimal(2),
        tax_name="VAT",
        tax_percentage=Decimal(21),
    )
    original = claim()
    books = Books().hear(policy(fees=[fee]), original, claim("C2", currency="CHF"))
    assert books.owed(HUB, CPO) == (Decimal("0.10") + Decimal("0.20") + Decimal("0.20")) * Decimal("1.21")
    assert books.owed(HUB, CPO, "CHF") == 0, "a fee in euros is none on francs"
    assert [one.kind for one in books.entries if one.creditor == HUB] == ["fee"]
    books.hear(credit(original))
    assert books.owed(HUB, CPO) == 0
    assert books.owed() == 0


# -- statements ----------------------------------------------------------------------------------------------


def test_a_statement_closes_and_the_next_one_opens_with_it() -> None:
    books = Books().hear(claim("C1", "10.004"), claim("C2", "5", on="2026-04-02T10:00"), close(MARCH))
    march = books.statements[MARCH]
    assert (march.opening, march.total_before_taxes, march.total) == (0, 10, Decimal("12.10"))
    assert [(tax.name, tax.percentage, tax.base, tax.amount) for tax in march.taxes] == [
        ("VAT", 21, 10, Decimal("2.10"))
    ]
    assert march.rounding == Decimal("12.10") - Decimal("10.004") * Decimal("1.21")
    assert march.closing == Decimal("12.10")
    assert books.owed() == Decimal("12.10") + Decimal("6.05"), (
        "the books are the statement's, rounding included"
    )
    books.hear(close(APRIL))
    assert (books.statements[APRIL].opening, books.statements[APRIL].closing) == (
        Decimal("12.10"),
        Decimal("18.15"),
    )


def test_what_comes_after_the_closing_is_on_the_next_statement_and_says_so() -> None:
    books = Books().hear(claim("C1"), close(MARCH), claim("C2"), credit(claim("C1")))
    late = [one for one in books.entries if one.late]
    assert [(one.cdr_id, one.statement) for one in late] == [("C2", APRIL), ("C1-CREDIT", APRIL)]
    assert books.statements[MARCH].total == Decimal("12.10")
    books.hear(close(APRIL))
    april = books.statements[APRIL]
    assert (april.opening, april.total, april.late, april.entries) == (Decimal("12.10"), 0, 2, 2)


def test_closing_twice_changes_nothing() -> None:
    books = Books().hear(claim("C1"), close(MARCH))
    state, outputs = dict(books.state), len(books.outputs)
    books.hear(close(MARCH), close(MARCH, "2026-06-01"))
    assert (books.state, len(books.outputs)) == (state, outputs)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (close(MARCH, "2026-03-31"), "period_not_over"),
        (close(APRIL), "earlier_period_open"),
        (close("NLTNM-DEEMS-EUR-202513"), "invalid_object"),
    ],
)
def test_closings_that_are_refused(event: Event, reason: str) -> None:
    books = Books().hear(claim("C1"), event)
    assert [found for found, _ in books.refused] == [reason]
    assert not books.statements


def test_a_period_without_lines_can_be_closed_and_carries_the_balance() -> None:
    books = Books().hear(claim("C1"), close(MARCH), close(APRIL), close(MAY, "2026-06-02"))
    assert books.statements[MAY].opening == books.statements[MAY].closing == Decimal("12.10")
    books.hear(close("NLTNM-DEEMS-EUR-202602"))
    assert [reason for reason, _ in books.refused] == ["already_closed"]


def test_a_closed_statement_can_be_made_again_bit_by_bit() -> None:
    books = Books().hear(
        claim("C1", "10.004"), claim("C2", "3.337"), paid("P1", "5", on="2026-03-20"), close(MARCH)
    )
    record = books.statements[MARCH]
    again = closed_statement(record, reversed(books.entries))
    assert [line.cdr_id for line in again.lines] == ["C1", "C2", ""]
    assert (again.digest, again.payments) == (record.digest, 5)
    forged = [msgspec.structs.replace(one, location_id="L2") for one in books.entries]
    with pytest.raises(ValueError, match="not the ones"):
        closed_statement(record, forged)
    with pytest.raises(ValueError, match="not the ones"):
        closed_statement(msgspec.structs.replace(record, total=Decimal(1)), books.entries)


def test_an_open_statement_is_what_it_would_be_if_it_were_closed_now() -> None:
    books = Books().hear(claim("C1", "10.004"), claim("C2", "3.337"))
    (reference,) = read_references(MARCH)
    period = Period(*period_of("month", "UTC", at("2026-03-15")))
    now = open_statement(reference, period, "UTC", books.entries)
    books.hear(close(MARCH))
    then = closed_statement(books.statements[MARCH], books.entries)
    assert (now.total, now.taxes, now.closing, now.lines) == (
        then.total,
        then.taxes,
        then.closing,
        then.lines,
    )


def test_taxes_are_never_mixed() -> None:
    food = TaxRecord(name="VAT", percentage=quantized(Decimal(9)), amount=quantized(Decimal("0.9")))
    books = Books().hear(
        claim("C1"),
        claim("C2", billed_taxes=[food], taxes=quantized(Decimal("0.9"))),
        claim("C3", billed_taxes=[], taxes=quantized(Decimal(0))),
        close(MARCH),
    )
    march = books.statements[MARCH]
    assert [(tax.name, tax.percentage, tax.base, tax.amount) for tax in march.taxes] == [
        ("", None, 10, 0),
        ("VAT", 21, 10, Decimal("2.1")),
        ("VAT", 9, 10, Decimal("0.9")),
    ]
    assert (march.total_before_taxes, march.total) == (30, 33)


def test_currencies_are_never_mixed_and_each_has_its_own_precision() -> None:
    books = Books().hear(
        claim("C1", "10.4"), claim("C2", "1000.4", currency="JPY"), claim("C3", "1.2345", currency="KWD")
    )
    for name in ("EUR", "JPY", "KWD"):
        books.hear(close(f"NLTNM-DEEMS-{name}-202603"))
    totals = {one.currency: one.total for one in books.statements.values()}
    assert totals == {"EUR": Decimal("12.58"), "JPY": 1210, "KWD": Decimal("1.494")}
    assert balance(books.entries) == {"EUR": 0, "JPY": 0, "KWD": 0}
    assert books.owed(currency="JPY") == 1210


@pytest.mark.parametrize(
    ("kind", "zone", "moment", "label", "start", "end"),
    [
        ("month", "Europe/Amsterdam", "2026-02-28T23:30", "202603", "2026-02-28T23:00", "2026-03-31T22:00"),
        (
            "month",
            "America/Los_Angeles",
            "2026-04-01T06:59",
            "202603",
            "2026-03-01T08:00",
            "2026-04-01T07:00",
        ),
        ("day", "Europe/Amsterdam", "2026-03-29T10:00", "20260329", "2026-03-28T23:00", "2026-03-29T22:00"),
        ("week", "UTC", "2026-01-01T00:00", "2026W01", "2025-12-29T00:00", "2026-01-05T00:00"),
    ],
)
def test_periods(kind: str, zone: str, moment: str, label: str, start: str, end: str) -> None:
    assert period_of(kind, zone, at(moment)) == (label, at(start), at(end))
    assert period_named(label, zone) == (label, at(start), at(end))


def test_the_creditors_time_zone_decides_the_period() -> None:
    books = Books().hear(policy(time_zone="Europe/Amsterdam"), claim("C1", on="2026-02-28T23:30"))
    assert books.entries[0].statement == MARCH


def test_a_period_that_begins_before_the_last_closing_begins_with_it() -> None:
    books = Books().hear(claim("C1"), close(MARCH), policy(period="week", since="2026-04-01"))
    books.hear(claim("C2", on="2026-04-01T09:00"), close("NLTNM-DEEMS-EUR-2026W14"))
    week = books.statements["NLTNM-DEEMS-EUR-2026W14"]
    assert (week.period_start, week.period_end) == (at("2026-04-01"), at("2026-04-06"))
    assert (week.opening, week.closing) == (Decimal("12.1"), Decimal("24.2"))


def test_a_closed_statement_gets_no_line_when_the_time_zone_changes() -> None:
    books = Books().hear(policy(time_zone="Asia/Tokyo"), claim("C1"), close(MARCH))
    books.hear(
        policy(time_zone="UTC", since="2026-03-31", on="2026-05-01"), claim("C2", on="2026-03-31T20:00")
    )
    assert [(one.statement, one.late) for one in books.entries] == [(MARCH, False), (APRIL, True)]
    books.hear(close(APRIL))
    assert books.statements[APRIL].opening == Decimal("12.1")


# -- payments ------------------------------------------------------------------------------------------------


def test_payments_are_posted_and_matched() -> None:
    books = Books().hear(claim("C1"), paid("P1", "12.10", MARCH))
    assert books.receipts["P1"].outcome == "unknown_statement", "nothing is closed yet"
    books.hear(close(MARCH))
    assert books.receipts["P1"].outcome == "matched"
    assert books.owed() == 0
    assert books.accounts[f"{CPO}:bank:{EMSP}", "EUR"] == Decimal("12.10")
    books.hear(paid("P1", "12.10", MARCH))
    assert books.owed() == 0, "the same payment is posted once"
    books.hear(paid("P1", "13.10", MARCH))
    assert [reason for reason, _ in books.refused] == ["receipt_conflict"]


def test_what_was_captured_by_card_is_told_again_when_it_changes() -> None:
    def card(amount: str, on: str) -> Event:
        return msgspec.structs.replace(paid("CARD:X", amount, on=on, source="card"), sender="voltfold")

    books = Books().hear(claim("C1"), card("12.10", "2026-03-16"), card("12.10", "2026-03-16"))
    assert books.owed() == 0
    books.hear(close(MARCH), card("10.00", "2026-03-17"))
    assert books.owed() == Decimal("2.10")
    assert [(one.amount, one.late) for one in books.entries if one.kind == "payment"] == [
        (Decimal("-12.10"), False),
        (Decimal("12.10"), True),
        (Decimal("-10.00"), True),
    ]
    books.hear(card("0", "2026-03-18"))
    assert books.owed() == Decimal("12.10")
    assert (books.receipts["CARD:X"].amount, books.receipts["CARD:X"].entry_id) == (0, None)
    books.hear(close(APRIL))
    assert (books.statements[APRIL].payments, books.statements[APRIL].closing) == (
        Decimal("-12.10"),
        Decimal("12.10"),
    )
    assert books.refused == []


def test_payments_that_match_nothing_are_listed() -> None:
    books = Books().hear(claim("C1"), close(MARCH))
    books.hear(
        paid("P1", "1", APRIL), paid("P2", "2"), paid("P3", "3", MARCH, currency="CHF"),
        paid("P4", "4", creditor=None, debtor=None), paid("P5", "0.001"),
    )  # fmt: skip
    outcomes = {name: one.outcome for name, one in books.receipts.items()}
    assert outcomes == {
        "P1": "unknown_statement",
        "P2": "on_account",
        "P3": "wrong_currency",
        "P4": "unknown_party",
    }
    assert [reason for reason, _ in books.refused] == ["invalid_object"]
    assert (books.owed(), books.owed(currency="CHF")) == (Decimal("9.10"), -3)


@pytest.mark.parametrize(
    ("total", "sum_paid", "state"),
    [("10", "0", "unpaid"), ("10", "4", "partial"), ("10", "10", "paid"), ("10", "11", "excess"),
     ("-5", "-2", "partial"), ("-5", "-5", "paid"), ("-5", "1", "unpaid"), ("0", "0", "paid")],
)  # fmt: skip
def test_payment_states(total: str, sum_paid: str, state: str) -> None:
    assert payment_state(Decimal(total), Decimal(sum_paid)) == state


# -- what is odd ---------------------------------------------------------------------------------------------


def test_what_cannot_be_read_or_does_not_belong_here_goes_to_quarantine() -> None:
    books = Books().hear(decide("NL*TNM*C1", "maybe"), policy("as_wished"), policy(time_zone="Mars/Base"))
    books.fold([Fact(TOPICS.ledger.name, 1, 77, b"x", b"\xc3\x01garbage")])
    books.fold([Fact(TOPICS.ledger.name, 1, 78, b"AA*BBB|CC*DDD", close(MARCH).encode())])
    assert [reason for reason, _ in books.refused] == ["invalid_object"] * 3 + ["unreadable", "wrong_pair"]


def test_a_defect_leaves_no_trace_but_in_quarantine(monkeypatch: pytest.MonkeyPatch) -> None:
    from streams.ledger import posting

    honest = posting.entry_of

    def crooked(*args: object, **more: object) -> EntryRecord:
        entry = honest(*args, **more)  # type: ignore[arg-type]
        if entry.cdr_id == "C2":
            entry.legs[0].amount += 1
        return entry

    monkeypatch.setattr(posting, "entry_of", crooked)
    books = Books().hear(claim("C1"), claim("C2"), claim("C3"))
    assert [reason for reason, _ in books.refused] == ["defect"]
    assert [(one.cdr_id, one.sequence) for one in books.entries] == [("C1", 1), ("C3", 2)]
    assert books.owed() == Decimal("24.2")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"invoice {MARCH}, thank you", [MARCH]),
        ("nltnm-deems-eur-202603", [MARCH]),
        ("NLTNM-DEEMS-\nEUR-2026 03", [MARCH]),
        ("XNLTNM-DEEMS-EUR-2026031", []),
        (f"{MARCH} and {APRIL}", [MARCH, APRIL]),
    ],
)
def test_references_are_found_in_texts(text: str, found: list[str]) -> None:
    assert [str(one) for one in read_references(text)] == found


@pytest.mark.parametrize(
    ("before", "tax", "rate"),
    [
        ("10", "2.1", "21"),
        ("3.27", "0.69", "21"),
        ("12.3456", "0.6790", "5.5"),
        ("0.05", "0.01", None),
        ("10", "4.2", "42"),
    ],
)
def test_the_percentage_of_a_tax(before: str, tax: str, rate: str | None) -> None:
    assert evident_rate(Decimal(before), Decimal(tax)) == (None if rate is None else Decimal(rate))


# -- any order -----------------------------------------------------------------------------------------------


@st.composite
def tales(draw: st.DrawFn) -> list[ClaimRecord | Event]:
    """Claims that are right, wrong or unpriced, revisions, credits, decisions, policies, payments."""
    cents = st.integers(1, 5_000).map(lambda number: str(Decimal(number) / 100))
    told: list[ClaimRecord | Event] = []
    for number in range(draw(st.integers(1, 5))):
        before = draw(cents)
        priced = draw(st.sampled_from([before, None]) | cents)
        name = f"C{number}"
        same = {"session_id": "S-TWIN", "session_key": "NL*TNM*S-TWIN"} if draw(st.booleans()) else {}
        changes = {"currency": draw(st.sampled_from(["EUR", "EUR", "CHF"])), **same}
        day = draw(st.integers(1, 28))
        one = claim(name, before, priced=priced, on=f"2026-03-{day:02}T10:00", **changes)
        told.append(one)
        for part in range(draw(st.integers(0, 3))):
            share = draw(st.sampled_from(["1", "0.5", "0.25"]))
            told.append(credit(one, f"{name}-K{part}", share))
        if draw(st.booleans()):
            told.append(decide(one.id, draw(st.sampled_from(["accept", "reject"])), f"2026-04-{day:02}"))
    for number in range(draw(st.integers(0, 2))):
        mode = draw(st.sampled_from(["as_billed", "as_priced", "within_tolerance"]))
        fee = Fee(currency="EUR", party=HUB, payer=CPO, percent=Decimal(2), fixed=Decimal("0.1"))
        fees = [fee] if draw(st.booleans()) else []
        since = f"2026-03-{draw(st.integers(1, 28)):02}"
        told.append(policy(mode, since, f"2026-04-{number + 1:02}", tolerance_percent=Decimal(5), fees=fees))
    payments = range(draw(st.integers(0, 2)))
    told += [paid(f"P{number}", draw(cents), draw(st.sampled_from([None, MARCH]))) for number in payments]
    return told


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tales(), st.randoms(use_true_random=False), st.lists(st.integers(1, 25), max_size=4))
def test_any_order_and_any_batches_give_the_same_books(
    told: list[ClaimRecord | Event], chance: object, cuts: list[int]
) -> None:
    plain = Books().hear(*told)
    other = Books()
    mixed = list(told)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    places = [0, *sorted({cut for cut in cuts if cut < len(mixed)}), len(mixed)]
    for start, end in itertools.pairwise(places):
        other.hear(*mixed[start:end])
        assert not any(balance(other.entries).values()), "level at every moment"
    assert other.accounts == plain.accounts
    assert _standing(other) == _standing(plain)
    assert other.receipts == plain.receipts
    for books in (plain, other):
        for currency in ("EUR", "CHF"):
            books.hear(close(f"NLTNM-DEEMS-{currency}-202603"), close(f"NLTNM-DEEMS-{currency}-202604"))
    assert [_sums(one) for one in other.statements.values()] == [
        _sums(one) for one in plain.statements.values()
    ]
    assert plain.refused == other.refused == []


def _standing(books: Books) -> dict[str, tuple[str, Decimal, Decimal]]:
    """Where claims stand. A fee that was taken back is none, as one that was never asked for."""
    return {
        name: (one.status, one.settled_before_taxes, one.settled_taxes)
        for name, one in books.claims.items()
        if one.kind != "fee" or one.settled_before_taxes
    }


def _sums(one: object) -> object:
    """A statement's totals. Its digests tell the order of its lines, too, and that was another one."""
    return msgspec.structs.replace(one, lines_digest="", digest="", entries=0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tales(), st.lists(st.integers(0, 40), max_size=6))
def test_batches_show_in_no_record(told: list[ClaimRecord | Event], cuts: list[int]) -> None:
    told = [*told[: len(told) // 2], close(MARCH), *told[len(told) // 2 :]]
    whole, cut = Books().hear(*told), Books()
    places = [0, *sorted({place for place in cuts if place < len(told)}), len(told)]
    loop: list[Fact] = []
    for start, end in itertools.pairwise(places):
        facts = [cut._fact(key_of(one), one.encode()) for one in told[start:end]]
        loop += [cut._fact(one.key, one.value or b"") for one in cut.fold(facts)]
    while loop:
        loop = [cut._fact(one.key, one.value or b"") for one in cut.fold(loop)]
    assert cut.latest == whole.latest


class _Partition:
    """A partition as its processor has it: a log, what is committed of it, and a store that a crash takes."""

    def __init__(self, told: list[ClaimRecord | Event]) -> None:
        self.books = Books()
        self.log = [self.books._fact(key_of(one), one.encode()) for one in told]
        self.position = 0
        self.committed: dict[bytes, bytes] = {}  # the changelog
        self.store: dict[bytes, bytes] = {}

    def step(self, size: int, crash: str) -> None:
        """Fold a batch. It dies before the commit, between commit and store, or not at all."""
        batch = self.log[self.position : self.position + size]
        self.books.state = dict(self.store)
        if crash == "before the commit":
            self.books._fold(batch, self.books.state.get)
        else:
            written = self.books.fold(batch)
            self.committed = dict(self.books.state)
            self.log += [self.books._fact(one.key, one.value or b"") for one in written]
            self.position += len(batch)
        # Who opens the partition after a crash reads the changelog; else the store has what was committed.
        self.store = dict(self.committed) if crash else dict(self.books.state)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tales(),
    st.lists(
        st.tuples(st.integers(1, 9), st.sampled_from(["", "before the commit", "after the commit"])),
        max_size=12,
    ),
)
def test_a_crash_at_any_step_gives_the_same_books(
    told: list[ClaimRecord | Event], steps: list[tuple[int, str]]
) -> None:
    told = [*told[: len(told) // 2], close(MARCH), *told[len(told) // 2 :]]
    partition = _Partition(told)
    for size, crash in steps:
        partition.step(size, crash)
    while partition.position < len(partition.log):
        partition.step(7, "")
    assert partition.books.latest == Books().hear(*told).latest
