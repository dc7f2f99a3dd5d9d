"""What the API's tests share: API processes as they really run, partners, objects, and looks into the log."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition

from api.partners import add_partner
from schemas.records import Event
from schemas.topics import Topics
from voltfold.ports import free_port
from voltfold.processes import die_with_parent

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "tests" / "data" / "ocpi-examples"
VERSIONS = ("2.2.1", "2.3.0")

Json = dict[str, Any]


def web(**options: Any) -> httpx.Client:
    """A client for plain HTTP: another one reads a store of certificates first, for 40 ms of a processor."""
    return httpx.Client(**options, verify=False, trust_env=False)


@dataclass
class Api:
    """One API process, `voltfold api`, on a log and a folder."""

    kafka: str
    topics: Topics
    folder: Path
    port: int = field(default_factory=free_port)
    settings: dict[str, str] = field(default_factory=dict)
    number: int = 0
    own_port: int | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, ready: bool = True) -> Api:
        """Start it, and wait until its health check is well."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "voltfold", "api", "--number", str(self.number)]
        if self.own_port:
            command += ["--health-port", str(self.own_port)]
        env = {
            "PYTHONPATH": str(ROOT),
            "VOLTFOLD_KAFKA": self.kafka,
            "VOLTFOLD_TOPIC_PREFIX": self.topics.prefix,
            "VOLTFOLD_PARTITIONS": str(self.topics.partitions),
            "VOLTFOLD_DATA": str(self.folder),
            "VOLTFOLD_API_PORT": str(self.port),
            **self.settings,
        }
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env={**os.environ, **env},
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + 120  # of patience, on a machine that is busy
        while ready and not self.healthy():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the API did not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)
        return self

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.folder / f"api-{self.number}.log"

    def healthy(self) -> bool:
        """Whether its health check is well."""
        with contextlib.suppress(httpx.HTTPError), web(timeout=5) as http:
            return http.get(f"http://127.0.0.1:{self.own_port or self.port}/health").is_success
        return False

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


def authorization(token: str) -> dict[str, str]:
    """The header of a credentials token (transport_and_format, "Authorization header")."""
    return {"Authorization": f"Token {base64.b64encode(token.encode()).decode()}"}


@dataclass
class Partner:
    """Somebody with a token."""

    api: Api
    country: str
    party: str
    token: str

    def __post_init__(self) -> None:
        self.http = web(base_url=self.api.url, headers=authorization(self.token), timeout=30)

    def url(self, version: str, module: str, *ids: str) -> str:
        """The URL of an object of this party."""
        return "/".join([f"/ocpi/{version}/receiver/{module}", self.country, self.party, *ids])

    def put(self, version: str, module: str, body: Json, *ids: str, **more: Any) -> httpx.Response:
        """PUT an object of this party."""
        return self.http.put(self.url(version, module, *ids), json=body, **more)

    def patch(self, version: str, module: str, body: Json, *ids: str, **more: Any) -> httpx.Response:
        """PATCH an object of this party."""
        return self.http.patch(self.url(version, module, *ids), json=body, **more)

    def get(self, version: str, module: str, *ids: str, **more: Any) -> httpx.Response:
        """GET an object of this party."""
        return self.http.get(self.url(version, module, *ids), **more)

    def found(self, version: str, module: str, *ids: str, **more: Any) -> Json:
        """The object that a GET answers."""
        answer = self.get(version, module, *ids, **more)
        is_success(answer)
        data: Json = answer.json()["data"]
        return data

    def at(self, api: Api) -> Partner:
        """The same, speaking to another process."""
        return Partner(api, self.country, self.party, self.token)


def add(api: Api, country: str, party: str, *roles: str) -> Partner:
    """Make a partner, and wait for nothing: its token works at once."""
    token = asyncio.run(add_partner(api.kafka, api.topics, country, party, roles))
    return Partner(api, country, party, token)


# Answers


def is_success(answer: httpx.Response, http: int = 200) -> None:
    """Hold an answer to be a success in its envelope (status_codes; transport_and_format)."""
    assert (answer.status_code, _envelope(answer)["status_code"]) == (http, 1000), answer.text


