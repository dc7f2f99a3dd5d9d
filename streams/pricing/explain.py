"""Why a price is what it is: for each stretch and dimension the element that decided, and why not another."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from streams.pricing.engine import Line, Priced, Segment
from streams.pricing.plan import ANY_TIME, DIMENSIONS, TIME, Component, Element, Plan, zone_of

MOST_SKIPPED = 50
"""Of the elements that did not match, so many are named."""


def explain_periods(priced: Priced, time_zone: str | None) -> list[dict[str, Any]]:
    """Every stretch in which one set of components applies, of a price made with `explain=True`.

    Volumes in kWh and hours. For each dimension: tariff, element, price, tax, and `because`: which earlier
    elements with that dimension did not match, by the restriction that failed first.
    """
    begin = priced.segments[0].start if priced.segments else None
    return [_stretch(priced, one, time_zone, begin) for one in priced.segments]


def explain_lines(priced: Priced) -> list[dict[str, Any]]:
    """What each component came to: quantity, what step_size made of it, price, tax, cost."""
    return [
        {
            "tariff_id": line.tariff_id,
            "element": line.component.element,
            "dimension": _name(line.component),
            "quantity": line.quantity,
            "billed": line.billed,
            "step_size": line.component.step,
            "price": line.component.price,
            "vat": line.component.vat,
            "excl_vat": line.cost.before_taxes,
            "incl_vat": line.cost.after_taxes,
            "reason": _effect(line),
        }
        for line in priced.lines
    ]


def _stretch(priced: Priced, one: Segment, time_zone: str | None, begin: Any) -> dict[str, Any]:
    plan = priced.plans[one.tariff]
    reserved = bool(one.reservation)
    elements = plan.expired if reserved else plan.elements
    local = ANY_TIME
    if plan.by_clock:
        local = one.start.astimezone(zone_of(time_zone or "UTC")).replace(tzinfo=None)
    volumes = {
        "ENERGY": one.energy,
        "TIME": one.reservation if reserved else one.time,
        "PARKING_TIME": one.parking,
    }
    return {
        "period": one.period,
        "start": one.start,
        "end": one.end,
        "tariff_id": plan.id,
        "kwh_before": one.kwh_before,
        "volumes": {name: volume for name, volume in volumes.items() if volume},
        "components": [
            _chosen(plan, component, elements, local, one, begin)
            for component in one.active
            if component is not None
        ],
        "free": [
            name for name, volume in volumes.items() if volume and one.active[DIMENSIONS.index(name)] is None
        ],
    }


def _chosen(
    plan: Plan, component: Component, elements: list[Element], local: Any, one: Segment, begin: Any
) -> dict[str, Any]:
    skipped = []
    for element in elements:
        if element.index == component.element:
            break
        if element.components[component.dimension] is None or element.condition is None:
            continue
        failing = element.condition.failing(local, one.kwh_before, one.start - begin, one.load)
        if failing is not None:
            skipped.append({"element": element.index, "restriction": failing})
            if len(skipped) == MOST_SKIPPED:
                break
    return {
        "dimension": _name(component),
        "element": component.element,
        "price": component.price,
        "vat": component.vat,
        "step_size": component.step,
        "because": skipped,
    }


def _name(component: Component) -> str:
    if component.reservation:
        return "RESERVATION_TIME" if component.dimension == TIME else "RESERVATION_FLAT"
    return DIMENSIONS[component.dimension]


def _effect(line: Line) -> str:
    added = line.billed - line.quantity
    if added <= 0:
        return "billed as used"
    unit = "kWh" if line.component.dimension == 1 else "h"
    return f"step_size {line.component.step} adds {added.quantize(Decimal('1e-6')).normalize():f} {unit}"
