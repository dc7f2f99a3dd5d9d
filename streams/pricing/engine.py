"""Charging periods and tariffs to amounts, exactly.

The periods are walked once. Where a price may change inside one, at a moment or at an amount of energy, it is
cut there: time and energy are shared out evenly. What each price component covers is added up, `step_size`
rounds the last of its kind up once (mod_cdrs, "step_size"), and each component's cost is its quantity times
its price.

Quantities are exact; a share of a period is exact to 40 digits. The one rounding is that of each component's
cost, before and after taxes, to nine decimals, half to even. Totals are sums of those, so parts add up.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal, localcontext
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from schemas.ocpi.objects import CDR, ChargingPeriod, PriceLimit, Session, Tariff
from streams.pricing.plan import (
    ANY_TIME,
    ENERGY,
    FLAT,
    NOTHING,
    PARKING,
    TIME,
    UNKNOWN,
    Active,
    Component,
    Load,
    Plan,
    PricingError,
    plan_of,
    zone_of,
)

_EXACT = Context(prec=40, rounding=ROUND_HALF_EVEN)
_ROUNDED = Decimal("1e-9")
_NOISE = Decimal("1e-20")  # shares of a period add up to the whole within this
_ZERO = Decimal(0)
_ONE = Decimal(1)
_HOUR = Decimal(3600)
_THOUSAND = Decimal(1000)
_HUNDRED = Decimal(100)
_MICRO = timedelta(microseconds=1)
_UTC = ZoneInfo("UTC")
_SLACK, _MINUTE = Decimal("1.01"), Decimal(1) / 60  # what rounding of times may come to
_FOR_EVER = datetime.max.replace(tzinfo=UTC)
_NO_LIMIT = Decimal("1e30")

TOTALS = (
    "total_cost",
    "total_fixed_cost",
    "total_energy_cost",
    "total_time_cost",
    "total_parking_cost",
    "total_reservation_cost",
)
_TOTAL_OF = {FLAT: 1, ENERGY: 2, TIME: 3, PARKING: 4}
_RESERVATION = 5


class Money(NamedTuple):
    """An amount in the tariff's currency; a side that taxes leave unknown is None."""

    before_taxes: Decimal | None
    after_taxes: Decimal | None


_FREE = Money(_ZERO, _ZERO)


class PriceWarning(NamedTuple):
    """Something that the reader of a price should know: a stable code, where, and words."""

    code: str
    path: str
    message: str


class Line(NamedTuple):
    """What one component came to. `quantity`: kWh, hours, or 1; `billed`: after step_size."""

    component: Component
    tariff_id: str
    quantity: Decimal
    billed: Decimal
    cost: Money


class Segment(NamedTuple):
    """A stretch in which the same components apply, for explanations."""

    period: int
    start: datetime
    end: datetime
    tariff: int
    active: Active
    energy: Decimal
    time: Decimal
    parking: Decimal
    reservation: Decimal
    kwh_before: Decimal
    load: Load


class Priced(NamedTuple):
    """A price with its parts. Energy in kWh, times in hours, money in `currency`.

    `adjustment`: what min_price or max_price added to the sum of the parts to make total_cost.
    """

    currency: str
    totals: Mapping[str, Money]
    total_energy: Decimal
    total_time: Decimal
    total_parking_time: Decimal
    adjustment: Money
    lines: list[Line]
    warnings: list[PriceWarning]
    tariffs: list[str]
    segments: list[Segment]
    plans: list[Plan]


def price_session(
    session: Session, tariffs: Sequence[Tariff], time_zone: str | None, *, explain: bool = False
) -> Priced:
    """The price of a session so far: until its end, else until its last update. Raises PricingError."""
    end = session.end_date_time or max(session.last_updated, session.start_date_time)
    plans = [plan_of(tariff) for tariff in tariffs]
    start = session.start_date_time
    return price_periods(session.charging_periods, start, end, plans, time_zone, explain=explain)


