"""`evse_utilisation_hourly` on the real engine: examples by hand, and anything against a plain model."""

from __future__ import annotations

import itertools
import uuid
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.migrations import migrate
from schemas.records import SessionRecord, moment
from tests.analytics_helpers import at, period, session
from tests.integration.test_analytics_queries import insert

HOUR = 3_600_000_000
UNIT = Decimal("1e-9")


@pytest.fixture
def tables(clickhouse: Client, engine: str, database: str) -> Client:
    """A client on empty tables."""
    migrate(engine, database)
    return clickhouse


def used(client: Client, location: str = "LOC1") -> list[tuple[Any, ...]]:
    """Rows of a location: EVSE, hour, occupied and charging seconds, kWh, sessions."""
    query = (
        "SELECT evse_uid, toString(hour), occupied_seconds, charging_seconds, kwh, sessions"
        " FROM evse_utilisation_hourly WHERE location_id = {location:String} ORDER BY evse_uid, hour"
    )
    return list(client.query(query, parameters={"location": location}).result_rows)


def test_a_session_is_spread_over_its_hours(tables: Client) -> None:
    """09:50 to 12:00, charging at an even rate until 11:30 (100 minutes, 12.5 kWh)."""
    insert(tables, session())
    assert used(tables) == [
        ("EVSE1", "2024-03-01 09:00:00", 600, 600, Decimal("1.25"), 1),
        ("EVSE1", "2024-03-01 10:00:00", 3600, 3600, Decimal("7.5"), 1),
        ("EVSE1", "2024-03-01 11:00:00", 3600, 1800, Decimal("3.75"), 1),
    ]


def test_thirds_add_up(tables: Client) -> None:
    """One unit of 10^-9 kWh, and ten of them, over three hours: nothing is lost, nothing made."""
    begin = at("2024-03-01T09:00:00")
    for number, kwh in enumerate(("0.000000001", "0.00000001", "10")):
        whole = session(
            number,
            location_id=f"L{number}",
            started_at=begin,
            ended_at=begin + 3 * HOUR,
            kwh=Decimal(kwh),
            periods=[period(begin, begin + 3 * HOUR, kwh)],
        )
        insert(tables, whole)
        assert sum(row[4] for row in used(tables, f"L{number}")) == Decimal(kwh)
    assert [row[4] for row in used(tables, "L2")] == [
        Decimal("3.333333333"),
        Decimal("3.333333333"),
        Decimal("3.333333334"),
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Without periods the energy goes to the session as a whole, and nothing is known of charging.
        (
            {"periods": [], "started_at": at("2024-03-01T09:30:00"), "ended_at": at("2024-03-01T10:30:00")},
            [("09", 1800, 0, "6.25"), ("10", 1800, 0, "6.25")],
        ),
        # Periods that add up to less (or more) give the proportions.
        (
            {
                "started_at": at("2024-03-01T09:00:00"),
                "ended_at": at("2024-03-01T11:00:00"),
                "periods": [
                    period(at("2024-03-01T09:00:00"), at("2024-03-01T10:00:00"), "1"),
                    period(at("2024-03-01T10:00:00"), at("2024-03-01T11:00:00"), "4"),
                ],
            },
            [("09", 3600, 3600, "2.5"), ("10", 3600, 3600, "10")],
        ),
        # A session without duration is in one hour.
        (
            {"started_at": at("2024-03-01T10:00:00"), "ended_at": at("2024-03-01T10:00:00"), "periods": []},
            [("10", 0, 0, "12.5")],
        ),
        # It ended before it began: as without duration.
        (
            {"started_at": at("2024-03-01T10:00:00"), "ended_at": at("2024-03-01T09:00:00"), "periods": []},
            [("10", 0, 0, "12.5")],
        ),
        # Still active: known until the last update.
        (
            {
                "status": "ACTIVE",
                "started_at": at("2024-03-01T09:50:00"),
                "ended_at": None,
                "last_updated": at("2024-03-01T10:10:00"),
                "periods": [period(at("2024-03-01T09:50:00"), at("2024-03-01T10:10:00"), "12.5")],
            },
            [("09", 600, 600, "6.25"), ("10", 600, 600, "6.25")],
        ),
        # Periods outside the session are cut to it.
        (
            {
                "started_at": at("2024-03-01T10:00:00"),
                "ended_at": at("2024-03-01T11:00:00"),
                "periods": [period(at("2024-03-01T08:00:00"), at("2024-03-01T14:00:00"), "12.5")],
            },
            [("10", 3600, 3600, "12.5")],
        ),
        *(({"status": status}, []) for status in ("INVALID", "PENDING", "RESERVATION")),
        # A clock that was wrong: more than 366 days.
        ({"ended_at": at("2026-03-01T10:00:00")}, []),
    ],
)
def test_odd_sessions(
    tables: Client, changes: dict[str, Any], expected: list[tuple[str, int, int, str]]
) -> None:
    """Each has its rule, and the energy is all there."""
    insert(tables, session(**changes))
    found = [(hour[11:13], occupied, charging, kwh) for _, hour, occupied, charging, kwh, _ in used(tables)]
    assert found == [(hour, occ, chg, Decimal(kwh)) for hour, occ, chg, kwh in expected]
    counted = tables.query("SELECT counted FROM sessions").first_row[0]
    assert bool(counted) == bool(expected)


