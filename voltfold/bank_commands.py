"""`voltfold settlement import-bank|payments|assign-payment`: what banks say was paid."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streams.banking.matching import Received, Standing
    from voltfold.bank import Imported

DataOption = Annotated[Path | None, typer.Option("--data", help="Data folder of a family.", file_okay=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
_COLOURS = {"paid": "green", "partial": "yellow", "unpaid": "yellow", "excess": "red", "assigned": "green"}


def register(settlement: typer.Typer) -> None:
    """Add the commands to the group."""
    settlement.command("import-bank")(import_bank)
    settlement.command("payments")(payments)
    settlement.command("assign-payment")(assign_payment)


def import_bank(
    file: Annotated[str, typer.Argument(help="camt.053 or camt.054 file; - is standard input.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in the payments of a bank statement. The same file again changes nothing."""
    import msgspec

    from streams.banking.camt import MAX_BYTES, CamtError
    from voltfold import bank
    from voltfold.cli import _of_running, _run, _topics, fail

    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        fail(f"{file}: {error.strerror}", 2)
    settings = _of_running(data)
    try:
        found = _run(bank.import_bank(str(settings.kafka), _topics(settings), content))
    except CamtError as error:
        fail(f"{file}: {error}", 2)
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    _show_imported(found)


def payments(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show what is paid, partly paid, paid too much, and payments that nobody can place."""
    import msgspec

    from voltfold import bank
    from voltfold.cli import _of_running, _run, _topics

    settings = _of_running(data)
    statements, received = _run(bank.payments(str(settings.kafka), _topics(settings)))
    if as_json:
        typer.echo(msgspec.json.encode({"statements": statements, "payments": received}).decode())
        return
    _show(statements, received)


def assign_payment(
    payment: Annotated[str, typer.Argument(help="Id of an unknown payment, or its beginning.")],
    statement: Annotated[str, typer.Argument(help="Reference of the statement that it is for.")],
    why: Annotated[str, typer.Option(help="How you know.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which statement a payment is for that named none."""
    import msgspec

    from voltfold import bank
    from voltfold.cli import _of_running, _run, _topics, fail

    settings = _of_running(data)
    try:
        receipt = _run(bank.assign(str(settings.kafka), _topics(settings), payment, statement, why))
    except ValueError as error:
        fail(str(error), 2)
    if as_json:
        typer.echo(msgspec.json.encode(receipt).decode())
    else:
        typer.echo(f"{receipt.amount} {receipt.currency} for {receipt.statement}")


def _show_imported(found: list[Imported]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("booked", "amount", "payer", "statement", "state", "")
    for one in found:
        known = "" if one.new else "known already"
        table.add_row(
            one.booked_on,
            f"{one.amount} {one.currency}",
            escape(one.payer or ""),
            one.statement or "",
            _coloured(one.state),
            escape(one.warning or known),
        )
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    new = sum(one.new for one in found)
    console.print(f"{new} new, {len(found) - new} known already", highlight=False)


def _show(statements: list[Standing], received: list[Received]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from streams.invoicing.figures import money

    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table("statement", "total", "paid", "outstanding", "state", "payments")
    for one in statements:
        amounts = (money(amount, one.currency) for amount in (one.total, one.paid, one.outstanding))
        table.add_row(one.reference, *amounts, _coloured(one.state), str(len(one.payments)))
    console.print(table)
    table = Table("payment", "received", "amount", "state", "statement", "text")
    for each in received:
        amount = f"{money(each.amount, each.currency)} {each.currency}"
        where = each.statement or (f"perhaps {each.fits[0]}" if each.fits else "")
        row = (_short(each.id), f"{each.received_on:%Y-%m-%d}", amount, _coloured(each.state), where)
        table.add_row(*row, escape(each.text))
    console.print(table)


def _short(receipt: str) -> str:
    """The beginning of a payment's id, and which part of it this is."""
    from streams.banking.matching import PART

    payment, _, part = receipt.partition(PART)
    return f"{payment[:12]}/{part}" if part else payment[:12]


def _coloured(state: str) -> str:
    return f"[{_COLOURS.get(state, 'red')}]{state.replace('_', ' ')}[/]"
