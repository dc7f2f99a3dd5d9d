"""One platform down under traffic: what the others notice, and what it holds once it is back.

A whole family without analytics, three platforms that register with the credentials handshake: an operator
that pushes sessions, locations and CDRs at a steady rate, and two providers. One provider refuses connections
for `--down` seconds in the middle. At the end every object of both providers is compared with what the
operator said last, and every CDR is counted.

    python benchmarks/courier.py [--seconds 100] [--down 60] [--rate 20]

Prints one line of JSON: delivery times in ms (from a push's answer to its arrival; 0 and less: it was there
first), of the provider that stayed, while the other was there and while it was away; how long it took after
the last push until all had everything; how often a CDR was told at most; what was missing or wrong; resident
memory of the courier in MB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from api.handshake import Outgoing, Us
from api.peer import Peers
from api.vault import Vault, key_in
from tests.integration.api_helpers import a_cdr, a_location, a_session
from tests.integration.counterpart import Platform, Seen
from voltfold.family import Family
from voltfold.roles import topics_of
from voltfold.settings import Settings

SESSIONS = 20


class Watched(Platform):
    """Notes when each update of a session arrives first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.arrived: dict[tuple[str, float], float] = {}
        self.mood = self._note

    def _note(self, seen: Seen) -> None:
        if seen.method == "PUT" and "/sessions/" in seen.path:
            self.arrived.setdefault((seen.body["id"], seen.body["kwh"]), time.monotonic())


def _percentile(values: list[float], share: float) -> float | None:
    return round(1000 * sorted(values)[min(len(values) - 1, int(share * len(values)))], 1) if values else None


def _token(party: str) -> dict[str, str]:
    own = {"country_code": "DE", "party_id": party}
    return {**own, "uid": f"U-{party}", "type": "RFID", "contract_id": f"DE{party}C1"}


class Traffic:
    """What the operator says, and what it said last."""

    def __init__(self, operator: Platform, url: str) -> None:
        self.operator = operator
        self.url = f"{url}/ocpi/2.3.0/receiver"
        self.said: dict[tuple[str, float], float] = {}
        self.last: dict[str, dict[str, Any]] = {}
        self.cdrs: dict[str, set[str]] = {"EMS": set(), "EMT": set()}
        self.failed = 0

    def _push(self, method: str, path: str, body: Any) -> bool:
        http, envelope = self.operator.send(method, f"{self.url}/{path}", body)
        good = http in (200, 201) and envelope["status_code"] == 1000
        self.failed += not good
        return good

    def step(self, number: int) -> None:
        """One update: mostly of a session, sometimes a CDR or a location."""
        party = ("EMS", "EMT")[number % 2]
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{number % 1000:03}Z"
        if number % 10 in (8, 9):
            name = f"C{number}"
            if self._push("POST", "cdrs", a_cdr("2.3.0", name, cdr_token=_token(party), session_id=name)):
                self.cdrs[party].add(name)
            return
        if number % 10 == 7:
            name = f"L{number // 10 % 5}"
            body = a_location("2.3.0", name, city=f"City {number}", last_updated=stamp)
            self._push("PUT", f"locations/NL/TNM/{name}", body)
            self.last[name] = body
            return
        name = f"S{party}{number % SESSIONS}"
        body = a_session("2.3.0", name, cdr_token=_token(party), kwh=number, last_updated=stamp)
        if self._push("PUT", f"sessions/NL/TNM/{name}", body):
            self.said[name, number] = time.monotonic()
            self.last[name] = body


def _missing(traffic: Traffic, provider: Platform, party: str) -> list[str]:
    """What a provider lacks or holds in another state than the operator's last."""
    wrong = [f"CDR {name}" for name in traffic.cdrs[party] - provider.cdrs.keys()]
    for name, body in traffic.last.items():
        if name.startswith("L"):
            found = provider.received["locations"].get(f"NL*TNM*{name}", {})
            wrong += [f"location {name}"] if found.get("city") != body["city"] else []
        elif name.startswith(f"S{party}"):
            found = provider.received["sessions"].get(f"NL*TNM*{name}", {})
            wrong += [f"session {name}"] if found.get("kwh") != body["kwh"] else []
    return wrong


async def _measure(seconds: float, down: float, rate: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder), api_workers=1, partner_timeout=5, partner_pause=5)
        async with Family(settings, only=("broker", "api", "courier")) as family:
            platforms = {
                "TNM": Platform(version="2.3.0", roles=(("CPO", "NL", "TNM"),)),
                "EMS": Watched(version="2.2.1", roles=(("EMSP", "DE", "EMS"),)),
                "EMT": Watched(version="2.3.0", roles=(("EMSP", "DE", "EMT"),)),
            }
            async with Peers() as peers:
                us = Us(*settings.party.split("*"), settings.party_name, f"{family.api}/ocpi/versions")
                vault = Vault(key_in(Path(folder)))
                outgoing = Outgoing(family.kafka, topics_of(settings), peers, vault, us)
                for platform in platforms.values():
                    platform.start()
                    await outgoing.connect(platform.versions_url, platform.token)
            await asyncio.sleep(3)  # the courier has knocked at each
            traffic = Traffic(platforms["TNM"], family.api)
            started, away, back, number = time.monotonic(), 0.0, 0.0, 0
            while (now := time.monotonic() - started) < seconds:
                if not away and now > (seconds - down) / 2:
                    platforms["EMT"].down()
                    away = time.monotonic()
                if away and not back and time.monotonic() - away > down:
                    platforms["EMT"].up()
                    back = time.monotonic()
                await asyncio.to_thread(traffic.step, number)
                number += 1
                await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            ended = time.monotonic()
            left: list[str] = []
            while time.monotonic() - ended < 60:
                left = _missing(traffic, platforms["EMT"], "EMT") + _missing(traffic, platforms["EMS"], "EMS")
                if not left:
                    break
                await asyncio.sleep(0.2)
            caught_up = time.monotonic() - ended
            stayed = platforms["EMS"]
            assert isinstance(stayed, Watched)
            times = {
                key: stayed.arrived[key] - at for key, at in traffic.said.items() if key in stayed.arrived
            }
            during = [took for key, took in times.items() if away <= traffic.said[key] <= back]
            else_ = [took for key, took in times.items() if not away <= traffic.said[key] <= back]
            memory = psutil.Process(family.pids["courier"]).memory_info().rss
            for platform in platforms.values():
                platform.stop()
            posts = [
                count for one in (platforms["EMS"], platforms["EMT"]) for count in one.cdr_posts.values()
            ]
            return {
                "pushes": number,
                "failed_pushes": traffic.failed,
                "cdrs": sum(map(len, traffic.cdrs.values())),
                "most_posts_of_a_cdr": max(posts, default=0),
                "missing_or_wrong": left,
                "everything_after_end_s": round(caught_up, 1),
                "stayed_p50_ms": _percentile(else_, 0.5),
                "stayed_p99_ms": _percentile(else_, 0.99),
                "stayed_while_other_down_p50_ms": _percentile(during, 0.5),
                "stayed_while_other_down_p99_ms": _percentile(during, 0.99),
                "courier_mb": round(memory / 1e6),
            }


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=100)
    parser.add_argument("--down", type=float, default=60)
    parser.add_argument("--rate", type=float, default=20)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(_measure(arguments.seconds, arguments.down, arguments.rate))))


if __name__ == "__main__":
    main()