def test_hours_are_utc_when_the_clocks_change(tables: Client) -> None:
    """Amsterdam, 2024-10-27, 01:30 to 03:30 by the clock, which is three hours: each of them once."""
    amsterdam = ZoneInfo("Europe/Amsterdam")
    begin, end = at("2024-10-27T01:30:00+02:00"), at("2024-10-27T03:30:00+01:00")
    insert(tables, session(started_at=begin, ended_at=end, periods=[]))
    rows = used(tables)
    assert [(row[1], row[2]) for row in rows] == [
        ("2024-10-26 23:00:00", 1800),
        ("2024-10-27 00:00:00", 3600),
        ("2024-10-27 01:00:00", 3600),
        ("2024-10-27 02:00:00", 1800),
    ]
    local = tables.query(
        "SELECT toString(toTimeZone(hour, 'Europe/Amsterdam')) FROM evse_utilisation_hourly ORDER BY hour"
    ).result_rows
    assert [text[11:13] for (text,) in local] == ["01", "02", "02", "03"]
    assert moment(begin).astimezone(amsterdam).hour == 1


def test_sessions_share_an_hour(tables: Client) -> None:
    """Two after each other on one EVSE, one beside them on another; operators are told apart."""
    insert(
        tables,
        session(1, started_at=at("2024-03-01T10:00:00"), ended_at=at("2024-03-01T10:20:00"), periods=[]),
        session(2, started_at=at("2024-03-01T10:30:00"), ended_at=at("2024-03-01T11:00:00"), periods=[]),
        session(
            3,
            started_at=at("2024-03-01T10:00:00"),
            ended_at=at("2024-03-01T11:00:00"),
            periods=[],
            evse_uid="EVSE2",
        ),
        session(
            4,
            key="NL*OTH*S4",
            party_id="OTH",
            started_at=at("2024-03-01T10:00:00"),
            ended_at=at("2024-03-01T11:00:00"),
            periods=[],
            evse_uid="EVSE2",
        ),
    )
    assert sorted((row[0], row[2], row[5]) for row in used(tables)) == [
        ("EVSE1", 3000, 2),
        ("EVSE2", 3600, 1),
        ("EVSE2", 3600, 1),
    ]


@dataclass
class Use:
    """One EVSE in one hour, as fractions."""

    occupied: int = 0
    charging: int = 0
    kwh: Fraction = Fraction(0)
    sessions: int = 0


