"""What partners say, as records of the log: small builders that the tests of the folds share."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

from schemas.keys import object_key
from schemas.records import Event, event_id
from schemas.topics import Topics
from streams.folding import Fact, Fold, Output
from streams.references import references_of

TOPICS = Topics("t", 3)
PARTY = "NL*TNM"
TOKEN = {"country_code": "DE", "party_id": "EMS", "uid": "U1", "type": "RFID", "contract_id": "DE-EMS-1"}


def at(clock: str) -> str:
    """A time on the day on which the tests play, a Wednesday."""
    return f"2024-05-15T{clock}Z"


def period(
    clock: str, kwh: float, hours: float, tariff: str | None = "T1", kind: str = "TIME"
) -> dict[str, Any]:
    """A charging period."""
    dimensions = [{"type": "ENERGY", "volume": kwh}] if kwh else []
    found = {"start_date_time": at(clock), "dimensions": [*dimensions, {"type": kind, "volume": hours}]}
    return found | ({"tariff_id": tariff} if tariff else {})


def session(**changes: Any) -> dict[str, Any]:
    """A session of one hour and 10 kWh so far."""
    return {
        "country_code": "NL",
        "party_id": "TNM",
        "id": "S1",
        "start_date_time": at("10:00:00"),
        "kwh": 10,
        "cdr_token": TOKEN,
        "auth_method": "WHITELIST",
        "location_id": "L1",
        "evse_uid": "E1",
        "connector_id": "1",
        "currency": "EUR",
        "charging_periods": [period("10:00:00", 10, 1)],
        "status": "ACTIVE",
        "last_updated": at("11:00:00"),
        **changes,
    }


def tariff(price: float = 0.3, **changes: Any) -> dict[str, Any]:
    """So much a kWh, 20% VAT."""
    component = {"type": "ENERGY", "price": price, "vat": 20, "step_size": 1}
    return {
        "country_code": "NL",
        "party_id": "TNM",
        "id": "T1",
        "currency": "EUR",
        "elements": [{"price_components": [component]}],
        "last_updated": "2024-01-01T00:00:00Z",
        **changes,
    }


def cdr(cost: float = 6.0, **changes: Any) -> dict[str, Any]:
    """Two hours, 20 kWh."""
    return {
        "country_code": "NL",
        "party_id": "TNM",
        "id": "C1",
        "start_date_time": at("10:00:00"),
        "end_date_time": at("12:00:00"),
        "session_id": "S1",
        "cdr_token": TOKEN,
        "auth_method": "WHITELIST",
        "cdr_location": {
            "id": "L1",
            "address": "F.Rooseveltlaan 3A",
            "city": "Gent",
            "country": "BEL",
            "coordinates": {"latitude": "3.729944", "longitude": "51.047599"},
            "evse_uid": "E1",
            "evse_id": "BE*BEC*E041503003",
            "connector_id": "1",
            "connector_standard": "IEC_62196_T2",
            "connector_format": "SOCKET",
            "connector_power_type": "AC_3_PHASE",
        },
        "currency": "EUR",
        "charging_periods": [period("10:00:00", 10, 1), period("11:00:00", 10, 1)],
        "total_cost": {"excl_vat": cost, "incl_vat": round(cost * 1.2, 4)},
        "total_energy": 20,
        "total_time": 2,
        "last_updated": at("12:00:05"),
        **changes,
    }


def location(
    zone: str = "Europe/Amsterdam", tariffs: Sequence[str] = ("T1",), **changes: Any
) -> dict[str, Any]:
    """One EVSE with one connector."""
    return {
        "country_code": "NL",
        "party_id": "TNM",
        "id": "L1",
        "publish": True,
        "address": "F.Rooseveltlaan 3A",
        "city": "Gent",
        "country": "BEL",
        "coordinates": {"latitude": "51.047599", "longitude": "3.729944"},
        "evses": [
            {
                "uid": "E1",
                "status": "AVAILABLE",
                "connectors": [
                    {
                        "id": "1",
                        "standard": "IEC_62196_T2",
                        "format": "CABLE",
                        "power_type": "AC_3_PHASE",
                        "max_voltage": 230,
                        "max_amperage": 16,
                        "tariff_ids": list(tariffs),
                        "last_updated": "2024-01-01T00:00:00Z",
                    }
                ],
                "last_updated": "2024-01-01T00:00:00Z",
            }
        ],
        "time_zone": zone,
        "last_updated": "2024-01-01T00:00:00Z",
        **changes,
    }


class Said:
    """One request that passed the door: the record's key, and its value."""

    def __init__(self, module: str, method: str, body: Any, received_at: int = 1, *ids: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        name = ids or ((body["id"],) if isinstance(body, dict) and "id" in body else ("S1",))
        self.module = module
        path = ["NL", "TNM", *name]
        self.key = object_key("NL", "TNM", name[0])
        log_key = self.key
        if module == "cdrs":
            inside = body if isinstance(body, dict) else {}
            log_key = object_key("NL", "TNM", inside.get("session_id") or f"#CDR:{name[0]}")
        self.record_key = log_key.encode()
        self.event = Event(
            id=event_id(PARTY, module, method, path, raw),
            received_at=received_at,
            sender=PARTY,
            version="2.2.1",
            module=module,
            method=method,
            key=self.key,
            path=path,
            request_id=None,
            correlation_id=None,
            body=raw,
        )

    def record(self) -> tuple[bytes, bytes]:
        """As it stands in the sessions topic: what is no session or CDR, as the reference that it implies."""
        if self.module in ("sessions", "cdrs"):
            return self.record_key, self.event.encode()
        reference = references_of(Fact("x", 0, 0, b"", self.event.encode()))
        assert reference is not None
        return self.record_key, reference.encode()


def run(fold: Fold, said: Iterable[Said], cuts: Iterable[int] = ()) -> list[Output]:
    """Fold it all, in batches cut at these places; every output in order. State goes through bytes."""
    facts = [Fact(TOPICS.sessions.name, 0, offset, *one.record()) for offset, one in enumerate(said)]
    state: dict[bytes, bytes] = {}
    outputs: list[Output] = []
    places = sorted({0, len(facts), *(cut for cut in cuts if 0 < cut < len(facts))})
    for start, end in itertools.pairwise(places):
        folded = fold(facts[start:end], state.get)
        for key, value in folded.changes.items():
            if value is None:
                state.pop(key, None)
            else:
                state[key] = value
        outputs += folded.outputs
    return outputs


def latest(outputs: Iterable[Output]) -> dict[tuple[str, bytes], bytes | None]:
    """The last value of each key."""
    return {(one.topic, one.key): one.value for one in outputs}
