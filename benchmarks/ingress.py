"""How many pushes a second one API process acknowledges once Kafka has them, beside one that keeps nothing.

Two API processes on one broker, both the very door that partners use: one writes to Kafka (acks=all,
idempotent), the other drops the event where Kafka would have taken it. A partner PUTs sessions of some 1 KB
over `--connections` connections, each its next when the last was answered: a fifth of them new, the others
updates. Rounds of the two take turns; what is told is the median round.

    python benchmarks/ingress.py [--rounds 5] [--seconds 4] [--connections 64]

Prints one line of JSON: acknowledged PUTs a second (`durable_per_s`, `no_store_per_s`), the former's
latencies in milliseconds, and both rates per second of the API process's own CPU time (`..._per_cpu_s`): on a
machine with few cores, broker and client take theirs from the same.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from pathlib import Path
from typing import cast

import httpx
import psutil
import uvloop
from aiokafka import TopicPartition

from api.config import ApiConfig, Limits
from api.log import Log
from api.partners import add_partner
from api.server import run
from schemas.topics import Topics
from voltfold.family import Family
from voltfold.migrate import migrate
from voltfold.ports import free_port
from voltfold.settings import Settings

UPDATES = 4  # of each session, after it began
WARM_UP = 10  # seconds of the first round, which does not count: the broker compiles what it runs most


class Nowhere(Log):
    """Takes events and keeps none."""

    def __init__(self) -> None:
        super().__init__("", 0)
        self._offset = count()

    def start(self) -> None:
        """Nothing to connect to."""

    async def append(self, partition: TopicPartition, key: bytes, value: bytes) -> int:
        """As if Kafka had answered already."""
        return next(self._offset)


def serve(kafka: str, prefix: str, folder: Path, port: int, *, durable: bool) -> None:
    """One API process."""
    limits = Limits(requests_per_second=0)
    config = ApiConfig(kafka, Topics(prefix), folder, port=port, limits=limits)
    run(config, log=None if durable else Nowhere())


def requests(connection: int, token: str) -> Iterator[bytes]:
    """The PUTs of one connection, for ever."""
    authorization = base64.b64encode(token.encode()).decode()
    period = {
        "start_date_time": "2026-01-05T08:00:00Z",
        "dimensions": [{"type": "ENERGY", "volume": 1.25}, {"type": "TIME", "volume": 0.25}],
        "tariff_id": "T1",
    }
    session = {
        "country_code": "NL",
        "party_id": "TNM",
        "id": "",
        "start_date_time": "2026-01-05T08:00:00Z",
        "kwh": 5.25,
        "cdr_token": {
            "country_code": "DE",
            "party_id": "EMS",
            "uid": "0123456789ABCD",
            "type": "RFID",
            "contract_id": "DE-EMS-C12345678-X",
        },
        "auth_method": "WHITELIST",
        "location_id": "LOC1",
        "evse_uid": "EVSE1",
        "connector_id": "1",
        "currency": "EUR",
        "charging_periods": [period] * 4,
        "total_cost": {"before_taxes": 2.5, "taxes": [{"name": "VAT", "amount": 0.525}]},
        "status": "ACTIVE",
        "last_updated": "",
    }
    for number in count():
        if number % (UPDATES + 1) == 0:
            id_ = f"I{connection}-{number}-{time.time_ns():x}"
        session["id"], session["last_updated"] = id_, f"2026-01-05T08:{number % 60:02}:00Z"
        body = json.dumps(session).encode()
        yield (
            f"PUT /ocpi/2.3.0/receiver/sessions/NL/TNM/{id_} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Token {authorization}\r\nContent-Type: application/json\r\n"
            f"X-Request-ID: {id_}-{number}\r\nX-Correlation-ID: {id_}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body


class Client(asyncio.Protocol):
    """One connection that sends its next request when the last one was answered, and not before it is due."""

    def __init__(
        self, source: Iterator[bytes], latencies: list[float], until: float, every: float = 0
    ) -> None:
        """`every`: seconds between two requests, unless answers take longer; 0 for as many as can be."""
        self._source, self._latencies, self._until, self._every = source, latencies, until, every
        self._due = time.perf_counter() + every * random.random()
        self._buffer = b""
        self._sent = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not derived from it
        self._next()

    def _next(self) -> None:
        self._due += self._every
        if self._every and (wait := self._due - time.perf_counter()) > 0:
            asyncio.get_running_loop().call_later(wait, self._send)
        else:
            self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        if self._sent >= self._until:
            self._transport.close()
            self.done.set_result(None)
        else:
            self._transport.write(next(self._source))

    def data_received(self, data: bytes) -> None:
        """An answer, or a piece of one."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._buffer = b""
        if head[9:12] not in (b"200", b"201") or b'"status_code":1000' not in body:
            self.done.set_exception(RuntimeError(f"refused: {head!r} {body!r}"))
            self._transport.close()
            return
        self._latencies.append(time.perf_counter() - self._sent)
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        """The end, or a failure."""
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the server closed the connection"))


