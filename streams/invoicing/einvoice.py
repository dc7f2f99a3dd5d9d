"""A closed statement as an electronic invoice of EN 16931, in the syntax of Factur-X (UN/CEFACT CII).

The statement's totals are the invoice's. EN 16931 wants more of the figures below them, and gets it so:

- Lines have two decimals and must add up to the total without tax (BR-CO-10, BR-CO-13). The exact amounts
  are shared out (`shares.shared`): no line is off by a whole cent, and no cent is lost.
- A tax is its rate times the sum of its lines (BR-CO-17, BR-S-08). Where the operators' own taxes, rounded
  CDR by CDR, come to something else, the difference is the invoice's rounding amount (BT-114), so that what
  is due is what the statement says. A difference that rounding does not explain is an error.
- A line has one rate of VAT (BG-30). One that bears VAT at several rates becomes a line for each (`rates`).
- Prices are not negative (BR-27): what was taken back has a quantity of -1; a statement that comes out
  negative as a whole becomes a credit note (type 381) with the signs turned round.

What was open before, and what was paid in the period, is not part of an invoice for the period.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import NamedTuple

import msgspec

from schemas.currencies import digits_of
from schemas.settlement import Line, Statement
from streams.invoicing.figures import local
from streams.invoicing.parties import ZERO_TAX, MissingDetailsError, PartyDetails
from streams.invoicing.rates import parts_of
from streams.invoicing.shares import shared

PROFILE = "urn:cen.eu:en16931:2017"
_CENT = Decimal("0.01")
_CONTEXT = Context(prec=60, rounding=ROUND_HALF_UP)
_SOLD = ("cdr", "credit", "correction", "fee")


class InvoiceError(ValueError):
    """The statement cannot be an invoice of EN 16931; the message says why, and what would help."""


class InvoiceLine(NamedTuple):
    """A line as it is invoiced: its net amount in cents, its VAT category and rate.

    `part`: 0 for a whole one, else which one of those that bear a rate of its VAT each.
    """

    line: Line
    category: str
    rate: Decimal
    net: Decimal
    part: int = 0


class Vat(NamedTuple):
    """The breakdown's row for one category and rate."""

    category: str
    rate: Decimal
    base: Decimal
    amount: Decimal


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of an invoice, signs turned round for a credit note.

    `net` + the VAT amounts = `gross`; `gross` + `rounding` = `due`, the statement's total.
    """

    credit_note: bool
    lines: list[InvoiceLine]
    vat: list[Vat]
    net: Decimal
    gross: Decimal
    rounding: Decimal
    due: Decimal


def figures(statement: Statement, zero_category: str) -> Invoice:
    """What the invoice of a statement says; `zero_category` for what bears no tax. Raises InvoiceError."""
    if statement.closed_at is None:
        raise InvoiceError(f"{statement.reference} is still open: close it first")
    places = digits_of(statement.currency)
    if places > 2:
        raise InvoiceError(f"EN 16931 has two decimals, {statement.currency} has more")
    unit = Decimal(1).scaleb(-places)
    lines, numbers = _one_rate_each([line for line in statement.lines if line.kind in _SOLD], unit)
    if not lines:
        raise InvoiceError(f"{statement.reference} has nothing to invoice")
    turn = -1 if statement.total < 0 else 1
    groups: dict[tuple[str, Decimal], list[int]] = {}
    for at, rate in enumerate(_rates(lines)):
        groups.setdefault(("S", rate) if rate else (zero_category, Decimal(0)), []).append(at)
    ordered = sorted(groups)
    exact = [sum((turn * lines[at].before_taxes for at in groups[group]), Decimal(0)) for group in ordered]
    net = _whole(turn * statement.total_before_taxes, unit)
    if abs(sum(exact, -net)) > unit * (len(statement.taxes) + 1):
        raise InvoiceError(f"the lines of {statement.reference} do not add up to its total without tax")
    found: dict[int, InvoiceLine] = {}
    vat: list[Vat] = []
    for group, base in zip(ordered, _bases(exact, net, places), strict=True):
        members = groups[group]
        amounts = shared([turn * lines[at].before_taxes for at in members], base, places)
        for at, amount in zip(members, amounts, strict=True):
            found[at] = InvoiceLine(lines[at], *group, amount, numbers[at])
        vat.append(Vat(*group, base, _whole(base * group[1] / 100, unit)))
    gross = net + sum(row.amount for row in vat)
    due = _whole(turn * statement.total, unit)
    if abs(due - gross) > unit * (len(lines) + 1):
        raise InvoiceError(
            f"the taxes of {statement.reference} are not its rates' share of what was sold: "
            f"{due - net} instead of {gross - net}"
        )
    return Invoice(
        credit_note=turn < 0,
        lines=[found[at] for at in range(len(lines))],
        vat=vat,
        net=net,
        gross=gross,
        rounding=due - gross,
        due=due,
    )


def _one_rate_each(lines: Sequence[Line], unit: Decimal) -> tuple[list[Line], list[int]]:
    """The lines, those with several rates in parts, and the number of each part. Raises InvoiceError."""
    found: list[Line] = []
    numbers: list[int] = []
    for line in lines:
        parts = parts_of(line, unit)
        if parts is None:
            raise InvoiceError(
                f"{line.cdr_id or line.entry_id} bears {len(line.taxes)} taxes on one price; "
                "EN 16931 knows one VAT a line, at one rate"
            )
        found += parts
        numbers += range(1, len(parts) + 1) if len(parts) > 1 else [0]
    return found, numbers


def _whole(amount: Decimal, unit: Decimal) -> Decimal:
    return amount.quantize(unit, context=_CONTEXT) + 0  # which is never -0


def _bases(exact: Sequence[Decimal], net: Decimal, places: int) -> list[Decimal]:
    """What was sold under each rate: rounded, as on the statement, if that adds up to its total."""
    bases = [_whole(amount, Decimal(1).scaleb(-places)) for amount in exact]
    return bases if sum(bases) == net else shared(exact, net, places)


def _rates(lines: Sequence[Line]) -> Iterator[Decimal]:
    """The rate of each line's tax in percent, 0 where there is none. Raises InvoiceError.

    A bill that only gives its cost with and without tax names no rate: it is then one that the statement
    names elsewhere, else the one that its taxes come to overall, else its own, if it is one to a tenth of a
    percent.
    """
    unnamed = [line for line in lines if line.taxes and line.taxes[0].percentage is None]
    taxes = sum((_tax(line) for line in unnamed), Decimal(0))
    base = sum((line.before_taxes for line in unnamed), Decimal(0))
    candidates = sorted({t.percentage.normalize() for line in lines for t in line.taxes if t.percentage})
    candidates += [_whole_tenths(taxes, base)]
    for line in lines:
        named = [tax for tax in line.taxes if tax.amount or tax.percentage]
        if named and named[0].percentage is not None:
            yield _plain(named[0].percentage)
        elif not _tax(line):
            yield Decimal(0)
        else:
            yield _plain(_fitting(line, [*candidates, _whole_tenths(_tax(line), line.before_taxes)]))


def _fitting(line: Line, candidates: Sequence[Decimal]) -> Decimal:
    for rate in candidates:
        if rate > 0 and abs(line.before_taxes * rate / 100 - _tax(line)) <= _CENT:
            return rate
    raise InvoiceError(
        f"{line.cdr_id or line.entry_id}: a tax of {_tax(line):f} on {line.before_taxes:f} names no rate"
    )


def _tax(line: Line) -> Decimal:
    return line.amount - line.before_taxes


def _whole_tenths(tax: Decimal, base: Decimal) -> Decimal:
    try:
        return (100 * tax / base).quantize(Decimal("0.1"), context=_CONTEXT) if base else Decimal(0)
    except InvalidOperation:
        return Decimal(0)


def _plain(rate: Decimal) -> Decimal:
    """A rate without needless zeros, and without an exponent: 21, 5.5."""
    rate = rate.normalize()
    return rate.quantize(Decimal(1)) if rate == rate.to_integral_value() else rate


def check_details(invoice: Invoice, seller: PartyDetails, buyer: PartyDetails) -> None:
    """What EN 16931 requires of both parties: BR-06 to BR-11, and the VAT numbers of the categories' rules.

    Raises MissingDetailsError.
    """
    missing = [field for field in ("name", "country") if not getattr(seller, field)]
    categories = {row.category for row in invoice.vat}
    if categories and not seller.vat_id and (categories & {"AE", "G"} or not seller.tax_number):
        missing.append("vat_id")
    if missing:
        raise MissingDetailsError(seller.key, missing)
    missing = [field for field in ("name", "country") if not getattr(buyer, field)]
    if "AE" in categories and not buyer.vat_id and not buyer.company_number:
        missing.append("vat_id")
    if missing:
        raise MissingDetailsError(buyer.key, missing)


def reason_of(category: str, seller: PartyDetails) -> tuple[str, str]:
    """Why there is no VAT in a category, as text and as code; both empty for one that needs no reason."""
    text, code = ZERO_TAX.get(category, ("", ""))
    return (seller.zero_tax_reason or text, code) if text else ("", "")


def issued_on(statement: Statement) -> date:
    """The invoice's date: the day of the closing by the creditor's clock."""
    assert statement.closed_at is not None
    return local(statement.closed_at, statement.time_zone).date()


def due_on(statement: Statement, seller: PartyDetails) -> date:
    """The last day for the payment."""
    return issued_on(statement) + timedelta(days=seller.payment_days)


def days_of(statement: Statement) -> tuple[date, date]:
    """The first and the last day of the statement's period."""
    first = local(statement.period_start, statement.time_zone).date()
    return first, local(statement.period_end - 1, statement.time_zone).date()
