"""What is odd about a tariff, before anybody is billed by it.

Only what its numbers say: whether a text contradicts them cannot be judged, and is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import NamedTuple

import msgspec

from schemas.ocpi.objects import PriceComponent, Tariff, TariffRestrictions
from streams.pricing.plan import DIMENSIONS, UNKNOWN, Plan, PricingError, plan_of

ERROR, WARNING, INFO = "error", "warning", "info"
_MONDAY = datetime(2024, 1, 1)  # noqa: DTZ001 - local, any Monday
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Finding(NamedTuple):
    """A stable code, how bad it is, where, and what."""

    code: str
    level: str
    path: str
    message: str


def lint(tariff: Tariff, now: datetime) -> list[Finding]:
    """Everything odd about a tariff at a moment, the worst first."""
    found = [*_validity(tariff, now), *_limits(tariff), *_unreachable(tariff)]
    for number, element in enumerate(tariff.elements):
        path = f"elements[{number}]"
        if element.restrictions is not None:
            found += _contradictions(element.restrictions, f"{path}.restrictions", now)
        for index, component in enumerate(element.price_components):
            found += _component(tariff, component, f"{path}.price_components[{index}]")
            reserved = element.restrictions is not None and element.restrictions.reservation is not None
            if reserved and str(component.type) not in ("FLAT", "TIME"):
                found.append(
                    Finding(
                        "reservation_dimension",
                        ERROR,
                        f"{path}.price_components[{index}].type",
                        f"a reservation can only have FLAT and TIME, so {component.type} is never billed",
                    )
                )
    found += _steps(tariff)
    try:
        found += _gaps(plan_of(tariff))
    except PricingError as error:
        found.append(Finding(error.code, ERROR, error.path, error.message))
    order = (ERROR, WARNING, INFO)
    return sorted(found, key=lambda one: order.index(one.level))


def _validity(tariff: Tariff, now: datetime) -> Iterator[Finding]:
    start, end = tariff.start_date_time, tariff.end_date_time
    if start is not None and end is not None and end <= start:
        yield Finding("never_valid", ERROR, "end_date_time", "ends before it starts, so it is never valid")
    elif end is not None and end <= now:
        yield Finding("expired", WARNING, "end_date_time", f"not valid since {end:%Y-%m-%d %H:%M} UTC")


def _limits(tariff: Tariff) -> Iterator[Finding]:
    low, high = tariff.min_price, tariff.max_price
    if low is not None and high is not None and low.before_taxes > high.before_taxes:
        yield Finding("min_above_max", ERROR, "min_price", "is above max_price")
    for name, limit in (("min_price", low), ("max_price", high)):
        if limit is not None and limit.after_taxes is not None and limit.after_taxes < limit.before_taxes:
            yield Finding("limit_taxes", WARNING, name, "is lower with taxes than without")


def _unreachable(tariff: Tariff) -> Iterator[Finding]:
    """Components behind one of the same dimension that always matches, or matches whenever they do."""
    seen: list[tuple[str, str | None, TariffRestrictions | None, int]] = []
    for number, element in enumerate(tariff.elements):
        restrictions = element.restrictions
        kind = str(restrictions.reservation) if restrictions and restrictions.reservation else None
        bare = restrictions is None or _is_bare(restrictions)
        for index, component in enumerate(element.price_components):
            dimension = str(component.type)
            for other, other_kind, other_restrictions, before in seen:
                if other != dimension or other_kind != kind:
                    continue
                if other_restrictions is None or other_restrictions == restrictions:
                    why = "always matches" if other_restrictions is None else "has the same restrictions"
                    yield Finding(
                        "unreachable",
                        WARNING,
                        f"elements[{number}].price_components[{index}]",
                        f"never applies: elements[{before}] has {dimension} and {why}",
                    )
                    break
            seen.append((dimension, kind, None if bare else restrictions, number))


def _is_bare(one: TariffRestrictions) -> bool:
    """Whether restrictions restrict nothing (but perhaps to reservations)."""
    return msgspec.structs.replace(one, reservation=None) == TariffRestrictions()


def _contradictions(one: TariffRestrictions, path: str, now: datetime) -> Iterator[Finding]:
    for name in ("kwh", "current", "power", "duration"):
        low, high = getattr(one, f"min_{name}"), getattr(one, f"max_{name}")
        if low is not None and high is not None and low >= high:
            yield Finding(
                "contradiction", ERROR, f"{path}.max_{name}", f"is not above min_{name}: it never matches"
            )
    if one.start_date and one.end_date and one.start_date >= one.end_date:
        yield Finding("contradiction", ERROR, f"{path}.end_date", "is not after start_date: it never matches")
    elif one.end_date and one.end_date <= now.date().isoformat():
        yield Finding("in_the_past", WARNING, f"{path}.end_date", "is over: the element never matches again")
    if one.start_time and one.start_time == one.end_time and one.start_time != "00:00":
        yield Finding("whole_day", WARNING, f"{path}.end_time", "equals start_time: read as the whole day")
    if one.end_time in ("23:59", "24:00"):
        yield Finding(
            "last_minute", WARNING, f"{path}.end_time", "leaves a minute before midnight out; 00:00 does not"
        )


def _component(tariff: Tariff, one: PriceComponent, path: str) -> Iterator[Finding]:
    if one.step_size < 1 and str(one.type) != "FLAT":
        yield Finding("step_size_invalid", ERROR, f"{path}.step_size", "must be at least 1")
    big = {"ENERGY": (1000, "kWh", 1000), "TIME": (1800, "min", 60), "PARKING_TIME": (1800, "min", 60)}
    if str(one.type) in big and one.step_size >= big[str(one.type)][0]:
        _, unit, size = big[str(one.type)]
        yield Finding(
            "step_size_large",
            WARNING,
            f"{path}.step_size",
            f"rounds up to whole blocks of {Decimal(one.step_size) / size:f} {unit}: unused ones are paid",
        )
    if one.price < 0:
        yield Finding("negative_price", WARNING, f"{path}.price", "is negative: the driver is paid")
    if one.vat is None and one.price and str(tariff.tax_included) != "N/A":
        missing = "is missing: how much of it is tax cannot be told"
        yield Finding("vat_missing", WARNING, f"{path}.vat", missing)
    if one.vat is not None and not 0 <= one.vat <= 100:
        yield Finding("vat_range", WARNING, f"{path}.vat", f"{one.vat}% is no usual rate")


def _steps(tariff: Tariff) -> Iterator[Finding]:
    for dimension in ("ENERGY", "TIME", "PARKING_TIME"):
        steps = {c.step_size for e in tariff.elements for c in e.price_components if str(c.type) == dimension}
        if len(steps) > 1:
            yield Finding(
                "step_size_differs",
                INFO,
                "elements",
                f"{dimension} has step sizes {', '.join(map(str, sorted(steps)))}: only the last used counts",
            )


def _gaps(plan: Plan) -> Iterator[Finding]:
    """Times of the week at which a dimension that the tariff prices costs nothing, at no energy and load."""
    for dimension, name in enumerate(DIMENSIONS):
        if dimension == 0 or not any(element.components[dimension] for element in plan.elements):
            continue
        free: list[str] = []
        clocks = plan.clocks or (time.min,)
        for day in range(7):
            for number, clock in enumerate(clocks):
                local = datetime.combine(_MONDAY.date() + timedelta(days=day), clock)
                if plan.first_date is not None:
                    local = datetime.combine(plan.first_date + timedelta(days=day), clock)
                moments = [timedelta(0), *plan.durations]
                amounts = [Decimal(0), *plan.kwh_limits]
                if any(
                    plan.active(local, kwh, lasted, UNKNOWN)[dimension]
                    for lasted in moments
                    for kwh in amounts
                ):
                    continue
                until = clocks[number + 1].strftime("%H:%M") if number + 1 < len(clocks) else "24:00"
                free.append(f"{_DAYS[local.weekday()]} {clock:%H:%M}-{until}")
        if free:
            shown = ", ".join(free[:3]) + (f" and {len(free) - 3} more" if len(free) > 3 else "")
            yield Finding("gap", WARNING, "elements", f"{name} has no price on {shown}: it is free then")
