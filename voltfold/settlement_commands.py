"""`voltfold settlement ...` and `voltfold dispute ...`: policies, statements, closings, invoices, held
claims.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voltfold import bank_commands

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickhouse_connect.driver.client import Client

    from schemas.settlement import Fee
    from voltfold.settings import Settings

DataOption = Annotated[Path | None, typer.Option("--data", help="Data folder of a family.", file_okay=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, which stays in the log.")]
ReferenceArgument = Annotated[str, typer.Argument(help="Its reference, such as NLTNM-DEEMS-EUR-202603.")]
CreditorOption = Annotated[str | None, typer.Option(help="Only what this party is owed, such as 'NL*TNM'.")]
DebtorOption = Annotated[str | None, typer.Option(help="Only what this party owes.")]
ClaimArgument = Annotated[str, typer.Argument(help="Key of the CDR, such as 'NL*TNM*C1'.")]

settlement_app = typer.Typer(help="Who owes whom: policies, statements, payments.", no_args_is_help=True)
policy_app = typer.Typer(help="What is settled between two parties.", no_args_is_help=True)
settlement_app.add_typer(policy_app, name="policy")
dispute_app = typer.Typer(help="Claims that are held for somebody to look at.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    bank_commands.register(settlement_app)
    app.add_typer(settlement_app, name="settlement")
    app.add_typer(dispute_app, name="dispute")


# -- policies ------------------------------------------------------------------------------------------------


@policy_app.command("set")
def policy_set(
    creditor: Annotated[str, typer.Argument(help="Who bills, such as 'NL*TNM'.")],
    debtor: Annotated[str, typer.Argument(help="Who is billed, such as 'DE*EMS'.")],
    why: WhyOption,
    mode: Annotated[str, typer.Option(help="as_billed, as_priced or within_tolerance.")] = "as_billed",
    tolerance: Annotated[str, typer.Option(help="How far a bill may be off, in its currency.")] = "0",
    tolerance_percent: Annotated[str, typer.Option(help="And in percent of the price.")] = "0",
    period: Annotated[str, typer.Option(help="Of statements: day, week or month.")] = "month",
    time_zone: Annotated[str, typer.Option(help="The creditor's, such as Europe/Amsterdam.")] = "UTC",
    issue: Annotated[
        str, typer.Option(help="Invoices in OCPI of closed statements: none, direct, reverse.")
    ] = "none",
    fee: Annotated[
        list[str] | None,
        typer.Option(
            help="A hub's fee: 'EUR hub=NL*VLF payer=NL*TNM fixed=0.10 per_kwh=0.01 percent=2 tax=VAT:21'."
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="For services from this time on, such as 2026-04-01 (default: now).")
    ] = None,
    data: DataOption = None,
) -> None:
    """Say what is settled of what one party bills the other, from a moment on."""
    from schemas.settlement import Policy
    from voltfold import settlement
    from voltfold.cli import _run, _topics, fail

    try:
        policy = Policy(
            creditor=_party(creditor),
            debtor=_party(debtor),
            since=_moment(since) if since else time.time_ns() // 1000,
            mode=mode,
            tolerance_amount=_number(tolerance),
            tolerance_percent=_number(tolerance_percent),
            period=period,
            time_zone=time_zone,
            issue=issue,
            fees=[_fee(text) for text in fee or ()],
            why=why,
        )
    except ValueError as error:
        fail(str(error), 2)
    with _ledger(data) as (settings, client):
        _run(settlement.set_policy(str(settings.kafka), _topics(settings), client, policy))
    typer.echo(f"From {_shown_time(policy.since)} on, {policy.debtor} settles with {policy.creditor} {mode}.")


@policy_app.command("show")
def policy_show(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show every policy. Pairs without one settle as billed, by the month, in UTC."""
    with _ledger(data) as (_, client):
        rows = list(client.query("SELECT * FROM policies ORDER BY creditor, debtor, since").named_results())
    if as_json:
        _print(rows)
        return
    columns = ("creditor", "debtor", "since", "mode", "tolerance", "period", "zone", "issue", "fees", "why")
    table = _table(*columns)
    for row in rows:
        tolerance = f"{row['tolerance_amount']:.2f}, {row['tolerance_percent']:.2f} %"
        table.add_row(
            *(row["creditor"], row["debtor"], f"{row['since']:%Y-%m-%d %H:%M}", row["mode"]),
            tolerance if row["mode"] == "within_tolerance" else "",
            *(row["period"], row["time_zone"], row["issue"], str(len(row["fees"])), row["why"]),
        )
    _show(table)


# -- statements ----------------------------------------------------------------------------------------------


