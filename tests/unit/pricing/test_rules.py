"""Rules of the Tariffs module that its examples leave out: restrictions at their edges, clocks, taxes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from schemas.ocpi.objects import CdrDimension, CdrDimensionType, ChargingPeriod, Tariff
from streams.pricing import Priced, PricingError
from streams.pricing.engine import price_periods
from streams.pricing.explain import explain_periods
from streams.pricing.plan import plan_of
from tests.unit.pricing.talk import (
    ZONE,
    at,
    charging,
    codes,
    component,
    element,
    money,
    number,
    parked,
    periods_of,
    price,
    reserved,
    tariff,
    total,
)


def energy(cents: float, **restrictions: Any) -> dict[str, Any]:
    return element(component("ENERGY", cents, vat=None), **restrictions)


def before_taxes(priced: Priced) -> Decimal:
    found = priced.totals["total_cost"].before_taxes
    assert found is not None
    return found


def one_kwh(one: Tariff, start: datetime, **load: float) -> Decimal:
    return before_taxes(price(one, charging(1, 1, **load), start=start))


# -- time of day, date, day of week --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "inside", "outside"),
    [
        ("08:00", "17:00", ["08:00", "12:00", "16:58"], ["07:58", "17:00", "23:00"]),
        ("22:00", "06:00", ["22:00", "23:58", "00:00", "05:58"], ["06:00", "12:00", "21:58"]),
        ("20:00", "00:00", ["20:00", "23:58"], ["00:00", "19:58", "12:00"]),
        ("00:00", "06:00", ["00:00", "05:58"], ["06:00", "23:58"]),
        ("10:00", "10:00", ["09:58", "10:00", "23:58"], []),
        ("00:00", "00:00", ["00:00", "12:00"], []),
    ],
)
def test_time_of_day(start: str, end: str, inside: list[str], outside: list[str]) -> None:
    one = tariff(energy(9, start_time=start, end_time=end), energy(1))
    for clock in inside:
        assert one_kwh(one, at(f"2024-05-13T{clock}")) == 9, clock
    for clock in outside:
        assert one_kwh(one, at(f"2024-05-13T{clock}")) == 1, clock


def test_a_start_without_an_end_and_an_end_without_a_start() -> None:
    late = tariff(energy(9, start_time="18:00"), energy(1))
    assert [one_kwh(late, at(f"2024-05-13T{clock}")) for clock in ("17:58", "18:00", "23:58")] == [1, 9, 9]
    early = tariff(energy(9, end_time="06:00"), energy(1))
    assert [one_kwh(early, at(f"2024-05-13T{clock}")) for clock in ("00:00", "05:58", "06:00")] == [9, 9, 1]


def test_dates_are_of_the_location_and_the_end_is_exclusive() -> None:
    one = tariff(energy(9, start_date="2024-05-13", end_date="2024-05-15"), energy(1))
    moments = ("2024-05-12T23:58", "2024-05-13T00:00", "2024-05-14T23:58", "2024-05-15T00:00")
    assert [one_kwh(one, at(moment)) for moment in moments] == [1, 9, 9, 1]


def test_day_of_week_is_of_the_location() -> None:
    one = tariff(energy(9, day_of_week=["SATURDAY", "SUNDAY"]), energy(1))
    moments = ("2024-05-17T23:58", "2024-05-18T00:00", "2024-05-19T23:58", "2024-05-20T00:00")
    assert [one_kwh(one, at(moment)) for moment in moments] == [1, 9, 9, 1]
    # Friday in Amsterdam, Saturday in Auckland.
    moment = datetime(2024, 5, 17, 14, tzinfo=UTC)
    assert before_taxes(price(one, charging(1, 1), start=moment, zone="Pacific/Auckland")) == 9


def test_restrictions_are_a_logical_and() -> None:
    one = tariff(energy(9, day_of_week=["MONDAY"], start_time="08:00", end_time="09:00"), energy(1))
    moments = ("2024-05-13T08:30", "2024-05-13T09:30", "2024-05-14T08:30")
    assert [one_kwh(one, at(moment)) for moment in moments] == [9, 1, 1]


@pytest.mark.parametrize(
    ("day", "minutes", "dear"),
    [
        ("2024-03-31", 60 * 3, 60),  # 01:00 to 05:00 by the clock, which leaps from 02:00 to 03:00
        ("2024-10-27", 60 * 4, 120),  # 01:00 to 04:00 by the clock, which shows 02:00 to 03:00 twice
        ("2024-05-13", 60 * 3, 60),
    ],
)
def test_daylight_saving_changes(day: str, minutes: int, dear: int) -> None:
    """An hour that the clock skips cannot be billed; one that it shows twice is billed twice."""
    leap = day == "2024-03-31"
    window = {"start_time": "03:00" if leap else "02:00", "end_time": "04:00" if leap else "03:00"}
    one = tariff(element(component("TIME", 60), **window), element(component("TIME", 6)))
    priced = price(one, charging(minutes), start=at(f"{day}T01:00"))
    assert before_taxes(priced) == dear + Decimal(minutes - dear) / 10
    nothing = tariff(element(component("TIME", 60), start_time="02:00", end_time="03:00"))
    if leap:
        assert before_taxes(price(nothing, charging(minutes), start=at(f"{day}T01:00"))) == 0


# -- energy, duration, current, power ------------------------------------------------------------------------


def test_kwh_limits_split_a_period() -> None:
    """min_kwh is inclusive, max_kwh exclusive: ten kWh are five at one price and five at the other."""
    for one in (tariff(energy(1, max_kwh=5), energy(2)), tariff(energy(2, min_kwh=5), energy(1))):
        whole = price(one, charging(60, 10))
        assert before_taxes(whole) == 15
        assert codes(whole) == ["period_spans_energy_limit"]
        cut = price(one, charging(30, 5), charging(30, 5))
        assert before_taxes(cut) == 15
        assert codes(cut) == []


def test_durations_split_a_period() -> None:
    """Counted from the session's start, parking included; min inclusive, max exclusive."""
    one = tariff(energy(1, max_duration=3600), energy(2, min_duration=3600, max_duration=7200), energy(4))
    whole = price(one, charging(180, 30))
    assert before_taxes(whole) == 10 + 20 + 40
    assert codes(whole) == ["period_spans_price_change"]
    assert before_taxes(price(one, parked(60), charging(60, 10))) == 20
    assert codes(price(one, charging(60, 10), charging(60, 10), charging(60, 10))) == []


