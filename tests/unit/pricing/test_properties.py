"""What holds for any tariff and any session, as far as hypothesis can find any."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.ocpi import wire
from schemas.ocpi.objects import (
    AuthMethod,
    CdrToken,
    ChargingPeriod,
    PriceLimit,
    Session,
    SessionStatus,
    Tariff,
)
from streams.pricing import Priced, price_session
from streams.pricing.engine import price_periods
from streams.pricing.plan import plan_of
from tests.unit.pricing.talk import ZONE, Period, at, component, element, number, periods_of, tariff

_clocks = st.builds(lambda hour, half: f"{hour:02}:{30 * half:02}", st.integers(0, 23), st.integers(0, 1))
_days = st.sampled_from(["MONDAY", "TUESDAY", "SATURDAY", "SUNDAY"])
_prices = st.integers(0, 400).map(lambda cents: cents / 100)
_vats = st.sampled_from([0, 10, 21.5])
_restrictions = st.fixed_dictionaries(
    {},
    optional={
        "start_time": _clocks,
        "end_time": _clocks,
        "day_of_week": st.lists(_days, min_size=1, max_size=3, unique=True),
        "start_date": st.sampled_from(["2024-10-26", "2024-10-27"]),
        "end_date": st.sampled_from(["2024-10-27", "2024-10-28"]),
        "min_kwh": st.integers(0, 20),
        "max_kwh": st.integers(1, 30),
        "min_duration": st.integers(0, 8).map(lambda n: n * 1800),
        "max_duration": st.integers(1, 8).map(lambda n: n * 1800),
    },
)


@st.composite
def tariffs(draw: st.DrawFn, steps: st.SearchStrategy[int] | None = None) -> Tariff:
    """A tariff with all kinds of elements, all prices with VAT."""
    if steps is None:
        steps = st.sampled_from([1, 60, 500, 900])
    elements = []
    for _ in range(draw(st.integers(1, 4))):
        kinds = draw(
            st.lists(
                st.sampled_from(["FLAT", "ENERGY", "TIME", "PARKING_TIME"]),
                min_size=1,
                max_size=4,
                unique=True,
            )
        )
        parts = [component(kind, draw(_prices), vat=draw(_vats), step=draw(steps)) for kind in kinds]
        elements.append(element(*parts, **draw(_restrictions)))
    fields: dict[str, Any] = {"tax_included": draw(st.sampled_from(["NO", "YES", "N/A"]))}
    return tariff(*elements, **fields)


_charges = st.tuples(st.integers(1, 24), st.integers(0, 200)).map(
    lambda one: (15.0 * one[0], {"TIME": Decimal(one[0]) / 4, "ENERGY": Decimal(one[1]) / 10})
)
_parks = st.integers(1, 24).map(lambda quarters: (15.0 * quarters, {"PARKING_TIME": Decimal(quarters) / 4}))
sessions = st.lists(st.one_of(_charges, _parks), min_size=1, max_size=5)
starts = st.integers(0, 4 * 60).map(
    lambda quarters: at("2024-10-25T20:00") + timedelta(minutes=15 * quarters)
)


def price(one: Tariff, start: datetime, periods: list[Period], **how: Any) -> Priced:
    end = start + timedelta(minutes=sum(minutes for minutes, _ in periods))
    return price_periods(periods_of(start, periods, one.id), start, end, [plan_of(one)], ZONE, **how)


def near(one: Priced, other: Priced) -> bool:
    """The same but for the ninth decimal, where shares of periods end."""
    pairs = [(one.totals[name], other.totals[name]) for name in one.totals]
    return all(
        a is b is None or (a is not None and b is not None and abs(a - b) <= Decimal("1e-8"))
        for left, right in pairs
        for a, b in zip(left, right, strict=True)
    )


@settings(max_examples=300, deadline=None)
@given(tariffs(), starts, sessions, st.data())
def test_totals_do_not_depend_on_how_a_period_is_cut(
    one: Tariff, start: datetime, periods: list[Period], data: st.DataObject
) -> None:
    """Cut in two at any minute, energy by time share: what nobody can tell apart costs the same."""
    index = data.draw(st.integers(0, len(periods) - 1))
    minutes, volumes = periods[index]
    first = data.draw(st.integers(1, int(minutes) - 1))
    share = Decimal(first) / Decimal(minutes)
    halves: list[Period] = [
        (first, {kind: number(v) * share for kind, v in volumes.items()}),
        (minutes - first, {kind: number(v) - number(v) * share for kind, v in volumes.items()}),
    ]
    cut = [*periods[:index], *halves, *periods[index + 1 :]]
    assert near(price(one, start, periods), price(one, start, cut))


@settings(max_examples=300, deadline=None)
@given(tariffs(st.just(1)), starts, sessions, st.one_of(_charges, _parks))
def test_another_period_never_lowers_an_amount(
    one: Tariff, start: datetime, periods: list[Period], more: Period
) -> None:
    """At prices that are not negative. A step is dropped when another follows: here one second or Wh."""
    before, after = price(one, start, periods), price(one, start, [*periods, more])
    for name in before.totals:
        for less, much in zip(before.totals[name], after.totals[name], strict=True):
            assert less is not None
            assert much is not None
            assert less <= much + Decimal("0.005"), name


@settings(max_examples=300, deadline=None)
@given(tariffs(), starts, sessions, st.integers(0, 900), st.integers(0, 900))
def test_min_and_max_price_hold_and_parts_add_up(
    one: Tariff, start: datetime, periods: list[Period], low: int, room: int
) -> None:
    minimum, maximum = Decimal(low) / 100, Decimal(low + room) / 100
    limited = msgspec.structs.replace(
        one,
        min_price=PriceLimit(before_taxes=minimum, after_taxes=minimum),
        max_price=PriceLimit(before_taxes=maximum, after_taxes=maximum),
    )
    priced = price(limited, start, periods)
    for side in (0, 1):
        whole = priced.totals["total_cost"][side]
        assert whole is not None
        assert minimum <= whole <= maximum
        parts = [priced.totals[name][side] for name in priced.totals if name != "total_cost"]
        assert sum(part for part in parts if part is not None) + (priced.adjustment[side] or 0) == whole


@settings(max_examples=200, deadline=None)
@given(tariffs(), starts, sessions)
def test_a_credit_negates_and_explaining_changes_nothing(
    one: Tariff, start: datetime, periods: list[Period]
) -> None:
    plain = price(one, start, periods)
    credit = price(one, start, periods, credit=True)
    for side in (0, 1):
        assert credit.totals["total_cost"][side] == -(plain.totals["total_cost"][side] or Decimal(0))
    assert {**credit.totals, "total_cost": None} == {**plain.totals, "total_cost": None}
    explained = price(one, start, periods, explain=True)
    assert explained.totals == plain.totals
    assert explained.warnings == plain.warnings


def _session(start: datetime, until: datetime, periods: list[ChargingPeriod], *, ended: bool) -> Session:
    return Session(
        country_code="NL", party_id="TNM", id="S1", start_date_time=start,
        end_date_time=until if ended else None, kwh=Decimal(0),
        cdr_token=CdrToken(
            country_code="DE", party_id="EMS", uid="U", type="RFID", contract_id="C"
        ),
        auth_method=AuthMethod("WHITELIST"), location_id="L", evse_uid="E", connector_id="1",
        currency="EUR", charging_periods=periods, status=SessionStatus("ACTIVE"), last_updated=until,
    )  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(tariffs(), starts, sessions)
def test_pricing_live_and_at_the_end_agree(one: Tariff, start: datetime, periods: list[Period]) -> None:
    """A session priced at its last update, one that has ended, and the CDR of it: one price."""
    end = start + timedelta(minutes=sum(minutes for minutes, _ in periods))
    said = periods_of(start, periods, one.id)
    live = price_session(_session(start, end, said, ended=False), [one], ZONE)
    ended = price_session(_session(start, end, said, ended=True), [one], ZONE)
    bill = price_periods(said, start, end, [plan_of(one)], ZONE)
    assert live.totals == ended.totals == bill.totals


@settings(max_examples=200, deadline=None)
@given(tariffs(), starts, sessions)
def test_translation_to_2_2_1_and_back_keeps_the_price(
    one: Tariff, start: datetime, periods: list[Period]
) -> None:
    """For the tariffs that 2.2.1 can say: its prices are before taxes."""
    if str(one.tax_included) != "NO":
        return
    there = wire.encode("tariff", "2.2.1", one)
    back = wire.decode("tariff", "2.2.1", there)
    assert price(back, start, periods).totals == price(one, start, periods).totals