def is_refusal(answer: httpx.Response, http: int, ocpi: int, *words: str) -> None:
    """Hold an answer to be a refusal in its envelope that says all these words."""
    found = _envelope(answer)
    assert (answer.status_code, found["status_code"]) == (http, ocpi), answer.text
    assert "data" not in found
    for word in words:
        assert word in found["status_message"], (word, found["status_message"])


def _envelope(answer: httpx.Response) -> Json:
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert answer.headers["x-correlation-id"]
    found: Json = answer.json()
    assert time.strptime(found["timestamp"], "%Y-%m-%dT%H:%M:%SZ")
    return found


# The log


def ends(api: Api) -> dict[str, int]:
    """The end offset of every partition of every topic."""

    async def ask() -> dict[str, int]:
        partitions = [TopicPartition(one.name, n) for one in api.topics.all() for n in range(one.partitions)]
        async with AIOKafkaConsumer(bootstrap_servers=api.kafka) as consumer:
            consumer.assign(partitions)  # else each topic's leaders are looked for one after another
            found = await consumer.end_offsets(partitions)
        return {f"{tp.topic}-{tp.partition}": end for tp, end in found.items()}

    return asyncio.run(ask())


@contextlib.contextmanager
def unchanged(api: Api) -> Iterator[None]:
    """Hold that nothing was written to any topic meanwhile."""
    before = ends(api)
    yield
    after = ends(api)
    assert after == before


def events(api: Api, topic: str) -> list[tuple[str, Event]]:
    """Every event of a fact topic with its Kafka key, in the order of each partition."""

    async def read() -> list[tuple[str, Event]]:
        found = []
        name = getattr(api.topics, topic).name
        partitions = [TopicPartition(name, n) for n in range(getattr(api.topics, topic).partitions)]
        async with AIOKafkaConsumer(bootstrap_servers=api.kafka, auto_offset_reset="earliest") as consumer:
            consumer.assign(partitions)
            last = await consumer.end_offsets(partitions)
            while any([await consumer.position(tp) < last[tp] for tp in partitions]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += [(record.key.decode(), Event.decode(record.value)) for record in records]
        return found

    return asyncio.run(read())


def events_of(api: Api, topic: str, key: str) -> list[Event]:
    """The events of one Kafka key."""
    return [event for found, event in events(api, topic) if found == key]


# Objects


@cache
def _example(version: str, name: str) -> str:
    return (EXAMPLES / version / f"{name}.json").read_text("utf-8")


def example(version: str, name: str, **changes: Any) -> Json:
    """An example of the specification with some fields of one's own; None takes a field out."""
    found: Json = {**json.loads(_example(version, name)), **deepcopy(changes)}
    return {name: value for name, value in found.items() if value is not None}


OWN = {"country_code": "NL", "party_id": "TNM"}


def a_session(version: str, id_: str, **changes: Any) -> Json:
    """A pending session of NL*TNM."""
    return example(version, "session_example_1_simple_start", **{**OWN, "id": id_, **changes})


def a_cdr(version: str, id_: str, **changes: Any) -> Json:
    """A CDR of NL*TNM."""
    cdr = example(version, "cdr_example", **{**OWN, "id": id_, **changes})
    if version == "2.3.0":  # the specification's example lacks a field that it requires
        cdr["tariffs"] = [{**tariff, "tax_included": "NO"} for tariff in cdr["tariffs"]]
    return cdr


def a_tariff(version: str, id_: str, **changes: Any) -> Json:
    """A tariff of NL*TNM: 2.00 an hour."""
    stamp = {"last_updated": "2024-01-01T00:00:00Z"}
    return example(version, "tariff_put_example", **{**OWN, **stamp, "id": id_, **changes})


def a_location(version: str, id_: str, **changes: Any) -> Json:
    """A location of NL*TNM with two EVSEs, the first of them with two connectors."""
    return example(version, "location_example", **{**OWN, "id": id_, **changes})


def a_token(version: str, uid: str, **changes: Any) -> Json:
    """An RFID token of DE*EMS."""
    mine = {"country_code": "DE", "party_id": "EMS", "uid": uid}
    return example(version, "token_put_example", **{**mine, **changes})
