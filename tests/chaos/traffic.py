"""Sessions that partners push while everything dies, and what must come of them: a model of its own.

The model knows nothing of Voltfold's folds: it takes each request that was accepted and keeps, per session,
what an operator would expect to be billed. Each station is one partner's line of sessions, one after the
other; it sends a request again, byte for byte, until it is accepted, as OCPI wants it from partners.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp

Json = dict[str, Any]
PRICE, VAT = Decimal("0.40"), Decimal("1.21")
TARIFF: Json = {
    "country_code": "NL", "party_id": "TNM", "id": "T1", "currency": "EUR", "tax_included": "NO",
    "elements": [{"price_components": [{"type": "ENERGY", "price": 0.40, "vat": 21, "step_size": 1}]}],
    "last_updated": "2024-01-01T00:00:00Z",
}  # fmt: skip
_TOKEN = {
    "country_code": "DE",
    "party_id": "EMS",
    "uid": "TOKEN1",
    "type": "RFID",
    "contract_id": "DE-EMS-C1",
}
_PLACE = {
    "id": "LOC1", "address": "Somewhere 1", "city": "Ghent", "country": "BEL",
    "coordinates": {"latitude": "51.047599", "longitude": "3.729944"}, "evse_uid": "E1",
    "evse_id": "BE*BEC*E041503003", "connector_id": "1", "connector_standard": "IEC_62196_T2",
    "connector_format": "SOCKET", "connector_power_type": "AC_3_PHASE",
}  # fmt: skip


@dataclass
class Expected:
    """What must be known of a session at the end. Energy in kWh, money in EUR after taxes.

    `periods`: how many; a session without any is one period to those who ask for its use.
    """

    kwh: Decimal
    status: str
    periods: int
    billed: Decimal | None = None
    verdict: str | None = None


@dataclass
class Model:
    """Folded from accepted requests alone."""

    token: str = ""
    sessions: dict[str, Expected] = field(default_factory=dict)
    accepted: int = 0
    tried: int = 0
    full: int = 0


class Door:
    """Sends requests until they are accepted."""

    def __init__(self, client: aiohttp.ClientSession, api: Callable[[], str], model: Model) -> None:
        self._client = client
        self._api = api
        self.model = model
        encoded = base64.b64encode(model.token.encode()).decode()
        self._headers = {"Authorization": f"Token {encoded}", "Content-Type": "application/json"}

    async def send(self, method: str, path: str, body: Json) -> None:
        """Until the answer is a success. Any refusal that is the sender's fault is a failure of the test."""
        await self._until_answered(method, path, json.dumps(body).encode())

    async def get(self, path: str) -> Json:
        """An object, as the door has it."""
        found: Json = json.loads(await self._until_answered("GET", path, None))["data"]
        return found

    async def _until_answered(self, method: str, path: str, content: bytes | None) -> str:
        deadline = time.monotonic() + 180
        while True:
            self.model.tried += 1
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                url = f"{self._api()}/ocpi/2.3.0/receiver/{path}"
                async with self._client.request(method, url, data=content, headers=self._headers) as answer:
                    text = await answer.text()
                    if answer.status in (200, 201):
                        assert json.loads(text)["status_code"] == 1000, (method, path, text)
                        self.model.accepted += 1
                        return text
                    if answer.status == 503 and "in flight" in text:
                        assert int(answer.headers["Retry-After"]) > 0
                        self.model.full += 1
                    assert answer.status in (429, 500, 502, 503), (method, path, answer.status, text)
            assert time.monotonic() < deadline, f"{method} {path}: the door stayed shut"
            await asyncio.sleep(random.uniform(0.1, 0.5))

    async def cut(self, path: str) -> None:
        """Begin a request and cut the connection in the middle of its body: it must leave no trace."""
        host, port = self._api().removeprefix("http://").split(":")
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, int(port))
            head = "".join(f"{name}: {value}\r\n" for name, value in self._headers.items())
            writer.write(f"PUT /ocpi/2.3.0/receiver/{path} HTTP/1.1\r\nHost: x\r\n{head}".encode())
            writer.write(b'Content-Length: 900\r\n\r\n{"id": "half')
            await writer.drain()
            writer.close()


async def crowd(door: Door, id_: str, many: int) -> None:
    """Many connections at once PUT the same new session, each its own update of it; the newest one counts."""
    begun = datetime(2026, 1, 5, 8, tzinfo=UTC)
    bodies = [_put(id_, begun, Decimal(number), number, [], "ACTIVE") for number in range(many)]
    random.Random(id_).shuffle(bodies)
    newest = max(bodies, key=lambda body: str(body["last_updated"]))
    sent = [asyncio.create_task(door.send("PUT", f"sessions/NL/TNM/{id_}", body)) for body in bodies]
    try:
        for done in asyncio.as_completed(sent):
            await done
    finally:
        for task in sent:
            task.cancel()
        await asyncio.gather(*sent, return_exceptions=True)
    door.model.sessions[id_] = Expected(Decimal(newest["kwh"]), "ACTIVE", 0)


