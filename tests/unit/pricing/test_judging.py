"""Comparison, estimate and lint: each verdict, each limit, each finding."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from schemas.currencies import digits_of
from schemas.ocpi import wire
from schemas.ocpi.objects import Tariff
from streams.pricing import PricingError
from streams.pricing.compare import Comparison, compare
from streams.pricing.documents import _read_cdr
from streams.pricing.engine import price_cdr
from streams.pricing.estimate import estimate
from streams.pricing.lint import lint
from tests.unit.pricing.talk import EXAMPLES, at, component, element, money, parked, price, tariff, total

NOW = datetime(2024, 5, 13, tzinfo=UTC)


def judged(before: str, after: str | None = None, *, currency: str = "EUR", **options: Any) -> Comparison:
    """The specification's CDR of € 4.00 (4.40), billed otherwise."""
    body = json.loads((EXAMPLES / "2.2.1" / "cdr_example.json").read_bytes())
    body["total_cost"] = {"excl_vat": float(before)} | ({"incl_vat": float(after)} if after else {})
    del body["total_time_cost"]
    body["currency"] = currency
    body["tariffs"][0]["currency"] = options.pop("tariff_currency", currency)
    cdr, *_ = _read_cdr(json.dumps(body).encode(), "2.2.1")
    return compare(cdr, price_cdr(cdr, None, None, untaxed=True), **options)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ("4.00", "4.40", "match"),
        ("4.00", None, "match"),
        ("4.0049", "4.40", "match"),
        ("3.995", "4.40", "match"),
        ("4.005", "4.40", "within_tolerance"),
        ("4.0051", "4.40", "overcharged"),
        ("4.01", "4.40", "overcharged"),
        ("3.99", "4.40", "undercharged"),
        ("4.00", "4.41", "overcharged"),
        ("4.00", "4.39", "undercharged"),
    ],
)
def test_half_a_cent_is_tolerated(before: str, after: str | None, verdict: str) -> None:
    found = judged(before, after)
    assert found.verdict == verdict
    assert bool(found.reason) == (verdict != "match")


def test_the_tolerance_is_yours() -> None:
    assert judged("4.30", "4.70", tolerance=Decimal("0.30")).verdict == "within_tolerance"
    assert judged("4.31", "4.70", tolerance=Decimal("0.30")).verdict == "overcharged"
    assert judged("4.01", "4.41", tolerance=Decimal(0)).verdict == "overcharged"


def test_precision_is_the_currencys_own() -> None:
    assert [digits_of(one) for one in ("EUR", "JPY", "KWD", "isk", "XYZ")] == [2, 0, 3, 0, 2]
    assert judged("4.4", "4.4", currency="JPY").verdict == "match"
    assert judged("4.51", "4.4", currency="JPY").verdict == "overcharged"
    assert judged("4.002", "4.40", currency="KWD").verdict == "overcharged"


def test_another_currency_cannot_be_priced() -> None:
    found = judged("4.00", "4.40", tariff_currency="SEK")
    assert found.verdict == "cannot_be_priced"
    assert "SEK" in found.reason


# -- estimates -----------------------------------------------------------------------------------------------


def per_kwh_and_minute() -> Tariff:
    return tariff(element(component("ENERGY", 0.5), component("TIME", 6), component("PARKING_TIME", 60)))


def test_it_charges_at_the_limit_then_stays() -> None:
    start = at("2024-05-13T10:00")
    found = estimate(
        per_kwh_and_minute(), start, start + timedelta(hours=2), Decimal(11), None, max_power=Decimal(11)
    )
    assert total(found) == money("71.5", "85.8")  # 5.50 of energy, an hour at 6, an hour at 60
    assert found.total_parking_time == 1
    assert found.warnings == []


def test_a_current_is_over_all_phases_and_the_lower_limit_counts() -> None:
    start = at("2024-05-13T10:00")
    limits = {"max_power": Decimal(22), "max_current": Decimal(48)}  # 48 A at 230 V: 11.04 kW
    found = estimate(
        per_kwh_and_minute(), start, start + timedelta(hours=2), Decimal("11.04"), None, **limits
    )
    assert found.total_parking_time == 1


def test_energy_that_does_not_fit_is_not_delivered() -> None:
    start = at("2024-05-13T10:00")
    found = estimate(
        per_kwh_and_minute(), start, start + timedelta(hours=1), Decimal(50), None, max_power=Decimal(11)
    )
    assert found.total_energy == 11
    assert [one.code for one in found.warnings] == ["energy_not_delivered"]


def test_without_a_limit_it_charges_evenly() -> None:
    start = at("2024-05-13T10:00")
    one = tariff(element(component("ENERGY", 1), end_time="11:00"), element(component("ENERGY", 3)))
    found = estimate(one, start, start + timedelta(hours=2), Decimal(10), "Europe/Amsterdam")
    assert total(found)[0] == 5 + 15
    assert found.total_parking_time == 0