def price_cdr(
    cdr: CDR,
    tariffs: Sequence[Tariff] | None,
    time_zone: str | None,
    *,
    explain: bool = False,
    untaxed: bool = False,
) -> Priced:
    """What a CDR should have cost, by these tariffs or (None) by its own. Raises PricingError.

    A credit CDR has the negative total_cost of the CDR that it credits, and all else as that has it
    (mod_cdrs, "Credit CDRs"). `untaxed`: a price without VAT has none (2.2.1), instead of an unknown one.
    """
    return price_periods(
        cdr.charging_periods,
        cdr.start_date_time,
        cdr.end_date_time,
        [plan_of(tariff) for tariff in (cdr.tariffs if tariffs is None else tariffs)],
        time_zone,
        credit=bool(cdr.credit),
        explain=explain,
        untaxed=untaxed,
    )


def price_periods(
    periods: Sequence[ChargingPeriod],
    start: datetime,
    end: datetime,
    plans: list[Plan],
    time_zone: str | None,
    *,
    credit: bool = False,
    explain: bool = False,
    untaxed: bool = False,
) -> Priced:
    """The price of charging periods by compiled tariffs. See `price_cdr`. Raises PricingError."""
    if not plans:
        raise PricingError("tariff_unknown", "tariffs", "there is no tariff to price with")
    if end < start:
        raise PricingError("end_before_start", "end_date_time", "the session ends before it starts")
    with localcontext(_EXACT):
        walk = _Walk(plans, start, end, time_zone, explain=explain)
        walk.all(periods)
        return _total(walk, credit=credit, untaxed=untaxed)


class _Run:
    """Periods in a row to which the same components apply."""

    __slots__ = ("active", "energy", "index", "parking", "time")

    def __init__(self) -> None:
        self.active: Active | None = None
        self.index = 0
        self.energy = self.time = self.parking = _ZERO


