"""The API under fire: processes killed, Kafka gone, hanging and back, many processes on one log."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from schemas.records import Event
from schemas.topics import Topics
from tests.integration.api_helpers import (
    ROOT,
    Api,
    Partner,
    a_cdr,
    a_session,
    a_tariff,
    add,
    authorization,
    events,
    events_of,
    is_refusal,
    is_success,
    web,
)
from tests.integration.conftest import NewId
from voltfold import broker as kafka_broker
from voltfold.family import Family
from voltfold.ports import free_port
from voltfold.processes import die_with_parent
from voltfold.settings import Settings
from voltfold.topics import create_topics

PATIENCE = {"VOLTFOLD_WRITE_TIMEOUT": "2", "VOLTFOLD_READ_TIMEOUT": "2"}


class Broker:
    """A broker of this test's own, which comes and goes on one port and folder."""

    def __init__(self, folder: Path) -> None:
        taken: set[int] = set()
        self.config = kafka_broker.BrokerConfig(folder, free_port(None, taken), free_port(None, taken))
        self.output = folder.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                kafka_broker.prepare(self.config), stdout=output, stderr=output, preexec_fn=die_with_parent
            )
        deadline = time.monotonic() + 60
        while not asyncio.run(kafka_broker.is_ready(self.config.address)):
            assert time.monotonic() < deadline, self.output.read_text()[-2000:]
            time.sleep(0.1)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that tests may mistreat; they leave it running."""
    broker = Broker(tmp_path_factory.mktemp("own") / "broker")
    broker.config.folder.mkdir()
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def exposed(own_broker: Broker, tmp_path: Path) -> Iterator[Partner]:
    """NL*TNM at an API of its own, on that broker."""
    topics = Topics(f"t-{uuid.uuid4().hex[:10]}", partitions=3)
    asyncio.run(create_topics(own_broker.config.address, topics.all()))
    api = Api(own_broker.config.address, topics, tmp_path / "api", settings=PATIENCE).start()
    yield add(api, "NL", "TNM", "CPO")
    api.kill()


def _until(what: str, done: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def _refuses_in_time(partner: Partner, new_id: NewId) -> None:
    """Reads and writes of a known and an unknown object are answered 503, with Retry-After, in time."""
    id_ = new_id()
    known = partner.url("2.3.0", "sessions", "SPARE")
    requests: list[tuple[str, str, Any]] = [
        ("PUT", partner.url("2.3.0", "sessions", id_), a_session("2.3.0", id_)),
        ("PATCH", known, {"kwh": 1, "last_updated": "2030-01-01T00:00:00Z"}),
        ("GET", known, None),
        ("POST", "/ocpi/2.3.0/receiver/cdrs", a_cdr("2.3.0", id_)),
    ]

    def send(request: tuple[str, str, Any]) -> httpx.Response:
        method, url, body = request
        return httpx.request(
            method, partner.api.url + url, json=body, headers=authorization(partner.token), timeout=20
        )

    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answers = list(pool.map(send, requests))
    assert time.monotonic() - started < 8
    for answer in answers:
        is_refusal(answer, 503, 3000)
        assert int(answer.headers["retry-after"]) >= 1
    assert not partner.api.healthy()
    is_success(partner.http.get("/ocpi/versions"))


def _serves(partner: Partner, id_: str) -> bool:
    session = a_session("2.3.0", id_)
    return partner.put("2.3.0", "sessions", session, id_).status_code in (200, 201)


@pytest.mark.parametrize("how", ["killed", "hanging"])
def test_kafka_goes_and_comes_back(
    how: str, exposed: Partner, own_broker: Broker, new_id: NewId, tmp_path: Path
) -> None:
    """503 with Retry-After while it is gone; then the same process serves again and has lost nothing."""
    ids = [new_id() for _ in range(20)]
    for id_ in (*ids, "SPARE"):  # what was refused may still arrive, so the spare one is not looked at
        assert _serves(exposed, id_)
    assert exposed.api.process is not None
    if how == "hanging":
        own_broker.signal(signal.SIGSTOP)
    else:
        own_broker.kill()
    try:
        _refuses_in_time(exposed, new_id)
    finally:
        if how == "hanging":
            own_broker.signal(signal.SIGCONT)
        else:
            own_broker.start()
    id_ = new_id()
    _until("writes are taken again", lambda: _serves(exposed, id_))
    _until("reads are answered again", lambda: exposed.get("2.3.0", "sessions", id_).status_code == 200)
    _until("its health is well again", exposed.api.healthy)
    assert exposed.api.process.poll() is None
    for id_ in ids:
        assert exposed.found("2.3.0", "sessions", id_) == a_session("2.3.0", id_)
    for _ in range(20):
        id_ = new_id()
        assert _serves(exposed, id_)
        assert exposed.found("2.3.0", "sessions", id_) == a_session("2.3.0", id_)


def test_writes_while_the_broker_restarts_again_and_again(
    exposed: Partner, own_broker: Broker, new_id: NewId
) -> None:
    """What was answered with 2xx is there, whenever the broker died."""
    acknowledged: list[str] = []
    stopping = threading.Event()

    def write() -> None:
        with web(base_url=exposed.api.url, headers=exposed.http.headers, timeout=20) as http:
            while not stopping.is_set():
                id_ = new_id()
                answer = http.put(exposed.url("2.3.0", "sessions", id_), json=a_session("2.3.0", id_))
                if answer.status_code == 503:
                    time.sleep(0.1)
                else:
                    is_success(answer, 201)
                    acknowledged.append(id_)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        writing = [pool.submit(write) for _ in range(4)]
        for _ in range(2):
            time.sleep(0.5)
            own_broker.kill()
            own_broker.start()
            known = len(acknowledged)
            _until("writes are taken again", lambda known=known: len(acknowledged) > known + 20)
        stopping.set()
        for future in writing:
            future.result()
    kept = {event.key for _, event in events(exposed.api, "sessions")}
    assert {f"NL*TNM*{id_}" for id_ in acknowledged} <= kept
    for id_ in acknowledged[:: max(1, len(acknowledged) // 50)]:
        assert exposed.found("2.3.0", "sessions", id_) == a_session("2.3.0", id_)


def test_kill_9_after_2xx(api: Api, cpo: Partner, tmp_path: Path, new_id: NewId) -> None:
    """Whatever was acknowledged is in Kafka, and a new process on the same folder answers it."""
    mortal = Api(api.kafka, api.topics, tmp_path)
    acknowledged: dict[str, dict[str, Any]] = {}
    for _ in range(3):
        mortal.start()
        partner = cpo.at(mortal)
        enough = threading.Event()

        def write(partner: Partner = partner, enough: threading.Event = enough) -> None:
            with web(base_url=mortal.url, headers=partner.http.headers, timeout=20) as http:
                while True:
                    id_ = new_id()
                    session = a_session("2.2.1", id_, kwh=len(acknowledged))
                    try:
                        answer = http.put(partner.url("2.2.1", "sessions", id_), json=session)
                    except httpx.HTTPError:
                        return
                    is_success(answer, 201)
                    acknowledged[id_] = session
                    if len(acknowledged) % 200 > 150:
                        enough.set()

        with concurrent.futures.ThreadPoolExecutor() as pool:
            writing = [pool.submit(write) for _ in range(4)]
            assert enough.wait(60)
            mortal.kill()
            for future in writing:
                future.result()
    kept = {event.key for _, event in events(api, "sessions")}
    assert {f"NL*TNM*{id_}" for id_ in acknowledged} <= kept
    mortal.start()
    partner = cpo.at(mortal)
    for id_, session in acknowledged.items():
        assert partner.found("2.2.1", "sessions", id_) == session
    assert mortal.stop() == 0


def test_what_one_process_acknowledged_another_answers(
    api: Api, cpo: Partner, tmp_path: Path, new_id: NewId
) -> None:
    """A GET right after the 2xx, through another process: this very version, every time."""
    second = Api(api.kafka, api.topics, tmp_path).start()
    try:
        there, ids = cpo.at(second), [new_id() for _ in range(5)]
        for id_ in ids:
            is_success(cpo.put("2.3.0", "sessions", a_session("2.3.0", id_), id_), 201)
        for number in range(40):
            writer, reader = (cpo, there) if number % 2 else (there, cpo)
            id_ = ids[number % 5]
            patch = {"kwh": number, "last_updated": f"2024-01-01T00:{number:02}:00Z"}
            is_success(writer.patch("2.3.0", "sessions", patch, id_))
            assert reader.found("2.3.0", "sessions", id_) == {**a_session("2.3.0", id_), **patch}
        for _ in range(10):
            id_ = new_id()
            tariff, cdr = a_tariff("2.2.1", id_), a_cdr("2.2.1", id_)
            is_success(cpo.put("2.2.1", "tariffs", tariff, id_), 201)
            is_success(there.http.delete(there.url("2.2.1", "tariffs", id_)))
            is_refusal(cpo.get("2.2.1", "tariffs", id_), 404, 2000)
            answer = cpo.http.post("/ocpi/2.2.1/receiver/cdrs", json=cdr)
            is_success(answer, 201)
            path = answer.headers["location"].removeprefix(api.url)
            assert there.http.get(path).json()["data"] == cdr
            is_success(there.http.post("/ocpi/2.2.1/receiver/cdrs", json=cdr), 200)
        newcomer = add(api, "FR", "NEW", "CPO")
        is_success(newcomer.at(second).http.get("/ocpi/versions"))
    finally:
        second.kill()


def test_one_cdr_posted_by_many_at_once(cpo: Partner, new_id: NewId, api: Api) -> None:
    """One of them creates it; it is one event."""
    id_ = new_id()
    cdr = a_cdr("2.3.0", id_)

    def post(_: int) -> httpx.Response:
        headers = authorization(cpo.token)
        with web(headers=headers, timeout=20) as http:
            return http.post(f"{api.url}/ocpi/2.3.0/receiver/cdrs", json=cdr)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(post, range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [201]
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert len(events_of(api, "sessions", f"NL*TNM*#CDR:{id_}")) == 1


def test_a_view_of_another_log_is_built_again(api: Api, cpo: Partner, tmp_path: Path, new_id: NewId) -> None:
    """Another prefix on the same folder answers nothing of what was known."""
    id_ = new_id()
    first = Api(api.kafka, api.topics, tmp_path).start()
    partner = cpo.at(first)
    is_success(partner.put("2.3.0", "sessions", a_session("2.3.0", id_), id_), 201)
    assert partner.found("2.3.0", "sessions", id_)
    assert first.stop() == 0
    topics = Topics(f"t-{uuid.uuid4().hex[:10]}", partitions=3)
    asyncio.run(create_topics(api.kafka, topics.all()))
    second = Api(api.kafka, topics, tmp_path).start()
    try:
        stranger = add(second, "NL", "TNM", "CPO")
        is_refusal(stranger.get("2.3.0", "sessions", id_), 404, 2000)
        is_refusal(partner.at(second).get("2.3.0", "sessions", id_), 401, 2000)
    finally:
        second.kill()


def test_requests_in_flight_are_finished(api: Api, cpo: Partner, tmp_path: Path, new_id: NewId) -> None:
    """SIGTERM in the middle of many requests: each is answered or was never taken, and it ends with 0."""
    leaving = Api(api.kafka, api.topics, tmp_path).start()
    partner = cpo.at(leaving)
    acknowledged, broken = [], []

    def write() -> None:
        with web(base_url=leaving.url, headers=partner.http.headers, timeout=20) as http:
            while True:
                id_ = new_id()
                url = partner.url("2.3.0", "sessions", id_)
                try:
                    is_success(http.put(url, json=a_session("2.3.0", id_)), 201)
                    acknowledged.append(id_)
                except httpx.ConnectError:
                    return
                except httpx.HTTPError:
                    broken.append(id_)
                    return

    with concurrent.futures.ThreadPoolExecutor() as pool:
        writing = [pool.submit(write) for _ in range(4)]
        _until("it is busy", lambda: len(acknowledged) > 50)
        assert leaving.stop() == 0
        for future in writing:
            future.result()
    kept = {event.key for _, event in events(api, "sessions")}
    assert {f"NL*TNM*{id_}" for id_ in acknowledged} <= kept
    assert not {f"NL*TNM*{id_}" for id_ in broken} & kept, "taken, but not answered"


# Several processes on one port


def test_it_asks_for_patience_before_it_holds_too_much(
    api: Api, cpo: Partner, tmp_path: Path, new_id: NewId
) -> None:
    """More requests, or bytes of bodies, than an API process may hold are answered 503, with Retry-After."""
    settings = {"VOLTFOLD_MAX_IN_FLIGHT": "2", "VOLTFOLD_MAX_IN_FLIGHT_BYTES": "5000"}
    own = Api(api.kafka, api.topics, tmp_path, settings=settings).start()
    partner, id_ = cpo.at(own), new_id()
    url = partner.url("2.3.0", "sessions", id_)
    session = a_session("2.3.0", id_)

    def begun(length: int) -> socket.socket:
        """A request whose body has not come yet."""
        held = socket.create_connection(("127.0.0.1", own.port))
        lines = [f"PUT {url} HTTP/1.1", "Host: x", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in authorization(partner.token).items()]
        held.sendall("\r\n".join([*lines, f"Content-Length: {length}", "", "{"]).encode())
        return held

    def is_refused(held: int, what: str) -> None:
        _until("they are under way", lambda: _in_flight(own) == held)
        answer = partner.put("2.3.0", "sessions", session, id_)
        is_refusal(answer, 503, 3000, what)
        assert int(answer.headers["Retry-After"]) > 0

    try:
        assert partner.put("2.3.0", "sessions", session, id_).status_code == 201
        waiting = [begun(2000), begun(2000)]
        is_refused(2, "too many requests in flight")
        waiting.pop().close()
        waiting.pop().close()
        _until("those that went away hold nothing", lambda: _in_flight(own) == 0)
        assert partner.put("2.3.0", "sessions", session, id_).status_code == 200
        waiting = [begun(4900)]
        is_refused(1, "too many bytes in flight")
        waiting.pop().close()
    finally:
        own.kill()


def _in_flight(api: Api) -> float:
    """How many requests a process says that it works on."""
    with web() as http:
        metrics = http.get(f"{api.url}/metrics").text
    (line,) = (line for line in metrics.splitlines() if line.startswith("voltfold_api_requests_in_flight"))
    return float(line.split()[-1])


def test_several_processes_share_a_port(api: Api, cpo: Partner, tmp_path: Path, new_id: NewId) -> None:
    """Connections are spread among them; each has a health check of its own; one that dies is not missed."""
    settings, port = {"VOLTFOLD_API_WORKERS": "3"}, free_port()
    taken = {port}
    crew = [
        Api(api.kafka, api.topics, tmp_path, port, settings, number, free_port(None, taken))
        for number in range(3)
    ]
    try:
        for one in crew:
            one.start()
        partner, id_ = cpo.at(crew[0]), new_id()
        for number in range(25):
            session = a_session("2.3.0", id_, kwh=number)
            headers = authorization(partner.token)
            url = crew[0].url + partner.url("2.3.0", "sessions", id_)
            with web(headers=headers) as http:
                assert http.put(url, json=session).status_code in (200, 201)
            with web(headers=headers) as http:
                assert http.get(url).json()["data"] == session
        served = [_requests(one) for one in crew]
        assert sum(served) == 50
        assert min(served) > 0
        crew[1].kill()
        for _ in range(20):
            with web(headers=headers) as http:
                is_success(http.get(url))
        assert not crew[1].healthy()
        crew[1].start()
    finally:
        for one in crew:
            one.kill()


def _requests(api: Api) -> float:
    """How many requests of sessions a process says that it answered."""
    with web() as http:
        metrics = http.get(f"http://127.0.0.1:{api.own_port}/metrics").text
    lines = [line for line in metrics.splitlines() if line.startswith("voltfold_api_requests_total")]
    return sum(float(line.split()[-1]) for line in lines if 'module="sessions"' in line)


def test_a_port_that_is_taken(api: Api, tmp_path: Path) -> None:
    """A lone API does not share its port with a stranger."""
    second = Api(api.kafka, api.topics, tmp_path, api.port)
    second.start(ready=False)
    assert second.process is not None
    assert second.process.wait(30) != 0
    assert "in use" in second.log.read_text()


async def test_the_family_starts_several(tmp_path: Path) -> None:
    """`--api-workers 2`: api and api-1, one URL; one that is killed comes back."""
    settings = Settings(data=tmp_path, api_workers=2)
    async with Family(settings, only=("broker", "api")) as family:
        assert {"broker", "api", "api-1"} == set(family.pids)
        old = family.pids["api-1"]
        os.kill(old, signal.SIGKILL)
        async with httpx.AsyncClient(timeout=10) as http:
            for _ in range(10):
                assert (await http.get(f"{family.api}/health")).status_code == 200
        deadline = time.monotonic() + 30
        while family.pids.get("api-1") in (None, old) or not await family.children["api-1"].role.healthy():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


# Partners


def _voltfold(api: Api, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {"VOLTFOLD_KAFKA": api.kafka, "VOLTFOLD_TOPIC_PREFIX": api.topics.prefix, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "voltfold", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
        cwd=ROOT,
        check=False,
    )


def test_partner_add(api: Api) -> None:
    """The token is printed once and works at once; the log has its hash alone."""
    added = _voltfold(api, "partner", "add", "--country", "se", "--party", "abc", "--role", "cpo", "--json")
    assert added.returncode == 0, added.stderr
    found = json.loads(added.stdout)
    assert (found["country_code"], found["party_id"]) == ("SE", "ABC")
    token = found["token"]
    partner = Partner(api, "SE", "ABC", token)
    is_success(
        partner.put("2.3.0", "tariffs", a_tariff("2.3.0", "1", country_code="SE", party_id="ABC"), "1"), 201
    )
    mine = [event for key, event in events(api, "parties") if key.startswith("se-abc-")]
    assert len(mine) == 1
    assert token.encode() not in mine[0].body
    assert token.encode()[:16] not in mine[0].body
    roles = json.loads(mine[0].body)["roles"]
    assert roles == [{"role": "CPO", "country_code": "SE", "party_id": "ABC"}]

    second = _voltfold(api, "partner", "add", "--country", "SE", "--party", "ABC", "--role", "EMSP")
    assert second.returncode == 0
    assert token not in second.stdout + second.stderr
    is_success(partner.http.get("/ocpi/versions"))
    listed = _voltfold(api, "partner", "list", "--json")
    entries = [one for one in json.loads(listed.stdout) if one["party_id"] == "ABC"]
    assert [one["roles"] for one in entries] == [["CPO"], ["EMSP"]]
    assert token not in listed.stdout


@pytest.mark.parametrize(
    ("country", "party", "role", "named"),
    [("NLD", "TNM", "CPO", "country"), ("NL", "TNMX", "CPO", "party"), ("NL", "TNM", "BOSS", "role")],
)
def test_partner_add_with_bad_arguments(country: str, party: str, role: str, named: str, api: Api) -> None:
    """A plain line that names the option, exit code 2, and no event."""
    before = len(events(api, "parties"))
    added = _voltfold(api, "partner", "add", "--country", country, "--party", party, "--role", role)
    assert added.returncode == 2
    assert added.stdout == ""
    assert added.stderr.startswith(f"voltfold: {named}: ")
    assert len(events(api, "parties")) == before


def test_requests_have_their_turn_while_the_view_catches_up(broker: str, tmp_path: Path) -> None:
    """A process that starts on a long log answers health checks from its first records to its last."""
    topics = Topics(f"t-{uuid.uuid4().hex[:10]}", partitions=3)
    total = 20_000

    async def write() -> None:
        await create_topics(broker, topics.all())
        async with AIOKafkaProducer(
            bootstrap_servers=broker, linger_ms=5, max_batch_size=1 << 18
        ) as producer:
            for number in range(total):
                name = f"S{number}"
                body = json.dumps(a_session("2.3.0", name)).encode()
                event = Event(
                    id=number.to_bytes(16, "big"), received_at=number, sender="NL*TNM", version="2.3.0",
                    module="sessions", method="PUT", key=f"NL*TNM*{name}", path=["NL", "TNM", name],
                    request_id=None, correlation_id=None, body=body,
                )  # fmt: skip
                await producer.send(topics.sessions.name, event.encode(), event.key.encode())
            await producer.flush()

    asyncio.run(write())
    api = Api(broker, topics, tmp_path).start(ready=False)
    seen: set[int] = set()
    try:
        deadline = time.monotonic() + 120
        with web(base_url=api.url, timeout=60) as http:
            while time.monotonic() < deadline:
                try:
                    answer = http.get("/health")
                except httpx.TransportError:
                    continue  # it does not listen yet
                if answer.status_code == 200:
                    break
                if "view_lag" in answer.json():
                    seen.add(answer.json()["view_lag"])
            assert answer.json() == {"status": "ok", "view_lag": 0}
    finally:
        api.kill()
    assert len([lag for lag in seen if 0 < lag < total]) >= 10, sorted(seen)
