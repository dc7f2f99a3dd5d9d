"""What a worker and an API process keep in memory when the log holds a million sessions.

A broker, one worker and one API process. Into the log go sessions that have ended (the last PUT and the CDR
of each) and sessions that run (a PUT). When both have taken that in, every running session is updated while a
partner reads objects at random; at last the log's clock passes over two days, so that every running session
becomes overdue at once. Told are the resident memory (MB) after each step and the peak of all of it.

    python benchmarks/memory.py [--finished 1000000] [--running 100000] [--reads 20000]

Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
from aiokafka import AIOKafkaProducer

sys.path.insert(0, str(Path(__file__).parent))

from _workers import Progress
from fold import TARIFF, session_event

from api.partners import add_partner
from schemas.records import Event
from schemas.topics import Topics
from streams.clock import KEY, tick_event
from voltfold.family import Family
from voltfold.settings import Settings

HOUR = 3_600_000_000
PARTNER = ("NL", "TNM")


def _now() -> int:
    return time.time_ns() // 1000


def _cdr(number: int) -> dict[str, Any]:
    """The bill of a session."""
    session = json.loads(session_event(number, 12)[1].body)
    session_id = session.pop("id")
    for name in ("kwh", "status", "location_id", "evse_uid", "connector_id"):
        del session[name]
    return session | {
        "id": f"C{number}",
        "session_id": session_id,
        "end_date_time": "2026-01-05T09:00:00Z",
        "cdr_location": {
            "id": "LOC1",
            "address": "Somewhere 1",
            "city": "Ghent",
            "country": "BEL",
            "coordinates": {"latitude": "51.047599", "longitude": "3.729944"},
            "evse_uid": "EVSE1",
            "evse_id": "BE*BEC*E041503003",
            "connector_id": "1",
            "connector_standard": "IEC_62196_T2",
            "connector_format": "SOCKET",
            "connector_power_type": "AC_3_PHASE",
        },
        "tariffs": [TARIFF],
        "total_energy": 6,
        "total_time": 1,
        "total_cost": {"before_taxes": 1.5, "taxes": [{"name": "VAT", "amount": 0.315}]},
    }


class _Mould:
    """Events of one kind, each with its number in place of another one's: a million are soon made."""

    PLACE = 987_654_321

    def __init__(self, module: str, method: str, body: dict[str, Any], name: str) -> None:
        self.event = session_event(self.PLACE, 0)[1]
        self.event.module, self.event.method = module, method
        self.body = json.dumps(body).encode().split(str(self.PLACE).encode())
        self.name = name

    def event_of(self, number: int, mark: int) -> tuple[bytes, bytes]:
        """A record of the sessions topic: its key and its value."""
        name = f"{self.name}{number}"
        event = Event(
            id=(number << 4 | mark).to_bytes(16, "big"), received_at=_now(), sender=self.event.sender,
            version=self.event.version, module=self.event.module, method=self.event.method,
            key=f"NL*TNM*{name}", path=[*PARTNER, name], request_id=None, correlation_id=None,
            body=str(number).encode().join(self.body),
        )  # fmt: skip
        return f"NL*TNM*S{number}".encode(), event.encode()


def _put(update: int, **changes: Any) -> _Mould:
    body = json.loads(session_event(_Mould.PLACE, update)[1].body) | changes
    return _Mould("sessions", "PUT", body, "S")


def _records(finished: int, running: int) -> Iterator[tuple[bytes, bytes]]:
    ended = _put(11, status="COMPLETED", end_date_time="2026-01-05T09:00:00Z")
    billed, begun = _Mould("cdrs", "POST", _cdr(_Mould.PLACE), "C"), _put(0)
    for number in range(finished):
        yield ended.event_of(number, 1)
        yield billed.event_of(number, 2)
        if number * running // max(1, finished) != (number + 1) * running // max(1, finished):
            yield begun.event_of(finished + number * running // finished, 3)


async def _write(kafka: str, topics: Topics, records: Iterable[tuple[bytes, bytes]]) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=kafka, acks="all", linger_ms=20, max_batch_size=256 << 10, compression_type="lz4"
    ) as producer:
        for key, value in records:
            await producer.send(topics.sessions.name, value, key)
        await producer.flush()