def test_time_that_changes_price_within_a_period_is_cut_there() -> None:
    one = tariff(energy(1, end_time="11:00"), energy(3))
    priced = price(one, charging(90, 9), start=at("2024-05-13T10:00"), explain=True)
    assert before_taxes(priced) == 6 + 9
    assert [warning.path for warning in priced.warnings] == ["charging_periods[0]"]
    pieces = explain_periods(priced, ZONE)
    assert [piece["volumes"]["ENERGY"] for piece in pieces] == [6, 3]
    assert pieces[1]["start"] == at("2024-05-13T11:00")
    assert pieces[1]["components"][0]["because"] == [{"element": 0, "restriction": "end_time"}]


@pytest.mark.parametrize(("amperes", "cents"), [(5.9, 1), (6, 2), (15.9, 2), (16, 3), (32, 3)])
def test_current(amperes: float, cents: int) -> None:
    one = tariff(energy(1, max_current=6), energy(2, min_current=6, max_current=16), energy(3))
    load = {"MIN_CURRENT": amperes, "MAX_CURRENT": amperes}
    assert one_kwh(one, at("2024-05-13T10:00"), **load) == cents


@pytest.mark.parametrize(("kw", "cents"), [(10.9, 1), (11, 2), (49.9, 2), (50, 3)])
def test_power(kw: float, cents: int) -> None:
    one = tariff(energy(1, max_power=11), energy(2, min_power=11, max_power=50), energy(3))
    assert one_kwh(one, at("2024-05-13T10:00"), POWER=kw) == cents


def test_an_unknown_current_restricts_nothing_and_is_told() -> None:
    priced = price(tariff(energy(1, max_current=6), energy(3)), charging(60, 1))
    assert before_taxes(priced) == 1
    assert codes(priced) == ["current_unknown"]


# -- elements and dimensions ---------------------------------------------------------------------------------


def test_the_first_matching_element_counts_for_each_dimension_alone() -> None:
    one = tariff(
        element(component("ENERGY", 5), end_time="08:00"),
        element(component("TIME", 60), component("ENERGY", 7), end_time="12:00"),
        element(component("ENERGY", 9), component("PARKING_TIME", 6)),
    )
    priced = price(one, charging(60, 1), parked(60), start=at("2024-05-13T09:00"))
    assert total(priced, "total_energy_cost")[0] == 7
    assert total(priced, "total_time_cost")[0] == 60
    assert total(priced, "total_parking_cost")[0] == 6


