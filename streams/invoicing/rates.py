"""A line whose price bears one tax at several rates, as one line for each: EN 16931 knows one rate a line.

A bill says how much of a tax there is at each rate, and thereby on how much of its price: the amount over the
rate. What these leave of the price bears no tax. Several taxes on one price (named otherwise, or on more than
there is of it) cannot be told apart in this way, and EN 16931 has no words for them.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas.records import quantized
from schemas.settlement import Line

_ZERO = Decimal(0)


def parts_of(line: Line, unit: Decimal) -> list[Line] | None:
    """The line itself if it has one rate, else a part for each; None when they cannot be told apart.

    The parts add up to the line. `unit` is the currency's minor unit, to which a bill's taxes may have been
    rounded; what that makes of the parts' prices goes to the greatest of them.
    """
    taxes = [tax for tax in line.taxes if tax.amount or tax.percentage]
    if len(taxes) < 2:
        return [line]
    if len({tax.name.strip().upper() for tax in taxes}) > 1:
        return None
    sign = -1 if line.before_taxes < 0 else 1
    bases, slack = [], _ZERO
    for tax in taxes:
        if tax.percentage is None or tax.percentage <= 0 or sign * tax.amount < 0:
            return None
        bases.append(quantized(100 * tax.amount / tax.percentage))
        slack += 50 * unit / tax.percentage
    rest = sign * (line.before_taxes - sum(bases, _ZERO))
    if rest < -slack:
        return None
    if rest <= slack:
        greatest = max(range(len(bases)), key=lambda at: sign * bases[at])
        bases[greatest] += sign * rest
        rest = _ZERO
    found = [
        msgspec.structs.replace(line, before_taxes=base, taxes=[tax], amount=base + tax.amount)
        for base, tax in zip(bases, taxes, strict=True)
    ]
    if rest:
        free = sign * rest
        found.append(msgspec.structs.replace(line, before_taxes=free, taxes=[], amount=free))
    return found
