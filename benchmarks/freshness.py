"""How soon a session that was pushed can be selected: from its 2xx to the answer of a query that has it.

Starts a family of its own on an empty folder and pushes as fast as it takes it, until everything has arrived
in ClickHouse: that rate is the peak (`peak_per_s`). Then, while others push at half the peak (`load_per_s`),
a partner PUTs new sessions one at a time and asks ClickHouse's HTTP interface again and again until the row
is there. Each figure so includes the query that saw it, and up to one that just missed it. All that, clients
included, shares this machine.

    python benchmarks/freshness.py [--sessions 200] [--pause 0.1] [--load 0.5]

Prints one line of JSON; times in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parent))

from ingress import pushed

from api.partners import add_partner
from schemas.topics import Topics
from voltfold.family import Family
from voltfold.settings import Settings

COUNTRY, PARTY = "NL", "TNM"
PEAK_SECONDS = 15


def _session(number: int) -> dict[str, object]:
    """A session that has just begun."""
    return {
        "country_code": COUNTRY,
        "party_id": PARTY,
        "id": f"F{number}",
        "start_date_time": "2026-01-05T08:00:00Z",
        "kwh": 0.25,
        "cdr_token": {
            "country_code": "DE",
            "party_id": "EMS",
            "uid": "TOKEN1",
            "type": "RFID",
            "contract_id": "DE-EMS-C12345678-X",
        },
        "auth_method": "WHITELIST",
        "location_id": "LOC1",
        "evse_uid": "EVSE1",
        "connector_id": "1",
        "currency": "EUR",
        "status": "ACTIVE",
        "last_updated": "2026-01-05T08:05:00Z",
    }


async def _fresh(
    http: httpx.AsyncClient, api: str, query: str, token: str, number: int
) -> tuple[float, float]:
    """PUT one session and wait for its row: seconds until the 2xx, and from there until it was selected."""
    session = _session(number)
    began = time.perf_counter()
    answer = await http.put(
        f"{api}/ocpi/2.3.0/receiver/sessions/{COUNTRY}/{PARTY}/{session['id']}",
        json=session,
        headers={"Authorization": f"Token {base64.b64encode(token.encode()).decode()}"},
    )
    acknowledged = time.perf_counter()
    answer.raise_for_status()
    wanted = f"SELECT count() FROM sessions WHERE key = '{COUNTRY}*{PARTY}*{session['id']}'"
    while (await http.post(query, content=wanted)).text.strip() != "1":
        if time.perf_counter() - acknowledged > 60:
            raise TimeoutError(f"session {number} did not arrive within a minute")
        await asyncio.sleep(0.005)
    return acknowledged - began, time.perf_counter() - acknowledged


async def settled(http: httpx.AsyncClient, query: str) -> float:
    """Wait until no more sessions arrive in ClickHouse; when the last one had (monotonic seconds)."""
    last, since = "", time.monotonic()
    while time.monotonic() - since < 3:
        wanted = "SELECT count(), max(received_at), sum(cityHash64(event_id)) FROM sessions"
        if (found := (await http.post(query, content=wanted)).text) != last:
            last, since = found, time.monotonic()
        await asyncio.sleep(0.1)
    return since


async def peak_of(http: httpx.AsyncClient, port: int, token: str, query: str) -> float:
    """PUTs a second that a family takes in and brings to ClickHouse, if it gets as many as it can take."""
    began = time.monotonic()
    acknowledged = await pushed(port, token, 0, PEAK_SECONDS)
    return acknowledged / (await settled(http, query) - began)


async def measure(folder: Path, sessions: int, pause: float, load: float) -> dict[str, object]:
    """Start a family, find its peak, push the sessions, `pause` seconds apart, and stop it again."""
    settings = Settings(data=folder, requests_per_second=0)
    async with Family(settings) as family, httpx.AsyncClient(timeout=30, trust_env=False) as http:
        topics = Topics(settings.topic_prefix, settings.partitions)
        token = await add_partner(family.kafka, topics, COUNTRY, PARTY, ["CPO"])
        query = f"{family.clickhouse}/?database={settings.clickhouse_database}"
        for number in range(5):  # what is loaded at the first request is not freshness
            await _fresh(http, family.api, query, token, -1 - number)
        port = int(family.api.rsplit(":", 1)[1])
        peak = rate = 0.0
        if load:
            peak = await peak_of(http, port, token, query)
            rate = load * peak
        background = asyncio.create_task(pushed(port, token, rate, sessions * (pause + 0.4) if load else 0))
        await asyncio.sleep(5 if load else 0)
        found = []
        for number in range(sessions):
            found.append(await _fresh(http, family.api, query, token, number))
            await asyncio.sleep(pause)
            if background.done() and load:
                break  # from here on there would be no load
        taken = await background
    return {
        "sessions": len(found),
        "peak_per_s": round(peak),
        "load_per_s": round(taken / (sessions * (pause + 0.4))) if load else 0,
        "acknowledged_ms": _spread([put for put, _ in found]),
        "selectable_ms": _spread([row for _, row in found]),
        "load_average": round(os.getloadavg()[0], 1),
        "cpus": os.cpu_count(),
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum, in milliseconds."""
    percentiles = statistics.quantiles(seconds, n=100, method="inclusive")
    found = {"p50": percentiles[49], "p99": percentiles[98], "max": max(seconds)}
    return {name: round(value * 1000, 1) for name, value in found.items()}


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--sessions", type=int, default=200, help="how many to push (default: 200)")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two (default: 0.1)")
    parser.add_argument("--load", type=float, default=0.5, help="share of the peak meanwhile (default: 0.5)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voltfold-freshness-") as folder:
        print(
            json.dumps(
                asyncio.run(measure(Path(folder), arguments.sessions, arguments.pause, arguments.load))
            )
        )


if __name__ == "__main__":
    main()
