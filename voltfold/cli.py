"""The command line. Each command imports what it needs when it runs, so that `--help` is there at once."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from voltfold import (
    fleet_commands,
    party_commands,
    payment_commands,
    pricing_commands,
    settlement_commands,
)
from voltfold.processes import follow_parent

if TYPE_CHECKING:
    from api.handshake import Outgoing
    from api.partners import Connection
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
outbound_app = typer.Typer(help="What partners' platforms were sent.", no_args_is_help=True)
app.add_typer(outbound_app, name="outbound")
session_app = typer.Typer(help="Sessions.", no_args_is_help=True)
app.add_typer(session_app, name="session")
pricing_commands.register(app)
party_commands.register(app)
fleet_commands.register(app)
payment_commands.register(app)
settlement_commands.register(app)


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

    table = Table("connection", "stage", "OCPI", "parties", "name")
    for partner in partners:
        parties = ", ".join(partner["parties"])
        table.add_row(partner["id"], partner["stage"], partner["version"], parties, partner["name"])
    Console().print(table)


@partner_app.command("invite")
def partner_invite(
    country: Annotated[str | None, typer.Option(help="Country code of who it has to be.")] = None,
    party: Annotated[str | None, typer.Option(help="Party id of who it has to be.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="Its role, for 2.1.1, which does not tell.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token with which a platform registers with us: CREDENTIALS_TOKEN_A. It is shown once."""
    from api.partners import invite

    settings = _of_running(data)
    try:
        token, connection = _run(
            invite(str(settings.kafka), _topics(settings), country, party, role or (), name)
        )
    except ValueError as error:
        fail(str(error), 2)
    url = f"{_public_url(settings)}/ocpi/versions"
    if as_json:
        typer.echo(json.dumps({"id": connection.id, "versions_url": url, "token": token}))
        return
    typer.echo(f"Versions: {url}\nToken A:  {token}")
    typer.echo("It is not shown again, and opens versions and credentials alone.", err=True)


