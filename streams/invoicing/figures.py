"""How figures, times and lines of a statement are spelled in documents."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from schemas.currencies import digits_of
from schemas.records import moment
from schemas.settlement import Line, Statement

ITEMS = {
    "cdr": "Charging session",
    "credit": "Credit",
    "correction": "Correction",
    "fee": "Fee",
    "payment": "Payment",
    "rounding": "Rounding",
}
"""What a line is, in a word or two."""


def plain(number: Decimal, places: int = 0) -> str:
    """A number exactly, without exponent, with `places` decimals or as many more as it needs."""
    text = f"{number.normalize():f}"
    _, _, decimals = text.partition(".")
    if len(decimals) < places:
        text = f"{number:.{places}f}"
    return "0" + text[2:] if text.startswith("-0") and not number else text


def money(amount: Decimal, currency: str) -> str:
    """An amount exactly, with at least the decimals of its currency."""
    return plain(amount, digits_of(currency))


def places_of(amounts: Iterable[Decimal], currency: str) -> int:
    """As many decimals as the most exact amount has, so that a column of them shows none rounded."""
    exponents = (amount.normalize().as_tuple().exponent for amount in amounts)
    return max([digits_of(currency), *(-exponent for exponent in exponents if isinstance(exponent, int))])


def rate(percentage: Decimal | None) -> str:
    """A tax rate: `21 %`; empty where it is not known."""
    return "" if percentage is None else f"{plain(percentage)} %"


def utc(micros: int) -> str:
    """A time as ISO 8601 in UTC, to the second unless it has a fraction."""
    return moment(micros).isoformat().replace("+00:00", "Z")


def local(micros: int, time_zone: str) -> datetime:
    """A time by the clock of a zone; UTC for a zone that is not known."""
    try:
        return moment(micros).astimezone(ZoneInfo(time_zone))
    except (KeyError, ValueError, OSError):
        return moment(micros).astimezone(UTC)


def minute(micros: int, time_zone: str) -> str:
    """A time for people, by the clock of a zone."""
    return f"{local(micros, time_zone):%Y-%m-%d %H:%M}"


def taxes_of(line: Line) -> str:
    """The taxes of a line in words: `VAT 21 %: 1.05`, several with semicolons between them."""
    return "; ".join(
        f"{' '.join(filter(None, (tax.name or 'tax', rate(tax.percentage))))}: {plain(tax.amount)}"
        for tax in line.taxes
    )


def period_of(statement: Statement) -> str:
    """The first and the last day of the period, by the creditor's clock."""
    first = local(statement.period_start, statement.time_zone).date()
    last = local(statement.period_end - 1, statement.time_zone).date()
    return f"{first}" if first == last else f"{first} to {last}"