@settlement_app.command("list")
def statement_list(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show every statement: open ones with what is on them, closed ones with what was paid."""
    from voltfold import settlement

    with _ledger(data) as (_, client):
        still_open, closed = settlement.listed(client)
    if as_json:
        _print({"open": [one._asdict() for one in still_open], "closed": closed})
        return
    table = _table("statement", "total", "closing", "paid", "", "lines", "late")
    for row in closed:
        table.add_row(
            *(row["reference"], f"{row['total']:f}", f"{row['closing']:f}", f"{row['paid']:f}"),
            *(row["payment"], str(row["entries"]), str(row["late"])),
        )
    for one in still_open:
        table.add_row(one.reference, f"{one.amount:.2f}", "", "", "open", str(one.entries), "")
    _show(table)


@settlement_app.command("statement")
def statement_show(
    reference: ReferenceArgument,
    form: Annotated[
        str, typer.Option("--format", help="table, csv, json, html, or xml (an e-invoice).")
    ] = "table",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write (default: print).", dir_okay=False)
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a statement with its lines; a closed one is the same for ever, bit by bit."""
    from voltfold import documents, settlement
    from voltfold.cli import _run, _topics, fail

    with _ledger(data) as (settings, client):
        try:
            found, opposite = settlement.statement(client, reference)
            _run(
                documents.deliver(
                    *(str(settings.kafka), _topics(settings), found),
                    form="json" if as_json else form,
                    output=output,
                    opposite=opposite,
                )
            )
        except (LookupError, ValueError) as error:
            fail(str(error), 2)


@settlement_app.command("close")
def statement_close(
    reference: Annotated[
        str | None, typer.Argument(help="Which one; without it, all whose period has ended.")
    ] = None,
    period: Annotated[str | None, typer.Option(help="All of this period: 202603, 2026W11, 20260315.")] = None,
    creditor: CreditorOption = None,
    debtor: DebtorOption = None,
    why: WhyOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close statements: from then on they are as they are, and what comes late is on the next one.

    Closing one again changes nothing.
    """
    from voltfold import settlement
    from voltfold.cli import _run, _topics, fail

    with _ledger(data) as (settings, client):
        try:
            wanted = (
                [str(settlement.reference_named(reference))]
                if reference
                else settlement.to_close(client, period, creditor, debtor, time.time_ns() // 1000)
            )
            closed = [
                _run(settlement.close(str(settings.kafka), _topics(settings), client, one, why))
                for one in wanted
            ]
        except ValueError as error:
            fail(str(error), 2)
    if as_json:
        told = ("reference", "total", "closing", "currency", "entries", "late", "digest")
        _print([{name: getattr(one, name) for name in told} for one in closed])
        return
    for one in closed:
        owed = f"{one.total:f} {one.currency}, closing {one.closing:f}"
        typer.echo(f"{one.reference}: {one.entries} lines, {owed}")
    if not closed:
        typer.echo("Nothing to close.")


@settlement_app.command("net")
def net(
    party: Annotated[str | None, typer.Argument(help="Only pairs with this party.")] = None,
    other: Annotated[str | None, typer.Argument(help="And with this one.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who has to pay whom how much now, what is owed in return taken off."""
    from voltfold import settlement

    with _ledger(data) as (_, client):
        rows = settlement.net(client, party and party.upper(), other and other.upper())
    if as_json:
        _print(rows)
        return
    table = _table("pays", "to", "net", "currency", "owed forth and back")
    for row in rows:
        owed = ", ".join(f"{who} {amount:.2f}" for who, amount in row["owed"].items())
        table.add_row(row["debtor"], row["creditor"], f"{row['net']:.2f}", row["currency"], owed)
    _show(table)


@settlement_app.command("invoices")
def invoices(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show invoice reconciliation records against our books, CDR by CDR where they differ."""
    from voltfold import settlement

    with _ledger(data) as (_, client):
        rows = settlement.invoices(client)
    if as_json:
        _print(rows)
        return
    table = _table("invoice", "of", "to", "statement", "", "matched", "CDR", "what", "billed", "settled")
    for row in rows:
        head = [row["invoice_id"], row["owner"], row["counterparty"], row["statement"] or "", row["status"]]
        table.add_row(*head, str(row["matched"]))
        for one in row["differences"]:
            amounts = ["" if one[name] is None else f"{one[name]:f}" for name in ("billed", "settled")]
            table.add_row(*[""] * 6, one["cdr_id"], f"{one['outcome']}: {one['detail']}", *amounts)
    _show(table)


# -- held claims ---------------------------------------------------------------------------------------------


@dispute_app.command("list")
def dispute_list(
    creditor: CreditorOption = None,
    debtor: DebtorOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show claims that are held, oldest first, and why."""
    from voltfold import settlement

    with _ledger(data) as (_, client):
        rows = settlement.held(client, creditor, debtor)
    if as_json:
        _print(rows)
        return
    table = _table("claim", "debtor", "billed", "priced", "", "reason", "in words")
    for row in rows:
        priced = "" if row["priced_before_taxes"] is None else f"{row['priced_before_taxes']:.4f}"
        table.add_row(
            *(row["id"], row["debtor"], f"{row['billed_before_taxes']:.4f}", priced, row["currency"]),
            *(row["reason"], row["message"]),
        )
    _show(table)


@dispute_app.command("show")
def dispute_show(claim: ClaimArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show where a claim stands, and everything that was posted for it."""
    from voltfold import settlement
    from voltfold.cli import fail

    with _ledger(data) as (_, client):
        try:
            row = settlement.claim_named(client, claim)
        except LookupError as error:
            fail(str(error))
        entries = settlement.history(client, claim)
    if as_json:
        _print(row | {"history": entries})
        return
    about = _table("claim", row["id"], header=True)
    for name, value in row.items():
        if name != "id" and value not in (None, "", 0):
            about.add_row(name, f"{value:f}" if isinstance(value, Decimal) else str(value))
    _show(about)
    table = _table("entry", "kind", "amount", "", "statement", "late", "takes back")
    for one in entries:
        table.add_row(
            *(one["id"], one["kind"], f"{one['amount']:f}", one["currency"], one["statement"]),
            *("late" if one["late"] else "", one["reverses"] or ""),
        )
    _show(table)


@dispute_app.command("accept")
def dispute_accept(
    claim: ClaimArgument, why: WhyOption, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Settle a claim as it was billed."""
    _decide(claim, "accept", why, data, as_json=as_json)


@dispute_app.command("reject")
def dispute_reject(
    claim: ClaimArgument, why: WhyOption, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Do not settle a claim; what was posted for it is taken back."""
    _decide(claim, "reject", why, data, as_json=as_json)


def _decide(claim: str, verdict: str, why: str, data: Path | None, *, as_json: bool) -> None:
    from voltfold import settlement
    from voltfold.cli import _run, _topics, fail

    if not why.strip():
        fail("say --why", 2)
    with _ledger(data) as (settings, client):
        try:
            row = _run(
                settlement.decide(str(settings.kafka), _topics(settings), client, claim.upper(), verdict, why)
            )
        except LookupError as error:
            fail(str(error))
    if as_json:
        _print(row)
        return
    amount = f"{row['settled_after_taxes']:f} {row['currency']}"
    typer.echo(f"{row['id']} is {row['status']}: {amount} in the books")


# -- what they share -----------------------------------------------------------------------------------------


@contextmanager
def _ledger(data: Path | None) -> Iterator[tuple[Settings, Client]]:
    """The servers of a family; what ClickHouse refuses is told in a line."""
    from clickhouse_connect.driver.exceptions import ClickHouseError
    from urllib3.exceptions import HTTPError

    from analytics.connection import connect
    from voltfold.cli import _of_running, fail

    settings = _of_running(data)
    try:
        with connect(str(settings.clickhouse), settings.clickhouse_database) as client:
            yield settings, client
    except (ClickHouseError, HTTPError) as error:
        fail(f"ClickHouse at {settings.clickhouse}: {error}")


def _party(text: str) -> str:
    """`CC*PID`. Raises ValueError."""
    country, star, party = text.upper().partition("*")
    if not star or len(country) != 2 or not 1 <= len(party) <= 3:
        raise ValueError(f"{text!r} is no party, such as 'NL*TNM'")
    return f"{country}*{party}"


def _number(text: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite() or abs(found) >= 10**12:
        raise ValueError(f"{text!r} is no number")
    return found


def _moment(text: str) -> int:
    from schemas.records import micros

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time, such as 2026-04-01 or 2026-04-01T00:00:00Z") from None
    return micros(found.replace(tzinfo=UTC) if found.tzinfo is None else found)


def _fee(text: str) -> Fee:
    from schemas.settlement import Fee

    currency, *parts = text.split()
    told = dict(part.partition("=")[::2] for part in parts)
    known = {"hub", "payer", "fixed", "per_kwh", "percent", "tax"}
    if unknown := told.keys() - known:
        raise ValueError(f"fee: {', '.join(sorted(unknown))} is none of {', '.join(sorted(known))}")
    if missing := {"hub", "payer"} - told.keys():
        raise ValueError(f"fee: {', '.join(sorted(missing))} is missing")
    name, _, percentage = told.get("tax", "").partition(":")
    return Fee(
        currency=currency.upper(),
        party=_party(told["hub"]),
        payer=_party(told["payer"]),
        fixed=_number(told.get("fixed", "0")),
        per_kwh=_number(told.get("per_kwh", "0")),
        percent=_number(told.get("percent", "0")),
        tax_name=name,
        tax_percentage=_number(percentage or "0"),
    )


def _shown_time(micros: int) -> str:
    from schemas.records import moment

    return f"{moment(micros):%Y-%m-%d %H:%M} UTC"


def _print(value: Any) -> None:
    """One line of JSON; amounts are texts, so that no program rounds them."""
    typer.echo(json.dumps(value, default=str))


def _table(*columns: str, header: bool = True) -> Any:
    from rich.table import Table

    return Table(*columns, show_header=header)


def _show(table: Any) -> None:
    import sys

    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200).print(table, highlight=False)
