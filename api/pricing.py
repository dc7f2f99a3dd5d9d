"""Prices over HTTP, for partners and with their own objects: `POST /pricing/price`, `/estimate`, `/lint`.

The same code as the commands (`streams.pricing.documents`), beside the OCPI routes and in their envelope.
Nothing is stored. An object is in the body, or named by the id under which the partner has pushed it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, get_args

import msgspec

from api.answers import Answer, Refusal, Status, invalid, no_json
from api.config import ApiConfig
from api.partners import Partner
from api.view import View
from schemas.keys import object_key
from schemas.ocpi import wire
from streams import objects
from streams.pricing import PricingError
from streams.pricing.documents import estimate_document, lint_document, price_document, to_json

NAMES = ("price", "estimate", "lint")
LARGEST = 256 << 10
"""Bytes of a request: pricing costs more than keeping does."""
_AT_ONCE = 2
_ABSENT = msgspec.Raw()


class _Request(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every request may say. Versions are those of the objects in the body; detected when not given."""

    ocpi_version: str | None = None
    time_zone: str | None = None


class PriceRequest(_Request, kw_only=True):
    """A CDR, and tariffs instead of its own."""

    cdr: msgspec.Raw = _ABSENT
    cdr_id: str | None = None
    tariffs: msgspec.Raw = _ABSENT
    tariff_id: str | None = None
    tolerance: Decimal | None = None


class EstimateRequest(_Request, kw_only=True):
    """A tariff, and what is wanted of it. Energy in kWh, power in kW, current in A over all phases."""

    start: datetime
    end: datetime
    kwh: Decimal
    tariff: msgspec.Raw = _ABSENT
    tariff_id: str | None = None
    max_power_kw: Decimal | None = None
    max_current_a: Decimal | None = None


class LintRequest(_Request, kw_only=True):
    """A tariff."""

    tariff: msgspec.Raw = _ABSENT
    tariff_id: str | None = None


_REQUESTS: dict[str, type[_Request]] = {
    "price": PriceRequest,
    "estimate": EstimateRequest,
    "lint": LintRequest,
}
_TOPICS = {"cdrs": "sessions", "tariffs": "tariffs", "locations": "locations"}
_MOST = Decimal(1_000_000)


