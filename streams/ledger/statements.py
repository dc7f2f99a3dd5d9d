"""Statements: the sums of a period, rounded once, and a statement that can be made again bit by bit.

What is kept of a period grows with its taxes, not with its lines. Lines that name the same taxes are one
group: the sum of each group before taxes is rounded to the minor unit, and so is the sum of each tax; the
totals are sums of those, so what stands on a statement adds up. What that rounding adds to the lines' exact
sum is posted as an entry of its own, and the books are the statement's to the last minor unit.

The lines' digest is chained over the lines in the order of their numbers; the statement's covers the totals
and that. Who has the lines can so prove that they are the ones that were closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from schemas.currencies import rounded
from schemas.records import EntryRecord, TaxRecord, quantized
from schemas.settlement import Line, Reference, Statement, StatementRecord, TaxTotal, reference_of
from streams.ledger.periods import Period

_ZERO = quantized(Decimal(0))
_json = msgspec.json.Encoder().encode
_CHARGES = ("cdr", "credit", "correction", "fee")


class Sums(msgspec.Struct, array_like=True):
    """What is kept of a period: exact sums, how many lines, and the digest of those so far."""

    start: int
    end: int
    groups: dict[str, Decimal] = {}
    taxes: dict[str, Decimal] = {}
    payments: Decimal = _ZERO
    entries: int = 0
    late: int = 0
    digest: bytes = b""


class Totals(NamedTuple):
    """Rounded sums, and what rounding added to the exact ones."""

    before_taxes: Decimal
    taxes: list[TaxTotal]
    total: Decimal
    rounding: Decimal


def line_of(entry: EntryRecord) -> Line:
    """An entry as a statement's line."""
    return Line(
        entry_id=entry.id,
        sequence=entry.sequence,
        kind=entry.kind,
        late=entry.late,
        cdr_id=entry.cdr_id,
        session_id=entry.session_id,
        started_at=entry.started_at,
        ended_at=entry.ended_at,
        kwh=entry.kwh,
        location_id=entry.location_id,
        token_uid=entry.token_uid,
        contract_id=entry.contract_id,
        before_taxes=entry.before_taxes,
        taxes=entry.taxes,
        amount=entry.amount,
    )


def add(sums: Sums, line: Line) -> None:
    """Take a line in. Lines come in the order of their numbers."""
    sums.entries += 1
    sums.late += line.late
    sums.digest = chained(sums.digest, line)
    if line.kind not in _CHARGES:
        sums.payments -= line.amount
        return
    names = sorted((_tax_key(tax), tax.amount) for tax in line.taxes)
    group = "\n".join(key for key, _ in names)
    sums.groups[group] = sums.groups.get(group, _ZERO) + line.before_taxes
    for key, amount in names:
        sums.taxes[key] = sums.taxes.get(key, _ZERO) + amount


def chained(digest: bytes, line: Line) -> bytes:
    """The digest of the lines up to this one, from that of those before it."""
    fields = [
        *(line.entry_id, line.sequence, line.kind, line.late, line.cdr_id, line.session_id),
        *(line.started_at, line.ended_at, _units(line.kwh)),
        *(line.location_id, line.token_uid, line.contract_id, _units(line.before_taxes)),
        [[tax.name, _units(tax.percentage), _units(tax.amount)] for tax in line.taxes],
        _units(line.amount),
    ]
    return blake2b(digest + _json(fields), digest_size=16).digest()


def totals_of(sums: Sums, currency: str) -> Totals:
    """The period's totals in whole minor units."""
    before = _ZERO
    bases: dict[str, Decimal] = {}
    for group, amount in sums.groups.items():
        base = rounded(amount, currency)
        before += base
        for key in group.split("\n"):
            bases[key] = bases.get(key, _ZERO) + base
    taxes = []
    for key in sorted(bases):
        name, _, percentage = key.partition("\t")
        amount = rounded(sums.taxes.get(key, _ZERO), currency)
        if bases[key] or amount:
            taxes.append(
                TaxTotal(
                    name=name,
                    percentage=quantized(Decimal(percentage)) if percentage else None,
                    base=quantized(bases[key]),
                    amount=quantized(amount),
                )
            )
    total = before + sum((tax.amount for tax in taxes), _ZERO)
    exact = sum(sums.groups.values(), _ZERO) + sum(sums.taxes.values(), _ZERO)
    return Totals(quantized(before), taxes, quantized(total), quantized(total - exact))


