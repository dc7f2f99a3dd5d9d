"""docs/ocpi.md is true: its commands are run as they stand, and answer what it says that they answer."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from schemas.records import QuarantineRecord
from tests.integration.api_helpers import ROOT, Api, Partner, is_success

TEXT = (ROOT / "docs" / "ocpi.md").read_text("utf-8")


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("bash"), reason="needs bash and curl")
def test_an_afternoon(api: Api) -> None:
    """From the partner's token to the bill, by bash and curl."""
    first, *blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "VOLTFOLD_KAFKA": api.kafka,
        "VOLTFOLD_TOPIC_PREFIX": api.topics.prefix,
        "VOLTFOLD_URL": api.url,
    }
    voltfold = f'voltfold() {{ "{sys.executable}" -m voltfold "$@"; }}\n'
    added = json.loads(_bash(voltfold + first, env))
    assert {**added, "token": "..."} == json.loads(_quoted(r'`(\{"country_code.*?\})`'))
    script = "".join(blocks).replace("curl -sS", "echo; curl -sS")
    lines = _bash(script, {**env, "OCPI_TOKEN": added["token"]}).splitlines()
    answers = [json.loads(line) for line in lines if line.startswith("{")]
    assert len(answers) == "".join(blocks).count("curl ")
    *good, bad = answers
    assert [answer["status_code"] for answer in good] == [1000] * len(good)
    said = json.loads(_quoted(r"^`(\{.*2001.*)`$").replace(",...", ""))
    assert {name: bad[name] for name in said} == said
    session = next(answer["data"] for answer in good if "kwh" in (answer.get("data") or {}))
    assert (session["kwh"], len(session["charging_periods"])) == (10, 1)
    (location,) = [line.partition(": ")[2] for line in lines if line.lower().startswith("location:")]
    assert location.endswith(_quoted(r"`Location: \.\.\.(.*?)`"))
    partner = Partner(api, "NL", "TNM", added["token"])
    is_success(partner.http.get(location))
    assert partner.found("2.3.0", "locations", "LOC1", "E1")["status"] == "CHARGING"


def _bash(script: str, env: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euc", script], env=env, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _quoted(pattern: str) -> str:
    found = re.search(pattern, TEXT, re.MULTILINE)
    assert found, pattern
    return found[1]


def test_what_it_is_served_with(api: Api) -> None:
    """The OpenAPI document and its page, without a token; figures for Prometheus."""
    assert httpx.get(f"{api.url}/openapi.json").json()["info"]["title"] == "Voltfold"
    assert "/openapi.json" in httpx.get(f"{api.url}/docs").text
    assert "voltfold_api_requests_total" in httpx.get(f"{api.url}/metrics").text
    assert httpx.get(f"{api.url}/health").json() == {"status": "ok", "view_lag": 0}


def test_what_transactions_leave_is_no_lag(api: Api) -> None:
    """A fact topic that ends with a transaction's control record: there is nothing left to read."""

    async def write() -> None:
        topic = api.topics.ledger
        left = QuarantineRecord(
            topic=topic.name, partition=0, offset=0, reason="none", message="", received_at=None, value=b""
        )
        async with (
            AIOKafkaProducer(bootstrap_servers=api.kafka, transactional_id=topic.name) as producer,
            producer.transaction(),
        ):
            await producer.send_and_wait(topic.name, left.encode(), b"NL*TNM", partition=0)

    @retry(
        retry=retry_if_exception_type(AssertionError), stop=stop_after_delay(20), wait=wait_fixed(0.1),
        reraise=True,
    )  # fmt: skip
    def nothing_is_left() -> None:
        assert httpx.get(f"{api.url}/health").json() == {"status": "ok", "view_lag": 0}

    asyncio.run(write())
    nothing_is_left()