def test_an_estimate_agrees_with_the_price_of_what_then_happens() -> None:
    start = at("2024-05-13T10:00")
    one = per_kwh_and_minute()
    found = estimate(one, start, start + timedelta(hours=2), Decimal(11), None, max_power=Decimal(11))
    happened = price(one, (60, {"TIME": 1, "ENERGY": 11}), parked(60), start=start)
    assert found.totals == happened.totals


@pytest.mark.parametrize(
    ("hours", "kwh", "power", "code"),
    [(0, 1, None, "end_before_start"), (-1, 1, None, "end_before_start"), (1, -1, None, "negative_energy"),
     (1, 1, 0, "invalid_limit"), (1, 1, -5, "invalid_limit")],
)  # fmt: skip
def test_what_cannot_be_estimated(hours: int, kwh: int, power: int | None, code: str) -> None:
    start = at("2024-05-13T10:00")
    limit = None if power is None else Decimal(power)
    with pytest.raises(PricingError) as refused:
        estimate(
            per_kwh_and_minute(), start, start + timedelta(hours=hours), Decimal(kwh), None, max_power=limit
        )
    assert refused.value.code == code


# -- lint ----------------------------------------------------------------------------------------------------

ENERGY = component("ENERGY", 0.5)


@pytest.mark.parametrize(
    ("one", "findings"),
    [
        (tariff(element(ENERGY)), set()),
        (tariff(element(ENERGY), element(ENERGY, start_time="08:00")),
         {("unreachable", "elements[1].price_components[0]")}),
        (tariff(element(ENERGY, max_kwh=5), element(ENERGY, max_kwh=5), element(ENERGY)),
         {("unreachable", "elements[1].price_components[0]")}),
        (tariff(element(ENERGY, min_kwh=5, max_kwh=5), element(ENERGY)),
         {("contradiction", "elements[0].restrictions.max_kwh")}),
        (tariff(element(ENERGY, min_power=5, max_power=4), element(ENERGY)),
         {("contradiction", "elements[0].restrictions.max_power")}),
        (tariff(element(ENERGY, start_date="2024-06-02", end_date="2024-06-01"), element(ENERGY)),
         {("contradiction", "elements[0].restrictions.end_date")}),
        (tariff(element(ENERGY, end_date="2024-05-01"), element(ENERGY)),
         {("in_the_past", "elements[0].restrictions.end_date")}),
        (tariff(element(ENERGY, start_time="08:00", end_time="08:00"), element(ENERGY)),
         {("whole_day", "elements[0].restrictions.end_time")}),
        (tariff(element(ENERGY, start_time="08:00", end_time="23:59"), element(ENERGY)),
         {("last_minute", "elements[0].restrictions.end_time")}),
        (tariff(element(ENERGY, start_time="08:00", end_time="18:00")), {("gap", "elements")}),
        (tariff(element(ENERGY, day_of_week=["MONDAY"])), {("gap", "elements")}),
        (tariff(element(component("ENERGY", 0.5, step=1000))),
         {("step_size_large", "elements[0].price_components[0].step_size")}),
        (tariff(element(component("TIME", 0.5, step=60), max_kwh=1), element(component("TIME", 1, step=300))),
         {("step_size_differs", "elements")}),
        (tariff(element(component("ENERGY", 0.5, step=0))),
         {("step_size_invalid", "elements[0].price_components[0].step_size")}),
        (tariff(element(component("ENERGY", 0.5, vat=None))),
         {("vat_missing", "elements[0].price_components[0].vat")}),
        (tariff(element(component("ENERGY", 0.5, vat=None)), tax_included="N/A"), set()),
        (tariff(element(component("ENERGY", 0.5, vat=120))),
         {("vat_range", "elements[0].price_components[0].vat")}),
        (tariff(element(component("ENERGY", -0.5))),
         {("negative_price", "elements[0].price_components[0].price")}),
        (tariff(element(component("ENERGY", 0.5), reservation="RESERVATION")),
         {("reservation_dimension", "elements[0].price_components[0].type")}),
        (tariff(element(ENERGY), end_date_time="2024-05-01T00:00:00Z"), {("expired", "end_date_time")}),
        (tariff(element(ENERGY), start_date_time="2025-01-01T00:00:00Z",
                end_date_time="2024-12-01T00:00:00Z"),
         {("never_valid", "end_date_time")}),
        (tariff(element(ENERGY), min_price={"before_taxes": 5}, max_price={"before_taxes": 4}),
         {("min_above_max", "min_price")}),
        (tariff(element(ENERGY), min_price={"before_taxes": 5, "after_taxes": 4}),
         {("limit_taxes", "min_price")}),
    ],
)  # fmt: skip
def test_what_is_odd_is_found(one: Tariff, findings: set[tuple[str, str]]) -> None:
    assert {(found.code, found.path) for found in lint(one, NOW)} == findings


@pytest.mark.parametrize(
    "path", sorted((EXAMPLES / "2.3.0").glob("tariff_[0-9]*.json")), ids=lambda path: path.stem
)
def test_the_specifications_tariffs_have_no_errors(path: Any) -> None:
    found = lint(wire.decode("tariff", "2.3.0", path.read_bytes()), NOW)
    assert [one for one in found if one.level == "error"] == []
