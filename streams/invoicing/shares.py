"""Exact amounts that must add up once they are rounded."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_FLOOR, Context, Decimal

_CONTEXT = Context(prec=60)


def shared(amounts: Sequence[Decimal], total: Decimal, places: int) -> list[Decimal]:
    """The amounts in whole minor units of `places` decimals, so that they add up to `total`.

    Every amount is rounded down, and what is then missing goes, a unit each, to those that lost most (of two
    that lost the same, to the earlier one). As long as `total` is less than a unit off the amounts' exact
    sum, none of them moves by a whole unit.
    """
    unit = Decimal(1).scaleb(-places)
    floors = [amount.quantize(unit, ROUND_FLOOR, _CONTEXT) for amount in amounts]
    missing = int(_CONTEXT.divide(total - sum(floors, Decimal(0)), unit))
    if not floors:
        assert not missing
        return []
    each, left = divmod(missing, len(floors))
    order = sorted(range(len(floors)), key=lambda at: (floors[at] - amounts[at], at))
    lucky = set(order[:left])
    return [floor + unit * (each + (at in lucky)) for at, floor in enumerate(floors)]
