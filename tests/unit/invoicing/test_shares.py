"""Amounts that add up once they are rounded."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.invoicing.shares import shared

amounts = st.decimals(min_value=-10_000, max_value=10_000, places=9)


@settings(deadline=None)
@given(st.lists(amounts, min_size=1, max_size=50), st.integers(0, 4))
def test_nothing_is_lost_and_nobody_moves_by_a_unit(exact: list[Decimal], places: int) -> None:
    """The shares sum to the rounded total, and each lies less than a unit from its amount."""
    unit = Decimal(1).scaleb(-places)
    total = sum(exact, Decimal(0)).quantize(unit, ROUND_HALF_UP)
    found = shared(exact, total, places)
    assert sum(found) == total
    assert all(one == one.quantize(unit) for one in found)
    assert all(abs(one - amount) < unit for one, amount in zip(found, exact, strict=True))


@settings(deadline=None)
@given(st.lists(st.integers(-1000, 1000), max_size=20))
def test_whole_units_stay(units: list[int]) -> None:
    """What needs no rounding is not moved."""
    exact = [Decimal(unit) / 100 for unit in units]
    assert shared(exact, sum(exact, Decimal(0)), 2) == exact


def test_the_one_that_lost_most_gets_the_cent() -> None:
    """Of two that lost the same, the earlier one."""
    thirds = [Decimal("0.333"), Decimal("0.333"), Decimal("0.334")]
    assert shared(thirds, Decimal("1.00"), 2) == [Decimal("0.33"), Decimal("0.33"), Decimal("0.34")]
    halves = [Decimal("0.005"), Decimal("0.005")]
    assert shared(halves, Decimal("0.01"), 2) == [Decimal("0.01"), Decimal("0.00")]
