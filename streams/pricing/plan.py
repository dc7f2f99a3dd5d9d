"""A tariff compiled: which components apply in a given state, and where that next changes.

A plan is made once for a tariff and kept by the hash of its content. Asked with a state (local time, energy
so far, time so far, current and power), it answers with the first matching component per dimension
(mod_tariffs, "Tariff Object"); asked with a span of time, with the moments at which a restriction may flip.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from schemas.ocpi.objects import PriceLimit, Tariff, TariffElement, TariffRestrictions

FLAT, ENERGY, TIME, PARKING = range(4)
DIMENSIONS = ("FLAT", "ENERGY", "TIME", "PARKING_TIME")
_DAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
ANY_TIME = datetime(1, 1, 1)  # noqa: DTZ001 - local, where no clock matters
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
LONGEST, MOST_FLIPS = 400, 50_000
"""Days that a session may last to be priced by the time of day, and changes of price within it."""
_KEPT_CLOCKS, _KEPT_FLIPS = 50, 500
"""What has more is computed each time: caches must not grow with what partners send."""


class PricingError(ValueError):
    """What keeps something from being priced: a stable code, where, and why."""

    def __init__(self, code: str, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.code = code
        self.path = path
        self.message = message


@dataclass(eq=False, slots=True)
class Component:
    """One price of one element. Price a kWh or hour (or once), VAT in percent, step in Wh or seconds."""

    dimension: int
    price: Decimal
    vat: Decimal | None
    step: int
    element: int
    reservation: bool


Active = tuple[Component | None, Component | None, Component | None, Component | None]
"""What applies: flat, energy, time, parking."""

NOTHING: Active = (None, None, None, None)


class Load(NamedTuple):
    """How hard the vehicle charges in a period: amperes over all phases and kW; None where nobody said."""

    min_current: Decimal | None = None
    max_current: Decimal | None = None
    min_power: Decimal | None = None
    max_power: Decimal | None = None


UNKNOWN = Load()


class Condition(NamedTuple):
    """An element's restrictions, ready to be asked."""

    days: frozenset[int] | None
    start: time | None
    end: time | None
    first: date | None
    last: date | None
    min_kwh: Decimal | None
    max_kwh: Decimal | None
    min_duration: timedelta | None
    max_duration: timedelta | None
    min_current: Decimal | None
    max_current: Decimal | None
    min_power: Decimal | None
    max_power: Decimal | None

    def failing(self, local: datetime, kwh: Decimal, lasted: timedelta, load: Load) -> str | None:
        """The restriction that does not hold, or None when all do (they are a logical AND).

        Lower bounds are inclusive, upper ones exclusive. A current or power that nobody reported restricts
        nothing.
        """
        if self.days is not None and local.weekday() not in self.days:
            return "day_of_week"
        if self.first is not None and local.date() < self.first:
            return "start_date"
        if self.last is not None and local.date() >= self.last:
            return "end_date"
        if self.start is not None or self.end is not None:
            clock = local.time()
            start, end = self.start or time.min, self.end or time.min
            if end == time.min:  # "To stop at end of the day use: 00:00"
                if clock < start:
                    return "start_time"
            elif start < end:
                if not start <= clock < end:
                    return "start_time" if clock < start else "end_time"
            elif start > end and end <= clock < start:  # wraps around midnight
                return "end_time"
        if self.min_kwh is not None and kwh < self.min_kwh:
            return "min_kwh"
        if self.max_kwh is not None and kwh >= self.max_kwh:
            return "max_kwh"
        if self.min_duration is not None and lasted < self.min_duration:
            return "min_duration"
        if self.max_duration is not None and lasted >= self.max_duration:
            return "max_duration"
        return self._overloaded(load)

    def _overloaded(self, load: Load) -> str | None:
        if (
            self.min_current is not None
            and load.min_current is not None
            and load.min_current < self.min_current
        ):
            return "min_current"
        if (
            self.max_current is not None
            and load.max_current is not None
            and load.max_current >= self.max_current
        ):
            return "max_current"
        if self.min_power is not None and load.min_power is not None and load.min_power < self.min_power:
            return "min_power"
        if self.max_power is not None and load.max_power is not None and load.max_power >= self.max_power:
            return "max_power"
        return None


@dataclass(frozen=True, slots=True)
class Element:
    """An element's condition (None: always) and its components by dimension."""

    index: int
    condition: Condition | None
    components: Active


