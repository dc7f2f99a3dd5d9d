"""Days, weeks and months in a time zone, and their names: `20260315`, `2026W11`, `202603`."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from schemas.records import micros, moment


class Period(NamedTuple):
    """A span of time: its name, its first moment and the first one behind it, in microseconds."""

    label: str
    start: int
    end: int


@lru_cache(maxsize=1_000)
def zone_of(name: str) -> ZoneInfo:
    """A time zone by its IANA name. Raises ValueError for one that is not known."""
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ValueError(f"{name!r} is no time zone") from None


def period_of(kind: str, time_zone: str, at: int) -> Period:
    """The day, week (ISO 8601, from Monday) or month that a moment lies in, by the clock of a time zone."""
    local = moment(at).astimezone(zone_of(time_zone)).date()
    return _period(kind, time_zone, local)


def period_named(label: str, time_zone: str) -> Period:
    """The period with this name. Raises ValueError for what is none."""
    year, rest = label[:4], label[4:]
    if not year.isdigit():
        raise ValueError(f"{label!r} is no period")
    if rest[:1] == "W" and rest[1:].isdigit():
        return _period("week", time_zone, date.fromisocalendar(int(year), int(rest[1:]), 1))
    if len(rest) == 2 and rest.isdigit():
        return _period("month", time_zone, date(int(year), int(rest), 1))
    if len(rest) == 4 and rest.isdigit():
        return _period("day", time_zone, date(int(year), int(rest[:2]), int(rest[2:])))
    raise ValueError(f"{label!r} is no period: 20260315, 2026W11 and 202603 are")


@lru_cache(maxsize=10_000)
def _period(kind: str, time_zone: str, day: date) -> Period:
    match kind:
        case "day":
            label, first, behind = f"{day:%Y%m%d}", day, day + timedelta(days=1)
        case "week":
            year, week, weekday = day.isocalendar()
            first = day - timedelta(days=weekday - 1)
            label, behind = f"{year:04}W{week:02}", first + timedelta(days=7)
        case "month":
            first = day.replace(day=1)
            label, behind = f"{day:%Y%m}", (first + timedelta(days=32)).replace(day=1)
        case other:
            raise ValueError(f"{other!r} is none of day, week, month")
    zone = zone_of(time_zone)
    return Period(label, _midnight(first, zone), _midnight(behind, zone))


def _midnight(day: date, zone: ZoneInfo) -> int:
    return micros(datetime(day.year, day.month, day.day, tzinfo=zone))
