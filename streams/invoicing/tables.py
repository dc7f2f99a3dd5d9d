"""A statement for programs: CSV, a row for each line; JSON, all of it. Amounts are exact decimals."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import Any

import msgspec

from schemas.settlement import Line, Statement
from streams.invoicing.figures import money, plain, taxes_of, utc

COLUMNS = (
    *("reference", "creditor", "debtor", "line", "kind", "late", "entry_id", "cdr_id", "session_id"),
    *("started_at", "ended_at", "kwh", "location_id", "token_uid", "contract_id", "currency"),
    *("before_taxes", "taxes", "amount", "taxes_by_name"),
)
"""The columns of the CSV, in their order."""


def to_csv(statement: Statement) -> bytes:
    """The lines as CSV (RFC 4180), with a header row, in UTF-8.

    An identifier that a spreadsheet would take for a formula has an apostrophe before it.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for number, line in enumerate(statement.lines, 1):
        writer.writerow(
            (
                *(statement.reference, statement.creditor, statement.debtor, number, line.kind),
                "yes" if line.late else "no",
                *map(safe, (line.entry_id, line.cdr_id, line.session_id or "")),
                *(utc(line.started_at), utc(line.ended_at), plain(line.kwh)),
                *map(safe, (line.location_id, line.token_uid, line.contract_id)),
                statement.currency,
                money(line.before_taxes, statement.currency),
                money(line.amount - line.before_taxes, statement.currency),
                money(line.amount, statement.currency),
                safe(taxes_of(line)),
            )
        )
    return text.getvalue().encode()


def safe(text: str) -> str:
    """The text so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def to_json(statement: Statement) -> bytes:
    """The whole statement as JSON: amounts and energy as exact decimal strings, times as ISO 8601 in UTC."""
    return msgspec.json.format(msgspec.json.encode(document(statement)), indent=2) + b"\n"


def document(statement: Statement) -> dict[str, Any]:
    """The statement as plain dictionaries, as in its JSON."""
    found = {name: _told(name, getattr(statement, name), statement.currency) for name in _HEAD}
    found["taxes"] = [
        {name: _told(name, getattr(tax, name), statement.currency) for name in tax.__struct_fields__}
        for tax in statement.taxes
    ]
    found["lines"] = [_line(line, statement.currency) for line in statement.lines]
    return found


def _line(line: Line, currency: str) -> dict[str, Any]:
    found = {name: _told(name, getattr(line, name), currency) for name in line.__struct_fields__}
    found["taxes"] = [
        {name: _told(name, getattr(tax, name), currency) for name in tax.__struct_fields__}
        for tax in line.taxes
    ]
    return found


_HEAD = [name for name in Statement.__struct_fields__ if name not in ("taxes", "lines")]
_TIMES = frozenset({"period_start", "period_end", "closed_at", "started_at", "ended_at"})
_NUMBERS = frozenset({"kwh", "percentage"})


def _told(name: str, value: Any, currency: str) -> Any:
    if name in _TIMES and value is not None:
        return utc(value)
    if isinstance(value, Decimal):
        return plain(value) if name in _NUMBERS else money(value, currency)
    return value
