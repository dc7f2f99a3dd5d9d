"""The operator's own billing: how the demo's charge point operator cuts periods and reckons bills.

It is written apart from the engine that it is checked by, as an operator's system is: simple, for its three
tariffs only. Amounts are exact until they are written on the CDR, with four decimals.

    DAYTIME   energy at 0.32 on weekdays from 8 to 18, else 0.22; idle time 1.50 an hour in steps of 5 minutes
    START     a fee of 1.00; energy at 0.26; charging time 0.40 an hour in steps of a minute
    TIERS     energy at 0.20 up to 10 kWh, then 0.30; idle time 1.20 an hour, by the minute, after 3 hours

A few bills are wrong on purpose, each in its own way.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo

from voltfold.demo.garage import Visit

TIME_ZONE = "America/Los_Angeles"
CURRENCY = "USD"
TAX = Decimal("9.5")
TARIFFS = ("DAYTIME", "START", "TIERS")
DAY, NIGHT, IDLE_DAYTIME = Decimal("0.32"), Decimal("0.22"), Decimal("1.50")
FEE, ENERGY_START, TIME_START = Decimal("1.00"), Decimal("0.26"), Decimal("0.40")
LOW, HIGH, IDLE_TIERS = Decimal("0.20"), Decimal("0.30"), Decimal("1.20")
TIER = Decimal(10)
PATIENCE = timedelta(hours=3)
UPDATES = 3
"""How often an operator tells how charging goes, beside what it must tell."""

_ZONE = ZoneInfo(TIME_ZONE)
_SECOND = timedelta(seconds=1)
_HOUR = Decimal(3600)


@dataclass(frozen=True)
class Piece:
    """A charging period: until when, how much energy in it (kWh), and whether the vehicle charged."""

    start: datetime
    end: datetime
    kwh: Decimal
    charging: bool

    @property
    def hours(self) -> Decimal:
        """Its length with nine decimals, never more than it is."""
        seconds = Decimal((self.end - self.start) // timedelta(microseconds=1)) / 1_000_000
        return (seconds / _HOUR).quantize(Decimal("1e-9"), rounding=ROUND_FLOOR)


@dataclass
class Bill:
    """What the operator asks for, by part, before taxes; and what is wrong with it on purpose."""

    fixed: Decimal = Decimal(0)
    energy: Decimal = Decimal(0)
    time: Decimal = Decimal(0)
    parking: Decimal = Decimal(0)
    taxes: Decimal | None = None
    wrong: str | None = None

    @property
    def total(self) -> Decimal:
        """Before taxes."""
        return self.fixed + self.energy + self.time + self.parking

    @property
    def tax(self) -> Decimal:
        """Taxes on the total."""
        return self.total * TAX / 100 if self.taxes is None else self.taxes


def component(kind: str, price: Decimal, step: int = 1) -> dict[str, Any]:
    """A price component."""
    return {"type": kind, "price": float(price), "vat": float(TAX), "step_size": step}


def tariff(name: str, last_updated: str) -> dict[str, Any]:
    """One of the operator's tariffs as OCPI says it (2.2.1; 2.3.0 adds `tax_included`)."""
    week = ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY"]
    elements: dict[str, list[dict[str, Any]]] = {
        "DAYTIME": [
            {
                "price_components": [component("ENERGY", DAY)],
                "restrictions": {"start_time": "08:00", "end_time": "18:00", "day_of_week": week},
            },
            {"price_components": [component("ENERGY", NIGHT), component("PARKING_TIME", IDLE_DAYTIME, 300)]},
        ],
        "START": [
            {
                "price_components": [
                    component("FLAT", FEE),
                    component("ENERGY", ENERGY_START),
                    component("TIME", TIME_START, 60),
                ]
            }
        ],
        "TIERS": [
            {
                "price_components": [component("ENERGY", LOW)],
                "restrictions": {"max_kwh": float(TIER)},
            },
            {"price_components": [component("ENERGY", HIGH)]},
            {
                "price_components": [component("PARKING_TIME", IDLE_TIERS, 60)],
                "restrictions": {"min_duration": int(PATIENCE.total_seconds())},
            },
        ],
    }
    return {
        "country_code": "US",
        "party_id": "GAR",
        "id": name,
        "currency": CURRENCY,
        "elements": elements[name],
        "last_updated": last_updated,
    }


