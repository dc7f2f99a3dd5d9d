"""How pricing tests say sessions and read prices: minutes and kWh in, money out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from schemas.ocpi import wire
from schemas.ocpi.objects import CdrDimension, CdrDimensionType, ChargingPeriod, Tariff
from streams.pricing import Priced
from streams.pricing.engine import price_periods
from streams.pricing.plan import plan_of

EXAMPLES = Path(__file__).parent.parent.parent / "data" / "ocpi-examples"
ZONE = "Europe/Amsterdam"
Json = dict[str, Any]
Period = tuple[float, Mapping[str, float | str | Decimal]]
"""Minutes, and volumes by dimension. TIME and PARKING_TIME of None stand for all of the minutes."""


def example(name: str, version: str = "2.3.0") -> Tariff:
    """A tariff of the specification's examples."""
    found: Tariff = wire.decode("tariff", version, (EXAMPLES / version / f"{name}.json").read_bytes())
    return found


def tariff(*elements: Json, **fields: Any) -> Tariff:
    """A canonical tariff of these elements."""
    body = {
        "country_code": "NL",
        "party_id": "TNM",
        "id": "T1",
        "currency": "EUR",
        "tax_included": "NO",
        "last_updated": "2024-01-01T00:00:00Z",
        "elements": list(elements),
        **fields,
    }
    found: Tariff = wire.decode("tariff", "2.3.0", msgspec.json.encode(body))
    return found


def component(kind: str, price: float, *, vat: float | None = 20, step: int = 1) -> Json:
    """A price component."""
    tax = {} if vat is None else {"vat": vat}
    return {"type": kind, "price": price, "step_size": step, **tax}


def element(*components: Json, **restrictions: Any) -> Json:
    """A tariff element."""
    return {
        "price_components": list(components),
        **({"restrictions": restrictions} if restrictions else {}),
    }


def at(text: str, zone: str = ZONE) -> datetime:
    """A moment by the clock of a zone, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def number(value: float | str | Decimal) -> Decimal:
    """Exactly what is written."""
    return value if isinstance(value, Decimal) else Decimal(str(value))


def charging(minutes: float, kwh: float | str | Decimal = 0, **others: float) -> Period:
    """Charging for so many minutes."""
    energy = {"ENERGY": kwh} if kwh else {}
    return minutes, {"TIME": number(minutes) / 60, **energy, **others}


def parked(minutes: float) -> Period:
    """Connected and full for so many minutes."""
    return minutes, {"PARKING_TIME": number(minutes) / 60}


def reserved(minutes: float) -> Period:
    """Reserved for so many minutes."""
    return minutes, {"RESERVATION_TIME": number(minutes) / 60}


def periods_of(start: datetime, periods: Sequence[Period], tariff_id: str | None) -> list[ChargingPeriod]:
    """Charging periods, one after the other."""
    found = []
    for minutes, volumes in periods:
        dimensions = [
            CdrDimension(type=CdrDimensionType(kind), volume=number(v)) for kind, v in volumes.items()
        ]
        found.append(ChargingPeriod(start_date_time=start, dimensions=dimensions, tariff_id=tariff_id))
        start += timedelta(minutes=minutes)
    return found


def price(
    tariffs: Tariff | Sequence[Tariff],
    *periods: Period,
    start: datetime | None = None,
    zone: str | None = ZONE,
    version: str = "2.3.0",
    credit: bool = False,
    explain: bool = False,
) -> Priced:
    """The price of periods one after the other, from Monday 2024-05-13 10:00 local unless said otherwise."""
    several = [tariffs] if isinstance(tariffs, Tariff) else list(tariffs)
    begin = start or at("2024-05-13T10:00")
    end = begin + timedelta(minutes=sum(minutes for minutes, _ in periods))
    named = periods_of(begin, periods, several[0].id)
    return price_periods(
        named, begin, end, [plan_of(one) for one in several], zone,
        credit=credit, explain=explain, untaxed=version == "2.2.1",
    )  # fmt: skip


def total(priced: Priced, name: str = "total_cost") -> tuple[Decimal | None, Decimal | None]:
    """Before and after taxes."""
    before, after = priced.totals[name]
    return before, after


def money(before: str | None, after: str | None) -> tuple[Decimal | None, Decimal | None]:
    """Before and after taxes."""
    return (None if before is None else Decimal(before), None if after is None else Decimal(after))


def codes(priced: Priced) -> list[str]:
    """Codes of the warnings."""
    return [warning.code for warning in priced.warnings]
