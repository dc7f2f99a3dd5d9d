"""Which statement a payment is for, and where that leaves the statement."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import micros, quantized
from schemas.settlement import Receipt, ReceiptRecord, StatementRecord
from streams.banking.camt import Payment
from streams.banking.matching import (
    ASSIGNED,
    Left,
    Outstanding,
    payment_id,
    receipts_of,
    received,
    standings,
)
from streams.banking.references import structured

MARCH, APRIL = "NLTNM-DEEMS-EUR-202603", "NLTNM-DEEMS-EUR-202604"
DAY = micros(datetime(2026, 5, 2, 12, tzinfo=UTC))


def statement(reference: str = MARCH, total: str = "100.00", currency: str = "EUR") -> StatementRecord:
    """A closed statement."""
    zero = Decimal(0)
    return StatementRecord(
        reference=reference,
        creditor="NL*TNM",
        debtor="DE*EMS",
        currency=currency,
        period=reference[-6:],
        time_zone="UTC",
        period_start=0,
        period_end=int(reference[-2:]),
        opening=zero,
        total_before_taxes=quantized(Decimal(total)),
        taxes=[],
        total=quantized(Decimal(total)),
        rounding=zero,
        payments=zero,
        closing=quantized(Decimal(total)),
        entries=1,
        late=0,
        closed_at=2,
        event_id=bytes(16),
        lines_digest="",
        digest="",
    )


def payment(amount: str = "100.00", *texts: str, **changes: Any) -> Payment:
    """A booked payment."""
    fields: dict[str, Any] = {
        "id": "P1",
        "account": "NL91ABNA0417164300",
        "servicer_reference": "B1",
        "amount": Decimal(amount),
        "currency": "EUR",
        "booked_on": date(2026, 5, 2),
        "value_on": None,
        "payer": "Provider GmbH",
        "payer_account": None,
        "end_to_end_id": None,
        "remittance": texts,
        "message": "camt.053.001.08",
    }
    return Payment(**(fields | changes))


def record(receipt: Receipt, outcome: str) -> ReceiptRecord:
    """What the ledger makes of a receipt."""
    return ReceiptRecord(
        id=receipt.id,
        creditor=receipt.creditor,
        debtor=receipt.debtor,
        currency=receipt.currency,
        amount=receipt.amount,
        statement=receipt.statement,
        source=receipt.source,
        text=receipt.text,
        outcome=outcome,
        entry_id=None,
        received_on=receipt.received_on,
        event_id=bytes(16),
    )


LEFT = {MARCH: Left("EUR", Decimal(100), until=1), APRIL: Left("EUR", Decimal(50), until=2)}


def receipt_of(paid: Payment, left: Mapping[str, Left]) -> Receipt:
    """The one receipt that a payment makes."""
    (found,) = receipts_of(paid, left)
    assert (found.id, found.amount) == (paid.id, paid.amount)
    return found


def parts(paid: Payment, left: Mapping[str, Left]) -> list[tuple[str | None, Decimal]]:
    """What a payment is for, and how much."""
    return [(one.statement, one.amount) for one in receipts_of(paid, left)]


def test_by_reference() -> None:
    """In the remittance, structured or not, or as the end-to-end id; case and line breaks do not count."""
    for paid in (
        payment("1.00", f"inv {MARCH}"),
        payment("1.00", MARCH.lower()[:9], MARCH.lower()[9:]),
        payment("1.00", structured(MARCH)),
        payment("1.00", end_to_end_id=MARCH),
    ):
        found = receipt_of(paid, LEFT)
        assert (found.statement, found.creditor, found.debtor) == (MARCH, "NL*TNM", "DE*EMS")
        assert found.received_on == DAY
        assert found.text.startswith("Provider GmbH | ")


def test_of_several_statements_those_are_paid_that_add_up_to_it() -> None:
    """Else the oldest first; what is left is listed, or for the one that is not closed yet."""
    both, may = f"{APRIL} {MARCH}", "NLTNM-DEEMS-EUR-202605"
    assert parts(payment("150.00", both), LEFT) == [(MARCH, 100), (APRIL, 50)]
    assert parts(payment("50.00", both), LEFT) == [(APRIL, 50)]
    assert parts(payment("100.00", both), LEFT) == [(MARCH, 100)]
    assert parts(payment("51.00", both), LEFT) == [(MARCH, 51)]
    assert parts(payment("120.00", both), LEFT) == [(MARCH, 100), (APRIL, 20)]
    assert parts(payment("170.00", both), LEFT) == [(MARCH, 100), (APRIL, 50), (None, 20)]
    assert parts(payment("170.00", f"{both} {may}"), LEFT) == [(MARCH, 100), (APRIL, 50), (may, 20)]
    assert parts(payment("51.00", both), {APRIL: LEFT[APRIL]}) == [(APRIL, 50), (MARCH, 1)]
    third = LEFT | {may: Left("EUR", Decimal(30), until=3)}
    assert parts(payment("80.00", f"{both} {may}"), third) == [(APRIL, 50), (may, 30)]
    dollars = LEFT | {APRIL: Left("USD", Decimal(50), until=2)}
    assert parts(payment("120.00", both), dollars) == [(MARCH, 100), (None, 20)]
    first, second, rest = receipts_of(payment("170.00", both), LEFT)
    assert (first.id, second.id, rest.id) == ("P1", "P1:part2", "P1:part3")
    assert {payment_id(one.id) for one in (first, second, rest)} == {"P1"}
    assert (rest.creditor, rest.debtor) == ("NL*TNM", "DE*EMS"), "on account"


def test_a_payment_for_several_that_is_taken_back_takes_back_what_was_paid() -> None:
    """The newest first; one too many is the first one's."""
    both = f"{MARCH} {APRIL}"
    standing = Outstanding(standings([statement(), statement(APRIL, "50.00")], []))
    for amount, paid in (("150.00", {MARCH: 100, APRIL: 50}), ("-60.00", {MARCH: 90, APRIL: 0})):
        for one in receipts_of(payment(amount, both), standing.left):
            standing.take(one)
        assert {name: left.paid for name, left in standing.left.items()} == paid
    empty = {name: left._replace(amount=Decimal(0)) for name, left in LEFT.items()}
    assert parts(payment("7.00", both), empty) == [(MARCH, 7)]
    assert parts(payment("7.00", both), {}) == [(MARCH, 7)]