def cut(visit: Visit, name: str) -> list[Piece]:
    """The visit's charging periods: cut where the price changes (mod_cdrs, "ChargingPeriod"), and elsewhere.

    Energy flows evenly while the vehicle charges.
    """
    began, ended, energy = visit.charging_started_at, visit.charging_ended_at, visit.energy_kwh
    points: dict[datetime, Decimal] = {}
    if ended > began:
        whole = ended - began
        moments = [began + whole * number / (UPDATES + 1) for number in range(1, UPDATES + 1)]
        if name == "DAYTIME":
            moments += [moment for clock in (8, 18) for moment in _clock(began, ended, clock)]
        for moment in moments:
            at = moment.replace(microsecond=0)
            if began < at < ended:
                share = Decimal((at - began) // _SECOND) / Decimal(whole / _SECOND)
                points[at] = (energy * share).quantize(Decimal("1e-6"))
        if name == "TIERS" and energy > TIER:
            at = (began + whole * float(TIER / energy)).replace(microsecond=0)
            at = min(max(at, began + _SECOND), ended - _SECOND)
            if began < at < ended:
                points = {moment: kwh for moment, kwh in points.items() if abs(moment - at) > _SECOND}
                points[at] = TIER
    pieces: list[Piece] = []
    if began > visit.connected_at:
        pieces.append(Piece(visit.connected_at, began, Decimal(0), charging=False))
    since, before = began, Decimal(0)
    for at in sorted(points):
        pieces.append(Piece(since, at, points[at] - before, charging=True))
        since, before = at, points[at]
    if ended > since:
        pieces.append(Piece(since, ended, energy - before, charging=True))
    idle = [ended]
    patience = visit.connected_at + PATIENCE
    if name == "TIERS" and ended < patience < visit.disconnected_at:
        idle.append(patience)
    for start, end in zip(idle, [*idle[1:], visit.disconnected_at], strict=True):
        if end > start:
            pieces.append(Piece(start, end, Decimal(0), charging=False))
    return pieces


def _clock(start: datetime, end: datetime, hour: int) -> list[datetime]:
    """When the clock on the garage's wall shows a full hour between two moments."""
    day = start.astimezone(_ZONE).date()
    found = []
    while day <= end.astimezone(_ZONE).date():
        moment = datetime.combine(day, time(hour), _ZONE).astimezone(UTC)
        if start < moment < end:
            found.append(moment)
        day += timedelta(days=1)
    return found


def reckon(pieces: list[Piece], name: str) -> Bill:
    """The right bill."""
    charging = [one for one in pieces if one.charging]
    idle = [one for one in pieces if not one.charging]
    bill = Bill()
    spent = Decimal(0)
    rate = Decimal(0)
    for one in charging:
        # A period that no cut could split, since it lasts a second, may still reach over the threshold.
        low = min(max(TIER - spent, Decimal(0)), one.kwh) if name == "TIERS" else Decimal(0)
        spent += one.kwh
        rate = LOW if low == one.kwh and name == "TIERS" else _rate(one, name)
        bill.energy += low * LOW + (one.kwh - low) * rate
    # The total is rounded up to a watt-hour, once, at the last price (mod_cdrs, "step_size").
    bill.energy += (_up(spent * 1000, 1) / 1000 - spent) * rate
    if name == "START":
        bill.fixed = FEE
        bill.time = _up(_seconds(charging), 60) / _HOUR * TIME_START
    elif name == "DAYTIME":
        bill.parking = _up(_seconds(idle), 300) / _HOUR * IDLE_DAYTIME
    else:
        start = pieces[0].start
        late = [one for one in idle if one.start >= start + PATIENCE]
        bill.parking = _up(_seconds(late), 60) / _HOUR * IDLE_TIERS
    return bill


def _rate(piece: Piece, name: str) -> Decimal:
    if name == "START":
        return ENERGY_START
    if name == "TIERS":
        return HIGH
    local = piece.start.astimezone(_ZONE)
    return DAY if local.weekday() < 5 and 8 <= local.hour < 18 else NIGHT


def _seconds(pieces: list[Piece]) -> Decimal:
    return sum((Decimal((one.end - one.start) / _SECOND) for one in pieces), Decimal(0))


def _up(amount: Decimal, step: int) -> Decimal:
    return (amount / step).to_integral_value(rounding=ROUND_CEILING) * step


def mistaken(visits: list[Visit]) -> set[str]:
    """Sessions that will be billed wrongly: about one in sixty, at least three, the same ones every time."""
    order = sorted(visits, key=lambda one: _hash(one.session))
    return {one.session for one in order[: max(3, len(visits) // 60)]}


def spoil(bill: Bill, session: str) -> Bill:
    """Make a mistake, which one depends on the session; each is off by two cents or more."""
    least = Decimal("0.02")
    match _hash(session) % 5:
        case 0 if bill.energy * Decimal("0.15") >= least:
            bill.energy *= Decimal("1.15")
            bill.wrong = "energy at a price that is not the tariff's"
        case 1 if bill.total * TAX / 100 >= least:
            bill.taxes = bill.total * TAX / 50
            bill.wrong = "taxes twice"
        case 2 if bill.parking >= least:
            bill.parking *= 2
            bill.wrong = "idle time twice"
        case 3 if bill.energy * Decimal("0.3") >= least:
            bill.energy *= Decimal("0.7")
            bill.wrong = "a part of the energy forgotten"
        case _:
            bill.fixed += FEE
            bill.wrong = "a fee that the tariff does not have"
    return bill


def shown(amount: Decimal) -> float:
    """An amount as it stands on a CDR: four decimals."""
    return float(amount.quantize(Decimal("0.0001"), rounding=ROUND_HALF_UP))


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
