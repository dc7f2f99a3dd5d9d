"""The command line. Each command imports what it needs when it runs, so that `--help` is there at once."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from voltfold import party_commands, pricing_commands
from voltfold.processes import follow_parent

if TYPE_CHECKING:
    from voltfold.settings import Settings

app = typer.Typer(
    help="Event-sourced processor for electric-vehicle charging sessions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

DataOption = Annotated[Path | None, typer.Option("--data", help="Data folder of a family.", file_okay=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="End with one line of JSON on stdout.")]
PortOption = Annotated[int | None, typer.Option(min=1, max=65_535, help="Port (default: a free one).")]
CountOption = Annotated[int | None, typer.Option(min=1, help="How many (default: 1).")]

partner_app = typer.Typer(help="Partners: who may speak OCPI to us.", no_args_is_help=True)
app.add_typer(partner_app, name="partner")
session_app = typer.Typer(help="Sessions.", no_args_is_help=True)
app.add_typer(session_app, name="session")
pricing_commands.register(app)
party_commands.register(app)


def main() -> None:
    """Entry point: a failure that is the user's to mend is told in one line, without a traceback."""
    follow_parent()
    app()


def fail(message: str, code: int = 1) -> NoReturn:
    """Say what is wrong on standard error, and exit."""
    typer.secho(f"voltfold: {message}", err=True, fg="red" if sys.stderr.isatty() else None)
    raise typer.Exit(code)


def load(**changes: object) -> Settings:
    """The settings from the environment with some of the command's own; a bad value ends the command."""
    from pydantic import ValidationError

    from voltfold import logs
    from voltfold.settings import Settings

    try:
        settings = Settings().but(**changes)
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            typer.echo(f"voltfold: VOLTFOLD_{name}: {problem['msg']} (got {problem['input']!r})", err=True)
        raise typer.Exit(2) from None
    logs.configure(settings.log, settings.log_level)
    return settings


# -- the family ----------------------------------------------------------------------------------------------


@app.command()
def up(
    data: DataOption = None,
    as_json: JsonOption = False,
    workers: CountOption = None,
    api_workers: CountOption = None,
    api_port: PortOption = None,
    kafka_port: PortOption = None,
    clickhouse_port: PortOption = None,
) -> None:
    """Run everything on this machine until Ctrl-C.

    With VOLTFOLD_KAFKA and VOLTFOLD_CLICKHOUSE set, only Voltfold's own processes.
    """
    settings = load(
        data=data,
        workers=workers,
        api_workers=api_workers,
        api_port=api_port,
        kafka_port=kafka_port,
        clickhouse_port=clickhouse_port,
    )
    from voltfold import up as family_up

    family_up.run(settings, as_json=as_json)


@app.command()
def api(
    host: str | None = None,
    port: PortOption = None,
    number: Annotated[int, typer.Option(min=0, help="Which of the API processes on this data folder.")] = 0,
    health_port: PortOption = None,
) -> None:
    """Run one API process.

    With VOLTFOLD_API_WORKERS above 1, others may run on the same port; --health-port is then its own.
    """
    from voltfold import roles

    roles.api(load(api_host=host, api_port=port), number, health_port)


@app.command()
def worker(
    number: Annotated[int, typer.Option(min=0, help="Which of the workers on this data folder.")] = 0,
    health_port: PortOption = None,
) -> None:
    """Run one stream worker."""
    from voltfold import roles

    roles.worker(load(), number, health_port)


@app.command()
def sink(health_port: PortOption = None) -> None:
    """Run the sink, which fills ClickHouse."""
    from voltfold import roles

    roles.sink(load(), health_port)


@app.command()
def courier(health_port: PortOption = None) -> None:
    """Run the courier, which brings to partners' platforms what concerns them."""
    from voltfold import roles

    roles.courier(load(), health_port)


@app.command()
def analytics(data: DataOption = None, port: PortOption = None) -> None:
    """Run the local ClickHouse engine (port 8123 unless given)."""
    from voltfold import roles

    roles.analytics(load(data=data, clickhouse_port=port))


@app.command()
def broker(
    data: DataOption = None,
    port: PortOption = None,
    controller_port: PortOption = None,
    fetch_only: Annotated[
        bool,
        typer.Option("--fetch-only", help="Download Kafka's jars, start it once to warm up, and no more."),
    ] = False,
) -> None:
    """Run the local Kafka broker (port 9092 unless given)."""
    from voltfold import roles

    roles.broker(load(data=data, kafka_port=port), controller_port, fetch_only=fetch_only)


@app.command()
def migrate(data: DataOption = None) -> None:
    """Create missing topics and tables, in the servers of a family or of VOLTFOLD_KAFKA and _CLICKHOUSE."""
    from voltfold.migrate import migrate as run_migrations

    _run(run_migrations(_of_running(data)))


