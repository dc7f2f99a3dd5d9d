"""The garage's day as its operator tells it: OCPI over HTTP, virtual time, each session's requests in order.

A request that fails for a reason that passes (no connection, 429, 5xx) is sent again, byte for byte, until it
is answered; that is what OCPI partners do, and why a server may die at any moment.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential
from yarl import URL

from voltfold.demo import billing
from voltfold.demo.billing import CURRENCY, Bill, Piece, shown
from voltfold.demo.garage import Visit

OPERATOR = ("US", "GAR", "CPO", "The garage")
PROVIDERS = (
    ("US", "CHG", "EMSP", "Chargewise"),
    ("US", "VLT", "EMSP", "Volta Pass"),
    ("CA", "MPL", "EMSP", "Maple Mobility"),
)
LOCATION = "GARAGE-1"
IN_FLIGHT = 24
PATIENCE = 120.0
"""Seconds for which one request is tried again."""

Json = dict[str, Any]
_encode = msgspec.json.Encoder(decimal_format="number").encode


class RefusedError(RuntimeError):
    """The server refused a request for good."""


class _PassingError(RuntimeError):
    """The server could not answer now."""


class Partner:
    """A partner's side of OCPI: its token, and the endpoints that version details name."""

    def __init__(self, client: aiohttp.ClientSession, api: str, token: str) -> None:
        self._client = client
        self._api = api
        self._headers = {
            "Authorization": "Token " + base64.b64encode(token.encode()).decode(),
            "Content-Type": "application/json",
        }
        self._endpoints: dict[tuple[str, str], str] = {}

    async def discover(self) -> None:
        """Find the endpoints of every version (versions, "Version details endpoint")."""
        found = await self.send("GET", f"{self._api}/ocpi/versions")
        for version in found["data"]:
            details = await self.send("GET", version["url"])
            for endpoint in details["data"]["endpoints"]:
                if endpoint.get("role", "RECEIVER") == "RECEIVER":
                    self._endpoints[version["version"], endpoint["identifier"]] = endpoint["url"]

    def url(self, version: str, module: str, *ids: str) -> str:
        """Of an object, or with no identifiers of its module."""
        base = self._endpoints[version, module].rstrip("/")
        return "/".join((base, *(quote(one, safe="") for one in ids)))

    async def send(self, method: str, url: str, body: Json | None = None) -> Json:
        """Send one request until it is answered. Raises RefusedError for an answer that is no success."""
        content = None if body is None else _encode(body)
        headers = {**self._headers, "X-Request-ID": str(uuid.uuid4()), "X-Correlation-ID": str(uuid.uuid4())}
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((aiohttp.ClientError, TimeoutError, _PassingError)),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            stop=stop_after_delay(PATIENCE),
            reraise=True,
        ):
            with attempt:
                status, answer = await self._once(method, url, content, headers)
                if status == 429 or status >= 500:
                    raise _PassingError(f"{method} {url}: {status} {answer[:200]!r}")
        found: Json = msgspec.json.decode(answer)
        if status >= 300 or found["status_code"] != 1000:
            raise RefusedError(f"{method} {url}: {status} {found}")
        return found

    async def _once(
        self, method: str, url: str, content: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        exact = URL(url, encoded=True)
        async with self._client.request(method, exact, data=content, headers=headers) as answer:
            return answer.status, await answer.read()


@dataclass(frozen=True)
class Request:
    """One request of the operator: when, in virtual time, and what."""

    at: datetime
    method: str
    version: str
    module: str
    ids: tuple[str, ...]
    body: Json


@dataclass
class Story:
    """Everything that is told of one session, in order."""

    session: str
    requests: list[Request]
    wrong: str | None


class Garage:
    """The operator's view: which tariff a station has, which provider a driver, and the stories to tell."""

    def __init__(self, visits: list[Visit]) -> None:
        self.visits = visits
        self.stations = sorted({visit.station for visit in visits})
        self.users = sorted({visit.user for visit in visits})
        self.opened = min(visit.connected_at for visit in visits) - timedelta(days=1)
        mistaken = billing.mistaken(visits)
        self.stories = [self._story(visit, visit.session in mistaken) for visit in visits]
        self.wrong = {f"CDR-{one.session}" for one in self.stories if one.wrong}

    @property
    def requests(self) -> int:
        """How many there are to send, the preparation aside."""
        return sum(len(story.requests) for story in self.stories)

    def tariff_of(self, station: str) -> str:
        """The tariff of a station."""
        return billing.TARIFFS[self.stations.index(station) % len(billing.TARIFFS)]

    def version_of(self, station: str) -> str:
        """The OCPI version in which a station's sessions are told."""
        return ("2.2.1", "2.3.0")[self.stations.index(station) % 2]

    def prepare(self) -> Iterator[tuple[int | None, str, str, tuple[str, ...], Json]]:
        """What must be known first: tariffs, location, tokens. Provider (None: operator), version, what."""
        stamp = _stamp(self.opened)
        for name in billing.TARIFFS:
            yield None, "2.2.1", "tariffs", (*OPERATOR[:2], name), billing.tariff(name, stamp)
        yield None, "2.3.0", "locations", (*OPERATOR[:2], LOCATION), self._location(stamp)
        for user in self.users:
            provider = _provider_of(user)
            country, party, _, name = PROVIDERS[provider]
            token = {
                "country_code": country,
                "party_id": party,
                "uid": user,
                "type": "RFID",
                "contract_id": f"{country}-{party}-{user}",
                "issuer": name,
                "valid": True,
                "whitelist": "ALLOWED",
                "last_updated": stamp,
            }
            yield provider, "2.3.0", "tokens", (country, party, user), token

    def _location(self, stamp: str) -> Json:
        def evse(station: str) -> Json:
            connector = {
                "id": "1",
                "standard": "IEC_62196_T1",
                "format": "CABLE",
                "power_type": "AC_1_PHASE",
                "max_voltage": 208,
                "max_amperage": 32,
                "tariff_ids": [self.tariff_of(station)],
                "last_updated": stamp,
            }
            return {"uid": station, "status": "AVAILABLE", "connectors": [connector], "last_updated": stamp}

        return {
            "country_code": "US",
            "party_id": "GAR",
            "id": LOCATION,
            "publish": True,
            "name": "Workplace garage",
            "address": "1200 E California Blvd",
            "city": "Pasadena",
            "country": "USA",
            "coordinates": {"latitude": "34.137700", "longitude": "-118.125300"},
            "parking_type": "PARKING_GARAGE",
            "evses": [evse(station) for station in self.stations],
            "time_zone": billing.TIME_ZONE,
            "last_updated": stamp,
        }

    def _story(self, visit: Visit, wrong: bool) -> Story:
        name, version = self.tariff_of(visit.station), self.version_of(visit.station)
        pieces = billing.cut(visit, name)
        bill = billing.reckon(pieces, name)
        if wrong:
            billing.spoil(bill, visit.session)
        ids = (*OPERATOR[:2], visit.session)
        said = [Request(visit.connected_at, "PUT", version, "sessions", ids, self._session(visit))]
        kwh = 0.0
        for piece in pieces:
            if piece.end < visit.disconnected_at:
                kwh += float(piece.kwh)
                body = {
                    "kwh": round(kwh, 6),
                    "charging_periods": [_period(piece, name)],
                    "last_updated": _stamp(piece.end),
                }
                said.append(Request(piece.end, "PATCH", version, "sessions", ids, body))
        end = visit.disconnected_at
        last = pieces[-1]
        closing = {
            "status": "COMPLETED",
            "end_date_time": _stamp(end),
            "kwh": float(visit.energy_kwh),
            "charging_periods": [_period(last, name)],
            "last_updated": _stamp(end + timedelta(seconds=1)),
        }
        done = Request(end, "PATCH", version, "sessions", ids, closing)
        posted = Request(end, "POST", version, "cdrs", (), self._cdr(visit, pieces, bill, version))
        # Some operators send the CDR before the session's last word.
        said += [posted, done] if _hash(visit.session) % 2 else [done, posted]
        return Story(visit.session, said, bill.wrong)

    def _session(self, visit: Visit) -> Json:
        return {
            "country_code": "US",
            "party_id": "GAR",
            "id": visit.session,
            "start_date_time": _stamp(visit.connected_at),
            "kwh": 0,
            "cdr_token": _token(visit.user),
            "auth_method": "WHITELIST",
            "location_id": LOCATION,
            "evse_uid": visit.station,
            "connector_id": "1",
            "currency": CURRENCY,
            "status": "ACTIVE",
            "last_updated": _stamp(visit.connected_at),
        }

    def _cdr(self, visit: Visit, pieces: list[Piece], bill: Bill, version: str) -> Json:
        hours = (visit.disconnected_at - visit.connected_at) / timedelta(hours=1)
        idle = sum(float(piece.hours) for piece in pieces if not piece.charging)

        def price(before: Any, taxes: Any) -> Json:
            if version == "2.2.1":
                return {"excl_vat": shown(before), "incl_vat": shown(before + taxes)}
            return {"before_taxes": shown(before), "taxes": [{"name": "Sales tax", "amount": shown(taxes)}]}

        def part(amount: Any) -> Json:
            return price(amount, amount * billing.TAX / 100)

        return {
            "country_code": "US",
            "party_id": "GAR",
            "id": f"CDR-{visit.session}",
            "start_date_time": _stamp(visit.connected_at),
            "end_date_time": _stamp(visit.disconnected_at),
            "session_id": visit.session,
            "cdr_token": _token(visit.user),
            "auth_method": "WHITELIST",
            "cdr_location": {
                "id": LOCATION,
                "address": "1200 E California Blvd",
                "city": "Pasadena",
                "country": "USA",
                "coordinates": {"latitude": "34.137700", "longitude": "-118.125300"},
                "evse_uid": visit.station,
                "evse_id": f"US*GAR*E{visit.station}",
                "connector_id": "1",
                "connector_standard": "IEC_62196_T1",
                "connector_format": "CABLE",
                "connector_power_type": "AC_1_PHASE",
            },
            "currency": CURRENCY,
            "charging_periods": [_period(piece, self.tariff_of(visit.station)) for piece in pieces],
            "total_cost": price(bill.total, bill.tax),
            "total_fixed_cost": part(bill.fixed),
            "total_energy": float(visit.energy_kwh),
            "total_energy_cost": part(bill.energy),
            "total_time": round(hours, 9),
            "total_time_cost": part(bill.time),
            "total_parking_time": round(idle, 9),
            "total_parking_cost": part(bill.parking),
            "last_updated": _stamp(visit.disconnected_at + timedelta(seconds=1)),
        }


async def tell(garage: Garage, operator: Partner, told: Callable[[], None]) -> None:
    """Send every request of the garage in the order of virtual time; `told` is called after each.

    Requests of one session go one after another, those of different sessions side by side.
    """
    order = sorted(
        ((request.at, number, place) for number, story in enumerate(garage.stories)
         for place, request in enumerate(story.requests)),
    )  # fmt: skip
    slots = asyncio.Semaphore(IN_FLIGHT)
    before: dict[int, asyncio.Task[None]] = {}

    async def one(request: Request, previous: asyncio.Task[None] | None) -> None:
        try:
            if previous is not None:
                await previous
            url = operator.url(request.version, request.module, *request.ids)
            await operator.send(request.method, url, request.body)
            told()
        finally:
            slots.release()

    async with asyncio.TaskGroup() as group:
        for _, number, place in order:
            await slots.acquire()
            request = garage.stories[number].requests[place]
            before[number] = group.create_task(one(request, before.get(number)))


def _period(piece: Piece, tariff: str) -> Json:
    kind = "TIME" if piece.charging else "PARKING_TIME"
    dimensions = [{"type": kind, "volume": float(piece.hours)}]
    if piece.charging:
        dimensions.insert(0, {"type": "ENERGY", "volume": float(piece.kwh)})
    return {"start_date_time": _stamp(piece.start), "dimensions": dimensions, "tariff_id": tariff}


def _token(user: str) -> Json:
    country, party, _, _ = PROVIDERS[_provider_of(user)]
    contract = f"{country}-{party}-{user}"
    return {"country_code": country, "party_id": party, "uid": user, "type": "RFID", "contract_id": contract}


def _provider_of(user: str) -> int:
    return _hash(user) % len(PROVIDERS)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8, person=b"demo").digest(), "big")


def _stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