def test_a_dimension_without_a_matching_element_is_free() -> None:
    assert before_taxes(price(tariff(energy(5, end_time="08:00")), charging(60, 10))) == 0


def test_a_flat_fee_is_charged_once_and_by_the_first_that_is_active() -> None:
    flat = tariff(element(component("FLAT", 1), end_time="10:30"), element(component("FLAT", 7)), energy(1))
    priced = price(flat, charging(20, 1), charging(60, 1), parked(60))
    assert total(priced, "total_fixed_cost")[0] == 1


def test_a_reservation_is_priced_by_its_own_elements_alone() -> None:
    one = tariff(
        element(component("TIME", 6, step=600), component("FLAT", 2), reservation="RESERVATION"),
        element(component("TIME", 60), component("FLAT", 5)),
    )
    priced = price(one, reserved(15), charging(30))
    assert total(priced, "total_reservation_cost")[0] == 4
    assert total(priced, "total_time_cost")[0] == 30
    assert total(priced, "total_fixed_cost")[0] == 5


def test_an_expired_reservation_prefers_its_elements_and_falls_back() -> None:
    one = tariff(
        element(component("TIME", 6), component("FLAT", 2), reservation="RESERVATION"),
        element(component("TIME", 12), reservation="RESERVATION_EXPIRES"),
    )
    assert before_taxes(price(one, reserved(60))) == 2 + 12
    assert before_taxes(price(one, reserved(60), charging(10))) == 2 + 6


def test_negative_energy_and_negative_prices() -> None:
    """Energy that flows to the grid is paid for, and no step rounds it."""
    one = tariff(element(component("ENERGY", 0.5, step=1000)))
    assert before_taxes(price(one, charging(60, -2.5))) == Decimal("-1.25")
    assert before_taxes(price(one, charging(60, 4), charging(60, -1.5))) == Decimal("1.5")
    assert before_taxes(price(tariff(energy(-1)), charging(60, 3))) == -3


# -- several tariffs -----------------------------------------------------------------------------------------


def priced_under(tariffs: list[Tariff], *named: tuple[str | None, float]) -> Priced:
    """An hour and so many kWh under each named tariff."""
    start = at("2024-05-13T10:00")
    periods = []
    for hour, (name, kwh) in enumerate(named):
        dimensions = [CdrDimension(type=CdrDimensionType("ENERGY"), volume=number(kwh))]
        periods.append(
            ChargingPeriod(
                start_date_time=start + timedelta(hours=hour), dimensions=dimensions, tariff_id=name
            )
        )
    end = start + timedelta(hours=len(named))
    return price_periods(periods, start, end, [plan_of(one) for one in tariffs], ZONE)


def test_each_period_is_priced_by_the_tariff_that_it_names() -> None:
    two = [tariff(energy(1), id="A"), tariff(energy(3), id="B")]
    assert before_taxes(priced_under(two, ("A", 1), ("b", 1), ("A", 1))) == 5
    free = priced_under(two, ("A", 1), (None, 10))
    assert before_taxes(free) == 1
    assert codes(free) == ["period_without_tariff"]
    assert free.total_energy == 11
    with pytest.raises(PricingError, match="C") as refused:
        priced_under(two, ("A", 1), ("C", 1))
    assert refused.value.code == "tariff_unknown"


def test_a_flat_fee_is_charged_once_although_the_tariff_changes() -> None:
    fee = element(component("FLAT", 2))
    two = [tariff(fee, energy(1), id="A"), tariff(fee, energy(3), id="B")]
    assert before_taxes(priced_under(two, ("A", 1), ("B", 1))) == 6


def test_periods_that_name_no_tariff_have_the_one_that_is_valid() -> None:
    old = tariff(energy(1), id="A", end_date_time="2024-01-01T00:00:00Z")
    new = tariff(energy(3), id="B", start_date_time="2024-01-01T00:00:00Z")
    priced = priced_under([old, new], (None, 1))
    assert before_taxes(priced) == 3
    assert codes(priced) == ["tariff_assumed"]


def test_tariffs_of_two_currencies_cannot_be_added() -> None:
    with pytest.raises(PricingError) as refused:
        priced_under([tariff(energy(1), id="A"), tariff(energy(1), id="B", currency="SEK")], ("A", 1))
    assert refused.value.code == "currencies_differ"


