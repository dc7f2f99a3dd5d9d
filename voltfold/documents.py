"""A statement in the format that was asked for: a table for people, a file for everybody else."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.settlement import Statement
from schemas.topics import Topics

if TYPE_CHECKING:
    from streams.invoicing.parties import PartyDetails

FORMATS = ("table", "csv", "json", "html", "xml")
"""What a statement can be: a table in the terminal, its lines, all of it, a page to print, an e-invoice."""


def rendered(
    statement: Statement,
    form: str,
    seller: PartyDetails,
    buyer: PartyDetails,
    opposite: Statement | None = None,
) -> bytes:
    """The statement's bytes in any format but `table`; the same whenever they are made again.

    Raises ValueError when it cannot be an e-invoice, in words for people.
    """
    match form:
        case "csv":
            from streams.invoicing.tables import to_csv

            return to_csv(statement)
        case "json":
            from streams.invoicing.tables import to_json

            return to_json(statement)
        case "html":
            from streams.invoicing.page import to_html

            return to_html(statement, seller, buyer, opposite)
        case "xml":
            from streams.invoicing.cii import write

            return write(statement, seller, buyer)
        case other:
            raise ValueError(f"{other!r} is none of {', '.join(FORMATS)}")


async def deliver(
    kafka: str,
    topics: Topics,
    statement: Statement,
    form: str = "table",
    output: Path | None = None,
    opposite: Statement | None = None,
) -> None:
    """Print the statement, or write it to a file, with the parties' details as they were when it was closed.

    Raises ValueError for a format that is none, and for an e-invoice that cannot be made; OSError.
    """
    if form == "table":
        show(statement, opposite)
        return
    if form not in FORMATS:
        raise ValueError(f"{form!r} is none of {', '.join(FORMATS)}")
    from voltfold.details import read_directory

    directory = await read_directory(kafka, topics)
    seller = directory.at(statement.creditor, statement.closed_at)
    buyer = directory.at(statement.debtor, statement.closed_at)
    content = rendered(statement, form, seller, buyer, opposite)
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        output.write_bytes(content)


def show(statement: Statement, opposite: Statement | None = None) -> None:
    """Print the statement as tables: its lines, its taxes by rate, its account."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from streams.invoicing.figures import ITEMS, minute, money, period_of, plain, rate

    console = Console(width=None if sys.stdout.isatty() else 160)
    currency, zone = statement.currency, statement.time_zone
    closed = f"closed {minute(statement.closed_at, zone)}" if statement.closed_at is not None else "open"
    console.print(
        f"[bold]{statement.reference}[/]  {statement.debtor} owes {statement.creditor}  "
        f"{period_of(statement)} ({escape(zone)})  {closed}",
        highlight=False,
    )
    lines = Table("#", "ended", "what", "CDR", "location", "contract", "kWh", "net", "taxes", "total")
    for column in lines.columns[6:]:
        column.justify = "right"
    for number, line in enumerate(statement.lines, 1):
        what = f"{ITEMS.get(line.kind, line.kind)}{', late' if line.late else ''}"
        lines.add_row(
            *(str(number), minute(line.ended_at, zone), what, escape(line.cdr_id), escape(line.location_id)),
            *(
                escape(line.contract_id or line.token_uid),
                plain(line.kwh, 3),
                money(line.before_taxes, currency),
            ),
            *(money(line.amount - line.before_taxes, currency), money(line.amount, currency)),
        )
    console.print(lines)
    taxes = Table("tax", "rate", "base", "tax amount")
    for tax in statement.taxes:
        taxes.add_row(
            *(escape(tax.name), rate(tax.percentage), money(tax.base, currency), money(tax.amount, currency))
        )
    console.print(taxes)
    account = Table("account", currency, show_header=False)
    account.columns[1].justify = "right"
    rows: list[tuple[str, Decimal]] = [
        ("opening", statement.opening),
        ("services without taxes", statement.total_before_taxes),
        ("taxes", sum((tax.amount for tax in statement.taxes), Decimal(0))),
        ("payments", -statement.payments),
        ("closing", statement.closing),
        ("paid for it so far", statement.paid),
    ]
    if opposite is not None:
        rows += [("owed in return", opposite.closing), ("net", statement.closing - opposite.closing)]
    for what, amount in rows:
        account.add_row(what, f"{money(amount, currency)} {currency}")
    console.print(account)