def record_of(
    reference: Reference, time_zone: str, sums: Sums, opening: Decimal, closed_at: int, event_id: bytes
) -> StatementRecord:
    """A closed statement, with its digest."""
    totals = totals_of(sums, reference.currency)
    record = StatementRecord(
        reference=str(reference),
        creditor=reference.creditor,
        debtor=reference.debtor,
        currency=reference.currency,
        period=reference.period,
        time_zone=time_zone,
        period_start=sums.start,
        period_end=sums.end,
        opening=quantized(opening),
        total_before_taxes=totals.before_taxes,
        taxes=totals.taxes,
        total=totals.total,
        rounding=totals.rounding,
        payments=quantized(sums.payments),
        closing=quantized(opening + totals.total - sums.payments),
        entries=sums.entries,
        late=sums.late,
        closed_at=closed_at,
        event_id=event_id,
        lines_digest=sums.digest.hex(),
        digest="",
    )
    record.digest = digest_of(record)
    return record


def digest_of(record: StatementRecord | Statement) -> str:
    """The digest of a statement: of its head, its totals, and the digest of its lines."""
    fields = [
        *(record.reference, record.time_zone, record.period_start, record.period_end),
        *(_units(record.opening), _units(record.total_before_taxes)),
        [[tax.name, *map(_units, (tax.percentage, tax.base, tax.amount))] for tax in record.taxes],
        *(_units(record.total), _units(record.rounding), _units(record.payments), _units(record.closing)),
        *(record.closed_at, record.lines_digest),
    ]
    return blake2b(_json(fields), digest_size=16).hexdigest()


def closed_statement(
    record: StatementRecord, entries: Iterable[EntryRecord], paid: Decimal = _ZERO
) -> Statement:
    """A closed statement with its lines. Raises ValueError when they are not the ones that were closed."""
    lines = _lines(record.reference, entries)
    digest = b""
    for line in lines:
        digest = chained(digest, line)
    if digest.hex() != record.lines_digest or digest_of(record) != record.digest:
        raise ValueError(f"{record.reference}: its lines are not the ones that were closed")
    return Statement(
        reference=record.reference,
        creditor=record.creditor,
        debtor=record.debtor,
        currency=record.currency,
        period=record.period,
        time_zone=record.time_zone,
        period_start=record.period_start,
        period_end=record.period_end,
        opening=record.opening,
        total_before_taxes=record.total_before_taxes,
        taxes=record.taxes,
        total=record.total,
        rounding=record.rounding,
        payments=record.payments,
        closing=record.closing,
        paid=paid,
        closed_at=record.closed_at,
        lines_digest=record.lines_digest,
        digest=record.digest,
        lines=lines,
    )


def open_statement(
    reference: Reference,
    period: Period,
    time_zone: str,
    entries: Iterable[EntryRecord],
    opening: Decimal = _ZERO,
    paid: Decimal = _ZERO,
) -> Statement:
    """A statement that is not closed yet, as it would be if it were closed now."""
    name = reference_of(*(reference.creditor, reference.debtor, reference.currency, reference.period))
    lines = _lines(name, entries)
    sums = Sums(period.start, period.end, {}, {})
    for line in lines:
        add(sums, line)
    totals = totals_of(sums, reference.currency)
    return Statement(
        reference=name,
        creditor=reference.creditor,
        debtor=reference.debtor,
        currency=reference.currency,
        period=reference.period,
        time_zone=time_zone,
        period_start=period.start,
        period_end=period.end,
        opening=quantized(opening),
        total_before_taxes=totals.before_taxes,
        taxes=totals.taxes,
        total=totals.total,
        rounding=totals.rounding,
        payments=quantized(sums.payments),
        closing=quantized(opening + totals.total - sums.payments),
        paid=paid,
        lines=lines,
    )


def payment_state(total: Decimal, paid: Decimal) -> str:
    """Where a statement stands with its payments: unpaid, partial, paid or excess."""
    if paid == total:
        return "paid"
    if total < 0:
        total, paid = -total, -paid
    if paid <= 0:
        return "unpaid"
    return "partial" if paid < total else "excess"


def _lines(reference: str, entries: Iterable[EntryRecord]) -> list[Line]:
    """The lines of a statement in their order; what rounding added is told by its total."""
    mine = [one for one in entries if one.statement == reference and one.kind != "rounding"]
    return [line_of(one) for one in sorted(mine, key=lambda one: one.sequence)]


def _tax_key(tax: TaxRecord) -> str:
    name = tax.name.replace("\t", " ").replace("\n", " ")
    return f"{name}\t{'' if tax.percentage is None else _plain(tax.percentage)}"


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def _units(amount: Decimal | None) -> int | None:
    """Billionths, as in the log."""
    return None if amount is None else int(amount.scaleb(9))


def tax_sum(taxes: Sequence[TaxRecord]) -> Decimal:
    """What the taxes come to."""
    return sum((tax.amount for tax in taxes), _ZERO)