async def station(door: Door, name: str, seed: int, model: Model, until: Callable[[], bool]) -> None:
    """Sessions, one after the other, until told to stop; the last one is finished."""
    dice = random.Random(seed)
    number = 0
    while not until():
        await _session(door, f"{name}-{number}", dice, model)
        number += 1


async def _session(door: Door, id_: str, dice: random.Random, model: Model) -> None:
    begun = datetime(2026, 1, 5, 8, tzinfo=UTC) + timedelta(minutes=dice.randrange(10_000))
    path = f"sessions/NL/TNM/{id_}"
    kwh, minutes, periods = Decimal(0), 0, []
    body = _put(id_, begun, kwh, minutes, [], "ACTIVE")
    await door.send("PUT", path, body)
    expected = model.sessions[id_] = Expected(kwh, "ACTIVE", 0)
    first = body
    for _ in range(dice.randrange(1, 6)):
        start, minutes = minutes, minutes + 5
        more = Decimal(dice.randrange(1, 400)) / 100
        kwh += more
        period = _period(begun + timedelta(minutes=start), more)
        periods.append(period)
        if dice.random() < 0.5:
            patch = {"kwh": float(kwh), "charging_periods": [period], "last_updated": _at(begun, minutes)}
            await door.send("PATCH", path, patch)
            if dice.random() < 0.2:
                await door.send("PATCH", path, patch)  # the same again changes nothing
        else:
            await door.send("PUT", path, _put(id_, begun, kwh, minutes, periods, "ACTIVE"))
        if dice.random() < 0.1:
            await door.send("PUT", path, first)  # older than what is known: changes nothing
        if dice.random() < 0.05:
            await door.cut(path)
        expected.kwh, expected.periods = kwh, len(periods)
    if dice.random() < 0.8:
        cost = kwh * PRICE
        if wrong := dice.random() < 0.1:
            cost += 1
        cdr = _cdr(id_, begun, minutes, periods, kwh, cost)
        if dice.random() < 0.3:  # the bill overtakes the session's end
            await door.send("POST", "cdrs", cdr)
            await door.send("PUT", path, _put(id_, begun, kwh, minutes + 1, periods, "COMPLETED"))
        else:
            await door.send("PUT", path, _put(id_, begun, kwh, minutes + 1, periods, "COMPLETED"))
            await door.send("POST", "cdrs", cdr)
        if dice.random() < 0.2:
            await door.send("POST", "cdrs", cdr)
        expected.status = "COMPLETED"
        expected.billed = cost + cost * (VAT - 1)
        expected.verdict = "overcharged" if wrong else "match"


def _at(begun: datetime, minutes: int) -> str:
    return f"{begun + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}"


def _period(start: datetime, kwh: Decimal) -> Json:
    dimensions = [{"type": "ENERGY", "volume": float(kwh)}, {"type": "TIME", "volume": 0.0833}]
    return {"start_date_time": _at(start, 0), "dimensions": dimensions, "tariff_id": "T1"}


def _put(id_: str, begun: datetime, kwh: Decimal, minutes: int, periods: list[Json], status: str) -> Json:
    return {
        "country_code": "NL", "party_id": "TNM", "id": id_, "start_date_time": _at(begun, 0),
        "kwh": float(kwh), "cdr_token": _TOKEN, "auth_method": "WHITELIST", "location_id": "LOC1",
        "evse_uid": "E1", "connector_id": "1", "currency": "EUR", "status": status,
        "charging_periods": list(periods), "last_updated": _at(begun, minutes),
        **({"end_date_time": _at(begun, minutes)} if status == "COMPLETED" else {}),
    }  # fmt: skip


def _cdr(id_: str, begun: datetime, minutes: int, periods: list[Json], kwh: Decimal, cost: Decimal) -> Json:
    tax = cost * (VAT - 1)
    return {
        "country_code": "NL", "party_id": "TNM", "id": f"C-{id_}", "start_date_time": _at(begun, 0),
        "end_date_time": _at(begun, minutes), "session_id": id_, "cdr_token": _TOKEN,
        "auth_method": "WHITELIST", "cdr_location": _PLACE, "currency": "EUR", "tariffs": [TARIFF],
        "charging_periods": list(periods), "total_energy": float(kwh), "total_time": minutes / 60,
        "total_cost": {"before_taxes": float(cost), "taxes": [{"name": "VAT", "amount": float(tax)}]},
        "last_updated": _at(begun, minutes + 1),
    }  # fmt: skip