class Plan:
    """A tariff ready to price with."""

    def __init__(self, tariff: Tariff, digest: str) -> None:
        self.tariff = tariff
        self.hash = digest
        self.id = tariff.id
        self.currency = tariff.currency
        self.min_price: PriceLimit | None = tariff.min_price
        self.max_price: PriceLimit | None = tariff.max_price
        self.taxes = str(tariff.tax_included)
        components = [c for element in tariff.elements for c in element.price_components]
        self.has_vat = any(component.vat is not None for component in components)
        elements = [_element(number, one) for number, one in enumerate(tariff.elements)]
        kinds = [one.restrictions and one.restrictions.reservation for one in tariff.elements]
        self.elements = [one for one, kind in zip(elements, kinds, strict=True) if kind is None]
        self.reserved = [one for one, kind in zip(elements, kinds, strict=True) if kind == "RESERVATION"]
        expires = [one for one, kind in zip(elements, kinds, strict=True) if kind == "RESERVATION_EXPIRES"]
        self.expired = expires + self.reserved
        conditions = [one.condition for one in self.elements if one.condition is not None]
        self.kwh_limits = sorted(
            {limit for c in conditions for limit in (c.min_kwh, c.max_kwh) if limit is not None}
        )
        self.durations = sorted(
            {limit for c in conditions for limit in (c.min_duration, c.max_duration) if limit is not None}
        )
        clocks = {t for c in conditions for t in (c.start, c.end) if t is not None}
        if clocks or any(c.days is not None or c.first or c.last for c in conditions):
            clocks.add(time.min)
        self.clocks = tuple(sorted(clocks))
        self.first_date = min((c.first for c in conditions if c.first is not None), default=None)
        self.by_clock = bool(self.clocks)
        self.by_current = any(c.min_current is not None or c.max_current is not None for c in conditions)
        self.by_power = any(c.min_power is not None or c.max_power is not None for c in conditions)
        self.by_load = self.by_current or self.by_power
        self.by_time = any(e.components[TIME] or e.components[PARKING] for e in self.elements)
        self.always: Active | None = None
        if not conditions:
            self.always = self.active(ANY_TIME, Decimal(0), timedelta(0), UNKNOWN)

    def active(
        self,
        local: datetime,
        kwh: Decimal,
        lasted: timedelta,
        load: Load,
        elements: Sequence[Element] | None = None,
    ) -> Active:
        """The first matching component of each dimension."""
        found: list[Component | None] = [None, None, None, None]
        missing = 4
        for element in self.elements if elements is None else elements:
            condition = element.condition
            if condition is not None and condition.failing(local, kwh, lasted, load) is not None:
                continue
            for dimension, component in enumerate(element.components):
                if component is not None and found[dimension] is None:
                    found[dimension] = component
                    missing -= 1
            if not missing:
                break
        return found[0], found[1], found[2], found[3]

    def flips(self, start: datetime, end: datetime, began: datetime, zone: ZoneInfo) -> list[datetime]:
        """Moments strictly between two at which time of day, date, weekday or duration may change the price.

        Wall clocks decide, so an hour that a change to or from daylight saving time skips or repeats counts
        as the clock on the wall shows it.
        """
        found: Sequence[datetime] = ()
        if self.clocks:
            days = (end - start).days + 3
            flips_between = (
                _flips_between if days * len(self.clocks) <= _KEPT_FLIPS else _flips_between.__wrapped__
            )
            found = flips_between(self.clocks, start.date(), end.date(), zone)
        if self.durations:
            found = sorted({*found, *(began + limit for limit in self.durations)})
        return list(found[bisect_right(found, start) : bisect_left(found, end)])


@lru_cache(maxsize=10_000)
def _flips_between(clocks: tuple[time, ...], first: date, last: date, zone: ZoneInfo) -> tuple[datetime, ...]:
    """Flips from the day before one to the day after another, in order. Raises PricingError beyond a year."""
    days = (last - first).days
    if days * len(clocks) > MOST_FLIPS:
        message = f"{days} days with {len(clocks)} times a day are too many to price by the clock"
        raise PricingError("session_too_long", "end_date_time", message)
    if days > LONGEST:
        message = f"{days} days are too many to price by the clock; {LONGEST} are the most"
        raise PricingError("session_too_long", "end_date_time", message)
    found: set[datetime] = set()
    flips_of = _flips_of if len(clocks) <= _KEPT_CLOCKS else _flips_of.__wrapped__
    try:
        for number in range(-1, days + 2):
            found.update(flips_of(clocks, first + number * _DAY, zone))
    except OverflowError:
        raise PricingError(
            "date_out_of_range", "start_date_time", "is not in a year that has prices"
        ) from None
    return tuple(sorted(found))


