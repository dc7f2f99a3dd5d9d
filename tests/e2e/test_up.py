"""`voltfold up` as its users have it: one command, one line of JSON, and figures that survive every death.

The family is a process of its own, spoken to over HTTP as a partner, with an unchanged clickhouse-connect and
plain HTTP as an analyst, and by signals as an operator.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import httpx
import psutil
import pytest

from tests.integration.api_helpers import web
from voltfold.processes import die_with_parent

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "tests" / "data" / "ocpi-examples" / "2.3.0"
OWN = {"country_code": "NL", "party_id": "TNM"}
ROLES = {"broker", "analytics", "worker-0", "sink", "courier", "api"}
RESIDENT = 1.8e9
"""Bytes, all processes together, at rest."""

Json = dict[str, Any]


def voltfold(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "voltfold", *arguments],
        cwd=ROOT,
        env={**_clean(), **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("VOLTFOLD_")}


@dataclass
class Up:
    """A `voltfold up --json` on a folder."""

    folder: Path
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    said: Json = field(default_factory=dict)
    seconds: float = 0.0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Up:
        """Start it and wait for its line."""
        command = ["up", "--json", "--data", str(self.folder), *self.arguments]
        began = time.monotonic()
        # A working directory of its own: the family used last is remembered there.
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with (self.folder.parent / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "voltfold", *command],
                cwd=self.folder.parent,
                env={**_clean(), "PYTHONPATH": os.pathsep.join([*sys.path]), **self.environment},
                stdout=subprocess.PIPE,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.seconds = time.monotonic() - began
        assert line, (self.folder.parent / "up.log").read_text()[-4000:]
        self.said = json.loads(line)
        return self

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Signal it; its exit code."""
        assert self.process is not None
        self.process.send_signal(signum)
        return self.process.wait(60)

    @property
    def pids(self) -> dict[str, int]:
        """Who runs now, as run.json says."""
        found: dict[str, int] = json.loads((self.folder / "run.json").read_text())["pids"]
        return found

    def resident(self) -> int:
        """Bytes of memory of the supervisor and everything below it, shared pages counted each time."""
        assert self.process is not None
        whole = psutil.Process(self.process.pid)
        return sum(each.memory_info().rss for each in [whole, *whole.children(recursive=True)])

    def kill(self, name: str) -> None:
        """SIGKILL of one role."""
        os.kill(self.pids[name], signal.SIGKILL)

    def partner(self) -> httpx.Client:
        """An operator with a token, ready to speak."""
        added = voltfold(
            *("partner", "add", "--country", "NL", "--party", "TNM", "--role", "CPO", "--json"),
            *("--data", str(self.folder)),
        )
        assert added.returncode == 0, added.stderr
        token = json.loads(added.stdout)["token"]
        encoded = base64.b64encode(token.encode()).decode()
        return web(
            base_url=f"{self.said['api']}/ocpi/2.3.0/receiver",
            headers={"Authorization": f"Token {encoded}"},
            timeout=30,
        )

    def client(self) -> Any:
        """An unchanged clickhouse-connect."""
        url = urlsplit(self.said["clickhouse"])
        return clickhouse_connect.get_client(host=url.hostname, port=url.port, database="voltfold")

    def select(self, query: str) -> str:
        """The answer of ClickHouse's HTTP interface, as curl would get it."""
        with web(timeout=30) as http:
            answer = http.post(f"{self.said['clickhouse']}/?database=voltfold", content=query)
        return answer.raise_for_status().text.strip()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A family that this module's tests share. It is killed if no test has stopped it."""
    family = Up(tmp_path_factory.mktemp("up") / "data").start()
    yield family
    assert family.process is not None
    family.process.kill()
    family.process.wait()


@pytest.fixture(scope="module")
def partner(up: Up) -> Iterator[httpx.Client]:
    """An operator at the shared family's door."""
    with up.partner() as client:
        yield client


def _example(name: str, **changes: Any) -> Json:
    return {**json.loads((EXAMPLES / f"{name}.json").read_text()), **OWN, **changes}


def a_session(id_: str, **changes: Any) -> Json:
    """A session that has begun."""
    return _example("session_example_1_simple_start", **{"id": id_, "status": "ACTIVE", **changes})


def a_cdr(id_: str, session: str) -> Json:
    """The bill of a session."""
    cdr = _example("cdr_example", id=id_, session_id=session)
    cdr["tariffs"] = [{**tariff, "tax_included": "NO"} for tariff in cdr["tariffs"]]
    return cdr


