"""Which of our statements a payment pays: by the reference that it names and by its amount."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time
from decimal import Decimal

import msgspec

from schemas.records import micros
from schemas.settlement import Receipt, ReceiptRecord, Reference, StatementRecord
from streams.banking.camt import Payment
from streams.banking.references import found_in
from streams.ledger.statements import payment_state

_ZERO = Decimal(0)
_LONGEST = 500
ASSIGNED = ":assigned"
"""Behind the id of an unknown payment: the receipt by which somebody said whose it is."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A closed statement and what came in for it. `state`: unpaid, partial, paid or excess."""

    reference: str
    creditor: str
    debtor: str
    currency: str
    total: Decimal
    paid: Decimal
    outstanding: Decimal
    state: str
    payments: list[str]


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A payment received.

    `state` is that of its statement (partial, paid, excess), or what keeps it from counting for one:
    unknown_statement (none of that reference is closed), wrong_currency, on_account (the parties are known,
    no statement), unknown (nothing tells whose it is) or assigned (somebody said so later). `fits` are
    statements of which just this amount is outstanding.
    """

    id: str
    received_on: datetime
    currency: str
    amount: Decimal
    statement: str | None
    creditor: str | None
    debtor: str | None
    state: str
    fits: list[str]
    text: str


def receipt_of(payment: Payment, outstanding: Mapping[str, tuple[str, Decimal]]) -> Receipt:
    """The receipt of a payment; `outstanding`: currency and amount by the reference of a closed statement.

    Of several references that it names, the statement that its amount pays off, else the first one that is
    closed, else the first. Without any it is nobody's, and is listed.
    """
    texts = (*payment.remittance, *([payment.end_to_end_id] if payment.end_to_end_id else []))
    named = found_in(texts)

    def rank(reference: Reference) -> int:
        known = outstanding.get(str(reference))
        return 2 if known is None else int(known != (payment.currency, payment.amount))

    best = min(named, key=rank, default=None)
    told = filter(None, (payment.payer, payment.payer_account, *texts))
    return Receipt(
        id=payment.id,
        currency=payment.currency,
        amount=payment.amount,
        # Noon: the same day in nearly every time zone.
        received_on=micros(datetime.combine(payment.booked_on, time(12), UTC)),
        creditor=best.creditor if best else None,
        debtor=best.debtor if best else None,
        statement=str(best) if best else None,
        source="bank",
        text=" | ".join(dict.fromkeys(told))[:_LONGEST],
    )


def standings(
    statements: Iterable[StatementRecord], receipts: Iterable[ReceiptRecord | Receipt]
) -> list[Standing]:
    """Where every statement stands with its payments, in order of their references."""
    by_statement: dict[str, list[ReceiptRecord | Receipt]] = {}
    for receipt in receipts:
        if receipt.statement:
            by_statement.setdefault(receipt.statement, []).append(receipt)
    found = []
    for one in sorted(statements, key=lambda one: one.reference):
        whose = (one.currency, one.creditor, one.debtor)
        mine = [
            receipt
            for receipt in by_statement.get(one.reference, [])
            if (receipt.currency, receipt.creditor, receipt.debtor) == whose
        ]
        paid = sum((receipt.amount for receipt in mine), _ZERO)
        found.append(
            Standing(
                reference=one.reference,
                creditor=one.creditor,
                debtor=one.debtor,
                currency=one.currency,
                total=one.total,
                paid=paid,
                outstanding=one.total - paid,
                state=payment_state(one.total, paid),
                payments=[receipt.id for receipt in mine],
            )
        )
    return found


class Outstanding:
    """What is outstanding of each closed statement while payments are taken in."""

    def __init__(self, found: Iterable[Standing]) -> None:
        self._totals = {one.reference: one.total for one in found}
        self.left = {one.reference: (one.currency, one.outstanding) for one in found}
        """Currency and amount by reference."""

    def take(self, receipt: Receipt | ReceiptRecord, *, new: bool = True) -> str:
        """The state that a payment leaves its statement in, or why it counts for none; as in `Received`."""
        if receipt.statement is None:
            return "on_account" if receipt.creditor else "unknown"
        if receipt.statement not in self.left:
            return "unknown_statement"
        currency, left = self.left[receipt.statement]
        if currency != receipt.currency:
            return "wrong_currency"
        left -= receipt.amount if new else _ZERO
        self.left[receipt.statement] = currency, left
        total = self._totals[receipt.statement]
        return payment_state(total, total - left)


def received(receipts: Iterable[ReceiptRecord], found: Iterable[Standing]) -> list[Received]:
    """Every payment with what became of it, the newest first."""
    found = list(found)
    states = {one.reference: one.state for one in found}
    fitting: dict[tuple[str, Decimal], list[str]] = {}
    for one in found:
        fitting.setdefault((one.currency, one.outstanding), []).append(one.reference)
    known = {receipt.id: receipt for receipt in receipts}
    return [
        Received(
            id=one.id,
            received_on=datetime.fromtimestamp(one.received_on // 1_000_000, UTC),
            currency=one.currency,
            amount=one.amount,
            statement=one.statement,
            creditor=one.creditor,
            debtor=one.debtor,
            state=(state := _state(one, states, known)),
            fits=fitting.get((one.currency, one.amount), []) if state in _OPEN else [],
            text=one.text,
        )
        for one in sorted(known.values(), key=lambda one: (-one.received_on, one.id))
    ]


_OPEN = ("unknown", "on_account", "unknown_statement")


def _state(one: ReceiptRecord, states: Mapping[str, str], known: Mapping[str, ReceiptRecord]) -> str:
    if f"{one.id}{ASSIGNED}" in known:
        return "assigned"
    if one.outcome == "matched" and one.statement:
        return states.get(one.statement, "unknown_statement")
    return "unknown" if one.outcome == "unknown_party" else one.outcome
