"""Fleets: what vehicles cost, from the ledger's entries and the tokens' groups, on the real engine."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from lxml import html
from typer.testing import CliRunner

from analytics.container import layouts
from analytics.migrations import migrate
from analytics.queries import run
from schemas.codec import HEADER
from schemas.records import EntryRecord, Event, Record
from streams.invoicing.fleet import FleetStatement, statement_of, to_csv, to_html, to_json
from tests.integration.test_analytics_tokens import said
from tests.unit.invoicing.statements import at, entry
from voltfold.cli import app

SINCE, UNTIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
PERIOD = {"since": SINCE, "until": UNTIL}


def posted(number: int, before: str, percentage: str | None = "21", **changes: Any) -> EntryRecord:
    """An entry of a claim of its own."""
    fields = {"claim": f"NL*TNM*C{number}", "token_uid": "A", "contract_id": "DE-A", **changes}
    return entry(number, before, percentage, **fields)


ENTRIES = [
    posted(1, "10.00"),
    posted(2, "5.00", "9", token_uid="b", contract_id="DE-B", location_id="=LOC2"),
    # billed wrongly, credited, billed again
    posted(3, "40.00"),
    posted(4, "-40.00", kind="credit", credit_of="NL*TNM*C3"),
    posted(5, "4.444444444"),
    # posted, taken back, posted otherwise
    posted(6, "3.00"),
    posted(7, "-3.00", kind="correction", claim="NL*TNM*C6", reverses="NL*TNM*C6#1"),
    posted(8, "2.00", kind="correction", claim="NL*TNM*C6"),
    # posted, and taken back for good
    posted(9, "9.00"),
    posted(10, "-9.00", kind="correction", claim="NL*TNM*C9", reverses="NL*TNM*C9#1"),
    posted(11, "70.00", "25", currency="DKK", creditor="DK*OPR"),
    # none of its own: another time, another fleet, another provider, a fee, a payment
    posted(20, "1.00", ended_at=at("2026-04-01T00:00:00")),
    posted(21, "1.00", token_uid="F"),
    posted(22, "1.00", debtor="FR*EMS"),
    posted(23, "0.10", kind="fee", creditor="NL*VLF"),
    posted(24, "-0.10", kind="correction", creditor="NL*VLF", claim="NL*TNM*C23"),
    posted(25, "0", None, kind="payment", amount=Decimal(-5)),
]
TOKENS = [
    said("A", group_id="Fleet", visual_number="V-1"),
    said("B", group_id="FLEET"),
    said("F", group_id="other"),
]


def insert(client: Client, table: str, records: list[Any]) -> None:
    """Put records into a table, as the sink does."""
    values = [record.encode() for record in records]
    layout = layouts(type(records[0]).codec.name)[values[0][:HEADER]]
    client.raw_insert(table, layout.columns, layout.pack(enumerate(values, 1)), fmt="Avro")


@pytest.fixture
def tables(clickhouse: Client, engine: str, database: str) -> Client:
    """A client on tables with a fleet."""
    migrate(engine, database)
    entries: list[Record] = [*ENTRIES]
    tokens: list[Event] = [*TOKENS]
    insert(clickhouse, "ledger_entry_versions", entries)
    insert(clickhouse, "token_event_versions", tokens)
    return clickhouse


def told(client: Client, group: str = "fleet", provider: str = "") -> FleetStatement:
    """The statement of a fleet."""
    wanted = {"group_id": group, "provider": provider, **PERIOD}
    costs, taxes = (run(client, name, **wanted) for name in ("fleet_costs", "fleet_taxes"))
    return statement_of(group, provider, SINCE, UNTIL, costs, taxes)


def test_what_a_fleet_costs(
    tables: Client, engine: str, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Vehicle by vehicle, site by site, taxes apart; in every format; by the command."""
    found = told(tables)
    shown = [
        (one.label, one.currency, one.sessions, one.kwh, one.before_taxes, one.taxes)
        for one in found.vehicles
    ]
    kwh = Decimal("12.345")
    assert shown == [
        ("V-1", "DKK", 1, kwh, 70, Decimal("17.5")),
        ("DE-B", "EUR", 1, kwh, 5, Decimal("0.45")),
        ("V-1", "EUR", 3, 3 * kwh, Decimal("16.444444444"), Decimal("3.453333333")),
    ]
    assert [(one.label, one.detail, one.sessions) for one in found.sites] == [
        ("LOC1", "DK*OPR", 1),
        ("=LOC2", "NL*TNM", 1),
        ("LOC1", "NL*TNM", 3),
    ]
    euros = found.totals[1]
    assert (euros.currency, euros.sessions, euros.before_taxes) == ("EUR", 4, Decimal("21.44"))
    assert [(tax.percentage, tax.base, tax.amount) for tax in euros.taxes] == [
        (9, Decimal("5.00"), Decimal("0.45")),
        (21, Decimal("16.44"), Decimal("3.45")),
    ]
    assert euros.amount == Decimal("25.34")
    assert told(tables, provider="de*ems").totals == found.totals
    assert told(tables, provider="FR*EMS").totals == []
    assert told(tables, group="").costs == []

    rows = list(csv.DictReader(io.StringIO(to_csv(found).decode(), newline="")))
    assert len(rows) == 3
    assert rows[1]["location_id"] == "'=LOC2" or rows[2]["location_id"] == "'=LOC2"
    assert sum(Decimal(row["amount"]) for row in rows if row["currency"] == "EUR") == sum(
        one.amount for one in found.vehicles if one.currency == "EUR"
    )
    plain = json.loads(to_json(found))
    assert plain["totals"][1]["amount"] == "25.34"
    assert plain["since"] == "2026-03-01T00:00:00Z"
    page = html.fromstring(to_html(found))
    assert "25.34\xa0EUR" in page.text_content()
    assert not page.xpath("//script | //@src | //@href")

    monkeypatch.setenv("VOLTFOLD_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("VOLTFOLD_CLICKHOUSE", engine)
    monkeypatch.setenv("VOLTFOLD_CLICKHOUSE_DATABASE", database)
    period = ["--from", "2026-03-01", "--to", "2026-04-01"]
    runner = CliRunner()
    listed = runner.invoke(app, ["fleet", "list", "--json"])
    assert [(one["group_id"].upper(), one["tokens"]) for one in json.loads(listed.stdout)] == [
        ("FLEET", 2),
        ("OTHER", 1),
    ]
    table = runner.invoke(app, ["fleet", "statement", "Fleet", *period])
    assert table.exit_code == 0
    assert "25.34 EUR" in table.stdout
    file = tmp_path / "fleet.json"
    written = runner.invoke(
        app, ["fleet", "statement", "fleet", *period, "--format", "json", "-o", str(file)]
    )
    assert written.exit_code == 0
    assert json.loads(file.read_text())["vehicles"] == plain["vehicles"]
    for wrong in (["--format", "xml"], ["--timezone", "Nowhere"], ["--from", "March"]):
        assert runner.invoke(app, ["fleet", "statement", "fleet", *period, *wrong]).exit_code == 2
