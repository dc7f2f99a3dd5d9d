"""Every worked example of the Tariffs and CDRs modules, in 2.3.0 and 2.2.1, to the last digit that it gives.

Each test names its section. Where an example contradicts another or itself, the test says which one holds.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from schemas.ocpi.objects import Tariff
from streams.pricing.documents import price_document
from tests.unit.pricing.talk import (
    EXAMPLES,
    Period,
    at,
    charging,
    codes,
    component,
    element,
    example,
    money,
    parked,
    price,
    reserved,
    tariff,
    total,
)

BOTH = pytest.mark.parametrize("version", ["2.2.1", "2.3.0"])


def costs(
    name: str, version: str, *periods: Period, start: str = "2024-05-13T10:00"
) -> tuple[object, object]:
    priced = price(example(name, version), *periods, start=at(start), version=version)
    return total(priced)


@BOTH
def test_simple_tariff_025_per_kwh(version: str) -> None:
    """mod_tariffs, "Simple Tariff example € 0.25 per kWh"."""
    assert costs("tariff_8_simple_025kwh", version, charging(60, 20)) == money("5.00", "5.50")


@BOTH
def test_start_fee(version: str) -> None:
    """mod_tariffs, "Tariff example € 0.25 per kWh + start fee"."""
    priced = price(example("tariff_9_025kwh_start", version), charging(60, 20), version=version)
    assert total(priced) == money("5.50", "6.10")
    assert total(priced, "total_fixed_cost") == money("0.50", "0.60")
    assert total(priced, "total_energy_cost") == money("5.00", "5.50")


@BOTH
@pytest.mark.parametrize(
    ("kwh", "expected"), [(20, ("5.00", "5.50")), (1.9, ("0.50", "0.55")), (2, ("0.50", "0.55"))]
)
def test_minimum_price(version: str, kwh: float, expected: tuple[str, str]) -> None:
    """mod_tariffs, "Tariff example € 0.25 per kWh + minimum price"."""
    assert costs("tariff_12_025kwh_min_price", version, charging(60, kwh)) == money(*expected)


@BOTH
def test_parking_fee_and_start_fee(version: str) -> None:
    """mod_tariffs, "Tariff example € 0.25 per kWh + parking fee + start fee": 40 minutes billed as 45."""
    name = "tariff_10_025kwh_parking_start"
    assert costs(name, version, charging(60, 20), parked(40)) == money("7.00", "7.90")


@BOTH
@pytest.mark.parametrize(("kwh", "expected"), [(50, ("10.00", "11.00")), (30, ("8.00", "8.85"))])
def test_maximum_price(version: str, kwh: float, expected: tuple[str, str]) -> None:
    """mod_tariffs, "Tariff example € 0.25 per kWh + start fee + max price + tariff end date"."""
    name = "tariff_6_025kwh_start_max_price"
    assert costs(name, version, charging(60, kwh), start="2019-05-13T10:00") == money(*expected)


@BOTH
def test_simple_tariff_2_per_hour(version: str) -> None:
    """mod_tariffs, "Simple Tariff example € 2 per hour": parking is not billed."""
    assert costs("tariff_1_simple_2hour", version, charging(150)) == money("5.00", "5.50")
    assert costs("tariff_1_simple_2hour", version, charging(150), parked(90)) == money("5.00", "5.50")


def test_north_american_taxes_excluded() -> None:
    """mod_tariffs 2.3.0, "Simple Tariff with North American taxes": C$ 5.00, and taxes that nobody knows."""
    assert costs("tariff_19_simple_north_american_exclusive", "2.3.0", charging(150)) == money("5.00", None)


def test_north_american_taxes_included() -> None:
    """mod_tariffs 2.3.0, "…, price inclusive of tax": C$ 5.25, of which nobody knows the tax."""
    assert costs("tariff_20_simple_north_american_inclusive", "2.3.0", charging(150)) == money(None, "5.25")


@BOTH
def test_3_per_hour_5_parking(version: str) -> None:
    """mod_tariffs, "Simple Tariff example € 3 per hour, € 5 per hour parking": 42 minutes billed as 45."""
    priced = price(
        example("tariff_13_simple_3hour_5parking", version), charging(150), parked(42), version=version
    )
    assert total(priced) == money("11.25", "12.75")
    assert total(priced, "total_time_cost") == money("7.50", "8.25")
    assert total(priced, "total_parking_cost") == money("3.75", "4.50")
    assert priced.total_time == Decimal(192) / 60
    assert priced.total_parking_time == Decimal("0.7")


@BOTH
def test_several_languages(version: str) -> None:
    """mod_tariffs, "Ad-Hoc simple Tariff example with multiple languages".

    5.2% of € 4.75 are € 0.247; the text says € 5.00, which is that in cents.
    """
    before, after = costs("tariff_2_alt_text", version, charging(150))
    assert (before, after) == money("4.75", "4.997")


@BOTH
def test_alternative_url(version: str) -> None:
    """mod_tariffs, "Simple Tariff example with alternative URL": 20.45 kWh in steps of 100 Wh.

    The text bills 20.5 kWh: € 5.625, € 6.2375 with VAT, as it rounds them to € 5.63 and € 6.24. The table of
    2.3.0 bills 20.45 kWh for the same tariff (€ 5.61, € 6.22). `step_size` is defined as rounding up
    (mod_tariffs, "PriceComponent"), and 2.2.1's table agrees with the text: it holds.
    """
    priced = price(example("tariff_3_alt_url", version), charging(60, "20.45"), version=version)
    assert total(priced) == money("5.625", "6.2375")
    assert total(priced, "total_energy_cost") == money("5.125", "5.6375")
    assert [str(line.billed.normalize()) for line in priced.lines if line.component.dimension == 1] == [
        "20.5"
    ]


@BOTH
def test_complex_tariff_on_a_monday(version: str) -> None:
    """mod_tariffs, "Complex Tariff example": 165 minutes at 16 A, 42 minutes of parking."""
    priced = price(
        example("tariff_4_complex", version), charging(165, 0, MAX_CURRENT=16, MIN_CURRENT=16), parked(42),
        start=at("2024-05-13T09:30"), version=version,
    )  # fmt: skip
    assert total(priced) == money("9.00", "10.30")
    assert total(priced, "total_fixed_cost") == money("2.50", "2.875")
    assert total(priced, "total_time_cost") == money("2.75", "3.30")
    assert total(priced, "total_parking_cost") == money("3.75", "4.125")


@BOTH
def test_complex_tariff_on_a_saturday(version: str) -> None:
    """mod_tariffs, "Complex Tariff example": 114 minutes at 43 A, 71 minutes of parking.

    The breakdown has € 2.28 for 114 minutes at € 1.25 per hour, which are € 2.375 (2.28 is what € 1.20 per
    hour would give): the tariff's price holds, so the totals are € 12.375 and € 13.975, not 12.28 and 13.861.
    """
    priced = price(
        example("tariff_4_complex", version), charging(114, 0, MIN_CURRENT=43, MAX_CURRENT=43), parked(71),
        start=at("2024-05-18T13:30"), version=version,
    )  # fmt: skip
    assert total(priced) == money("12.375", "13.975")
    assert total(priced, "total_time_cost") == money("2.375", "2.85")
    assert total(priced, "total_parking_cost") == money("7.50", "8.25")


@BOTH
def test_free_of_charge(version: str) -> None:
    """mod_tariffs, "Free of Charge Tariff example"."""
    assert costs("tariff_5_free_of_charge", version, charging(60, 20), parked(30)) == money("0", "0")


@BOTH
def test_reservation_price(version: str) -> None:
    """mod_tariffs, "Tariff example with reservation price"."""
    priced = price(
        example("tariff_15_reservation_5_euro_per_hour", version), reserved(15), charging(60, 20),
        version=version,
    )  # fmt: skip
    assert total(priced) == money("6.75", "7.60")
    assert total(priced, "total_reservation_cost") == money("1.25", "1.50")


@BOTH
def test_reservation_price_and_fee(version: str) -> None:
    """mod_tariffs, "Tariff example with reservation price and fee": 13 minutes billed as 15."""
    priced = price(
        example("tariff_16_reservation_2_euro_fee_5_euro_per_hour", version), reserved(13), charging(60, 20),
        version=version,
    )  # fmt: skip
    assert total(priced) == money("8.75", "10.00")
    assert total(priced, "total_reservation_cost") == money("3.25", "3.90")
    assert total(priced, "total_fixed_cost") == money("0.50", "0.60")


@BOTH
def test_reservation_price_and_expire_fee(version: str) -> None:
    """mod_tariffs, "Tariff example with reservation price and expire fee"."""
    name = "tariff_17_reservation_with_expire_fee"
    assert costs(name, version, reserved(22), charging(60, 20)) == money("6.50", "7.30")
    assert costs(name, version, reserved(60)) == money("6.00", "7.20")


@BOTH
def test_reservation_time_and_expire_time(version: str) -> None:
    """mod_tariffs, "Tariff example with reservation time and expire time"."""
    name = "tariff_18_reservation_with_expire_time"
    assert costs(name, version, reserved(22), charging(60, 20)) == money("7.00", "7.90")
    assert costs(name, version, reserved(90)) == money("9.00", "10.80")


# -- PriceComponent: step_size -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "wh", "cost"),
    [
        (1, "115.2", "0.029"),
        # The text rounds € 0.03125 to € 0.031.
        (25, "101", "0.03125"),
        (25, "115.2", "0.03125"),
        (25, "125", "0.03125"),
        (500, "1", "0.125"),
        (500, "115.2", "0.125"),
        (500, "500", "0.125"),
    ],
)
def test_energy_steps(step: int, wh: str, cost: str) -> None:
    """mod_tariffs, "PriceComponent", notes on `step_size`."""
    one = tariff(element(component("ENERGY", 0.25, step=step)))
    assert total(price(one, charging(60, Decimal(wh) / 1000)))[0] == Decimal(cost)


@pytest.mark.parametrize(("minutes", "billed"), [(6, 10), (8, 10), (10, 10), (5, 5)])
def test_time_steps(minutes: int, billed: int) -> None:
    """mod_tariffs, "PriceComponent": blocks of five minutes, charging or parking."""
    one = tariff(element(component("TIME", 6, step=300), component("PARKING_TIME", 6, step=300)))
    assert total(price(one, charging(minutes)))[0] == Decimal(billed) / 10
    assert total(price(one, parked(minutes)))[0] == Decimal(billed) / 10


@BOTH
@pytest.mark.parametrize("split", [True, False])
def test_switching_to_a_different_element_1(version: str, *, split: bool) -> None:
    """mod_tariffs, "Example: switching to different Tariff Element #1": € 0.55."""
    periods = [charging(5), charging(5)] if split else [charging(10)]
    assert costs("tariff_14_step_size", version, *periods, parked(2), start="2024-05-13T16:55")[0] == (
        Decimal("0.55")
    )


@BOTH
@pytest.mark.parametrize("split", [True, False])
def test_switching_to_a_different_element_2(version: str, *, split: bool) -> None:
    """mod_tariffs, "Example: switching to different Tariff Element #2": € 1.30."""
    periods = [charging(25), charging(10)] if split else [charging(35)]
    assert costs("tariff_14_step_size", version, *periods, start="2024-05-13T16:35")[0] == Decimal("1.30")


@BOTH
@pytest.mark.parametrize("split", [True, False])
def test_switching_to_free_of_charge(version: str, *, split: bool) -> None:
    """mod_tariffs, "Example: switching to Free-of-Charge Tariff Element": € 0.73."""
    parking = [parked(8), parked(12)] if split else [parked(20)]
    found = costs("tariff_14_step_size", version, charging(12), *parking, start="2024-05-13T19:40")
    assert found[0] == Decimal("0.73")


# -- TariffRestrictions --------------------------------------------------------------------------------------


@BOTH
def test_max_power(version: str) -> None:
    """mod_tariffs, "Example: Tariff with max_power Tariff Restrictions": € 20.30."""
    found = costs(
        "tariffrestriction_example_max_power", version,
        charging(10, 1, MIN_POWER=6, MAX_POWER=6), charging(50, 40, MIN_POWER=48, MAX_POWER=48),
        charging(7.5, 0.5, MIN_POWER=4, MAX_POWER=4),
    )  # fmt: skip
    assert found[0] == Decimal("20.30")


@BOTH
def test_max_power_from_energy_and_time(version: str) -> None:
    """The same, where nobody reports power: it follows from energy and time."""
    found = costs(
        "tariffrestriction_example_max_power", version, charging(10, 1), charging(50, 40), charging(7.5, 0.5)
    )
    assert found[0] == Decimal("20.30")


@BOTH
def test_max_duration(version: str) -> None:
    """mod_tariffs, "Example: Tariff with max_duration Tariff Restrictions": € 0.30."""
    found = costs("tariffrestriction_example_max_duration", version, charging(30, 5), charging(10, 1.2))
    assert found[0] == Decimal("0.30")


# -- the CDRs module -----------------------------------------------------------------------------------------


def test_steps_from_charging_to_parking() -> None:
    """mod_cdrs, "step_size": 21 minutes charging stay 21, 7 minutes parking become 10."""
    one = tariff(element(component("TIME", 6, step=300), component("PARKING_TIME", 60, step=300)))
    priced = price(one, charging(21), parked(7))
    assert total(priced, "total_time_cost")[0] == Decimal("2.1")
    assert total(priced, "total_parking_cost")[0] == 10


def before_and_after_five(kind: str, before: float, after: float, step: int) -> Tariff:
    return tariff(
        element(component(kind, before, step=step), end_time="17:00", start_time="00:00"),
        element(component(kind, after, step=step)),
    )


def test_steps_of_energy_count_the_whole_session() -> None:
    """mod_cdrs, "step_size": 4.3 kWh at € 0.20 and 1.1 kWh at € 0.27 make 5.5 kWh, not 4.3 and 1.5."""
    one = before_and_after_five("ENERGY", 0.20, 0.27, 500)
    priced = price(one, charging(60, 4.3), charging(30, 1.1), start=at("2024-05-13T16:00"))
    assert total(priced)[0] == Decimal("4.3") * Decimal("0.20") + Decimal("1.2") * Decimal("0.27")


def test_steps_of_time_count_the_whole_session() -> None:
    """mod_cdrs, "step_size": 6 minutes at € 5 and 22 at € 7 make 30: 24 after 17:00 are billed."""
    one = before_and_after_five("TIME", 5, 7, 600)
    priced = price(one, charging(6), charging(22), start=at("2024-05-13T16:54"))
    assert total(priced)[0] == Decimal("0.5") + Decimal("2.8")


def test_steps_of_charging_and_parking_combined() -> None:
    """mod_cdrs, "step_size": 21 minutes charging, 16 minutes parking become 20: 41 together."""
    one = tariff(element(component("TIME", 1, step=600), component("PARKING_TIME", 2, step=600)))
    priced = price(one, charging(21), parked(16))
    assert total(priced, "total_time_cost")[0] == Decimal("0.35")
    assert total(priced, "total_parking_cost")[0] == Decimal("0.666666667")
    assert sum(line.billed for line in priced.lines) * 60 == 41


@BOTH
def test_the_example_of_a_cdr(version: str) -> None:
    """mod_cdrs, "Example of a CDR": 1.973 h at € 2.00 in steps of 5 minutes are € 4.00, with VAT € 4.40."""
    found = price_document((EXAMPLES / version / "cdr_example.json").read_bytes(), version=version)
    assert found["total_cost"] == {"excl_vat": Decimal("4"), "incl_vat": Decimal("4.4")}
    assert found["total_time_cost"] == found["total_cost"]
    assert found["comparison"]["verdict"] == "match"
    assert {name: one["verdict"] for name, one in found["comparison"]["totals"].items()} == {
        "total_cost": "match",
        "total_time_cost": "match",
        "total_time": "match",
        "total_energy": "cannot_be_priced",  # 15.342 kWh, of which no charging period says any
    }


def test_a_credit_cdr_negates_the_total_cost_alone() -> None:
    """mod_cdrs, "Credit CDRs": only the values in total_cost are negative."""
    one = example("tariff_13_simple_3hour_5parking")
    priced = price(one, charging(150), parked(42), credit=True)
    assert total(priced) == money("-11.25", "-12.75")
    assert total(priced, "total_time_cost") == money("7.50", "8.25")
    assert codes(priced) == []