@lru_cache(maxsize=20_000)
def _flips_of(clocks: tuple[time, ...], day: date, zone: ZoneInfo) -> tuple[datetime, ...]:
    """When, in UTC, wall clocks show these times on a day, and when the zone's offset changes on it."""
    found = set()
    for clock in clocks:
        wall = datetime.combine(day, clock, zone)
        found.add(wall.astimezone(UTC))
        found.add(wall.replace(fold=1).astimezone(UTC))
    low = datetime.combine(day, time.min, UTC)
    high = low + _DAY
    before = low.astimezone(zone).utcoffset()
    if before != high.astimezone(zone).utcoffset():
        while high - low > _SECOND:  # offsets change at whole seconds
            middle = low + _SECOND * ((high - low) // _SECOND // 2)
            if middle.astimezone(zone).utcoffset() == before:
                low = middle
            else:
                high = middle
        found.add(high)
    return tuple(found)


def _element(index: int, element: TariffElement) -> Element:
    components: list[Component | None] = [None, None, None, None]
    restrictions = element.restrictions
    reservation = restrictions is not None and restrictions.reservation is not None
    for one in element.price_components:
        dimension = DIMENSIONS.index(str(one.type))
        if components[dimension] is None:
            components[dimension] = Component(
                dimension, one.price, one.vat, one.step_size, index, reservation
            )
    condition = _condition(restrictions) if restrictions is not None else None
    return Element(index, condition, (components[0], components[1], components[2], components[3]))


def _condition(one: TariffRestrictions) -> Condition | None:
    days = frozenset(_DAYS.index(str(day)) for day in one.day_of_week)
    condition = Condition(
        days=days if 0 < len(days) < 7 else None,
        start=time.fromisoformat(one.start_time) if one.start_time else None,
        end=time.fromisoformat(one.end_time) if one.end_time else None,
        first=_date(one.start_date),
        last=_date(one.end_date),
        min_kwh=one.min_kwh,
        max_kwh=one.max_kwh,
        min_duration=_seconds(one.min_duration),
        max_duration=_seconds(one.max_duration),
        min_current=one.min_current,
        max_current=one.max_current,
        min_power=one.min_power,
        max_power=one.max_power,
    )
    return None if all(value is None for value in condition) else condition


def _date(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise PricingError("invalid_date", "elements.restrictions", f"{text} is no date") from None


def _seconds(number: int | None) -> timedelta | None:
    return None if number is None else timedelta(seconds=min(number, 10**9))


_encode = msgspec.json.Encoder(decimal_format="number").encode


def content_hash(tariff: Tariff) -> str:
    """A tariff's content in 32 hexadecimal digits: what a priced record names it by."""
    return blake2b(_encode(tariff), digest_size=16).hexdigest()


_RECENT: dict[int, tuple[Tariff, Plan]] = {}  # by identity, which holds as long as the tariff is kept
_PLANS: dict[str, Plan] = {}
_KEPT = 2_000
_KEPT_RECENT = 200  # whole tariffs, which would otherwise be gone with their batch


def plan_of(tariff: Tariff) -> Plan:
    """The tariff's plan, compiled once for its content."""
    recent = _RECENT.get(id(tariff))
    if recent is not None:
        return recent[1]
    digest = content_hash(tariff)
    plan = _PLANS.get(digest)
    if plan is None:
        plan = Plan(tariff, digest)
        if len(_PLANS) >= _KEPT:
            _PLANS.clear()
        _PLANS[digest] = plan
    if len(_RECENT) >= _KEPT_RECENT:
        _RECENT.clear()
    _RECENT[id(tariff)] = (tariff, plan)
    return plan


@lru_cache(maxsize=512)
def zone_of(name: str) -> ZoneInfo:
    """The time zone of a name in the IANA database. Raises PricingError."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise PricingError("unknown_time_zone", "time_zone", f"{name!r} is no IANA time zone") from None
