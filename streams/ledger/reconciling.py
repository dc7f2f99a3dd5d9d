"""Invoice reconciliation: the CDRs that an invoice lists against the statement that it stands for, one by
one.

An invoice reconciliation record (mod_invoice_reconciliation) names an invoice and its CDRs, and no amounts:
what is compared is what our books say of each CDR. With direct billing the operator issues it, with reverse
billing the provider; either way each CDR comes out as one of

    matched            on the statement, settled as billed, on no other invoice
    missing            on the statement and not on the invoice
    extra              on the invoice and not on the statement, or not known at all
    different_amount   settled otherwise than billed, or not at all (held, rejected)
    wrong_currency     in another currency than the statement
    already_invoiced   on an earlier invoice of the same party
    credited           taken back, on the same statement, by a credit CDR that is not on the invoice
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

from schemas.records import quantized
from schemas.settlement import DifferenceRecord

MISSING, EXTRA, DIFFERENT = "missing", "extra", "different_amount"
CURRENCY, INVOICED, CREDITED = "wrong_currency", "already_invoiced", "credited"


class Known(NamedTuple):
    """What the books say of a CDR. `statement`: the one that its first posting is on."""

    claim: str
    cdr_id: str
    currency: str
    billed: Decimal
    settled: Decimal
    status: str
    reason: str
    statement: str | None
    credited_by: Sequence[str]
    """Keys of the credit CDRs on the same statement, when they leave nothing of it."""
    credit_of: str | None
    offsets: str | None
    """Of a credit CDR that, with others perhaps, leaves nothing of its original: that one's statement."""
    invoices: Sequence[str]
    """Earlier invoices of the same party that list it."""


class Outcome(NamedTuple):
    """An invoice against our books."""

    statement: str | None
    currency: str | None
    amount: Decimal
    matched: int
    differences: list[DifferenceRecord]


Lookup = Callable[[str], Known | None]
"""What is known of a CDR by the id that an invoice has for it."""


def choose(found: Iterable[Known], named: str | None) -> tuple[str | None, str | None]:
    """The statement that an invoice stands for (it names it, or most CDRs are on it), and its currency."""
    known = list(found)
    statement = named
    if statement is None:
        statement = _most(one.statement for one in known if one.statement)
    currency = statement.split("-")[2] if statement else _most(one.currency.upper() for one in known)
    return statement, currency


def match(
    cdrs: Sequence[str], lookup: Lookup, named: str | None, members: Callable[[str], Iterable[Known]]
) -> Outcome:
    """Hold an invoice's CDRs against our books.

    `named`: our statement's reference, when the invoice bears it; `members`: the CDRs first posted on a
    statement that no other record of this invoice lists.
    """
    listed = list(dict.fromkeys(one.upper() for one in cdrs))
    again = Counter(one.upper() for one in cdrs)
    known = {one: lookup(one) for one in listed}
    statement, currency = choose((one for one in known.values() if one), named)
    claims = {one.claim for one in known.values() if one}
    differences: list[DifferenceRecord] = []
    matched, amount = 0, Decimal(0)
    spelled = {one.upper(): one for one in reversed(cdrs)}
    for name in listed:
        one = known[name]
        outcome = _judge(one, statement, currency, claims, again[name])
        if one is not None and one.currency.upper() == currency:
            amount += one.settled
        if outcome is None:
            matched += 1
            continue
        differences.append(
            DifferenceRecord(
                cdr_id=one.cdr_id if one else spelled[name],
                outcome=outcome[0],
                detail=outcome[1],
                billed=one.billed if one else None,
                settled=one.settled if one else None,
            )
        )
    for one in members(statement) if statement else ():
        assert statement
        if one.claim in claims or _is_gone(one, statement, claims):
            continue
        differences.append(
            DifferenceRecord(
                cdr_id=one.cdr_id,
                outcome=MISSING,
                detail=f"it is on statement {statement}",
                billed=one.billed,
                settled=one.settled,
            )
        )
    return Outcome(statement, currency, quantized(amount), matched, differences)


def _judge(
    one: Known | None, statement: str | None, currency: str | None, claims: set[str], times: int
) -> tuple[str, str] | None:
    """What is wrong with a listed CDR, and in words; None when nothing is."""
    if one is None:
        return EXTRA, "no such CDR is known between these parties"
    if one.currency.upper() != currency:
        return CURRENCY, f"it is in {one.currency}, the invoice in {currency}"
    if times > 1:
        return INVOICED, f"it is listed {times} times"
    if one.invoices:
        return INVOICED, f"it is on invoice {', '.join(one.invoices)}"
    if one.credited_by and not claims.issuperset(one.credited_by):
        return CREDITED, f"it was credited by {', '.join(one.credited_by)}"
    if one.status == "void" and one.credited_by:
        return None  # with its credits, which are listed, it comes to nothing
    if one.status != "posted" and not (one.credit_of and one.status == "void"):
        return DIFFERENT, f"it is {one.status}: {one.reason}"
    if one.settled != one.billed and not one.credited_by and one.status == "posted":
        return DIFFERENT, "it is settled otherwise than billed"
    if one.statement is not None and one.statement != statement:
        return EXTRA, f"it is on statement {one.statement}"
    return None


def _is_gone(one: Known, statement: str, listed: set[str]) -> bool:
    """Whether a member may be left out: it was never posted, or a CDR and its credits come to nothing.

    A credit alone is missed only where its original is not: on an earlier statement, and so on an earlier
    invoice. Where the original is listed, the original itself is told to be credited.
    """
    if one.status != "posted":
        return True
    if one.credited_by:
        return not listed.intersection(one.credited_by)
    return one.offsets is not None and (one.offsets == statement or one.credit_of in listed)


def _most(values: Iterable[str]) -> str | None:
    """The most frequent one; of several, the first by the alphabet."""
    counted = Counter(values)
    return min(counted, key=lambda one: (-counted[one], one), default=None)
