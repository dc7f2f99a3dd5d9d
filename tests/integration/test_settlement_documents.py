"""From claims to a paid invoice: a real worker, sink and engine, driven by the commands."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from lxml import etree, html
from typer.testing import CliRunner

from analytics.migrations import migrate
from analytics.sink import SinkConfig
from schemas.topics import Topics
from streams.banking.references import structured
from streams.worker import Worker, WorkerConfig
from tests.analytics_helpers import running
from tests.unit.banking.files import booked, document, transaction
from tests.unit.streams.books import claim, credit, key_of, policy
from voltfold.cli import app
from voltfold.latest import records_of

MARCH, APRIL = "NLTNM-DEEMS-EUR-202603", "NLTNM-DEEMS-EUR-202604"


class Commands:
    """The command line, told where the servers are."""

    def __init__(self) -> None:
        self.runner = CliRunner()

    async def run(self, *arguments: str, code: int = 0) -> str:
        """What a command prints, on standard error when it fails."""
        found = await asyncio.to_thread(self.runner.invoke, app, list(arguments))
        assert found.exit_code == code, f"{arguments}: {found.output} {found.exception!r}"
        return found.output if code else found.stdout

    async def json(self, *arguments: str) -> Any:
        """The same, of one that answers JSON."""
        return json.loads(await self.run(*arguments, "--json"))


@pytest.fixture
async def commands(
    broker: str, engine: str, database: str, topics: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Commands]:
    """Commands beside a worker and a sink of this test's own."""
    migrate(engine, database)
    for name, value in (
        ("KAFKA", broker),
        ("CLICKHOUSE", engine),
        ("CLICKHOUSE_DATABASE", database),
        ("TOPIC_PREFIX", topics.prefix),
        ("PARTITIONS", "3"),
    ):
        monkeypatch.setenv(f"VOLTFOLD_{name}", value)
    # Worker and sink live in this process, too: their log stays where it is.
    monkeypatch.setattr("voltfold.logs.configure", lambda *_: None)
    worker = asyncio.create_task(Worker(WorkerConfig(broker, topics, tmp_path / "worker")).run())
    async with running(SinkConfig(broker, engine, database, topics)):
        yield Commands()
    worker.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await worker