@app.command()
def replay(
    check: Annotated[bool, typer.Option("--check", help="Compare with what the live system wrote.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fold the log again without Faust; compare each latest conclusion with the live one, byte for byte."""
    if not check:
        fail("replay: say --check", 2)
    from voltfold import replay as command

    differences = _run(command.check(load(data=data), data, as_json=as_json))
    if differences:
        raise typer.Exit(1)


@app.command()
def demo(
    sessions: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="CSV of sessions.")
    ] = None,
    data: DataOption = None,
    picture: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Save the summary as a picture (SVG).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Four busy weeks of a real garage, from OCPI push to settled bill."""
    from voltfold import demo as command

    command.main(sessions=sessions, data=data, as_json=as_json, picture=picture)


@app.command()
def version() -> None:
    """Print the version."""
    from voltfold import __version__

    typer.echo(__version__)


# -- partners ------------------------------------------------------------------------------------------------


@partner_app.command("add")
def partner_add(
    country: Annotated[str, typer.Option(help="ISO 3166 alpha-2 code, such as NL.")],
    party: Annotated[str, typer.Option(help="Party id of three letters or digits, such as TNM.")],
    role: Annotated[list[str], typer.Option(help="OCPI role, such as CPO; may be given several times.")],
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a partner a token. It is shown once; only its hash is kept."""
    from api.partners import add_partner

    settings = _of_running(data)
    try:
        token = _run(add_partner(str(settings.kafka), _topics(settings), country, party, role, name))
    except ValueError as error:
        fail(str(error), 2)
    if as_json:
        found = {"country_code": country.upper(), "party_id": party.upper(), "roles": role, "token": token}
        typer.echo(json.dumps(found))
    else:
        typer.echo(f"Token of {country.upper()}*{party.upper()}: {token}")
        typer.echo(
            "It is not shown again. Requests carry it as: Authorization: Token <base64 of it>", err=True
        )


@partner_app.command("list")
def partner_list(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show who may speak to us, and in which roles."""
    from api.partners import list_partners

    settings = _of_running(data)
    partners = _run(list_partners(str(settings.kafka), _topics(settings)))
    if as_json:
        typer.echo(json.dumps(partners))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("party", "roles", "name")
    for partner in partners:
        party = f"{partner['country_code']}*{partner['party_id']}"
        table.add_row(party, ", ".join(partner["roles"]), partner["name"] or "")
    Console().print(table)


# -- sessions ------------------------------------------------------------------------------------------------


@session_app.command("stale")
def session_stale(
    hours: Annotated[
        float | None, typer.Option(min=0, help="Silent for so long; else as the log's clock has it.")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show sessions that seem never to end: candidates to be set to INVALID by their operator."""
    from clickhouse_connect.driver.exceptions import ClickHouseError
    from urllib3.exceptions import HTTPError

    from analytics.connection import connect
    from analytics.queries import run

    settings = _of_running(data)
    try:
        client = connect(str(settings.clickhouse), settings.clickhouse_database)
        asked = -1.0 if hours is None else hours
        found = run(client, "stale_sessions", silent_hours=asked, limit=1_000_000)
    except (ClickHouseError, HTTPError, OSError) as error:
        fail(f"ClickHouse at {settings.clickhouse} does not answer: {error}")
    if as_json:
        typer.echo(json.dumps(found, default=str))
        return
    if not found:
        within = "in time" if hours is None else f"within {hours:g} hours"
        typer.echo(f"None: every session that runs was heard of {within}.")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("session", "status", "started", "kWh", "EVSE", "silent for")
    for row in found:
        place, silent = f"{row['location_id']} {row['evse_uid']}", f"{row['silent_hours']:.1f} h"
        started = f"{row['started_at']:%Y-%m-%d %H:%M}"
        table.add_row(row["key"], row["status"], started, f"{row['kwh']:.3f}", place, silent)
    Console().print(table)


# -- helpers -------------------------------------------------------------------------------------------------

T = TypeVar("T")


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run it; what the network or a server refuses is told in a line."""
    from aiokafka.errors import KafkaError

    try:
        return asyncio.run(work)
    except (KafkaError, OSError, RuntimeError) as error:
        fail(str(error) or type(error).__name__)


def _of_running(data: Path | None) -> Settings:
    """Settings with the servers to talk to: --data's, else the environment's, else the family used last."""
    from voltfold.family import servers_of

    try:
        return servers_of(load(), data)
    except LookupError as error:
        fail(str(error))


def _topics(settings: Settings) -> Any:
    from schemas.topics import Topics

    return Topics(settings.topic_prefix, settings.partitions)