@partner_app.command("connect")
def partner_connect(
    versions_url: Annotated[str, typer.Option(help="The platform's versions endpoint.")],
    token: Annotated[str, typer.Option(help="CREDENTIALS_TOKEN_A, as the platform gave it.")],
    country: Annotated[str | None, typer.Option(help="Country code of who it has to be.")] = None,
    party: Annotated[str | None, typer.Option(help="Party id of who it has to be.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="Its role, for 2.1.1, which does not tell.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register us with a platform, at the highest version that both have."""

    if (country is None) != (party is None):
        fail("--country and --party go together", 2)
    who = (country, party) if country and party else None
    roles = tuple(one.upper() for one in role or ())

    async def connect(outgoing: Outgoing) -> Connection:
        return await outgoing.connect(versions_url, token, party=who, roles=roles, name=name)

    _shake_hands(data, as_json, connect)


@partner_app.command("rotate")
def partner_rotate(
    partner: Annotated[str, typer.Argument(help="A connection's id, or a party on it, such as NL*TNM.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Exchange new tokens with a platform, and read its versions and endpoints again."""
    _shake_hands(data, as_json, lambda outgoing: outgoing.rotate(partner))


@partner_app.command("unregister")
def partner_unregister(
    partner: Annotated[str, typer.Argument(help="A connection's id, or a party on it, such as NL*TNM.")],
    force: Annotated[bool, typer.Option("--force", help="Even if the platform does not answer.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a connection, here and at the platform."""
    _shake_hands(data, as_json, lambda outgoing: outgoing.unregister(partner, force=force))


def _shake_hands(
    data: Path | None, as_json: bool, work: Callable[[Outgoing], Coroutine[Any, Any, Connection]]
) -> None:
    """Do something with a platform's credentials module, and say what came of it."""
    from api.handshake import HandshakeError, Outgoing, Us
    from api.peer import Peers
    from api.vault import Vault, key_in, key_of

    settings = _of_running(data)
    country, _, party = settings.party.upper().partition("*")
    us = Us(country, party, settings.party_name, f"{_public_url(settings)}/ocpi/versions")
    vault = Vault(key_of(settings.secret) if settings.secret else key_in(settings.folder))

    async def run() -> Connection:
        async with Peers(timeout=settings.partner_timeout) as peers:
            return await work(Outgoing(str(settings.kafka), _topics(settings), peers, vault, us))

    try:
        found = _run(run())
    except HandshakeError as error:
        fail(f"{error} ({error.status})")
    parties = [f"{role.key} {role.role}" for role in found.roles]
    if as_json:
        known = {"id": found.id, "stage": found.stage, "version": found.version, "parties": parties}
        typer.echo(json.dumps(known))
    else:
        typer.echo(f"{found.id}: {found.stage}, OCPI {found.version}: {', '.join(parties)}")


def _public_url(settings: Settings) -> str:
    """Where partners reach us: as set, else the API of the family."""
    from voltfold.family import is_running

    if settings.public_url:
        return settings.public_url.rstrip("/")
    running = is_running(settings.folder)
    if not running or not running.get("api"):
        fail("where do partners reach us? Set VOLTFOLD_PUBLIC_URL", 2)
    return str(running["api"])


@partner_app.command("sync")
def partner_sync(
    partner: Annotated[str, typer.Argument(help="A connection's id, or a party on it, such as NL*TNM.")],
    since: Annotated[
        datetime | None,
        typer.Option("--from", help="Only what was updated since then, in UTC (default: everything)."),
    ] = None,
    module: Annotated[str | None, typer.Option(help="Only this module, such as cdrs.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pull a partner's lists now: locations, tariffs, sessions, CDRs, tokens, as its roles have them."""
    from api.sync import SyncError, sync
    from streams.pulls import DONE, Pull

    settings = _of_running(data)

    def report(pull: Pull) -> None:
        total = f" of {pull.total}" if pull.total is not None else ""
        line = f"{pull.module}: {pull.objects}{total}, {pull.kept} new, {pull.refused} refused, {pull.state}"
        typer.echo(f"{line}: {pull.error}" if pull.error else line, err=True)

    start = None if since is None else f"{since:%Y-%m-%dT%H:%M:%S}Z"
    try:
        found = _run(
            sync(str(settings.kafka), _topics(settings), partner, module=module, since=start, report=report)
        )
    except (SyncError, LookupError) as error:
        fail(str(error))
    if as_json:
        names = ("module", "state", "objects", "kept", "known", "refused", "error")
        typer.echo(json.dumps([{name: getattr(pull, name) for name in names} for pull in found]))
    if any(pull.state != DONE for pull in found):
        raise typer.Exit(1)


# -- deliveries ----------------------------------------------------------------------------------------------

ConnectionOption = Annotated[str | None, typer.Option(help="Only of this connection, by its id.")]
ModuleOption = Annotated[str | None, typer.Option(help="Only of this module, such as cdrs.")]
KeyOption = Annotated[str | None, typer.Option(help="Only of this object, such as 'NL*TNM*C1'.")]


@outbound_app.command("list")
def outbound_list(
    connection: ConnectionOption = None,
    module: ModuleOption = None,
    key: KeyOption = None,
    delivered: Annotated[bool, typer.Option("--all", help="Also what was delivered.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what could not be delivered, and why."""
    from api.outbound import read_outcomes
    from schemas.records import moment

    settings = _of_running(data)
    found = _run(
        read_outcomes(
            str(settings.kafka),
            _topics(settings),
            connection=connection,
            module=module,
            key=key,
            delivered=delivered,
        )
    )
    rows = [
        {
            **{name: getattr(one, name) for name in ("connection", "module", "key", "outcome", "attempts")},
            **{name: getattr(one, name) for name in ("http", "ocpi", "message")},
            "since": f"{moment(one.since):%Y-%m-%dT%H:%M:%S.%fZ}",
            "at": f"{moment(one.at):%Y-%m-%dT%H:%M:%S.%fZ}",
        }
        for one in found
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo("Nothing: whatever was tried was delivered.")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("connection", "object", "outcome", "attempts", "at", "why")
    for row in rows:
        what, at = f"{row['module']} {row['key']}", str(row["at"])[:19]
        table.add_row(
            str(row["connection"]), what, str(row["outcome"]), str(row["attempts"]), at, str(row["message"])
        )
    Console().print(table)


@outbound_app.command("retry")
def outbound_retry(
    connection: ConnectionOption = None,
    module: ModuleOption = None,
    key: KeyOption = None,
    delivered: Annotated[bool, typer.Option("--all", help="Also what was delivered.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deliver again what could not be delivered, in the state that it has now."""
    from api.outbound import read_outcomes, try_again

    settings = _of_running(data)
    kafka, topics = str(settings.kafka), _topics(settings)

    async def work() -> int:
        found = await read_outcomes(
            kafka, topics, connection=connection, module=module, key=key, delivered=delivered
        )
        return await try_again(kafka, topics, found)

    count = _run(work())
    typer.echo(json.dumps({"retried": count}) if as_json else f"{count} are on their way again.")


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
