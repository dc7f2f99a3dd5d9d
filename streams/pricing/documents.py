"""Bytes in, answers out: what the commands and the HTTP routes say, one code for both.

Real CDRs and tariffs often lack what the specification demands and pricing does not need (a location's
coordinates, a token's type). Such a field is filled in, with a warning that names it. What pricing needs is
never guessed, but for what can only be meant in one way (`streams.pricing.mending`). JSON may carry comments
and trailing commas; an OCPI envelope and a list of one are unwrapped.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import msgspec

from schemas.ocpi import objects, wire
from streams.pricing.compare import UNPRICED, Comparison, compare
from streams.pricing.engine import TOTALS, Money, Priced, PriceWarning, price_cdr, price_periods
from streams.pricing.estimate import estimate
from streams.pricing.explain import explain_lines, explain_periods
from streams.pricing.lint import Finding, lint
from streams.pricing.mending import mend_cdr, mend_tariff
from streams.pricing.plan import Plan, PricingError, plan_of

Document = dict[str, Any]
MAX_BYTES = 16 << 20

# The time zone of a country that has one (ISO 3166 alpha-3), for CDRs: their location says no zone.
_ZONES = {
    "AUT": "Europe/Vienna", "BEL": "Europe/Brussels", "BGR": "Europe/Sofia", "CHE": "Europe/Zurich",
    "CZE": "Europe/Prague", "DEU": "Europe/Berlin", "DNK": "Europe/Copenhagen", "EST": "Europe/Tallinn",
    "FIN": "Europe/Helsinki", "FRA": "Europe/Paris", "GBR": "Europe/London", "GRC": "Europe/Athens",
    "HRV": "Europe/Zagreb", "HUN": "Europe/Budapest", "IRL": "Europe/Dublin", "ISL": "Atlantic/Reykjavik",
    "ITA": "Europe/Rome", "LTU": "Europe/Vilnius", "LUX": "Europe/Luxembourg", "LVA": "Europe/Riga",
    "NLD": "Europe/Amsterdam", "NOR": "Europe/Oslo", "POL": "Europe/Warsaw", "ROU": "Europe/Bucharest",
    "SVK": "Europe/Bratislava", "SVN": "Europe/Ljubljana", "SWE": "Europe/Stockholm",
}  # fmt: skip

_STAMP = "1970-01-01T00:00:00Z"
_PARTY = {"country_code": "XX", "party_id": "XXX"}
_PLACE = {
    "id": "-", "address": "-", "city": "-", "country": "XXX",
    "coordinates": {"latitude": "0.00000", "longitude": "0.00000"},
}  # fmt: skip
_EVSE = {
    "uid": "-", "status": "UNKNOWN", "last_updated": _STAMP,
    "connectors": [{
        "id": "-", "standard": "IEC_62196_T2", "format": "SOCKET", "power_type": "AC_3_PHASE",
        "voltage": 0, "amperage": 0, "last_updated": _STAMP,
    }],
}  # fmt: skip
_TARIFF_FILLERS: Document = {
    **_PARTY, "id": "-", "tariff_alt_text": None, "tariff_alt_url": None, "energy_mix": None,
    "tax_included": "NO", "last_updated": _STAMP, "preauthorize_amount": None, "type": None,
}  # fmt: skip
_CDR_FILLERS: Document = {
    **_PARTY, "id": "-", "session_id": None, "auth_method": "WHITELIST", "authorization_reference": None,
    "cdr_token": {**_PARTY, "uid": "-", "type": "OTHER", "contract_id": "-"},
    "cdr_location": {
        **_PLACE, "evse_uid": "-", "evse_id": "-", "connector_id": "-",
        "connector_standard": "IEC_62196_T2", "connector_format": "SOCKET",
        "connector_power_type": "AC_3_PHASE",
    },
    "location": {
        **_PLACE, "type": "UNKNOWN", "postal_code": "-", "last_updated": _STAMP, "evses": [_EVSE],
    },
    "auth_id": "-", "meter_id": None, "signed_data": None, "remark": None, "invoice_reference_id": None,
    "credit_reference_id": None, "home_charging_compensation": None, "last_updated": _STAMP,
    "total_energy": 0, "total_time": 0, "total_parking_time": None,
    "total_cost": {"excl_vat": 0, "before_taxes": 0},
    **dict.fromkeys(TOTALS[1:]),
}  # fmt: skip


def price_document(
    body: bytes,
    tariffs: bytes | None = None,
    *,
    version: str | None = None,
    time_zone: str | None = None,
    tolerance: Decimal | None = None,
) -> Document:
    """A CDR priced, explained and compared. `tariffs`: a tariff or a list of them, instead of the CDR's own.

    Raises PricingError or schemas.ocpi.wire.InvalidObjectError, which both name the field.
    """
    cdr, version, warnings, unsaid = _read_cdr(body, version)
    chosen = list(cdr.tariffs)
    if tariffs is not None:
        chosen = []
        for one in _list_of(_json(tariffs)):
            tariff, _, more = _read("tariff", one, None, _TARIFF_FILLERS)
            chosen.append(tariff)
            warnings += [w._replace(path=f"tariff.{w.path}") for w in more]
    if not chosen:
        raise PricingError("tariff_unknown", "tariffs", "the CDR carries no tariff: give one")
    zone = time_zone or _zone_of(cdr, body, warnings)
    priced = price_cdr(cdr, chosen, zone, explain=True, untaxed=version == "2.2.1")
    comparison = compare(cdr, priced, tolerance)
    found = _document(priced, warnings, zone)
    found["comparison"] = _comparison(cdr, priced, comparison, unsaid)
    found["ocpi_version"] = version
    return found


def estimate_document(
    tariff: bytes,
    start: datetime,
    end: datetime,
    kwh: Decimal,
    *,
    version: str | None = None,
    time_zone: str | None = None,
    max_power: Decimal | None = None,
    max_current: Decimal | None = None,
) -> Document:
    """What a session would cost. Raises as `price_document` does."""
    found, version, warnings = _read("tariff", _one_of(_json(tariff)), version, _TARIFF_FILLERS)
    priced = estimate(
        found, start, end, kwh, time_zone, max_power=max_power, max_current=max_current,
        untaxed=version == "2.2.1",
    )  # fmt: skip
    return _document(priced, warnings, time_zone)


def lint_document(tariff: bytes, now: datetime, *, version: str | None = None) -> list[Finding]:
    """What is odd about a tariff. Raises schemas.ocpi.wire.InvalidObjectError."""
    found, _, warnings = _read("tariff", _one_of(_json(tariff)), version, _TARIFF_FILLERS)
    return [Finding(w.code, "warning", w.path, w.message) for w in warnings] + lint(found, now)


class _Dimension(msgspec.Struct, gc=False):
    type: str
    volume: Decimal


class _Period(msgspec.Struct, gc=False):
    start_date_time: datetime
    dimensions: list[_Dimension]
    tariff_id: str | None = None


class _Cdr(msgspec.Struct):
    start_date_time: datetime
    end_date_time: datetime
    charging_periods: list[_Period]
    tariffs: list[msgspec.Raw]
    credit: bool | None = None


_slim = msgspec.json.Decoder(_Cdr).decode
_PLANS: dict[tuple[str, bytes], Plan] = {}
_KEPT = 2_000


def price_bytes(body: bytes, version: str, time_zone: str | None) -> Priced:
    """The price of a CDR of 2.3.0 or 2.2.1 by its own tariffs: bytes in, totals out, without a detour.

    Reads of the CDR only what it is priced by, and a tariff only once for its bytes. What it stumbles over is
    read again with every rule of the specification, for the error that names it: it raises what
    `schemas.ocpi.wire.decode` and `price_cdr` raise, but does not look at fields that no price depends on.
    """
    try:
        cdr = _slim(body)
        plans = [_plan_of(version, bytes(raw)) for raw in cdr.tariffs]
        start, periods = cdr.start_date_time, cdr.charging_periods
        for period in periods:
            if period.start_date_time.tzinfo is not UTC:
                raise ValueError("a DateTime without Z")
        # A slim period has all of a charging period that a price depends on.
        same = cast("list[objects.ChargingPeriod]", periods)
        priced = price_periods(
            same,
            start,
            cdr.end_date_time,
            plans,
            time_zone,
            credit=bool(cdr.credit),
            untaxed=version == "2.2.1",
        )
        total = priced.total_energy
        if periods and total.is_finite() and -objects.LIMIT < total < objects.LIMIT:
            return priced
    except (msgspec.MsgspecError, ArithmeticError, ValueError, TypeError):
        pass
    return price_cdr(wire.decode("cdr", version, body), None, time_zone, untaxed=version == "2.2.1")


def _plan_of(version: str, raw: bytes) -> Plan:
    plan = _PLANS.get((version, raw))
    if plan is None:
        if len(_PLANS) >= _KEPT:
            _PLANS.clear()
        plan = _PLANS[version, raw] = plan_of(wire.decode("tariff", version, raw))
    return plan


_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING = re.compile(r'("(?:\\.|[^"\\])*")|,(\s*[}\]])')


def _json(body: bytes) -> Any:
    """JSON, perhaps with comments and trailing commas; numbers stay exact."""
    if len(body) > MAX_BYTES:
        raise wire.InvalidObjectError("", f"more than {MAX_BYTES >> 20} MB")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise wire.InvalidObjectError("", "no UTF-8") from None
    try:
        return _loads(text)
    except (ValueError, RecursionError):
        pass
    text = _COMMENT.sub(lambda found: found[1] or " ", text)
    text = _TRAILING.sub(lambda found: found[1] or found[2], text)
    try:
        return _loads(text)
    except RecursionError:
        raise wire.InvalidObjectError("", "nested too deeply") from None
    except ValueError as error:
        raise wire.InvalidObjectError("", f"no JSON: {error}") from None


def _loads(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=_integer, parse_constant=_constant)


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) < 20 else Decimal(text)


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _list_of(found: Any) -> list[Any]:
    if isinstance(found, dict) and "data" in found and "elements" not in found:
        found = found["data"]
    return found if isinstance(found, list) else [found]


def _one_of(found: Any) -> Any:
    several = _list_of(found)
    if len(several) != 1:
        raise wire.InvalidObjectError("", f"one object is expected, there are {len(several)}")
    return several[0]


_encode = msgspec.json.Encoder(decimal_format="number").encode


def _read(
    kind: str, found: Any, version: str | None, fillers: Mapping[str, Any]
) -> tuple[Any, str, list[PriceWarning]]:
    """An object, with what pricing does not need filled in. Raises InvalidObjectError for the rest."""
    if not isinstance(found, dict):
        raise wire.InvalidObjectError("", "an object is expected")
    try:
        found = copy.deepcopy(found)
        version = version or wire.detect_version(kind, _encode(found))
    except RecursionError:
        raise wire.InvalidObjectError("", "nested too deeply") from None
    warnings = mend_cdr(found, version) if kind == "cdr" else mend_tariff(found)
    if version == "2.1.1":
        fillers = {**fillers, "total_cost": 0}
    while True:
        try:
            return wire.decode(kind, version, _encode(found)), version, warnings
        except wire.InvalidObjectError as error:
            if any(one.path == error.path for one in warnings):
                raise  # filling it in did not help
            name = re.split(r"[.\[]", error.path, maxsplit=1)[0]
            match = re.match(r"tariffs\[(\d+)\]\.(\w+)", error.path)
            if kind == "cdr" and match is not None and match[2] in _TARIFF_FILLERS:
                _fill(found["tariffs"], int(match[1]), match[2])
            elif name in fillers:
                _put(found, name, fillers[name])
            else:
                raise
            warnings.append(PriceWarning("field_filled_in", error.path, error.message))


def _put(found: Document, name: str, filler: Any) -> None:
    if filler is None:
        found.pop(name, None)
    else:
        found[name] = filler


def _fill(tariffs: list[Any], number: int, name: str) -> None:
    tariffs[number] = dict(tariffs[number])
    _put(tariffs[number], name, _TARIFF_FILLERS[name])


def _read_cdr(body: bytes, version: str | None) -> tuple[objects.CDR, str, list[PriceWarning], set[str]]:
    """A CDR; and which totals it does not say, although it must."""
    found = _one_of(_json(body))
    cdr, version, warnings = _read("cdr", found, version, _CDR_FILLERS)
    filled = [w.path.split(".")[0] for w in warnings if w.code == "field_filled_in"]
    unsaid = {name for name in filled if name.startswith("total_")}
    return cdr, version, warnings, unsaid


def _zone_of(cdr: objects.CDR, body: bytes, warnings: list[PriceWarning]) -> str | None:
    """2.1.1's location says its time zone; later, only the country is known."""
    location = _one_of(_json(body)).get("location")
    if isinstance(location, dict) and isinstance(location.get("time_zone"), str):
        return str(location["time_zone"])
    zone = _ZONES.get(cdr.cdr_location.country.upper())
    if zone is not None:
        message = f"{zone} was taken, the time zone of {cdr.cdr_location.country}; --timezone says another"
        warnings.append(PriceWarning("time_zone_assumed", "cdr_location.country", message))
    return zone