# -- taxes and limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("included", "vat", "expected"),
    [
        ("NO", 20, ("10", "12")),
        ("NO", None, ("10", None)),
        ("NO", 0, ("10", "10")),
        ("YES", 25, ("8", "10")),
        ("YES", None, (None, "10")),
        ("N/A", None, ("10", "10")),
        ("N/A", 20, ("10", "10")),
    ],
)
def test_taxes(included: str, vat: float | None, expected: tuple[str | None, str | None]) -> None:
    """tax_included and vat: what is contained, added, not applicable, or not known."""
    one = tariff(element(component("ENERGY", 1, vat=vat)), tax_included=included)
    assert total(price(one, charging(60, 10))) == money(*expected)


def test_a_component_without_vat_beside_one_with_has_none() -> None:
    """mod_tariffs, "PriceComponent": "If omitted, no VAT is applicable"."""
    one = tariff(element(component("ENERGY", 1, vat=None), component("FLAT", 1, vat=20)))
    assert total(price(one, charging(60, 10))) == money("11", "11.2")


def test_2_2_1_knows_no_unknown_taxes() -> None:
    one = tariff(element(component("ENERGY", 1, vat=None)))
    assert total(price(one, charging(60, 10), version="2.2.1")) == money("10", "10")


def test_both_sides_of_min_and_max_price_hold() -> None:
    """Taxes of the parts differ, so one side may reach its limit while the other does not."""
    parts = element(component("ENERGY", 1, vat=10), component("FLAT", 2, vat=50))
    low = tariff(parts, min_price={"before_taxes": 5, "after_taxes": 8})
    priced = price(low, charging(60, 4))
    assert total(priced) == money("6", "8")  # 6 and 7.40
    assert tuple(priced.adjustment) == money("0", "0.6")
    high = tariff(parts, max_price={"before_taxes": 5, "after_taxes": 7})
    assert total(price(high, charging(60, 4))) == money("5", "7")
    half = tariff(parts, max_price={"before_taxes": 3})
    assert total(price(half, charging(60, 4))) == money("3", "3.7")  # in proportion


def test_parts_add_up_to_the_whole() -> None:
    one = tariff(
        element(component("ENERGY", 0.333), component("TIME", 1.11, step=7), component("PARKING_TIME", 3)),
        element(component("FLAT", 0.5)),
        max_price={"before_taxes": 1, "after_taxes": 1.2},
    )
    priced = price(one, charging(17, 3.33), parked(13), charging(7, 0.7))
    parts = [priced.totals[name] for name in priced.totals if name != "total_cost"]
    for side in (0, 1):
        whole = sum((part[side] or Decimal(0) for part in parts), priced.adjustment[side] or Decimal(0))
        assert whole == priced.totals["total_cost"][side]


# -- what partners leave out ---------------------------------------------------------------------------------


def test_times_are_read_off_the_clock_when_no_period_has_any() -> None:
    one = tariff(element(component("TIME", 6), component("PARKING_TIME", 60)))
    start = at("2024-05-13T10:00")
    periods = periods_of(start, [(60, {"ENERGY": 5}), (30, {"ENERGY": 0})], "T1")
    priced = price_periods(periods, start, start + timedelta(minutes=90), [plan_of(one)], ZONE)
    assert total(priced, "total_time_cost")[0] == 6
    assert total(priced, "total_parking_cost")[0] == 30
    assert codes(priced) == ["time_derived"]


def test_periods_out_of_order_are_sorted() -> None:
    one = tariff(energy(1, end_time="11:00"), energy(3))
    start = at("2024-05-13T10:00")
    periods = periods_of(start, [charging(60, 2), charging(60, 4)], "T1")
    priced = price_periods(periods[::-1], start, start + timedelta(hours=2), [plan_of(one)], ZONE)
    assert before_taxes(priced) == 2 + 12
    assert codes(priced) == ["periods_out_of_order"]


def test_an_unknown_time_zone_is_told() -> None:
    priced = price(tariff(energy(1, end_time="11:00"), energy(3)), charging(1, 1), zone=None)
    assert codes(priced) == ["time_zone_unknown"]
    with pytest.raises(PricingError) as refused:
        price(tariff(energy(1, end_time="11:00")), charging(1, 1), zone="Mars/Olympus")
    assert refused.value.code == "unknown_time_zone"


def test_an_end_before_the_start_is_refused() -> None:
    start = at("2024-05-13T10:00")
    with pytest.raises(PricingError) as refused:
        price_periods([], start, start - timedelta(seconds=1), [plan_of(tariff(energy(1)))], ZONE)
    assert refused.value.code == "end_before_start"
