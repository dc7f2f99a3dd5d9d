"""Payments, on the real engine: what needs looking after, with figures that can be worked out by hand."""

from __future__ import annotations

from decimal import Decimal

from clickhouse_connect.driver.client import Client

from analytics import queries
from analytics.container import layouts
from analytics.migrations import migrate
from schemas.codec import HEADER
from tests.unit.streams.test_payments import KEY, PaymentRecord, ad_hoc, bill, charged, confirmed, payments


def _insert(client: Client, *records: PaymentRecord) -> None:
    rows = [(version, record.encode()) for version, record in enumerate(records, 1)]
    layout = layouts("payment")[rows[0][1][:HEADER]]
    client.raw_insert("payment_versions", layout.columns, layout.pack(rows), fmt="Avro")


def _numbered(record: PaymentRecord, number: int) -> PaymentRecord:
    record.key = f"{record.key}-{number}"
    return record


def test_what_needs_looking_after(clickhouse: Client, engine: str, database: str) -> None:
    """The most money first; what is in order only when it is asked for; what never came, by its age."""
    migrate(engine, database)
    made = [
        [*charged(bill(12)), confirmed(12)],
        [*charged(bill(12)), confirmed(10, "PARTIAL_SUCCESS")],
        [*charged(bill(12)), confirmed(12, "FAILED")],
        [*charged(bill(12)), confirmed(70)],
        [confirmed(5)],
        charged(bill(12)),
        charged(ad_hoc()),
    ]
    _insert(clickhouse, *(_numbered(payments(*facts)[KEY], i) for i, facts in enumerate(made)))
    found = queries.run(clickhouse, "payments")
    assert [(row["key"][-1], row["state"], row["difference"]) for row in found] == [
        ("3", "exceeds_authorization", Decimal(58)),
        ("2", "failed", Decimal(-12)),
        ("5", "missing_capture", Decimal(-12)),
        ("4", "no_cdr", None),
        ("1", "partial", Decimal(-2)),
    ]
    assert found[0]["issues"] == ["exceeds_authorization", "overcaptured"]
    patient = queries.run(clickhouse, "payments", wait_hours=1e9, everything=1)
    states = {row["key"][-1]: row["state"] for row in patient}
    assert (len(states), states["0"], states["5"], states["6"]) == (
        *(7, "matched", "awaiting_capture", "charging"),
    )
    rows = clickhouse.query(
        "SELECT payment_key, status, amount FROM captures ORDER BY payment_key"
    ).result_rows
    assert [row[1:] for row in rows][:2] == [("SUCCESS", Decimal(12)), ("PARTIAL_SUCCESS", Decimal(10))]
    assert len(rows) == 5
