"""Which statement a payment is for, and where that leaves the statement."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import micros, quantized
from schemas.settlement import Receipt, ReceiptRecord, StatementRecord
from streams.banking.camt import Payment
from streams.banking.matching import ASSIGNED, Outstanding, receipt_of, received, standings
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
        period_end=1,
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


LEFT = {MARCH: ("EUR", Decimal(100)), APRIL: ("EUR", Decimal(50))}


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


def test_of_several_references_the_amount_decides() -> None:
    """Then which one is closed, then which one comes first."""
    assert receipt_of(payment("50.00", f"{MARCH} {APRIL}"), LEFT).statement == APRIL
    assert receipt_of(payment("51.00", f"{MARCH} {APRIL}"), LEFT).statement == MARCH
    assert receipt_of(payment("51.00", f"{MARCH} {APRIL}"), {APRIL: LEFT[APRIL]}).statement == APRIL
    assert receipt_of(payment("51.00", f"{MARCH} {APRIL}"), {}).statement == MARCH


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