def model(records: list[SessionRecord]) -> dict[tuple[str, int], Use]:
    """The definition, said plainly: exact fractions, no running totals."""
    uses: dict[tuple[str, int], Use] = defaultdict(Use)

    def overlaps(begin: int, end: int) -> list[tuple[int, int]]:
        first, last = begin // HOUR, max(begin, end - 1) // HOUR
        return [(h, min(end, (h + 1) * HOUR) - max(begin, h * HOUR)) for h in range(first, last + 1)]

    for record in records:
        begin = record.started_at
        end = max(begin, record.last_updated if record.ended_at is None else record.ended_at)
        last_instant = max(begin, end - 1)
        for hour, time in overlaps(begin, end):
            use = uses[record.evse_uid, hour]
            use.occupied += time
            use.sessions += 1
        total = sum(Fraction(p.kwh) for p in record.periods)
        parts = [
            (p.started_at, p.ended_at, Fraction(p.kwh) / total if total else 0, p.charging)
            for p in record.periods
        ]
        if not total:
            parts.append((begin, end, Fraction(1), False))
        for from_, to, share, charging in parts:
            first = min(max(from_, begin), end)
            until = max(first, min(max(to, begin), end))
            for hour, time in (
                overlaps(first, until) if until > first else [(min(first, last_instant) // HOUR, 0)]
            ):
                use = uses[record.evse_uid, hour]
                use.kwh += (
                    Fraction(record.kwh) * share * (Fraction(time, until - first) if until > first else 1)
                )
                use.charging += time if charging else 0
    return uses


energies = st.one_of(
    st.just(Decimal(0)),
    st.integers(0, 50).map(Decimal),
    st.integers(0, 200 * 10**9).map(lambda units: Decimal(units) * UNIT),
)
begins = st.one_of(
    st.integers(at("2024-03-30T00:00:00"), at("2024-04-01T00:00:00")),
    st.integers(0, 48).map(lambda hours: at("2024-03-30T00:00:00") + hours * HOUR),
)
lengths = st.one_of(st.integers(0, 12).map(lambda hours: hours * HOUR), st.integers(0, 30 * HOUR))


@st.composite
def sessions(draw: st.DrawFn) -> SessionRecord:
    """Sessions of every shape: periods end to end or with gaps, beyond the session, adding up or not."""
    begin = draw(begins)
    end = begin + draw(lengths)
    cuts = sorted(draw(st.lists(st.integers(begin - HOUR, end + HOUR), max_size=6)))
    if draw(st.booleans()):
        cuts = sorted(min(max(cut, begin), end) for cut in [begin, *cuts, end])
    periods = [period(a, b, draw(energies), draw(st.booleans())) for a, b in itertools.pairwise(cuts)]
    adds_up = draw(st.booleans())
    return session(
        uuid.uuid4().hex,
        started_at=begin,
        ended_at=end if draw(st.booleans()) else None,
        last_updated=end,
        kwh=sum((p.kwh for p in periods), Decimal(0)) if adds_up else draw(energies),
        evse_uid=draw(st.sampled_from(["E1", "E2"])),
        periods=periods,
    )


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(records=st.lists(sessions(), min_size=1, max_size=8))
def test_any_sessions_against_the_model(tables: Client, records: list[SessionRecord]) -> None:
    """Times exactly, energy to a unit for each period, totals exactly."""
    location = uuid.uuid4().hex
    for record in records:
        record.location_id = location
    insert(tables, *records)
    rows = tables.query(
        "SELECT evse_uid, toUnixTimestamp(hour) AS at, occupied_seconds, charging_seconds, kwh, sessions"
        " FROM evse_utilisation_hourly WHERE location_id = {location:String}",
        parameters={"location": location},
    ).result_rows
    expected = model(records)
    assert {(evse, second // 3600) for evse, second, *_ in rows} == expected.keys()
    rounding = UNIT * 2 * sum(len(record.periods) + 1 for record in records)
    for evse, second, occupied, charging, kwh, count in rows:
        use = expected[evse, second // 3600]
        assert (occupied * 1_000_000, charging * 1_000_000, count) == (
            use.occupied,
            use.charging,
            use.sessions,
        )
        assert abs(Fraction(kwh) - use.kwh) <= rounding
    totals = tables.query(
        "SELECT (SELECT sum(kwh) FROM evse_utilisation_hourly WHERE location_id = {location:String}),"
        " (SELECT sum(kwh) FROM sessions WHERE location_id = {location:String}),"
        " (SELECT sum(occupied_seconds) FROM evse_utilisation_hourly WHERE location_id = {location:String}),"
        " (SELECT sum(duration_seconds) FROM sessions WHERE location_id = {location:String})",
        parameters={"location": location},
    ).first_row
    assert totals[0] == totals[1] == sum(record.kwh for record in records)
    assert totals[2] == totals[3]
