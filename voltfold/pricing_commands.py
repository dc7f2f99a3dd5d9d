"""`voltfold price`, `voltfold estimate`, `voltfold tariff lint`: files or standard input; tables or JSON."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
ZoneOption = Annotated[
    str | None, typer.Option("--timezone", help="IANA time zone of the location, such as Europe/Amsterdam.")
]
VersionOption = Annotated[
    str | None,
    typer.Option("--ocpi-version", help="2.1.1, 2.2.1 or 2.3.0 (default: what the object looks like)."),
]
TariffOption = Annotated[str, typer.Option("--tariff", help="File with a tariff; - is standard input.")]

tariff_app = typer.Typer(help="Tariffs.", no_args_is_help=True)

_NAMES = {
    "total_fixed_cost": "fixed",
    "total_energy_cost": "energy",
    "total_time_cost": "time",
    "total_parking_cost": "parking",
    "total_reservation_cost": "reservation",
    "total_cost": "total",
}
_COLOURS = {"match": "green", "within_tolerance": "green", "overcharged": "red", "undercharged": "yellow"}
_LEVELS = {"error": "red", "warning": "yellow", "info": "cyan"}


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(price)
    app.command()(estimate)
    tariff_app.command("lint")(lint)
    app.add_typer(tariff_app, name="tariff")


def price(
    cdr: Annotated[str, typer.Option("--cdr", help="File with a CDR; - is standard input.")],
    tariff: Annotated[
        str | None, typer.Option("--tariff", help="File with tariffs, instead of the CDR's own.")
    ] = None,
    timezone: ZoneOption = None,
    ocpi_version: VersionOption = None,
    tolerance: Annotated[
        str | None, typer.Option(help="What a total may be off (default: half a minor unit).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What a CDR should have cost, why, and whether that is what it says."""
    from streams.pricing.documents import price_document, to_json

    found = _told(
        lambda: price_document(
            _read(cdr),
            _read(tariff) if tariff is not None else None,
            version=_version(ocpi_version),
            time_zone=timezone,
            tolerance=_decimal("--tolerance", tolerance),
        )
    )
    if as_json:
        sys.stdout.write(to_json(found).decode() + "\n")
    else:
        _show(found)