class Pricing:
    """Answers the three questions. `view`: where partners' objects are."""

    def __init__(self, config: ApiConfig, view: View) -> None:
        self._topics = {name: getattr(config.topics, topic) for name, topic in _TOPICS.items()}
        self._view = view
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def handle(self, name: str, partner: Partner, body: bytes) -> Answer:
        """Answer one. Raises Refusal, and LogUnavailableError when a named object cannot be looked up."""
        if len(body) > LARGEST:
            raise Refusal(413, Status.INVALID_PARAMETERS, f"body: more than {LARGEST >> 10} KB")
        try:
            request = msgspec.json.decode(body, type=_REQUESTS[name])
        except msgspec.ValidationError as error:
            raise invalid("", str(error)) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise no_json(str(error)) from None
        if request.ocpi_version not in (None, *wire.VERSIONS):
            raise invalid("ocpi_version", f"is none of {', '.join(wire.VERSIONS)}")
        match request:
            case PriceRequest():
                work = await self._price(request, partner)
            case EstimateRequest():
                work = await self._estimate(request, partner)
            case LintRequest():
                work = await self._lint(request, partner)
            case _:
                raise AssertionError(request)
        try:
            async with self._turns:
                data = await asyncio.to_thread(lambda: to_json(work()))
        except wire.InvalidObjectError as error:
            raise invalid(error.path, error.message) from None
        except PricingError as error:
            raise invalid(error.path, f"{error.message} ({error.code})") from None
        return Answer(200, Status.SUCCESS, "Success", data)

    async def _price(self, request: PriceRequest, partner: Partner) -> Callable[[], Any]:
        zone = request.time_zone
        tolerance = _within("tolerance", request.tolerance, Decimal(0))
        cdr = bytes(request.cdr)
        if request.cdr_id is not None:
            found = await self._known("cdrs", "cdr", request.cdr_id, partner)
            cdr = _encoded("cdr", request, found)
            zone = zone or await self._zone_of(found.cdr_location.id, partner)
        if not cdr:
            raise _missing("cdr")
        tariffs = bytes(request.tariffs) or None
        if request.tariff_id is not None:
            tariffs = _encoded(
                "tariff", request, await self._known("tariffs", "tariff", request.tariff_id, partner)
            )
        return lambda: price_document(
            cdr, tariffs, version=request.ocpi_version, time_zone=zone, tolerance=tolerance
        )

    async def _estimate(self, request: EstimateRequest, partner: Partner) -> Callable[[], Any]:
        tariff = await self._tariff(request, partner)
        kwh = _within("kwh", request.kwh, Decimal(0))
        assert kwh is not None
        power = _within("max_power_kw", request.max_power_kw, Decimal("0.001"))
        current = _within("max_current_a", request.max_current_a, Decimal("0.001"))
        return lambda: estimate_document(
            tariff, _utc(request.start), _utc(request.end), kwh, version=request.ocpi_version,
            time_zone=request.time_zone, max_power=power, max_current=current,
        )  # fmt: skip

    async def _lint(self, request: LintRequest, partner: Partner) -> Callable[[], Any]:
        tariff = await self._tariff(request, partner)

        def work() -> Any:
            findings = lint_document(tariff, datetime.now(UTC), version=request.ocpi_version)
            errors = any(one.level == "error" for one in findings)
            return {"findings": [one._asdict() for one in findings], "errors": errors}

        return work

    async def _tariff(self, request: EstimateRequest | LintRequest, partner: Partner) -> bytes:
        if request.tariff_id is not None:
            found = await self._known("tariffs", "tariff", request.tariff_id, partner)
            return _encoded("tariff", request, found)
        if not bytes(request.tariff):
            raise _missing("tariff")
        return bytes(request.tariff)

    async def _known(self, module: str, kind: str, identifier: str, partner: Partner) -> Any:
        """An object that the partner has pushed. Raises Refusal for one that it has not."""
        await self._view.catch_up(self._view.partitions(self._topics[module]))
        state = self._view.get(module, object_key(partner.country_code, partner.party_id, identifier))
        if state is None:
            raise invalid(f"{kind}_id", f"{partner.key} has pushed no {kind} {identifier}")
        return objects.load(module, state)

    async def _zone_of(self, location: str, partner: Partner) -> str | None:
        state = self._view.get("locations", object_key(partner.country_code, partner.party_id, location))
        return None if state is None else str(objects.load("locations", state).time_zone)


def _encoded(kind: str, request: _Request, found: Any) -> bytes:
    request.ocpi_version = request.ocpi_version or wire.VERSIONS[0]
    return wire.encode(kind, request.ocpi_version, found)


def _missing(kind: str) -> Refusal:
    return invalid(kind, f"is missing: send a {kind}, or the {kind}_id of one that you have pushed")


def _within(name: str, value: Decimal | None, least: Decimal) -> Decimal | None:
    if value is not None and not (value.is_finite() and least <= value <= _MOST):
        raise invalid(name, f"must be from {least} to {_MOST}")
    return value


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


_TITLES = {
    "price": ("Price a CDR", "What a CDR should have cost, why, and whether that is what it says."),
    "estimate": (
        "Estimate a session",
        "Charging at the limit until it is full, then staying connected.",
    ),
    "lint": ("Lint a tariff", "What is odd about a tariff."),
}


_SCHEMAS: dict[Any, dict[str, str]] = {
    msgspec.Raw: {"type": "object"},
    datetime: {"type": "string", "format": "date-time"},
    Decimal: {"type": "number"},
    str: {"type": "string"},
}


def operations() -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Summary, description and the body's schema of each route, by its path, for OpenAPI."""
    return {f"/pricing/{name}": (*_TITLES[name], _schema(_REQUESTS[name])) for name in NAMES}


def _schema(request: type[_Request]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for field in msgspec.structs.fields(request):
        kinds = [kind for kind in get_args(field.type) or (field.type,) if kind is not type(None)]
        properties[field.name] = dict(_SCHEMAS[kinds[0]])
    if "tariffs" in properties:
        properties["tariffs"] = {"type": "array", "items": {"type": "object"}}
    required = [field.name for field in msgspec.structs.fields(request) if field.required]
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }
