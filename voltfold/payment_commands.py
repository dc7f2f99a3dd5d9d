"""`voltfold payment list`: payments that somebody has to look after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

DataOption = Annotated[Path | None, typer.Option("--data", help="Data folder of a family.", file_okay=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

payment_app = typer.Typer(help="Payments of authorised sessions.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(payment_app, name="payment")


@payment_app.command("list")
def payment_list(
    everything: Annotated[bool, typer.Option("--all", help="Also what is in order or under way.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Hours after which a capture or CDR that did not come is missing.")
    ] = 72.0,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show captures that failed, are partial, too high, exceed what was reserved, or never came."""
    from clickhouse_connect.driver.exceptions import ClickHouseError
    from urllib3.exceptions import HTTPError

    from analytics.connection import connect
    from analytics.queries import run
    from voltfold.cli import _of_running, fail

    settings = _of_running(data)
    try:
        client = connect(str(settings.clickhouse), settings.clickhouse_database)
        found = run(client, "payments", everything=int(everything), wait_hours=wait, limit=1_000_000)
    except (ClickHouseError, HTTPError, OSError) as error:
        fail(f"ClickHouse at {settings.clickhouse} does not answer: {error}")
    if as_json:
        typer.echo(json.dumps(found, default=str))
    elif not found:
        typer.echo("None." if everything else "None: every payment is in order, or within its time.")
    else:
        _show(found)


def _state(row: dict[str, Any]) -> str:
    """Where it stands, and what else is wrong."""
    beside = [one for one in row["issues"] if one != row["state"]]
    return ", ".join([row["state"], *beside]).replace("_", " ")


def _show(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("payment", "kind", "state", "", "reserved", "due", "captured", "difference", "CDR")
    for row in found:
        amounts = [row[name] for name in ("preauthorized", "due", "captured", "difference")]
        table.add_row(
            row["key"],
            row["kind"],
            _state(row),
            row["currency"] or "",
            *("" if amount is None else f"{amount:.2f}" for amount in amounts),
            row["cdr_id"] or "",
        )
    Console().print(table)
