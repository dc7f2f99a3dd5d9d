"""The named queries, on the real engine, with figures that can be worked out by hand."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from analytics import queries
from analytics.container import layouts
from analytics.ledger import closed_statements, entries_of, open_statements, policy_at
from analytics.migrations import migrate
from schemas.codec import HEADER
from schemas.records import BillRecord, EntryRecord, Record, SessionRecord
from schemas.settlement import (
    Fee,
    PolicyRecord,
    ReceiptRecord,
    ReconciliationRecord,
    SettledRecord,
    StatementRecord,
)
from streams.ledger.statements import closed_statement
from tests.analytics_helpers import at, bill, entry, period, session
from tests.unit.streams import books as ledger

TABLES: dict[type[Record], str] = {
    SessionRecord: "session_versions",
    BillRecord: "bill_versions",
    EntryRecord: "ledger_entry_versions",
    SettledRecord: "claim_versions",
    StatementRecord: "statement_versions",
    ReceiptRecord: "receipt_versions",
    PolicyRecord: "policy_versions",
    ReconciliationRecord: "reconciliation_versions",
}


def insert(client: Client, *records: Record) -> None:
    """Put records into their tables, as the sink does, versions counted from 1."""
    batches: dict[type[Record], list[tuple[int, bytes]]] = defaultdict(list)
    for version, record in enumerate(records, 1):
        batches[type(record)].append((version, record.encode()))
    for kind, batch in batches.items():
        layout = layouts(kind.codec.name)[batch[0][1][:HEADER]]
        client.raw_insert(TABLES[kind], layout.columns, layout.pack(batch), fmt="Avro")


@pytest.fixture
def tables(clickhouse: Client, engine: str, database: str) -> Client:
    """A client on empty tables."""
    migrate(engine, database)
    return clickhouse


def test_every_query_runs_on_empty_tables(tables: Client) -> None:
    """With the defaults of every parameter; nothing is counted."""
    assert set(queries.names()) >= {"summary", "revenue", "who_owes_whom", "wrong_bills", "occupancy"}
    for name in queries.names():
        rows = queries.run(tables, name)
        assert (len(rows), name) == (1 if name == "summary" else 0, name)
    summary = queries.run(tables, "summary")[0]
    assert (summary["sessions"], summary["cdrs"], summary["kwh"]) == (0, 0, 0)


def test_unknown_names_and_parameters_are_refused(tables: Client) -> None:
    """With an error that says what there is; a time needs a zone, and a time zone has to exist."""
    with pytest.raises(LookupError, match="who_owes_whom"):
        queries.run(tables, "nonsense")
    with pytest.raises(TypeError, match="locaton"):
        queries.run(tables, "occupancy", locaton="x")
    with pytest.raises(ValueError, match="time zone"):
        queries.run(tables, "verdicts", since=datetime(2024, 1, 1))  # noqa: DTZ001
    insert(tables, session())
    with pytest.raises(DatabaseError, match="Mars"):
        queries.run(tables, "occupancy", time_zone="Mars/Olympus")
    assert queries.run(tables, "busiest_evses", location_id="' OR 1 = 1 --") == []


def test_summary_and_revenue(tables: Client) -> None:
    """Counts, energy, money by currency; INVALID sessions are there and not counted."""
    insert(tables, session(1), session(2, kwh=Decimal("7.25"), periods=[]), session(3, status="INVALID"))
    insert(tables, bill(1), bill(2, billed="9.68", priced="4.84"))
    chf = [changed_currency(leg, "2") for leg in entry(3, "12.10").legs]
    insert(tables, entry(1), entry(2, "9.68"), entry(3, "24.20", currency="CHF", legs=chf))
    summary = queries.run(tables, "summary")[0]
    assert (summary["sessions"], summary["counted_sessions"], summary["kwh"]) == (3, 2, Decimal("19.75"))
    assert (summary["cdrs"], summary["wrong_bills"], summary["settlement_entries"]) == (2, 1, 3)
    assert (summary["billed_kwh"], summary["occupied_seconds"]) == (Decimal(25), Decimal(15600))
    revenue = {row["currency"]: row for row in queries.run(tables, "revenue")}
    assert (revenue["EUR"]["amount"], revenue["EUR"]["taxes"]) == (Decimal("14.52"), Decimal("2.52"))
    assert (revenue["EUR"]["before_taxes"], revenue["EUR"]["settlement_entries"]) == (Decimal(12), 2)
    assert (revenue["CHF"]["amount"], revenue["CHF"]["balance"]) == (Decimal("24.20"), 0)


def changed_currency(leg: Any, factor: str) -> Any:
    """The leg, that many times."""
    leg.amount *= Decimal(factor)
    return leg


def test_who_owes_whom(tables: Client) -> None:
    """In both directions, with the net."""
    back = entry(3, "1.21", creditor="DE*EMP", debtor="NL*TNM")
    insert(tables, entry(1, "4.84"), entry(2, "2.42"), back)
    rows = [
        (r["debtor"], r["creditor"], r["amount"], r["net"], r["settlement_entries"])
        for r in queries.run(tables, "who_owes_whom")
    ]
    assert rows == [
        ("DE*EMP", "NL*TNM", Decimal("7.26"), Decimal("6.05"), 2),
        ("NL*TNM", "DE*EMP", Decimal("1.21"), Decimal("-6.05"), 1),
    ]


def test_wrong_bills_and_verdicts(tables: Client) -> None:
    """The largest difference first; right bills are not among them."""
    insert(
        tables, bill(1), bill(2, billed="6.05"), bill(3, priced="9.68"), bill(4, verdict="cannot_be_priced")
    )
    wrong = queries.run(tables, "wrong_bills")
    assert [(r["cdr_id"], r["verdict"], r["difference"]) for r in wrong] == [
        ("C3", "undercharged", Decimal("-4.84")),
        ("C2", "overcharged", Decimal("1.21")),
    ]
    assert wrong[0]["reason"]
    assert len(queries.run(tables, "wrong_bills", limit=1)) == 1
    assert queries.run(tables, "wrong_bills", since=datetime(2025, 1, 1, tzinfo=UTC)) == []
    verdicts = {r["verdict"]: (r["cdrs"], r["difference"]) for r in queries.run(tables, "verdicts")}
    assert verdicts["match"] == (1, 0)
    assert verdicts["undercharged"] == (1, Decimal("-4.84"))
    assert verdicts["cannot_be_priced"][0] == 1


def test_occupancy_by_the_clock_of_the_location(tables: Client) -> None:
    """Two Fridays in Amsterdam, before and after the clocks change: the same hour of the week."""
    for number, begin, end in (
        (1, "2024-03-29T08:00:00", "2024-03-29T09:00:00"),  # 09:00 local, UTC+1
        (2, "2024-04-05T07:00:00", "2024-04-05T07:30:00"),  # 09:00 local, UTC+2
    ):
        insert(tables, session(number, started_at=at(begin), ended_at=at(end), periods=[]))
    heat = {
        (row["weekday"], row["hour"]): row
        for row in queries.run(tables, "occupancy", time_zone="Europe/Amsterdam", location_id="LOC1")
    }
    busy = heat.pop((5, 9))
    assert (busy["hours"], busy["occupied_seconds"], busy["kwh"]) == (2, 5400, 25)
    assert busy["occupied_evses"] == 0.75
    assert len(heat) == 166  # the clocks went from 01:59 to 03:00 on Sunday
    assert (7, 2) not in heat
    assert not any(row["occupied_seconds"] for row in heat.values())
    in_utc = {(r["weekday"], r["hour"]): r["occupied_seconds"] for r in queries.run(tables, "occupancy")}
    assert (in_utc[5, 8], in_utc[5, 7]) == (3600, 1800)


def test_weeks_without_a_session_do_not_dilute_the_occupancy(tables: Client) -> None:
    """Two Mondays five weeks apart; in UTC, these hours are Sundays still."""
    for number, day in ((1, "2024-04-28"), (2, "2024-06-02")):
        begin, end = at(f"{day}T22:00:00"), at(f"{day}T23:00:00")
        insert(tables, session(number, started_at=begin, ended_at=end, periods=[]))
    rows = queries.run(tables, "occupancy", time_zone="Europe/Amsterdam")
    heat = {(row["weekday"], row["hour"]): row for row in rows}
    assert (heat[1, 0]["hours"], heat[1, 0]["occupied_evses"]) == (2, 1)
    assert sum(row["hours"] for row in rows) == 7 * 24 + 1


def test_sessions_that_seem_never_to_end(tables: Client) -> None:
    """Silent for longer than asked, neither ended nor billed; an update takes one off the list."""
    begun = at("2024-03-01T00:00:00")

    def running(number: int, heard: str, **changes: Any) -> Any:
        more = {"status": "ACTIVE", "ended_at": None, "cdr_id": None, "received_at": at(heard), **changes}
        return session(number, started_at=begun, **more)

    insert(
        tables,
        running(1, "2024-03-01T10:00:00"),
        running(2, "2024-03-03T09:59:00"),
        running(3, "2024-03-03T10:01:00"),
        running(4, "2024-03-01T10:00:00", cdr_id="C4"),
        running(5, "2024-03-01T10:00:00", status="COMPLETED"),
        running(6, "2024-03-01T10:00:00", ended_at=at("2024-03-01T09:00:00")),
        running(7, "2024-03-05T09:59:00", invalid_candidate=True),
    )
    concluded = queries.run(tables, "stale_sessions")
    assert [row["session_id"] for row in concluded] == ["S7"], "as the fold says, whatever the time is"
    asked = {"until": datetime(2024, 3, 5, 10, tzinfo=UTC), "silent_hours": 48}
    found = queries.run(tables, "stale_sessions", **asked)
    silent = {row["session_id"]: round(row["silent_hours"], 2) for row in found}
    assert list(silent.items()) == [("S1", 96), ("S2", 48.02)]
    assert len(queries.run(tables, "stale_sessions", **asked | {"silent_hours": 1})) == 3
    insert(tables, session(9), running(1, "2024-03-05T09:00:00"))  # version 2 of it
    assert [row["session_id"] for row in queries.run(tables, "stale_sessions", **asked)] == ["S2"]


def test_busiest_and_idle(tables: Client) -> None:
    """By occupied time; idle is what was occupied and did not charge."""
    insert(
        tables,
        session(1),
        session(
            2,
            evse_uid="EVSE2",
            started_at=at("2024-03-02T00:00:00"),
            ended_at=at("2024-03-02T05:00:00"),
            periods=[period(at("2024-03-02T00:00:00"), at("2024-03-02T05:00:00"), "12.5")],
        ),
    )
    busiest = queries.run(tables, "busiest_evses")
    assert [(r["evse_uid"], r["charging_hours"]) for r in busiest] == [
        ("EVSE2", 5),
        ("EVSE1", Decimal("1.666666")),
    ]
    idle = queries.run(tables, "idle_share", location_id="LOC1")
    assert [(r["evses"], r["kwh"], round(r["idle_share"], 6)) for r in idle] == [
        (2, 25, round(1800 / 25800, 6))
    ]


# -- the ledger ----------------------------------------------------------------------------------------------

MARCH, APRIL = "NLTNM-DEEMS-EUR-202603", "NLTNM-DEEMS-EUR-202604"


def insert_books(client: Client, books: ledger.Books) -> None:
    """Put what a ledger fold concluded into its tables."""
    topics = books.topics
    for topic, kind in (
        (topics.settlement_entries, EntryRecord),
        (topics.settled_claims, SettledRecord),
        (topics.statements, StatementRecord),
        (topics.receipts, ReceiptRecord),
        (topics.policies, PolicyRecord),
        (topics.reconciliations, ReconciliationRecord),
    ):
        found = [value for (name, _), value in books.latest.items() if name == topic.name and value]
        insert(client, *(kind.decode(value) for value in found))


@pytest.fixture
def march(tables: Client) -> ledger.Books:
    """Books of two months: held, credited, late and paid, with fees, in two currencies."""
    fee = Fee(currency="EUR", party=ledger.HUB, payer=ledger.CPO, fixed=Decimal("0.1"))
    wrong = ledger.claim("C3", "12.345", priced="9")
    books = ledger.Books().hear(
        ledger.policy("within_tolerance", fees=[fee]),
        *(ledger.claim("C1", "10.004"), ledger.claim("C2", "5", on="2026-04-02T10:00"), wrong),
        *(ledger.claim("C4", "7", currency="CHF"), ledger.close(MARCH), ledger.claim("C5", "1")),
        *(ledger.decide(wrong.id, "accept"), ledger.credit(ledger.claim("C1", "10.004"))),
        ledger.paid("P1", "5", MARCH, on="2026-04-10"),
        *(ledger.close(APRIL), ledger.invoice(["C1", "C9"])),
    )
    insert_books(tables, books)
    return books


def test_the_books_balance(tables: Client, march: ledger.Books) -> None:
    """Every invariant holds, and the accounts are those of the fold."""
    rows = queries.run(tables, "books_balance")
    assert [row["currency"] for row in rows] == ["CHF", "EUR"]
    assert sum(row["entries"] for row in rows) == len(march.entries)
    for row in rows:
        assert not any(value for name, value in row.items() if name not in ("currency", "entries")), row
    accounts = tables.query("SELECT account, currency, balance FROM accounts WHERE balance != 0").result_rows
    assert {(account, currency): balance for account, currency, balance in accounts} == march.accounts


@pytest.mark.parametrize(
    ("check", "where", "changes"),
    [
        ("unbalanced", "kind = 'credit'", "legs = arraySlice(legs, 1, 2)"),
        ("misnumbered", "kind = 'credit'", "sequence = sequence + 100"),
        ("misnumbered", "kind = 'credit'", "sequence = sequence - 1"),
        ("posted_twice", "cdr_id = 'C5' AND kind = 'cdr'", "claim = 'NL*TNM*C2'"),
        ("over_credited", "kind = 'credit'", "amount = amount - 1"),
        ("misstated", "cdr_id = 'C1' AND kind = 'cdr'", "amount = amount + 1"),
    ],
)
def test_every_breach_is_seen(
    tables: Client, march: ledger.Books, check: str, where: str, changes: str
) -> None:
    """One forged row, and its invariant tells."""
    assert march.entries
    tables.command(
        f"ALTER TABLE ledger_entry_versions UPDATE {changes} WHERE {where} SETTINGS mutations_sync = 2"
    )
    assert sum(row[check] for row in queries.run(tables, "books_balance")) > 0


def test_statements_claims_and_invoices(tables: Client, march: ledger.Books) -> None:
    """As the views tell them."""
    assert tables.query(
        "SELECT reference, total, paid, payment, late FROM statements ORDER BY reference"
    ).result_rows == [
        (MARCH, march.statements[MARCH].total, 5, "partial", 0),
        (APRIL, march.statements[APRIL].total, 0, "unpaid", 3),
    ]
    assert (
        tables.query("SELECT name, percentage, base FROM statement_taxes WHERE reference = 'x'").row_count
        == 0
    )
    assert tables.query(
        "SELECT id, status, reason, settled_after_taxes FROM claims WHERE reason != '' ORDER BY id"
    ).result_rows == [("NL*TNM*C3", "posted", "accepted", Decimal("14.93745"))]
    assert tables.query(
        "SELECT cdr_id, outcome FROM reconciliation_differences ORDER BY cdr_id"
    ).result_rows == [("C9", "extra")]
    assert tables.query("SELECT outcome, amount FROM receipts").result_rows == [("matched", 5)]
    assert tables.query("SELECT mode, length(fees) FROM policies").result_rows == [("within_tolerance", 1)]


def test_a_statement_is_made_again_from_its_rows(tables: Client, march: ledger.Books) -> None:
    """With the digest that it was closed with; an open one has the lines that it has so far."""
    for record in closed_statements(tables):
        assert record == march.statements[record.reference]
        again = closed_statement(record, entries_of(tables, record.reference))
        assert again == closed_statement(record, march.entries)
    held_open = {one.reference: one.entries for one in open_statements(tables)}
    assert held_open == {
        name: sum(one.statement == name for one in march.entries)
        for name in {one.statement for one in march.entries} - march.statements.keys()
    }
    policy = policy_at(tables, ledger.CPO, ledger.EMSP, ledger.at("2026-03-01"))
    assert policy is not None
    assert policy.mode == "within_tolerance"
    assert policy_at(tables, ledger.CPO, ledger.EMSP, ledger.at("2019-03-01")) is None
