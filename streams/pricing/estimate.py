"""What a session would cost: drivers ask before they plug in, terminals pre-authorise with it.

The vehicle charges at the limit until it has the energy that it wants, then it stays connected until the end.
Without a limit it charges evenly until the end. A current limit is the sum over all phases at 230 V.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from schemas.ocpi.objects import CdrDimension, CdrDimensionType, ChargingPeriod, Tariff
from streams.pricing.engine import Priced, PriceWarning, price_periods
from streams.pricing.plan import PricingError, plan_of

VOLTS = Decimal(230)
_MICRO = timedelta(microseconds=1)
_HOUR = Decimal(3_600_000_000)
_OWN = ("period_spans_price_change", "period_spans_energy_limit")


def estimate(
    tariff: Tariff,
    start: datetime,
    end: datetime,
    kwh: Decimal,
    time_zone: str | None,
    *,
    max_power: Decimal | None = None,
    max_current: Decimal | None = None,
    untaxed: bool = False,
) -> Priced:
    """The price of a session from start to end that wants so many kWh. Power in kW, current in A.

    Raises PricingError for an end that is not after the start, for negative energy and for a limit of zero.
    """
    if end <= start:
        raise PricingError("end_before_start", "end", "the session must end after it starts")
    if kwh < 0:
        raise PricingError("negative_energy", "kwh", "the energy wanted cannot be negative")
    for name, limit in (("max_power", max_power), ("max_current", max_current)):
        if limit is not None and limit <= 0:
            raise PricingError("invalid_limit", name, "a limit must be more than zero")
    limits = [one for one in (max_power, max_current and max_current * VOLTS / 1000) if one is not None]
    length = Decimal((end - start) // _MICRO)
    power = min(limits) if limits else kwh / (length / _HOUR)
    needed = (kwh / power * _HOUR) if power else Decimal(0)
    warnings = []
    if needed > length:
        delivered = power * length / _HOUR
        message = f"{kwh} kWh do not fit: {delivered:.3f} kWh at {power:.3f} kW until the end"
        warnings.append(PriceWarning("energy_not_delivered", "kwh", message))
        kwh, needed = delivered, length
    full = min(end, start + timedelta(microseconds=int(needed.to_integral_value())))
    current = power * 1000 / VOLTS
    periods = []
    if full > start:
        volumes = {
            CdrDimensionType.ENERGY: kwh,
            CdrDimensionType.TIME: Decimal((full - start) // _MICRO) / _HOUR,
            CdrDimensionType.MIN_POWER: power,
            CdrDimensionType.MAX_POWER: power,
            CdrDimensionType.MIN_CURRENT: current,
            CdrDimensionType.MAX_CURRENT: current,
        }
        periods.append(_period(start, volumes, tariff.id))
    if end > full:
        idle = Decimal((end - full) // _MICRO) / _HOUR
        periods.append(_period(full, {CdrDimensionType.PARKING_TIME: idle}, tariff.id))
    priced = price_periods(periods, start, end, [plan_of(tariff)], time_zone, explain=True, untaxed=untaxed)
    kept = [one for one in priced.warnings if one.code not in _OWN]
    return priced._replace(warnings=warnings + kept)


def _period(start: datetime, volumes: dict[CdrDimensionType, Decimal], tariff_id: str) -> ChargingPeriod:
    dimensions = [CdrDimension(type=kind, volume=volume) for kind, volume in volumes.items()]
    return ChargingPeriod(start_date_time=start, dimensions=dimensions, tariff_id=tariff_id)