async def test_from_claims_to_paid(commands: Commands, broker: str, topics: Topics, tmp_path: Path) -> None:
    """A month is closed, leaves as documents, and is paid, in part, in full, and too much."""
    bills = [claim(f"C{number}", f"{number}.345") for number in range(1, 6)]
    async with AIOKafkaProducer(bootstrap_servers=broker) as producer:
        for one in (
            policy(time_zone="Europe/Amsterdam"),
            *bills,
            credit(bills[0]),
            claim("A1", "7", on="2026-04-09T10:00"),
        ):
            await producer.send_and_wait(topics.ledger.name, one.encode(), key_of(one))
    async with asyncio.timeout(90):
        while sum(one["entries"] for one in (await commands.json("settlement", "list"))["open"]) < 7:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    for reference in (MARCH, APRIL):
        await commands.run("settlement", "close", reference)

    # A document without the parties' details is what it can be; an invoice says what it lacks.
    told = await commands.run("settlement", "statement", MARCH, "--format", "xml", code=2)
    assert "voltfold party set 'NL*TNM' --name" in told
    seller = ("--name", "Operator", "--country", "nl", "--vat-id", "NL123456789B01", "--city", "Delft")
    assert (await commands.json("party", "set", "NL*TNM", *seller, "--iban", "NL91 ABNA 0417 1643 00"))[
        "changed"
    ]
    assert not (await commands.json("party", "set", "nl-tnm", "--city", "Delft"))["changed"]
    await commands.run("party", "set", "DE*EMS", "--name", "Provider", "--country", "DE")
    assert "iban" in await commands.run("party", "set", "DE*EMS", "--iban", "DE00", code=2)
    assert [one["name"] for one in await commands.json("party", "list")] == ["Provider", "Operator"]
    assert (await commands.json("party", "show", "NL*TNM"))["iban"] == "NL91ABNA0417164300"

    documents = {}
    for form in ("csv", "json", "html", "xml"):
        for number in range(2):
            file = tmp_path / f"{number}.{form}"
            await commands.run("settlement", "statement", MARCH, "--format", form, "--output", str(file))
            assert documents.setdefault(form, file.read_bytes()) == file.read_bytes()
    statement = json.loads(documents["json"])
    assert statement["total"] == "18.61"  # 2.345 + 3.345 + 4.345 + 5.345 and 21 %
    assert "Delft" in html.fromstring(documents["html"]).text_content()
    assert documents["csv"].count(b"\r\n") == 7
    invoice = etree.fromstring(documents["xml"])
    assert invoice.findtext(".//{*}DuePayableAmount") == "18.61"
    assert invoice.findtext(".//{*}PaymentReference") == structured(MARCH)
    assert MARCH in await commands.run("settlement", "statement", MARCH)

    # The bank tells of payments twice: in a notification, and in the day's statement with two more.
    first = booked("10.00", transaction("10.00", text=f"part of {MARCH.lower()}"))
    batch = booked(
        "37.61",
        transaction("8.61", structured=structured(MARCH), reference="T1"),
        transaction("9.00", text=APRIL, reference="T2"),
        transaction("20.00", text="for charging", reference="T3"),
        reference="B2",
    )
    lost = booked("1.00", transaction("1.00", text="NLTNM-DEEMS-EUR-202512"), reference="B3")
    notified, stated = tmp_path / "54.xml", tmp_path / "53.xml"
    notified.write_bytes(document([first], "camt.054.001.04"))
    stated.write_bytes(document([first, batch, lost], account="NL91ABNA0417164300"))
    (found,) = await commands.json("settlement", "import-bank", str(notified))
    assert (found["new"], found["state"], found["statement"]) == (True, "partial", MARCH)
    await _until(commands, 1)
    found = await commands.json("settlement", "import-bank", str(stated))
    assert [(one["new"], one["state"]) for one in found] == [
        (False, "partial"),
        (True, "paid"),
        (True, "excess"),
        (True, "unknown"),
        (True, "unknown_statement"),
    ]
    await _until(commands, 5)
    before = [record async for record in records_of(broker, topics.ledger)]
    assert not any(one["new"] for one in await commands.json("settlement", "import-bank", str(stated)))
    assert len([record async for record in records_of(broker, topics.ledger)]) == len(before)

    listed = await commands.json("settlement", "payments")
    states = {one["reference"]: (one["state"], one["outstanding"]) for one in listed["statements"]}
    assert {name: state for name, (state, _) in states.items()} == {MARCH: "paid", APRIL: "excess"}
    (nobody,) = [one for one in listed["payments"] if one["state"] == "unknown"]
    assert nobody["text"].endswith("for charging")
    assigned = await commands.json(
        "settlement", "assign-payment", nobody["id"][:9], MARCH, "--why", "they wrote to us"
    )
    assert assigned["statement"] == MARCH
    await _until(commands, 6)
    listed = await commands.json("settlement", "payments")
    assert [one["state"] for one in listed["payments"] if one["id"] == nobody["id"]] == ["assigned"]
    assert {one["reference"]: one["state"] for one in listed["statements"]} == {
        MARCH: "excess",
        APRIL: "excess",
    }
    shown = await commands.run("settlement", "payments")
    assert MARCH in shown

    wrong = tmp_path / "wrong.xml"
    wrong.write_bytes(b"<Document/>")
    assert "neither" in await commands.run("settlement", "import-bank", str(wrong), code=2)
    again = tmp_path / "again.xml"
    await commands.run("settlement", "statement", MARCH, "--format", "xml", "--output", str(again))
    assert again.read_bytes() == documents["xml"]


async def _until(commands: Commands, count: int) -> None:
    """Wait until the ledger has taken in so many payments."""
    async with asyncio.timeout(60):
        while len((await commands.json("settlement", "payments"))["payments"]) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