def estimate(
    tariff: TariffOption,
    start: Annotated[str, typer.Option(help="When it plugs in: 2024-05-15T10:00:00Z.")],
    end: Annotated[str, typer.Option(help="When it leaves.")],
    kwh: Annotated[str, typer.Option(help="Energy that it wants.")],
    max_power_kw: Annotated[str | None, typer.Option("--max-power-kw", help="Limit of power.")] = None,
    max_current_a: Annotated[
        str | None, typer.Option("--max-current-a", help="Limit of current, all phases together.")
    ] = None,
    timezone: ZoneOption = None,
    ocpi_version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a session would cost: charging at the limit until it has its energy, then staying connected."""
    from streams.pricing.documents import estimate_document, to_json

    wanted = _decimal("--kwh", kwh)
    assert wanted is not None
    found = _told(
        lambda: estimate_document(
            _read(tariff),
            _moment("--start", start),
            _moment("--end", end),
            wanted,
            version=_version(ocpi_version),
            time_zone=timezone,
            max_power=_decimal("--max-power-kw", max_power_kw),
            max_current=_decimal("--max-current-a", max_current_a),
        )
    )
    if as_json:
        sys.stdout.write(to_json(found).decode() + "\n")
    else:
        _show(found)


def lint(
    file: Annotated[str, typer.Argument(help="File with a tariff; - is standard input.")],
    ocpi_version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """What is odd about a tariff. Ends with 1 when something in it is an error."""
    from streams.pricing.documents import lint_document, to_json

    findings = _told(lambda: lint_document(_read(file), datetime.now(UTC), version=_version(ocpi_version)))
    bad = any(one.level == "error" for one in findings)
    if as_json:
        found = {"findings": [one._asdict() for one in findings], "errors": bad}
        sys.stdout.write(to_json(found).decode() + "\n")
    elif not findings:
        typer.echo("Nothing odd about it.")
    else:
        from rich.table import Table

        table = Table("", "code", "where", "what", box=None, pad_edge=False)
        for one in findings:
            colour = _LEVELS[one.level]
            table.add_row(f"[{colour}]{one.level}[/]", one.code, one.path.replace("[", "\\["), one.message)
        _console().print(table)
    if bad:
        raise typer.Exit(1)


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table

    console = _console()
    comparison = found.get("comparison", {}).get("totals", {})
    table = Table(title=f"Price in {found['currency']}", title_justify="left", box=None, pad_edge=False)
    for name in ("", "excl. VAT", "incl. VAT", *(("billed excl.", "billed incl.", "") if comparison else ())):
        table.add_column(name, justify="left" if name == "" else "right")
    for name, label in _NAMES.items():
        money, said = found[name], comparison.get(name)
        if name != "total_cost" and not any(money.values()) and not said:
            continue
        row = [label, _amount(money["excl_vat"]), _amount(money["incl_vat"])]
        if said:
            colour = _COLOURS.get(said["verdict"], "red")
            billed = said["billed"]
            row += [
                _amount(billed["excl_vat"]),
                _amount(billed["incl_vat"]),
                f"[{colour}]{said['verdict']}[/]",
            ]
        elif comparison:
            row += ["", "", ""]
        table.add_row(*row, style="bold" if name == "total_cost" else "")
    console.print(table)
    console.print(
        f"\n{found['total_energy']} kWh in {_hours(found['total_time'])}"
        + (f", of them parked {_hours(found['total_parking_time'])}" if found["total_parking_time"] else ""),
        highlight=False,
    )
    lines = Table("what", "used", "billed", "price", "VAT", "cost", "why", box=None, pad_edge=False)
    for line in found["lines"]:
        rate = "" if line["vat"] is None else f"{line['vat']}%"
        element = f"{line['tariff_id']} element {line['element']}; {line['reason']}"
        cost = line["incl_vat"] if line["excl_vat"] is None else line["excl_vat"]
        used, billed = _quantity(line["quantity"]), _quantity(line["billed"])
        lines.add_row(line["dimension"], used, billed, str(line["price"]), rate, _amount(cost), element)
    console.print()
    console.print(lines)
    if any(found["adjustment"].values()):
        console.print(f"min_price or max_price adds {_amount(found['adjustment']['excl_vat'])} excl. VAT")
    verdict = found.get("comparison", {})
    if verdict.get("reason"):
        console.print(f"\n[bold]{verdict['verdict']}[/]: {verdict['reason']}", highlight=False)
    for one in found["warnings"]:
        where = one["path"].replace("[", "\\[")
        console.print(f"[yellow]{one['code']}[/] {where}: {one['message']}", highlight=False)


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140)


def _amount(value: Decimal | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _quantity(value: Decimal) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _hours(value: Decimal) -> str:
    seconds = int(value * 3600)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} h"


def _told(work: Callable[[], Any]) -> Any:
    """What it gives; what is wrong with the input is told in a line."""
    from schemas.ocpi.wire import InvalidObjectError
    from streams.pricing import PricingError

    try:
        return work()
    except InvalidObjectError as error:
        _fail(f"{error.path}: {error.message}" if error.path else error.message)
    except PricingError as error:
        _fail(f"{error} ({error.code})")


def _fail(message: str) -> NoReturn:
    typer.secho(f"voltfold: {message}", err=True, fg="red" if sys.stderr.isatty() else None)
    raise typer.Exit(2)


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        _fail(f"{name}: {error.strerror}")


def _version(name: str | None) -> str | None:
    if name not in (None, "2.1.1", "2.2.1", "2.3.0"):
        _fail(f"--ocpi-version: {name} is none of 2.1.1, 2.2.1, 2.3.0")
    return name


def _decimal(option: str, text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number) >= Decimal("1e12"):
        _fail(f"{option}: {text!r} is no number")
    return number


def _moment(option: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        _fail(f"{option}: {text!r} is no time like 2024-05-15T10:00:00Z")
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
