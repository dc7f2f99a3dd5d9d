"""The ledger as records again: what ClickHouse has of entries, statements and policies."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

import msgspec
from clickhouse_connect.driver.client import Client

from schemas.records import EntryRecord, LegRecord, Record, TaxRecord, micros
from schemas.settlement import PolicyRecord, StatementRecord, TaxTotal

R = TypeVar("R", bound=Record)


class Open(NamedTuple):
    """A statement that has lines and is not closed."""

    reference: str
    creditor: str
    debtor: str
    currency: str
    entries: int
    amount: Decimal


def entries_of(client: Client, statement: str) -> list[EntryRecord]:
    """The entries on a statement, in the order of their numbers."""
    rows = _rows(client, EntryRecord, "ledger_entry_versions", "statement = {it:String}", it=statement)
    found = [
        EntryRecord(
            **row
            | {
                "legs": [LegRecord(**_struct(leg, "account", "amount")) for leg in row["legs"]],
                "taxes": [TaxRecord(**_struct(tax, "name", "percentage", "amount")) for tax in row["taxes"]],
            }
        )
        for row in rows
    ]
    return sorted(found, key=lambda entry: entry.sequence)


def closed_statements(client: Client, where: str = "1", **params: Any) -> list[StatementRecord]:
    """Closed statements, oldest first."""
    rows = _rows(client, StatementRecord, "statement_versions", where, **params)
    found = [
        StatementRecord(
            **row
            | {
                "taxes": [
                    TaxTotal(**_struct(tax, "name", "percentage", "base", "amount")) for tax in row["taxes"]
                ]
            }
        )
        for row in rows
    ]
    return sorted(found, key=lambda one: (one.period_start, one.reference))


def open_statements(client: Client) -> list[Open]:
    """Statements that have lines and are not closed, by reference."""
    rows = client.query(
        "SELECT statement, any(creditor), any(debtor), any(currency), count(), sum(amount)"
        " FROM settlement_entries WHERE statement NOT IN (SELECT reference FROM statements)"
        " GROUP BY statement ORDER BY statement"
    ).result_rows
    return [Open(*row) for row in rows]


def policy_at(client: Client, creditor: str, debtor: str, at: int) -> PolicyRecord | None:
    """The policy in force between two parties for services at a moment; None: as billed, by month, in UTC."""
    where = "creditor = {creditor:String} AND debtor = {debtor:String}"
    rows = _rows(client, PolicyRecord, "policy_versions", where, creditor=creditor, debtor=debtor)
    found = [PolicyRecord(**row | {"fees": []}) for row in rows]
    return max((one for one in found if one.since <= at), key=lambda one: one.since, default=None)


def _rows(client: Client, kind: type[R], table: str, where: str, **params: Any) -> Iterator[dict[str, Any]]:
    """Rows with the fields of a record, timestamps as microseconds."""
    names = [field.name for field in msgspec.structs.fields(kind)]
    found = client.query(
        f"SELECT {', '.join(names)} FROM {table} FINAL WHERE {where}",
        parameters=params,
        column_formats={"event_id": "bytes"},
    )
    for row in found.named_results():
        yield {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return micros(value.replace(tzinfo=UTC) if value.tzinfo is None else value)
    return value


def _struct(value: Any, *names: str) -> dict[str, Any]:
    """A named tuple of ClickHouse, which a client may give as a dictionary or as a tuple."""
    return dict(value) if isinstance(value, dict) else dict(zip(names, value, strict=True))
