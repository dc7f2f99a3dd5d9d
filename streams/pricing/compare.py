"""A CDR against its price: each total's verdict, and the bill's."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from schemas.currencies import digits_of
from schemas.ocpi.objects import CDR, Price
from streams.pricing.engine import TOTALS, Money, Priced

MATCH, WITHIN, OVER, UNDER, UNPRICED = (
    "match",
    "within_tolerance",
    "overcharged",
    "undercharged",
    "cannot_be_priced",
)


class TotalComparison(NamedTuple):
    """One total: as billed, as priced, and what follows."""

    billed: Money | None
    priced: Money | None
    verdict: str
    reason: str


class Comparison(NamedTuple):
    """A bill's verdict: that of total_cost, or of the first part that differs when the sum does not."""

    verdict: str
    reason: str
    totals: dict[str, TotalComparison]


def compare(cdr: CDR, priced: Priced, tolerance: Decimal | None = None) -> Comparison:
    """Compare each total that a CDR says. `tolerance`: what it may be off; half a minor unit unless given."""
    digits = digits_of(cdr.currency)
    allowed = Decimal(5).scaleb(-digits - 1) if tolerance is None else tolerance
    totals = {}
    for name in TOTALS:
        billed: Price | None = getattr(cdr, name)
        price = priced.totals[name]
        if billed is None:
            if name == "total_cost":
                continue
            # A part that is left out is no claim that it is zero; only what was said is compared.
            totals[name] = TotalComparison(None, price, MATCH, "")
            continue
        totals[name] = _compare(name, money_of(billed), price, digits, allowed)
    if cdr.currency.upper() != priced.currency.upper():
        reason = f"billed in {cdr.currency}, the tariff is in {priced.currency}"
        totals = {name: one._replace(verdict=UNPRICED, reason=reason) for name, one in totals.items()}
    verdict, reason = MATCH, ""
    for one in totals.values():
        if one.verdict in (OVER, UNDER, UNPRICED):
            return Comparison(one.verdict, one.reason, totals)
        if one.verdict == WITHIN:
            verdict, reason = WITHIN, reason or one.reason
    return Comparison(verdict, reason, totals)


def money_of(price: Price) -> Money:
    """A price's two sides; what is after taxes is unknown when no tax is named."""
    if not price.taxes:
        return Money(price.before_taxes, None)
    return Money(price.before_taxes, price.before_taxes + sum(tax.amount for tax in price.taxes))


def _compare(name: str, billed: Money, priced: Money, digits: int, allowed: Decimal) -> TotalComparison:
    verdict, reason = MATCH, ""
    sides = 0
    for side, said, ought in zip(("before", "after"), billed, priced, strict=True):
        if said is None or ought is None:
            continue
        sides += 1
        difference = said - ought
        if _rounded(said, digits) == _rounded(ought, digits):
            continue
        words = (
            f"{name} {side} taxes is {_shown(said)}, by the tariff {_shown(ought)}: "
            f"{_shown(abs(difference))} too {'much' if difference > 0 else 'little'}"
        )
        if abs(difference) > allowed:
            return TotalComparison(billed, priced, OVER if difference > 0 else UNDER, words)
        verdict, reason = WITHIN, reason or words
    if not sides:
        return TotalComparison(billed, priced, UNPRICED, f"{name}: no side of the price is known to both")
    return TotalComparison(billed, priced, verdict, reason)


def _rounded(amount: Decimal, digits: int) -> Decimal:
    return amount.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)


def _shown(amount: Decimal) -> str:
    text = f"{amount:.6f}".rstrip("0")
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction:0<2}"