_named = st.lists(st.sampled_from([f"NLTNM-DEEMS-EUR-2026{month:02}" for month in range(1, 9)]), max_size=8)
_cents = st.integers(-30_000, 30_000).map(lambda cents: Decimal(cents) / 100)


@settings(deadline=None)
@given(
    _named,
    st.permutations(range(8)),
    _cents.filter(bool),
    st.lists(_cents, min_size=6, max_size=6),
    st.data(),
)
def test_a_payment_is_shared_out_to_the_cent(
    named: list[str], order: list[int], amount: Decimal, open_: list[Decimal], data: st.DataObject
) -> None:
    """Parts add up to it, have ids of their own, pay no statement of several too much, and follow from it."""
    left = {
        f"NLTNM-DEEMS-EUR-2026{month:02}": Left("EUR", one, abs(one), month)
        for month, one in enumerate(open_, 1)
    }
    if named and data.draw(st.booleans(), "adds up"):
        amount = sum((left[one].amount for one in set(named) if one in left), Decimal(0)) or amount
    paid = payment(str(amount), " ".join(named))
    found = receipts_of(paid, left)
    assert sum(one.amount for one in found) == amount
    assert all(one.amount * amount > 0 for one in found)
    assert len({one.id for one in found}) == len(found)
    assert {payment_id(one.id) for one in found} == {"P1"}
    assert found == receipts_of(paid, dict(reversed(left.items())))
    if len(set(named)) > 1 and len(found) > 1:
        for one in found:
            if one.statement in left:
                known = left[one.statement]
                assert abs(one.amount) <= (known.amount if amount > 0 else known.paid)
        shuffled = [named[at] for at in order if at < len(named)]
        again = receipts_of(payment(str(amount), " ".join(shuffled)), left)
        of_closed = {one.statement: one.amount for one in found if one.statement in left}
        assert of_closed == {one.statement: one.amount for one in again if one.statement in left}


def test_without_a_reference() -> None:
    """It is nobody's."""
    found = receipt_of(payment("50.00", "thanks"), LEFT)
    assert (found.statement, found.creditor, found.debtor) == (None, None, None)


def test_where_payments_leave_a_statement() -> None:
    """One after the other; those that count for none say why."""
    standing = Outstanding(standings([statement()], []))
    states = [
        standing.take(receipt_of(each, standing.left))
        for each in (
            payment("40.00", MARCH),
            payment("60.00", MARCH),
            payment("1.00", MARCH),
            payment("-1.00", MARCH),
            payment("1.00", APRIL),
            payment("1.00", MARCH, currency="USD"),
            payment("1.00", "?"),
        )
    ]
    assert states == ["partial", "paid", "excess", "paid", "unknown_statement", "wrong_currency", "unknown"]


def test_the_list() -> None:
    """Every payment and statement, with what fits to what nobody can place."""
    one = receipt_of(payment("40.00", MARCH), LEFT)
    lost = receipt_of(payment("50.00", "thanks", id="P2", booked_on=date(2026, 5, 3)), LEFT)
    settled = [statement(), statement(APRIL, "50.00")]
    receipts = [record(one, "matched"), record(lost, "unknown_party")]
    found = standings(settled, receipts)
    assert [(each.reference, each.state, each.outstanding) for each in found] == [
        (MARCH, "partial", 60),
        (APRIL, "unpaid", 50),
    ]
    shown = received(receipts, found)
    assert [(each.id, each.state, each.fits) for each in shown] == [
        ("P2", "unknown", [APRIL]),
        ("P1", "partial", []),
    ]
    parties = {"statement": APRIL, "creditor": "NL*TNM", "debtor": "DE*EMS"}
    placed = msgspec.structs.replace(lost, id=f"P2{ASSIGNED}", **parties)
    receipts.append(record(placed, "matched"))
    found = standings(settled, receipts)
    assert [each.state for each in found] == ["partial", "paid"]
    assert {each.id: each.state for each in received(receipts, found)} == {
        "P1": "partial",
        "P2": "assigned",
        f"P2{ASSIGNED}": "paid",
    }


def test_money_of_others_does_not_count() -> None:
    """A receipt that names the statement, but other parties or another currency."""
    right = receipt_of(payment("100.00", MARCH), LEFT)
    others = [record(right, "matched") for _ in range(3)]
    others[0].debtor, others[1].currency, others[2].creditor = "FR*EMS", "USD", "NL*XXX"
    assert standings([statement()], others)[0].state == "unpaid"


@settings(deadline=None)
@given(st.lists(st.decimals(min_value=-200, max_value=200, places=2).filter(bool), max_size=8))
def test_taking_in_and_listing_agree(amounts: list[Decimal]) -> None:
    """The state that an import tells is the one that the list shows afterwards."""
    standing = Outstanding(standings([statement()], []))
    told = "unpaid"
    receipts = []
    for number, amount in enumerate(amounts):
        receipt = receipt_of(payment(str(amount), MARCH, id=f"P{number}"), standing.left)
        told = standing.take(receipt)
        receipts.append(record(receipt, "matched"))
    assert standings([statement()], receipts)[0].state == told
