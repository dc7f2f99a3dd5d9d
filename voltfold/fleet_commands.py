"""`voltfold fleet list|statement`: what vehicle operators pay, vehicle by vehicle and site by site."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from clickhouse_connect.driver.client import Client

    from streams.invoicing.fleet import FleetStatement, Sum

DataOption = Annotated[Path | None, typer.Option("--data", help="Data folder of a family.", file_okay=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

fleet_app = typer.Typer(help="Fleets: tokens that share a group_id.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(fleet_app, name="fleet")


@fleet_app.command("list")
def fleet_list(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show every fleet: its provider, its group, its tokens."""
    from analytics.queries import run

    found = _ask(data, lambda client: run(client, "fleets"))
    if as_json:
        typer.echo(json.dumps(found))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("provider", "group", "tokens", "valid", "contracts")
    for one in found:
        provider = f"{one['country_code']}*{one['party_id']}"
        counts = (str(one[name]) for name in ("tokens", "valid_tokens", "contracts"))
        table.add_row(provider, escape(one["group_id"]), *counts)
    Console().print(table)


@fleet_app.command("statement")
def fleet_statement(
    group: Annotated[str, typer.Argument(help="The group_id that the fleet's tokens share.")],
    since: Annotated[str, typer.Option("--from", help="First day, or moment: 2026-03-01.")],
    until: Annotated[
        str, typer.Option("--to", help="First day, or moment, that counts no more: 2026-04-01.")
    ],
    provider: Annotated[
        str, typer.Option(help="Provider of the tokens, such as 'DE*EMS', if several have the group.")
    ] = "",
    timezone: Annotated[str, typer.Option("--timezone", help="IANA time zone of those days.")] = "UTC",
    form: Annotated[str, typer.Option("--format", help="table, csv, json or html.")] = "table",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write.")] = None,
    data: DataOption = None,
) -> None:
    """What a fleet's vehicles cost, by vehicle and by site, taxes apart."""
    from analytics.queries import run
    from streams.invoicing import fleet
    from voltfold.cli import fail

    writers = {"csv": fleet.to_csv, "json": fleet.to_json, "html": fleet.to_html}
    if form not in ("table", *writers):
        fail(f"--format: {form!r} is none of table, {', '.join(writers)}", 2)
    zone = _zone(timezone)
    period = {"since": _moment("--from", since, zone), "until": _moment("--to", until, zone)}
    wanted = {"group_id": group, "provider": provider, **period}

    def ask(client: Client) -> FleetStatement:
        costs, taxes = (run(client, name, **wanted) for name in ("fleet_costs", "fleet_taxes"))
        told = provider.upper() or ", ".join(sorted({one["provider"] for one in costs}))
        return fleet.statement_of(group, told, period["since"], period["until"], costs, taxes)

    found = _ask(data, ask)
    if form == "table":
        _show(found)
        return
    content = writers[form](found)
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        output.write_bytes(content)


def _ask(data: Path | None, question: Callable[[Client], Any]) -> Any:
    """What ClickHouse answers; that it does not answer is told in a line."""
    from clickhouse_connect.driver.exceptions import ClickHouseError
    from urllib3.exceptions import HTTPError

    from analytics.connection import connect
    from voltfold.cli import _of_running, fail

    settings = _of_running(data)
    try:
        with connect(str(settings.clickhouse), settings.clickhouse_database) as client:
            return question(client)
    except (ClickHouseError, HTTPError, OSError) as error:
        fail(f"ClickHouse at {settings.clickhouse} does not answer: {error}")


def _zone(name: str) -> ZoneInfo:
    from voltfold.cli import fail

    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        fail(f"--timezone: {name!r} is no time zone such as Europe/Amsterdam", 2)


def _moment(option: str, text: str, zone: ZoneInfo) -> datetime:
    from voltfold.cli import fail

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option}: {text!r} is no day like 2026-03-01", 2)
    return found if found.tzinfo else found.replace(tzinfo=zone)


def _show(found: FleetStatement) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from streams.invoicing.figures import money, plain, rate

    console = Console(width=None if sys.stdout.isatty() else 140)
    period = f"{found.since:%Y-%m-%d %H:%M %Z} until {found.until:%Y-%m-%d %H:%M %Z}"
    console.print(f"[bold]{escape(found.group_id)}[/]  {escape(found.provider)}  {period}", highlight=False)

    def table(title: str, sums: list[Sum]) -> None:
        shown = Table(title, "", "sessions", "kWh", "net", "taxes", "total", "")
        for column in shown.columns[2:7]:
            column.justify = "right"
        for one in sums:
            amounts = (money(amount, one.currency) for amount in (one.before_taxes, one.taxes, one.amount))
            names = (escape(one.label), escape(one.detail))
            shown.add_row(*names, str(one.sessions), plain(one.kwh, 3), *amounts, one.currency)
        console.print(shown)

    table("vehicle", found.vehicles)
    table("site", found.sites)
    for total in found.totals:
        taxes = ", ".join(
            f"{tax.name or 'tax'} {rate(tax.percentage)} {money(tax.amount, total.currency)}"
            for tax in total.taxes
        )
        console.print(
            f"{total.sessions} sessions, {plain(total.kwh, 3)} kWh: "
            f"{money(total.before_taxes, total.currency)} without taxes, {escape(taxes) or 'no taxes'}, "
            f"[bold]{money(total.amount, total.currency)} {total.currency}[/]",
            highlight=False,
        )