def _document(priced: Priced, warnings: list[PriceWarning], zone: str | None) -> Document:
    if not any(plan.by_clock for plan in priced.plans):
        warnings = [one for one in warnings if one.code != "time_zone_assumed"]
    totals = {name: _money(priced.totals[name]) for name in TOTALS}
    return {
        "currency": priced.currency,
        "total_cost": totals["total_cost"],
        "total_fixed_cost": totals["total_fixed_cost"],
        "total_energy": _number(priced.total_energy),
        "total_energy_cost": totals["total_energy_cost"],
        "total_time": _number(priced.total_time),
        "total_time_cost": totals["total_time_cost"],
        "total_parking_time": _number(priced.total_parking_time),
        "total_parking_cost": totals["total_parking_cost"],
        "total_reservation_cost": totals["total_reservation_cost"],
        "adjustment": _money(priced.adjustment),
        "lines": _plain(explain_lines(priced)),
        "periods": _plain(explain_periods(priced, zone)),
        "tariffs": priced.tariffs,
        "warnings": [one._asdict() for one in [*warnings, *priced.warnings]],
    }


def _comparison(cdr: objects.CDR, priced: Priced, found: Comparison, unsaid: set[str]) -> Document:
    totals: Document = {}
    for name, one in found.totals.items():
        if one.billed is not None and name not in unsaid:
            totals[name] = {
                "verdict": one.verdict,
                "billed": _money(one.billed),
                "priced": _money(one.priced) if one.priced else None,
                "reason": one.reason,
            }
    for name in ("total_energy", "total_time", "total_parking_time"):
        said, ought = getattr(cdr, name), getattr(priced, name)
        if said is None or name in unsaid:
            continue
        if name == "total_energy" and said and not _says_energy(cdr):
            reason = "no charging period says any energy"
            totals[name] = {"verdict": UNPRICED, "billed": said, "priced": None, "reason": reason}
            continue
        off = abs(said - ought)
        verdict = "match" if off < Decimal("0.0001") else "within_tolerance" if off <= Decimal("0.005") else (
            "overcharged" if said > ought else "undercharged"
        )  # fmt: skip
        reason = "" if verdict == "match" else f"{name} is {said}, by the periods {_number(ought)}"
        totals[name] = {"verdict": verdict, "billed": said, "priced": _number(ought), "reason": reason}
    if "total_cost" in unsaid:
        return {"verdict": UNPRICED, "reason": "the CDR says no total_cost", "totals": totals}
    return {"verdict": found.verdict, "reason": found.reason, "totals": totals}


def _says_energy(cdr: objects.CDR) -> bool:
    return any(d.type == "ENERGY" for period in cdr.charging_periods for d in period.dimensions)


def _money(money: Money) -> Document:
    return {"excl_vat": _number(money.before_taxes), "incl_vat": _number(money.after_taxes)}


def _number(value: Decimal | None) -> Decimal | None:
    """At most nine decimals, without needless zeros."""
    if value is None:
        return None
    rounded = value.quantize(Decimal("1e-9")).normalize()
    return rounded.quantize(Decimal(1)) if rounded == rounded.to_integral_value() else rounded


def _plain(found: Any) -> Any:
    """As JSON says it."""
    if isinstance(found, Decimal):
        return _number(found)
    if isinstance(found, datetime):
        return found.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(found, dict):
        return {name: _plain(value) for name, value in found.items()}
    if isinstance(found, list):
        return [_plain(value) for value in found]
    return found


def to_json(found: Any) -> bytes:
    """A document as JSON, numbers as they are."""
    return _encode(found)


__all__ = ["estimate_document", "lint_document", "price_bytes", "price_document", "to_json"]