async def _pass_time(kafka: str, topics: Topics) -> None:
    """A clock event two days from now in every partition, and none of them allows a silence of so long."""
    tick = tick_event(_now() + 49 * HOUR, 60_000_000, 48 * HOUR).encode()
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        for partition in range(topics.partitions):
            await producer.send_and_wait(topics.sessions.name, tick, KEY, partition)


async def _read(http: httpx.AsyncClient, api: str, token: str, finished: int, count: int) -> None:
    """Read that many sessions and CDRs at random."""
    dice = random.Random(1)
    headers = {"Authorization": "Token " + base64.b64encode(token.encode()).decode()}

    async def reader(times: int) -> None:
        for _ in range(times):
            number = dice.randrange(finished)
            path = f"cdrs/NL/TNM/C{number}" if dice.random() < 0.5 else f"sessions/NL/TNM/S{number}"
            url = f"{api}/ocpi/2.3.0/receiver/{path}"
            answer = await http.get(url, headers=headers)
            while answer.status_code == 503:  # the view is too far behind the updates
                await asyncio.sleep(int(answer.headers["Retry-After"]))
                answer = await http.get(url, headers=headers)
            answer.raise_for_status()

    await asyncio.gather(*(reader(count // 16) for _ in range(16)))


def _memory(pid: int, field: str = "VmRSS") -> int:
    """Megabytes: resident now (VmRSS) or at the most (VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field))
    return round(int(line.split()[1]) * 1024 / 1e6)


async def measure(folder: Path, finished: int, running: int, reads: int) -> dict[str, Any]:
    """All figures."""
    topics = Topics()
    settings = Settings(data=folder, requests_per_second=0, read_timeout=60, unwell_seconds=600)
    found: dict[str, Any] = {"finished": finished, "running": running}
    async with (
        Family(settings, only=("broker", "worker", "api")) as family,
        httpx.AsyncClient(timeout=120, trust_env=False) as http,
        Progress(family.kafka, topics) as progress,
    ):
        pids = {"worker": family.pids["worker-0"], "api": family.pids["api"]}

        def look(step: str) -> None:
            found[step] = {name: _memory(pid) for name, pid in pids.items()}
            print(f"{step} {found[step]} after {time.monotonic() - began:.0f} s", file=sys.stderr)

        began = time.monotonic()
        token = await add_partner(family.kafka, topics, *PARTNER, ["CPO"])
        await _write(family.kafka, topics, _records(finished, running))
        print(f"written after {time.monotonic() - began:.0f} s", file=sys.stderr)
        await progress.caught_up(await progress.ends(), 1800)
        while (await http.get(f"{family.api}/health")).json()["view_lag"]:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(1)
        look("loaded")
        update = _put(1, kwh=1.5)
        updates = (update.event_of(number, 4) for number in range(finished, finished + running))
        await asyncio.gather(
            _write(family.kafka, topics, updates), _read(http, family.api, token, finished, reads)
        )
        await progress.caught_up(await progress.ends(), 600)
        look("used")
        await _pass_time(family.kafka, topics)
        await progress.caught_up(await progress.ends(), 600)
        look("overdue")
        assert pids == {"worker": family.pids["worker-0"], "api": family.pids["api"]}, (
            "none was started again"
        )
        found["peak"] = {name: _memory(pid, "VmHWM") for name, pid in pids.items()}
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--running", type=int, default=100_000)
    parser.add_argument("--reads", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voltfold-memory-") as folder:
        figures = asyncio.run(measure(Path(folder), options.finished, options.running, options.reads))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
