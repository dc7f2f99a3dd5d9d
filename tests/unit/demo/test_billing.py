"""The operator's own bills: by hand, and beside the engine that will check them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.ocpi import wire
from streams import pricing
from voltfold.demo import billing
from voltfold.demo.garage import Visit, read_visits
from voltfold.demo.traffic import Garage, _encode

MONDAY = datetime(2019, 5, 13, 14, tzinfo=UTC)
"""Seven in the morning by the garage's clock."""


def visit(charged: timedelta, idle: timedelta, kwh: str, start: datetime = MONDAY) -> Visit:
    ended = start + charged
    return Visit("S1", start, ended + idle, start, ended, Decimal(7), Decimal(kwh), "1", "U1")


def bill(one: Visit, name: str) -> billing.Bill:
    return billing.reckon(billing.cut(one, name), name)


def test_daytime_changes_its_price_by_the_wall_clock() -> None:
    # From 7 to 9: five kWh at night's price, five at day's. Seven idle minutes are two steps of five.
    found = bill(visit(timedelta(hours=2), timedelta(minutes=7), "10"), "DAYTIME")
    assert found.energy == Decimal("2.70")
    assert found.parking == Decimal("0.25")
    assert (found.fixed, found.time) == (0, 0)
    assert found.tax == Decimal("0.28025")


def test_daytime_is_cheap_at_the_weekend() -> None:
    saturday = MONDAY + timedelta(days=5)
    found = bill(visit(timedelta(hours=2), timedelta(0), "10", saturday), "DAYTIME")
    assert found.total == Decimal("2.20")


def test_daytime_follows_the_flip_of_the_clock() -> None:
    # 2019-11-04, the Monday after: 8:00 is 16:00 UTC, not 15:00. One hour of night, one of day.
    monday = datetime(2019, 11, 4, 15, tzinfo=UTC)
    found = bill(visit(timedelta(hours=2), timedelta(0), "10", monday), "DAYTIME")
    assert found.total == Decimal("2.70")


def test_start_has_a_fee_and_charges_begun_minutes() -> None:
    found = bill(visit(timedelta(minutes=29, seconds=1), timedelta(hours=1), "4"), "START")
    assert found.fixed == Decimal("1.00")
    assert found.energy == Decimal("1.04")
    assert found.time == Decimal("0.20")
    assert found.parking == 0


def test_tiers_change_their_price_at_ten_kwh_and_are_patient_for_three_hours() -> None:
    # Unplugged after 4:00:30; idle since 2:00, which counts from 3:00: 61 begun minutes at 0.02.
    found = bill(visit(timedelta(hours=2), timedelta(hours=2, seconds=30), "15"), "TIERS")
    assert found.energy == Decimal("3.50")
    assert found.parking == Decimal("1.22")
    assert bill(visit(timedelta(hours=1), timedelta(hours=1), "15"), "TIERS").parking == 0


def test_energy_is_rounded_up_to_the_watt_hour_once() -> None:
    found = bill(visit(timedelta(hours=1), timedelta(0), "4.0001"), "START")
    assert found.energy == Decimal("4.001") * Decimal("0.26")


@pytest.mark.parametrize("name", billing.TARIFFS)
def test_periods_fill_the_visit_without_gaps(name: str) -> None:
    for one in read_visits()[::20]:
        pieces = billing.cut(one, name)
        assert pieces[0].start == one.connected_at
        assert pieces[-1].end == one.disconnected_at
        assert all(one.start < one.end for one in pieces)
        assert all(left.end == right.start for left, right in pairwise(pieces))
        assert sum(piece.kwh for piece in pieces) == one.energy_kwh


def verdicts(visits: list[Visit]) -> list[tuple[str, str | None, Any]]:
    """Of each visit's CDR: session, what is wrong on purpose, and what the engine says of it."""
    garage = Garage(visits)
    tariffs = {
        name: wire.decode("tariff", "2.2.1", _encode(billing.tariff(name, "2019-01-01T00:00:00Z")))
        for name in billing.TARIFFS
    }
    found = []
    for story in garage.stories:
        (posted,) = (request for request in story.requests if request.module == "cdrs")
        cdr = wire.decode("cdr", posted.version, _encode(posted.body))
        tariff = tariffs[posted.body["charging_periods"][0]["tariff_id"]]
        comparison = pricing.compare(cdr, pricing.price_cdr(cdr, [tariff], billing.TIME_ZONE))
        found.append((story.session, story.wrong, comparison))
    return found


def accused(comparison: Any) -> bool:
    return comparison.verdict not in ("match", "within_tolerance")


def test_the_engine_finds_all_that_is_wrong_and_nothing_else() -> None:
    found = verdicts(read_visits()[::6])
    assert sum(1 for _, wrong, _ in found if wrong) >= 3
    for session, wrong, comparison in found:
        assert accused(comparison) == bool(wrong), (session, wrong, comparison)


_lengths = st.builds(
    timedelta, seconds=st.one_of(st.integers(0, 700), st.integers(0, 400_000)), microseconds=st.just(0)
)


@settings(max_examples=60)
@given(
    st.datetimes(datetime(2019, 1, 1), datetime(2020, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    _lengths,
    _lengths.filter(bool),
    _lengths,
    st.decimals(0, 80, places=3),
    st.sampled_from("123"),
)
def test_operator_and_engine_agree_on_any_visit(
    start: datetime, before: timedelta, charged: timedelta, idle: timedelta, kwh: Decimal, station: str
) -> None:
    start = start.replace(microsecond=0)
    began = start + before
    ended = began + charged
    one = Visit("S1", start, ended + idle, began, ended, Decimal(7), kwh, station, "U1")
    # Three others bear the mistakes, and with them every tariff has a station.
    others = [visit(timedelta(hours=1), timedelta(0), "5") for _ in "123"]
    visits = [
        Visit(f"X{number}", *other_times(other), station=str(number + 1), user="U1")
        for number, other in enumerate(others)
    ]
    for session, wrong, comparison in verdicts([one, *visits]):
        assert accused(comparison) == bool(wrong), (session, wrong, comparison)


def other_times(one: Visit) -> tuple[Any, ...]:
    return (
        one.connected_at,
        one.disconnected_at,
        one.charging_started_at,
        one.charging_ended_at,
        one.power_kw,
        one.energy_kwh,
    )


def test_one_bill_in_sixty_is_wrong_the_same_ones_every_time_in_every_way() -> None:
    visits = read_visits()
    mistaken = billing.mistaken(visits)
    assert len(mistaken) == len(visits) // 60
    assert mistaken == billing.mistaken(visits[::-1])
    assert len(billing.mistaken(visits[:10])) == 3
    garage = Garage(visits)
    assert len({story.wrong for story in garage.stories if story.wrong}) == 5


def test_a_mistake_is_more_than_a_cent() -> None:
    for one in read_visits()[::10]:
        for name in billing.TARIFFS:
            right = bill(one, name)
            wrong = billing.spoil(bill(one, name), one.session)
            assert wrong.wrong
            assert abs(wrong.total + wrong.tax - right.total - right.tax) > Decimal("0.01")