class _Walk:
    """The state along the periods: energy and time so far, and what each component has covered."""

    def __init__(
        self, plans: list[Plan], start: datetime, end: datetime, time_zone: str | None, *, explain: bool
    ) -> None:
        self.plans = plans
        self.start = start
        self.end = end
        self.warnings: list[PriceWarning] = []
        self.explain = explain
        self.segments: list[Segment] = []
        self.kwh = _ZERO
        self.hours = _ZERO
        self.parking = _ZERO
        self.covered: dict[tuple[int, Component], Decimal] = {}
        self.flat: tuple[int, Component] | None = None
        self.reservation_flat: tuple[int, Component] | None = None
        self.last_energy: tuple[int, Component] | None = None
        self.last_time: tuple[int, Component] | None = None
        self.last_reservation: tuple[int, Component] | None = None
        self.used: dict[int, None] = {}
        self._time_zone = time_zone
        self._zone: ZoneInfo | None = None
        self._flips: dict[int, list[datetime]] = {}
        # What applies, and until when and how much energy it surely does: most periods need not ask again.
        self._calm_plan: Plan | None = None
        self._calm = NOTHING
        self._calm_until = start
        self._calm_kwh = _ZERO
        if any(plan.currency != plans[0].currency for plan in plans):
            raise PricingError("currencies_differ", "tariffs", "the tariffs are not in one currency")

    def warn(self, code: str, path: str, message: str) -> None:
        """Say it once."""
        if len(self.warnings) < 50 and not any(w.code == code and w.path == path for w in self.warnings):
            self.warnings.append(PriceWarning(code, path, message))

    @property
    def zone(self) -> ZoneInfo:
        """The location's time zone; UTC, with a warning, when nobody knows it."""
        if self._zone is None:
            if not self._time_zone:
                self.warn("time_zone_unknown", "time_zone", "prices depend on local time; UTC was taken")
            self._zone = zone_of(self._time_zone or "UTC")
        return self._zone

    # -- walking -------------------------------------------------------------------------------------------

    def all(self, periods: Sequence[ChargingPeriod]) -> None:
        """Walk every period."""
        ordered = periods
        previous = None
        for one in periods:
            if previous is not None and one.start_date_time < previous:
                ordered = sorted(periods, key=lambda period: period.start_date_time)
                self.warn("periods_out_of_order", "charging_periods", "taken in the order of their starts")
                break
            previous = one.start_date_time
        choose = self._chooser(ordered)
        expired: bool | None = None
        derive = self._must_derive(ordered)
        last = len(ordered) - 1
        under: str | None = None
        index: int | None = None
        run = _Run()
        for number, period in enumerate(ordered):
            begin = period.start_date_time
            until = ordered[number + 1].start_date_time if number < last else max(self.end, begin)
            if begin < self.start:
                self.warn(
                    "period_before_start", f"charging_periods[{number}]", "starts before the session does"
                )
            elif begin > self.end:
                self.warn("period_after_end", f"charging_periods[{number}]", "starts after the session ended")
            energy = time = parking = reserved = _ZERO
            low = high = mid = weak = strong = power = None
            for dimension in period.dimensions:
                kind, volume = dimension.type, dimension.volume
                if kind == "ENERGY":
                    energy += volume
                elif kind == "TIME":
                    time += volume
                elif kind == "PARKING_TIME":
                    parking += volume
                elif kind == "RESERVATION_TIME":
                    reserved += volume
                elif kind == "MIN_CURRENT":
                    low = volume
                elif kind == "MAX_CURRENT":
                    high = volume
                elif kind == "CURRENT":
                    mid = volume
                elif kind == "MIN_POWER":
                    weak = volume
                elif kind == "MAX_POWER":
                    strong = volume
                elif kind == "POWER":
                    power = volume
            if time < 0 or parking < 0 or reserved < 0:
                raise PricingError(
                    "negative_time", f"charging_periods[{number}].dimensions", "a time cannot be negative"
                )
            if derive and until > begin:
                hours = _hours(until - begin)
                if energy > 0:
                    time = hours
                else:
                    parking = hours
            if (name := period.tariff_id) != under or not number:
                under, index = name, choose(name)
            if index is None:
                self._flush(run)
                self._count(energy, time, parking)
                continue
            plan = self.plans[index]
            self.used[index] = None
            if reserved:
                self._flush(run)
                if expired is None:
                    expired = self._is_expired(ordered)
                self._reserve(index, plan, number, begin, until, reserved, expired)
                if not (energy or time or parking):
                    continue
            active = plan.always
            load = UNKNOWN
            if active is None:
                if plan.by_load:
                    load = self._load(number, plan, low, high, mid, weak, strong, power, energy, time)
                elif (
                    plan is self._calm_plan
                    and until <= self._calm_until
                    and self.kwh + run.energy + energy <= self._calm_kwh
                ):
                    active = self._calm
            if active is None or self.explain:
                self._flush(run)
                if active is None:
                    self._span(index, plan, number, begin, until, energy, time, parking, load)
                else:
                    self._cover(index, active, number, begin, until, energy, time, parking, load)
                continue
            # Nothing changes within this period: it is counted together with its neighbours.
            if (
                active is not run.active
                or index != run.index
                or (time and run.parking)
                or (parking and run.time)
            ):
                self._flush(run)
                run.active, run.index = active, index
            run.energy += energy
            run.time += time
            run.parking += parking
        self._flush(run)

    def _flush(self, run: _Run) -> None:
        """Cover what has gathered."""
        if run.active is not None:
            start = self.start
            self._cover(run.index, run.active, 0, start, start, run.energy, run.time, run.parking, UNKNOWN)
            run.active = None
            run.energy = run.time = run.parking = _ZERO

    def _chooser(self, periods: Sequence[ChargingPeriod]) -> Callable[[str | None], int | None]:
        """Which tariff a period is under. One that names none has none (mod_cdrs, "ChargingPeriod").

        When no period names one (2.1.1 cannot), the first tariff that is valid at the start applies to all.
        """
        named = {period.tariff_id for period in periods if period.tariff_id is not None}
        if not named:
            first = next((i for i, plan in enumerate(self.plans) if self._valid(plan)), 0)
            if len(self.plans) > 1:
                self.warn(
                    "tariff_assumed", "charging_periods", "no period names a tariff; the first was taken"
                )
            return lambda _: first
        index: dict[str, int] = {}
        for number, plan in enumerate(self.plans):
            index.setdefault(plan.id.upper(), number)
        missing = {name for name in named if name.upper() not in index}
        if missing and len(self.plans) == 1 and len(named) == 1:
            self.warn(
                "tariff_id_differs",
                "charging_periods",
                f"periods name tariff {min(missing)}, the tariff is {self.plans[0].id}",
            )
            index = dict.fromkeys((name.upper() for name in named), 0)
        elif missing:
            names = ", ".join(sorted(missing))
            raise PricingError("tariff_unknown", "charging_periods", f"no tariff is known by the id {names}")

        def choose(name: str | None) -> int | None:
            if name is None:
                self.warn("period_without_tariff", "charging_periods", "a period names no tariff: it is free")
                return None
            return index[name.upper()]

        return choose

    def _valid(self, plan: Plan) -> bool:
        since, until = plan.tariff.start_date_time, plan.tariff.end_date_time
        return (since is None or since <= self.start) and (until is None or self.start < until)

    def check_times(self) -> None:
        """Tell of times that do not fit into the session: they are priced as they are said."""
        said, lasted = self.hours + self.parking, _hours(self.end - self.start)
        if said > lasted * _SLACK + _MINUTE:
            message = f"the periods' times are {said:.4f} h, the session lasted {lasted:.4f} h"
            self.warn("time_exceeds_session", "charging_periods", message)

    def _is_expired(self, periods: Sequence[ChargingPeriod]) -> bool:
        """Whether a reservation was never used: there is reservation time and nothing else."""
        kinds = {str(d.type) for period in periods for d in period.dimensions if d.volume}
        return "RESERVATION_TIME" in kinds and not kinds & {"ENERGY", "TIME", "PARKING_TIME"}

    def _must_derive(self, periods: Sequence[ChargingPeriod]) -> bool:
        """Whether times must be read off the clock: the tariff prices time, and no period says any."""
        if not any(plan.by_time for plan in self.plans):
            return False
        times = ("TIME", "PARKING_TIME", "RESERVATION_TIME")
        if not periods or any(d.type in times for period in periods for d in period.dimensions):
            return False
        self.warn("time_derived", "charging_periods", "no period has a time; they were read off the clock")
        return True

    def _load(
        self,
        number: int,
        plan: Plan,
        low: Decimal | None,
        high: Decimal | None,
        mid: Decimal | None,
        weak: Decimal | None,
        strong: Decimal | None,
        power: Decimal | None,
        energy: Decimal,
        time: Decimal,
    ) -> Load:
        """Current and power of a period; power from energy and time when nobody reported it."""
        average = power if power is not None else energy / time if time and energy else None
        load = Load(
            _first(low, mid, high), _first(high, mid, low), _first(weak, power, strong, average),
            _first(strong, power, weak, average),
        )  # fmt: skip
        path = f"charging_periods[{number}]"
        if plan.by_current and load.min_current is None and energy:
            self.warn("current_unknown", path, "the tariff depends on a current that nobody reported")
        if plan.by_power and load.min_power is None and energy:
            self.warn("power_unknown", path, "the tariff depends on a power that nobody reported")
        return load

    def _span(
        self,
        index: int,
        plan: Plan,
        number: int,
        begin: datetime,
        until: datetime,
        energy: Decimal,
        time: Decimal,
        parking: Decimal,
        load: Load,
    ) -> None:
        """Cover a period in pieces, cut where the clock may change the price."""
        flips = self._flips.get(index)
        if flips is None:
            zone = self.zone if plan.by_clock else _UTC
            flips = plan.flips(min(begin, self.start), max(until, self.end), self.start, zone)
            self._flips[index] = flips
        first, last = bisect_right(flips, begin), bisect_left(flips, until)
        if first >= last:
            self._piece(index, plan, number, begin, until, energy, time, parking, load)
            self._calm_plan, self._calm_until = plan, flips[first] if first < len(flips) else _FOR_EVER
            return
        flips = flips[first:last]
        length = until - begin
        moments = [begin, *flips, until]
        whole = Decimal(length // _MICRO)
        done = [_ZERO, _ZERO, _ZERO]
        changed: Active | None = None
        for at, to in pairwise(moments):
            active = plan.active(self._local(plan, at), self.kwh, at - self.start, load)
            if changed is not None and _relevant(active, energy, time, parking) != changed:
                self.warn(
                    "period_spans_price_change",
                    f"charging_periods[{number}]",
                    f"the price changes at {at:%Y-%m-%dT%H:%M:%SZ}; the period was cut there",
                )
            changed = _relevant(active, energy, time, parking)
            if to is until:
                parts = [energy - done[0], time - done[1], parking - done[2]]
            else:
                share = Decimal((to - at) // _MICRO) / whole
                parts = [energy * share, time * share, parking * share]
                done = [a + b for a, b in zip(done, parts, strict=True)]
            self._piece(index, plan, number, at, to, parts[0], parts[1], parts[2], load)

    def _piece(
        self,
        index: int,
        plan: Plan,
        number: int,
        begin: datetime,
        until: datetime,
        energy: Decimal,
        time: Decimal,
        parking: Decimal,
        load: Load,
    ) -> None:
        """Cover a stretch without a flip, cut where the energy passes a limit."""
        crossed = [one for one in plan.kwh_limits if self.kwh < one < self.kwh + energy] if energy > 0 else []
        local, lasted = self._local(plan, begin), begin - self.start
        active = plan.active(local, self.kwh, lasted, load)
        if crossed:
            first, total, spent, at = self.kwh, energy, [_ZERO, _ZERO], begin
            length = until - begin
            for limit in crossed:
                share = (limit - self.kwh) / total
                to = begin + _times(length, (limit - first) / total)
                before = active
                self._cover(
                    index, active, number, at, to, limit - self.kwh, time * share, parking * share, load
                )
                spent = [spent[0] + time * share, spent[1] + parking * share]
                self.kwh, at = limit, to
                active = plan.active(local, limit, lasted, load)
                if _relevant(active, energy, time, parking) != _relevant(before, energy, time, parking):
                    self.warn(
                        "period_spans_energy_limit",
                        f"charging_periods[{number}]",
                        f"the price changes at {limit} kWh; the period was cut there",
                    )
            rest = first + total - self.kwh
            self._calm_plan = None
            self._cover(index, active, number, at, until, rest, time - spent[0], parking - spent[1], load)
        else:
            self._calm = active
            above = [one for one in plan.kwh_limits if one > self.kwh]
            self._calm_kwh = above[0] if above else _NO_LIMIT
            self._cover(index, active, number, begin, until, energy, time, parking, load)

    def _local(self, plan: Plan, moment: datetime) -> datetime:
        return moment.astimezone(self.zone).replace(tzinfo=None) if plan.by_clock else ANY_TIME

    # -- counting ------------------------------------------------------------------------------------------

    def _count(self, energy: Decimal, time: Decimal, parking: Decimal) -> None:
        self.kwh += energy
        self.hours += time
        self.parking += parking

    def _cover(
        self,
        index: int,
        active: Active,
        number: int,
        begin: datetime,
        until: datetime,
        energy: Decimal,
        time: Decimal,
        parking: Decimal,
        load: Load,
    ) -> None:
        """Add what the active components cover."""
        flat, by_energy, by_time, by_parking = active
        covered = self.covered
        if self.explain:
            self.segments.append(
                Segment(number, begin, until, index, active, energy, time, parking, _ZERO, self.kwh, load)
            )
        if flat is not None and self.flat is None:
            self.flat = (index, flat)
        if energy:
            self.kwh += energy
            if by_energy is not None:
                key = (index, by_energy)
                covered[key] = covered.get(key, _ZERO) + energy
                self.last_energy = key
        if time:
            self.hours += time
            if by_time is not None:
                key = (index, by_time)
                covered[key] = covered.get(key, _ZERO) + time
                self.last_time = key
        if parking:
            self.parking += parking
            if by_parking is not None:
                key = (index, by_parking)
                covered[key] = covered.get(key, _ZERO) + parking
                self.last_time = key

    def _reserve(
        self,
        index: int,
        plan: Plan,
        number: int,
        begin: datetime,
        until: datetime,
        hours: Decimal,
        expired: bool,
    ) -> None:
        """Reservation time: only reservation elements, their FLAT and TIME (mod_tariffs, `reservation`)."""
        elements = plan.expired if expired else plan.reserved
        local = begin.astimezone(self.zone).replace(tzinfo=None) if plan.by_clock else ANY_TIME
        active = plan.active(local, _ZERO, begin - self.start, UNKNOWN, elements)
        if self.explain:
            self.segments.append(
                Segment(number, begin, until, index, active, _ZERO, _ZERO, _ZERO, hours, self.kwh, UNKNOWN)
            )
        flat, _, by_time, _ = active
        if flat is not None and self.reservation_flat is None:
            self.reservation_flat = (index, flat)
        if by_time is not None:
            key = (index, by_time)
            self.covered[key] = self.covered.get(key, _ZERO) + hours
            self.last_reservation = key


def _relevant(active: Active, energy: Decimal, time: Decimal, parking: Decimal) -> Active:
    """Of what is active, what has something to cover: a change of the rest changes no price."""
    _, by_energy, by_time, by_parking = active
    return (
        None,
        by_energy if energy else None,
        by_time if time else None,
        by_parking if parking else None,
    )


def _first(*values: Decimal | None) -> Decimal | None:
    return next((value for value in values if value is not None), None)


def _hours(length: timedelta) -> Decimal:
    return Decimal(length // _MICRO) / (_HOUR * 1_000_000)


def _times(length: timedelta, share: Decimal) -> timedelta:
    return timedelta(microseconds=int(Decimal(length // _MICRO) * share))


def _total(walk: _Walk, *, credit: bool, untaxed: bool) -> Priced:
    walk.check_times()
    extra = _stepped(walk)
    flats = (walk.reservation_flat, walk.flat)
    lines = [_line(walk, key, _ONE, _ONE, untaxed=untaxed) for key in flats if key is not None]
    for key, quantity in walk.covered.items():
        lines.append(_line(walk, key, quantity, quantity + extra.get(key, _ZERO), untaxed=untaxed))
    parts: dict[int, Money] = {}
    total = _FREE
    for line in lines:
        component = line.component
        part = _RESERVATION if component.reservation else _TOTAL_OF[component.dimension]
        parts[part] = _plus(parts[part], line.cost) if part in parts else line.cost
        total = _plus(total, line.cost)
    plan = walk.plans[next(iter(walk.used), 0)]
    adjustment = _FREE
    if plan.min_price is not None or plan.max_price is not None:
        limited = _limited(plan, total)
        adjustment = Money(
            _minus(limited.before_taxes, total.before_taxes), _minus(limited.after_taxes, total.after_taxes)
        )
        total = limited
    if credit:
        total = Money(_negative(total.before_taxes), _negative(total.after_taxes))
    totals = {name: parts.get(number, _FREE) for number, name in enumerate(TOTALS)}
    totals["total_cost"] = total
    used = walk.used or (0,)
    return Priced(
        currency=plan.currency,
        totals=totals,
        total_energy=walk.kwh,
        total_time=_hours(walk.end - walk.start),
        total_parking_time=walk.parking,
        adjustment=adjustment,
        lines=lines,
        warnings=walk.warnings,
        tariffs=list(dict.fromkeys(walk.plans[index].hash for index in used)),
        segments=walk.segments,
        plans=walk.plans,
    )


def _stepped(walk: _Walk) -> dict[tuple[int, Component], Decimal]:
    """What step_size adds, by component (mod_cdrs, "step_size").

    Once for energy, once for time and parking combined: the step of the last component that was used rounds
    up the session's total of its dimension, and that component is billed the difference.
    """
    extra = {}
    for key, unit in (
        (walk.last_energy, _THOUSAND),
        (walk.last_time, _HOUR),
        (walk.last_reservation, _HOUR),
    ):
        if key is None:
            continue
        last = key[1]
        if last.step < 1:
            walk.warn("step_size_invalid", "tariffs", f"a step_size of {last.step} rounds nothing")
            continue
        total = _ZERO
        for (_, one), quantity in walk.covered.items():
            if one.dimension == last.dimension and one.reservation == last.reservation:
                total += quantity
        if total <= 0:
            continue
        steps = (total * unit).quantize(_NOISE) / last.step
        whole = steps.to_integral_value(rounding=ROUND_CEILING)
        if whole != steps:
            extra[key] = (whole * last.step) / unit - total
    return extra


def _line(
    walk: _Walk, key: tuple[int, Component], quantity: Decimal, billed: Decimal, *, untaxed: bool
) -> Line:
    index, component = key
    plan = walk.plans[index]
    amount = component.price * billed
    before: Decimal | None = amount
    after: Decimal | None = amount
    if plan.taxes == "N/A":
        pass
    elif component.vat is not None:
        factor = 1 + component.vat / _HUNDRED
        if plan.taxes == "YES":
            if factor <= 0:
                raise PricingError("invalid_vat", "tariffs", f"{component.vat}% VAT cannot be contained")
            before = amount / factor
        else:
            after = amount * factor
    elif not (untaxed or plan.has_vat) and component.price:
        # Taxes are not known (mod_tariffs, "Simple Tariff with North American taxes").
        if plan.taxes == "YES":
            before = None
        else:
            after = None
    cost = Money(_round(before), _round(after))
    return Line(component, plan.id, quantity, billed, cost)


def _limited(plan: Plan, total: Money) -> Money:
    """min_price and max_price: both tax bases hold (mod_tariffs, notes on `min_price` and `max_price`).

    Of several tariffs, the first that was used has a say. A limit without taxes limits what is after taxes in
    the same proportion.
    """
    before, after = total
    for limit, pick in ((plan.min_price, max), (plan.max_price, min)):
        if limit is not None:
            before, after = _limit(limit, pick, before, after)
    return Money(before, after)


def _limit(
    limit: PriceLimit,
    pick: Callable[[Decimal, Decimal], Decimal],
    before: Decimal | None,
    after: Decimal | None,
) -> tuple[Decimal | None, Decimal | None]:
    bounded = before if before is None else pick(before, limit.before_taxes)
    if after is None:
        return bounded, None
    if limit.after_taxes is not None:
        return bounded, pick(after, limit.after_taxes)
    if before is None or bounded is None or bounded == before:
        return bounded, after
    return bounded, _round(after * bounded / before) if before else bounded


def _round(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else amount.quantize(_ROUNDED)


def _plus(one: Money, other: Money) -> Money:
    before = None
    if one[0] is not None and other[0] is not None:
        before = one[0] + other[0]
    after = None
    if one[1] is not None and other[1] is not None:
        after = one[1] + other[1]
    return Money(before, after)


def _minus(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else one - other


def _negative(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else -amount
