"""What pricing a CDR costs: bytes in, totals out, one thread, tariff inside the CDR.

Ends with one line of JSON, microseconds by periods: `{"3": ..., "50": ..., "500": ...}`, the best of several
rounds. The tariff has a flat fee, time of day, weekdays, energy, time and parking, with step sizes and VAT.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from streams.pricing.documents import price_bytes

WEEK = ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY"]


def component(kind: str, price: float, step: int) -> dict[str, object]:
    """A price component with 20% VAT."""
    return {"type": kind, "price": price, "vat": 20, "step_size": step}


TARIFF = {
    "country_code": "NL",
    "party_id": "TNM",
    "id": "T1",
    "currency": "EUR",
    "elements": [
        {"price_components": [component("FLAT", 0.5, 1)]},
        {
            "price_components": [component("ENERGY", 0.25, 1), component("TIME", 1, 60)],
            "restrictions": {"start_time": "08:00", "end_time": "18:00", "day_of_week": WEEK},
        },
        {"price_components": [component("ENERGY", 0.2, 1), component("PARKING_TIME", 2, 60)]},
    ],
    "last_updated": "2024-01-01T00:00:00Z",
}


def cdr(periods: int) -> bytes:
    """A CDR of ten hours from eight in the morning, cut at the change of price."""
    start = datetime.fromisoformat("2024-05-15T06:00:00+00:00")
    step = timedelta(seconds=36_000 // periods)
    moments = [start + number * step for number in range(periods)]
    body = {
        "country_code": "NL",
        "party_id": "TNM",
        "id": "C1",
        "start_date_time": f"{start:%Y-%m-%dT%H:%M:%SZ}",
        "end_date_time": f"{start + periods * step:%Y-%m-%dT%H:%M:%SZ}",
        "session_id": "S1",
        "cdr_token": {
            "country_code": "DE",
            "party_id": "EMS",
            "uid": "U",
            "type": "RFID",
            "contract_id": "C",
        },
        "auth_method": "WHITELIST",
        "cdr_location": {
            "id": "L1",
            "address": "F.Rooseveltlaan 3A",
            "city": "Gent",
            "country": "BEL",
            "coordinates": {"latitude": "51.047599", "longitude": "3.729944"},
            "evse_uid": "E1",
            "evse_id": "BE*BEC*E041503003",
            "connector_id": "1",
            "connector_standard": "IEC_62196_T2",
            "connector_format": "SOCKET",
            "connector_power_type": "AC_3_PHASE",
        },
        "currency": "EUR",
        "tariffs": [TARIFF],
        "charging_periods": [
            {
                "start_date_time": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
                "tariff_id": "T1",
                "dimensions": [
                    {"type": "ENERGY", "volume": 0.333},
                    {"type": "TIME", "volume": round(step.total_seconds() / 3600, 4)},
                ],
            }
            for moment in moments
        ],
        "total_cost": {"excl_vat": 4.0, "incl_vat": 4.8},
        "total_energy": round(0.333 * periods, 3),
        "total_time": 10,
        "last_updated": "2024-05-16T00:00:00Z",
    }
    return json.dumps(body).encode()


def microseconds(body: bytes, rounds: int, repeats: int) -> float:
    """The best round's time a CDR."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(repeats):
            price_bytes(body, "2.2.1", "Europe/Brussels")
        best = min(best, (time.perf_counter() - started) / repeats)
    return best * 1e6


def main() -> None:
    """Measure and print."""
    found = {}
    for periods in (3, 50, 500):
        body = cdr(periods)
        print(f"{periods} periods: {price_bytes(body, '2.2.1', 'Europe/Brussels').totals['total_cost']}")
        found[str(periods)] = round(microseconds(body, 15, max(10, 6000 // periods)), 1)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
