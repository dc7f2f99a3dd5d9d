"""Which of our statements a payment pays: by the reference that it names and by its amount."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time
from decimal import Decimal
from itertools import combinations
from typing import NamedTuple

import msgspec

from schemas.currencies import rounded
from schemas.records import micros
from schemas.settlement import Receipt, ReceiptRecord, Reference, StatementRecord
from streams.banking.camt import Payment
from streams.banking.references import found_in
from streams.ledger.statements import payment_state

_ZERO = Decimal(0)
_LONGEST = 500
ASSIGNED = ":assigned"
"""Behind the id of an unknown payment: the receipt by which somebody said whose it is."""
PART = ":part"
"""Behind the id of a payment for several statements, before a number: its second part, and those after it."""
_MOST_TRIED = 12


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A closed statement and what came in for it. `state`: unpaid, partial, paid or excess.

    `period_end` in microseconds.
    """

    reference: str
    creditor: str
    debtor: str
    currency: str
    total: Decimal
    paid: Decimal
    outstanding: Decimal
    state: str
    payments: list[str]
    period_end: int


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


class Left(NamedTuple):
    """What is outstanding of a closed statement, what was paid of it, and when its period ended (micros)."""

    currency: str
    amount: Decimal
    paid: Decimal = _ZERO
    until: int = 0


def receipts_of(payment: Payment, outstanding: Mapping[str, Left]) -> list[Receipt]:
    """The receipts of a payment, which add up to it; `outstanding`: by the reference of a closed statement.

    One that names one statement is for that one, whatever its amount. One that names several is shared out:
    to those of them whose outstanding amounts add up to it, else to the oldest first. What is left then is
    for the first named statement that is not closed yet, else on account. When nothing is outstanding of any,
    it is a payment too many for the first that is closed. Without a reference it is nobody's, and is listed.

    What takes a payment back (its amount is negative) takes back what was paid, from the newest first.
    """
    texts = (*payment.remittance, *([payment.end_to_end_id] if payment.end_to_end_id else []))
    named = found_in(texts)
    parts = _parts(payment, named, outstanding)
    told = filter(None, (payment.payer, payment.payer_account, *texts))
    text = " | ".join(dict.fromkeys(told))[:_LONGEST]
    return [
        Receipt(
            id=payment.id if number == 1 else f"{payment.id}{PART}{number}",
            currency=payment.currency,
            amount=amount,
            # Noon: the same day in nearly every time zone.
            received_on=micros(datetime.combine(payment.booked_on, time(12), UTC)),
            creditor=whose.creditor if whose else None,
            debtor=whose.debtor if whose else None,
            statement=str(whose) if whose and is_for_it else None,
            source="bank",
            text=text,
        )
        for number, (whose, is_for_it, amount) in enumerate(parts, 1)
    ]


_Part = tuple[Reference | None, bool, Decimal]
"""Whose statement, whether it is for it or on account of its parties, and how much."""


def _parts(payment: Payment, named: list[Reference], outstanding: Mapping[str, Left]) -> list[_Part]:
    if len(named) < 2:
        return [(named[0] if named else None, True, payment.amount)]
    known = [(one, outstanding[str(one)]) for one in named if str(one) in outstanding]
    closed = [(one, left) for one, left in known if left.currency == payment.currency]
    sign = 1 if payment.amount > 0 else -1
    closed.sort(key=lambda each: (sign * each[1].until, str(each[0])))
    room = [(one, left.amount if sign > 0 else left.paid) for one, left in closed]
    room = [(one, amount) for one, amount in room if amount > 0]
    rest = abs(payment.amount)
    parts: list[_Part] = []
    for one, amount in _adding_up(room, rest) or room:
        if taken := min(amount, rest):
            parts.append((one, True, rounded(sign * taken, payment.currency)))
            rest -= taken
    open_ones = [one for one in named if str(one) not in outstanding and one.currency == payment.currency]
    if rest and open_ones:
        parts.append((open_ones[0], True, sign * rest))
    elif rest and parts:
        parts.append((parts[0][0], False, sign * rest))
    elif rest:
        first = closed[0] if closed else known[0] if known else (named[0],)
        parts.append((first[0], True, payment.amount))
    return parts


def _adding_up(room: list[tuple[Reference, Decimal]], amount: Decimal) -> list[tuple[Reference, Decimal]]:
    """Those whose amounts add up to an amount: as few as possible, of these the first; none if none do."""
    if len(room) <= _MOST_TRIED:
        for count in range(1, len(room) + 1):
            for some in combinations(room, count):
                if sum(one[1] for one in some) == amount:
                    return list(some)
    return []


def payment_id(receipt_id: str) -> str:
    """The id of the payment that a receipt is of, or is a part of."""
    return receipt_id.partition(PART)[0]


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
                period_end=one.period_end,
            )
        )
    return found


class Outstanding:
    """What is outstanding of each closed statement while payments are taken in."""

    def __init__(self, found: Iterable[Standing]) -> None:
        self._totals = {one.reference: one.total for one in found}
        self.left = {
            one.reference: Left(one.currency, one.outstanding, one.paid, one.period_end) for one in found
        }

    def take(self, receipt: Receipt | ReceiptRecord, *, new: bool = True) -> str:
        """The state that a payment leaves its statement in, or why it counts for none; as in `Received`."""
        if receipt.statement is None:
            return "on_account" if receipt.creditor else "unknown"
        if receipt.statement not in self.left:
            return "unknown_statement"
        left = self.left[receipt.statement]
        if left.currency != receipt.currency:
            return "wrong_currency"
        if new:
            left = left._replace(amount=left.amount - receipt.amount, paid=left.paid + receipt.amount)
            self.left[receipt.statement] = left
        return payment_state(self._totals[receipt.statement], left.paid)


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
