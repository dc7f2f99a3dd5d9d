"""What partners leave out or write otherwise, where there is only one thing that they can have meant."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from streams.pricing.engine import TOTALS, PriceWarning

_HUGE = 10**9


def mend_cdr(found: dict[str, Any], version: str) -> list[PriceWarning]:
    """Mend a CDR in place; say what was mended. What cannot be mended is left for the decoder to refuse."""
    warnings = []
    periods = list(_objects(found.get("charging_periods")))
    if found.get("start_date_time") is None and periods and "start_date_time" in periods[0]:
        found["start_date_time"] = periods[0]["start_date_time"]
        warnings.append(_warning("start_date_time", "is missing: that of the first period"))
    for number, period in enumerate(periods):
        if period.get("dimensions") == []:
            period["dimensions"] = [{"type": "ENERGY", "volume": 0}]
            where = f"charging_periods[{number}].dimensions"
            warnings.append(_warning(where, "is empty: nothing was used"))
    for number, tariff in enumerate(_objects(found.get("tariffs"))):
        if tariff.get("currency") is None and "currency" in found:
            tariff["currency"] = found["currency"]
            where = f"tariffs[{number}].currency"
            warnings.append(_warning(where, "is missing: that of the CDR"))
        warnings += [one._replace(path=f"tariffs[{number}].{one.path}") for one in mend_tariff(tariff)]
    if version != "2.1.1":
        inner = "excl_vat" if version == "2.2.1" else "before_taxes"
        for name in TOTALS:
            if isinstance(found.get(name), (int, Decimal)) and not isinstance(found[name], bool):
                found[name] = {inner: found[name]}
                warnings.append(_warning(name, "is a number: taken as that without taxes"))
    return warnings


def mend_tariff(found: dict[str, Any]) -> list[PriceWarning]:
    """Mend a tariff in place; say what was mended."""
    warnings = []
    for number, element in enumerate(_objects(found.get("elements"))):
        for index, component in enumerate(_objects(element.get("price_components"))):
            where = f"elements[{number}].price_components[{index}].step_size"
            step = component.get("step_size")
            if step is None:
                component["step_size"] = 1
                warnings.append(_warning(where, "is missing: 1"))
            elif (isinstance(step, Decimal) and abs(step) < _HUGE and step == step.to_integral_value()) or (
                isinstance(step, str) and step.isascii() and step.isdigit() and len(step) < 10
            ):
                component["step_size"] = int(step)
                warnings.append(_warning(where, f"is {step!s}: taken as {int(step)}"))
    return warnings


def _warning(path: str, message: str) -> PriceWarning:
    return PriceWarning("field_mended", path, message)


def _objects(found: Any) -> Iterator[dict[str, Any]]:
    """The objects of what ought to be a list of them."""
    return (one for one in found if isinstance(one, dict)) if isinstance(found, list) else iter(())