def put(partner: httpx.Client, session: Json, seconds: float = 60) -> None:
    """PUT a session, again while nobody answers or the door asks for patience, as a partner does."""
    _insist(lambda: partner.put(f"/sessions/NL/TNM/{session['id']}", json=session), seconds)


def post(partner: httpx.Client, cdr: Json, seconds: float = 60) -> None:
    """POST a CDR in the same way."""
    _insist(lambda: partner.post("/cdrs", json=cdr), seconds)


def _insist(request: Callable[[], httpx.Response], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.TransportError):
            answer = request()
            if answer.is_success:
                return
            assert answer.status_code in (429, 503), answer.text
        assert time.monotonic() < deadline, "the door stayed shut"
        time.sleep(0.1)


def until(holds: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait until something holds; the seconds that took. Asked less and less often, since asking takes the
    processor from those who make it hold.
    """
    began, pause = time.monotonic(), 0.02
    while not holds():
        assert time.monotonic() - began < seconds, f"{what}: not within {seconds} s"
        time.sleep(pause)
        pause = min(0.1, 1.2 * pause)
    return time.monotonic() - began


def test_one_line_says_where_everything_is(up: Up) -> None:
    """URLs and pids are true, and the servers behind them answer."""
    assert set(up.said) == {"api", "clickhouse", "kafka", "pids"}
    assert set(up.said["pids"]) == ROLES
    assert all(psutil.pid_exists(pid) for pid in up.said["pids"].values())
    assert httpx.get(f"{up.said['api']}/health", trust_env=False).is_success
    assert up.select("SELECT 1") == "1"
    host, port = up.said["kafka"].split(":")
    assert (host, int(port) > 0) == ("127.0.0.1", True)


def test_the_folder_has_one_holder(up: Up) -> None:
    """A second `up` says who holds it, and changes nothing."""
    assert up.process is not None
    second = voltfold("up", "--json", "--data", str(up.folder))
    assert second.returncode == 1
    assert second.stdout == ""
    told = " ".join(second.stderr.split())
    assert "in use" in told
    assert f"process {up.process.pid}" in told
    assert up.pids == up.said["pids"]


def test_a_session_is_selectable_within_two_seconds(up: Up, partner: httpx.Client) -> None:
    """Of its 2xx: by an unchanged clickhouse-connect, and by plain HTTP."""
    put(partner, a_session("WARM"))
    until(lambda: up.select("SELECT count() FROM sessions WHERE session_id = 'WARM'") == "1", 30, "first row")
    with up.client() as client:
        for number in range(10):
            put(partner, a_session(f"FRESH{number}"))
            query = f"SELECT count() FROM sessions WHERE key = 'NL*TNM*FRESH{number}'"
            acknowledged = time.monotonic()
            if number % 2:
                until(lambda: up.select(query) == "1", 2, "by HTTP")  # noqa: B023 - called here and now
            else:
                until(lambda: client.query(query).result_rows == [(1,)], 2, "by client")  # noqa: B023
            assert time.monotonic() - acknowledged < 2


def test_sessions_that_seem_never_to_end_are_shown(up: Up, partner: httpx.Client) -> None:
    """As JSON for programs and as a table for people; one that was heard of is not among them."""
    put(partner, a_session("STALE"))
    query = "SELECT count() FROM sessions WHERE session_id = 'STALE'"
    until(lambda: up.select(query) == "1", 10, "the session")
    where = ("--data", str(up.folder))
    found = json.loads(voltfold("session", "stale", "--hours", "0", "--json", *where).stdout)
    assert "NL*TNM*STALE" in {row["key"] for row in found}
    assert "NL*TNM*STALE" in voltfold("session", "stale", "--hours", "0", *where).stdout
    assert "None" in voltfold("session", "stale", *where).stdout


def test_it_rests_within_its_memory(up: Up) -> None:
    """All processes together, pages that they share counted for each."""
    time.sleep(1)
    assert up.resident() < RESIDENT


@pytest.mark.timeout(600)
def test_deaths_change_no_figure(up: Up, partner: httpx.Client) -> None:
    """SIGKILL of the worker, the sink and the API while sessions and bills come in: each counts once."""
    before = _figures(up)
    for number in range(60):
        put(partner, a_session(f"K{number}", kwh=1.25))
        if number % 20 == 10:
            up.kill(["worker-0", "sink", "api"][number // 20])
        if number % 3 == 0:
            post(partner, a_cdr(f"C{number}", f"K{number}"))
        put(partner, a_session(f"K{number}", kwh=2.5, last_updated="2020-03-09T10:40:09Z"))
    wanted = (before[0] + 60, before[1] + 20, before[2] + 20)
    until(lambda: _figures(up) == wanted, 60, "figures")
    assert up.select("SELECT sum(kwh) FROM sessions WHERE session_id LIKE 'K%' AND cdr_id IS NULL") == "100"
    assert up.select("SELECT uniqExact(session_key) FROM cdrs WHERE cdr_id LIKE 'C%'") == "20"
    until(lambda: set(up.pids) == ROLES, 30, "all roles")
    assert up.pids["broker"] == up.said["pids"]["broker"]
    assert all(up.pids[name] != up.said["pids"][name] for name in ("worker-0", "sink", "api"))
    time.sleep(2)
    assert _figures(up) == wanted
    checked = voltfold("replay", "--check", "--json", "--data", str(up.folder))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert json.loads(checked.stdout)["differences"] == 0


def _figures(up: Up) -> tuple[int, int, int]:
    """Sessions, bills and settlement entries in ClickHouse."""
    tables = ("sessions", "cdrs", "settlement_entries")
    sessions, bills, entries = (int(up.select(f"SELECT count() FROM {table}")) for table in tables)
    return sessions, bills, entries


@pytest.mark.timeout(600)
def test_it_stops_without_a_trace_and_comes_back_with_its_data(up: Up) -> None:
    """SIGINT: exit 0, nobody left, no run.json. Started again: the same addresses, the same figures."""
    before, said = _figures(up), up.said
    below = psutil.Process(up.process.pid if up.process else 0).children(recursive=True)
    assert len(below) >= len(ROLES)
    assert up.stop(signal.SIGINT) == 0
    assert not any(each.is_running() for each in below)
    assert not (up.folder / "run.json").exists()
    _, before_start = _busy_seconds()
    up.start()
    ours, after_start = _busy_seconds(up)
    others = (after_start - before_start - ours) / (up.seconds * (os.cpu_count() or 1))
    assert {name: up.said[name] for name in ("api", "clickhouse", "kafka")} == {
        name: said[name] for name in ("api", "clickhouse", "kafka")
    }
    assert _figures(up) == before
    # What others on this machine take is no fault of the family's.
    assert up.seconds < (20 if others < 0.25 else 60), f"{others:.0%} of the processors were others'"
    assert up.stop() == 0


def _busy_seconds(up: Up | None = None) -> tuple[float, float]:
    """Processor time that a family has used, and all of this machine's, in seconds."""
    used = 0.0
    if up and up.process:
        whole = psutil.Process(up.process.pid)
        for each in [whole, *whole.children(recursive=True)]:
            times = each.cpu_times()
            used += times.user + times.system
    machine = psutil.cpu_times()
    return used, machine.user + machine.system + machine.nice


@pytest.mark.timeout(600)
def test_servers_of_ones_own(tmp_path: Path, broker: str, engine: str, prefix: str, database: str) -> None:
    """With VOLTFOLD_KAFKA and VOLTFOLD_CLICKHOUSE set, only our own processes are started; two workers."""
    environment = {
        "VOLTFOLD_KAFKA": broker,
        "VOLTFOLD_CLICKHOUSE": engine,
        "VOLTFOLD_TOPIC_PREFIX": prefix,
        "VOLTFOLD_PARTITIONS": "3",
        "VOLTFOLD_CLICKHOUSE_DATABASE": database,
    }
    up = Up(tmp_path / "data", ("--workers", "2"), environment).start()
    assert (up.said["kafka"], up.said["clickhouse"]) == (broker, engine)
    assert set(up.said["pids"]) == {"api", "worker-0", "worker-1", "sink", "courier"}
    assert up.stop() == 0
    assert not any(psutil.pid_exists(pid) for pid in up.said["pids"].values())
    assert httpx.get(f"{engine}/ping", trust_env=False).is_success


@pytest.mark.parametrize("role", ["api", "worker", "sink", "courier"])
def test_a_process_alone_says_what_it_lacks(role: str) -> None:
    """Without servers, each of our own processes ends with a line that names the setting."""
    ended = voltfold(role)
    assert ended.returncode == 1
    assert "VOLTFOLD_" in ended.stderr
    assert "Traceback" not in ended.stderr