async def round_of(
    port: int, sources: list[Iterator[bytes]], seconds: float, rate: float = 0
) -> tuple[float, list[float]]:
    """Acknowledged requests a second, and their latencies; at most `rate` a second unless that is 0."""
    latencies: list[float] = []
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    every = len(sources) / rate if rate else 0
    clients = []
    for source in sources:
        _, client = await loop.create_connection(
            lambda source=source: Client(source, latencies, began + seconds, every),  # type: ignore[misc]
            "127.0.0.1",
            port,
        )
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    return len(latencies) / (time.perf_counter() - began), latencies


def push(port: int, token: str, rate: float, seconds: float, connections: int = 64) -> int:
    """PUT sessions at a rate, from this process; how many were acknowledged."""
    sources = [requests(number, token) for number in range(connections)]
    return len(uvloop.run(round_of(port, sources, seconds, rate))[1])


async def pushed(port: int, token: str, rate: float, seconds: float) -> int:
    """As `push`, from a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, push, port, token, rate, seconds)


async def measure(folder: Path, rounds: int, seconds: float, connections: int) -> dict[str, object]:
    """All figures."""
    settings = Settings(data=folder)
    async with Family(settings, only=("broker",)) as family:
        ports = {"durable": free_port(), "no_store": free_port()}
        spawn = multiprocessing.get_context("spawn")
        servers = {}
        tokens = {}
        for name, port in ports.items():
            # Topics of its own for each: who keeps nothing shall not have to read what the other wrote.
            topics = Topics(name)
            await migrate(settings.but(kafka=family.kafka, topic_prefix=topics.prefix))
            tokens[name] = await add_partner(family.kafka, topics, "NL", "TNM", ["CPO"])
            place = (family.kafka, topics.prefix, folder / name, port)
            servers[name] = spawn.Process(target=serve, args=place, kwargs={"durable": name == "durable"})
            servers[name].start()
        try:
            for port in ports.values():
                await _healthy(port)
            return await _compare(servers, ports, tokens, rounds, seconds, connections)
        finally:
            for server in servers.values():
                server.terminate()
                server.join()


async def _compare(
    servers: dict[str, multiprocessing.process.BaseProcess],
    ports: dict[str, int],
    tokens: dict[str, str],
    rounds: int,
    seconds: float,
    connections: int,
) -> dict[str, object]:
    sources = {
        name: [requests(number, token) for number in range(connections)] for name, token in tokens.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in ports}
    per_cpu: dict[str, list[float]] = {name: [] for name in ports}
    latencies: list[float] = []
    for number in range(rounds + 1):
        for name, port in ports.items():
            process = psutil.Process(servers[name].pid)
            before = sum(process.cpu_times()[:2])
            rate, times = await asyncio.to_thread(
                lambda name=name, port=port, lasts=seconds if number else WARM_UP: uvloop.run(
                    round_of(port, sources[name], lasts)
                )
            )
            busy = sum(process.cpu_times()[:2]) - before
            if number:
                rates[name].append(rate)
                per_cpu[name].append(len(times) / busy)
                latencies += times if name == "durable" else []
    latencies.sort()
    return {
        **{f"{name}_per_s": round(statistics.median(found)) for name, found in rates.items()},
        **{f"{name}_per_cpu_s": round(statistics.median(found)) for name, found in per_cpu.items()},
        "p50_ms": round(1000 * latencies[len(latencies) // 2], 2),
        "p99_ms": round(1000 * latencies[len(latencies) * 99 // 100], 2),
        "connections": connections,
        "rounds": rounds,
    }


async def _healthy(port: int) -> None:
    async with httpx.AsyncClient(timeout=5) as http:
        deadline = time.monotonic() + 30
        while True:
            try:
                if (await http.get(f"http://127.0.0.1:{port}/health")).is_success:
                    return
            except httpx.HTTPError:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody answers on port {port}")
            await asyncio.sleep(0.1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voltfold-ingress-") as folder:
        figures = asyncio.run(measure(Path(folder), options.rounds, options.seconds, options.connections))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
