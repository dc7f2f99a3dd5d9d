"""Each of our processes alone, as a container runs it: it tells how it is, and leaves when it is asked to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from analytics.migrations import migrate
from schemas.topics import Topics
from tests.integration.api_helpers import web
from voltfold.processes import die_with_parent

ROOT = Path(__file__).parent.parent.parent
STOPS_WITHIN = 10.0


@pytest.mark.parametrize(
    ("role", "signum", "said"),
    [
        ("api", signal.SIGTERM, "voltfold_api_view_lag_records"),
        ("worker", signal.SIGTERM, "voltfold_worker_partitions"),
        ("worker", signal.SIGINT, "voltfold_worker_lag_records"),
        ("sink", signal.SIGTERM, "voltfold_sink_lag_records"),
        ("courier", signal.SIGTERM, "voltfold_courier_delivery_seconds"),
        ("sink", signal.SIGINT, "voltfold_sink_freshness_seconds"),
    ],
)
def test_it_tells_how_it_is_and_stops_when_asked(
    role: str,
    signum: signal.Signals,
    said: str,
    broker: str,
    engine: str,
    topics: Topics,
    database: str,
    tmp_path: Path,
    free_port: Callable[[], int],
) -> None:
    """/health becomes 200, /metrics has its figures; on a signal it ends with 0, in time."""
    if role == "sink":
        migrate(engine, database)
    port = free_port()
    environment = {
        "VOLTFOLD_KAFKA": broker,
        "VOLTFOLD_CLICKHOUSE": engine,
        "VOLTFOLD_CLICKHOUSE_DATABASE": database,
        "VOLTFOLD_TOPIC_PREFIX": topics.prefix,
        "VOLTFOLD_PARTITIONS": str(topics.partitions),
        "VOLTFOLD_DATA": str(tmp_path),
        "VOLTFOLD_API_PORT" if role == "api" else "VOLTFOLD_HEALTH_PORT": str(port),
    }
    log = tmp_path / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "voltfold", role],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env={**os.environ, **environment},
            preexec_fn=die_with_parent,
        )
    try:
        deadline = time.monotonic() + 60
        while not _is_well(port):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)
        with web() as http:
            assert said in http.get(f"http://127.0.0.1:{port}/metrics").text
            assert http.get(f"http://127.0.0.1:{port}/nothing").status_code == 404
        process.send_signal(signum)
        assert process.wait(STOPS_WITHIN) == 0, log.read_text()[-3000:]
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def _is_well(port: int) -> bool:
    try:
        with web(timeout=5) as http:
            return http.get(f"http://127.0.0.1:{port}/health").is_success
    except httpx.HTTPError:
        return False
