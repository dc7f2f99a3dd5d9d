"""`voltfold party set|show|list`: who parties are, as their invoices say it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streams.invoicing.parties import PartyDetails

DataOption = Annotated[Path | None, typer.Option("--data", help="Data folder of a family.", file_okay=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
PartyArgument = Annotated[str, typer.Argument(help="The party, such as 'NL*TNM'.")]

party_app = typer.Typer(help="Parties: names, addresses, tax numbers, accounts.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(party_app, name="party")


@party_app.command("set")
def party_set(
    party: PartyArgument,
    name: Annotated[str | None, typer.Option(help="Legal name.")] = None,
    vat_id: Annotated[str | None, typer.Option(help="VAT number with its country's prefix.")] = None,
    tax_number: Annotated[str | None, typer.Option(help="National tax number, without a VAT number.")] = None,
    company_number: Annotated[str | None, typer.Option(help="Number in the register of companies.")] = None,
    street: Annotated[str | None, typer.Option(help="Street and number.")] = None,
    street_more: Annotated[str | None, typer.Option(help="Second line of the address.")] = None,
    postal_code: Annotated[str | None, typer.Option(help="Postal code.")] = None,
    city: Annotated[str | None, typer.Option(help="City.")] = None,
    region: Annotated[str | None, typer.Option(help="State or region.")] = None,
    country: Annotated[str | None, typer.Option(help="ISO 3166 alpha-2 code of the address.")] = None,
    email: Annotated[str | None, typer.Option(help="Where invoices may be sent.")] = None,
    buyer_reference: Annotated[
        str | None, typer.Option(help="What it wants to find on invoices that it gets.")
    ] = None,
    iban: Annotated[str | None, typer.Option(help="Account that it is paid on.")] = None,
    bic: Annotated[str | None, typer.Option(help="Bank of the account.")] = None,
    account_name: Annotated[str | None, typer.Option(help="Holder of the account, if not the name.")] = None,
    payment_days: Annotated[
        int | None, typer.Option(help="Days that those who owe it have to pay (default: 30).")
    ] = None,
    zero_tax: Annotated[
        str | None, typer.Option(help="VAT category of what it sells without tax: Z, E, AE or G.")
    ] = None,
    zero_tax_reason: Annotated[str | None, typer.Option(help="Why there is no tax, in words.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set details of a party; those not named stay as they are, and '' takes one away."""
    import msgspec

    from streams.invoicing.parties import checked
    from voltfold.cli import _of_running, _run, _topics, fail
    from voltfold.details import read_directory, set_details

    given = {key: value for key, value in locals().items() if key in _FIELDS and value is not None}
    settings = _of_running(data)
    topics = _topics(settings)

    async def work() -> tuple[PartyDetails, bool]:
        key = _key(party)
        known = (await read_directory(str(settings.kafka), topics)).at(key, None)
        details = checked(msgspec.structs.replace(known, **given))
        return details, await set_details(str(settings.kafka), topics, details)

    try:
        details, changed = _run(work())
    except ValueError as error:
        fail(str(error), 2)
    if as_json:
        typer.echo(json.dumps({**_plain(details), "changed": changed}))
    else:
        typer.echo(f"{details.key}: {'set' if changed else 'as before'}")


@party_app.command("show")
def party_show(party: PartyArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show the details of a party."""
    from voltfold.cli import _of_running, _run, _topics, fail
    from voltfold.details import read_directory

    settings = _of_running(data)
    try:
        key = _key(party)
    except ValueError as error:
        fail(str(error), 2)
    found = _run(read_directory(str(settings.kafka), _topics(settings))).at(key, None)
    if as_json:
        typer.echo(json.dumps(_plain(found)))
        return
    for name, value in _plain(found).items():
        typer.echo(f"{name:16} {value}")


@party_app.command("list")
def party_list(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show every party that has details."""
    from voltfold.cli import _of_running, _run, _topics

    settings = _of_running(data)
    from voltfold.details import read_directory

    found = _run(read_directory(str(settings.kafka), _topics(settings))).all()
    if as_json:
        typer.echo(json.dumps([_plain(details) for details in found]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("party", "name", "VAT number", "country", "IBAN", "days")
    for one in found:
        table.add_row(one.key, one.name, one.vat_id, one.country, one.iban, str(one.payment_days))
    Console().print(table)


_FIELDS = (
    *("name", "vat_id", "tax_number", "company_number", "street", "street_more", "postal_code", "city"),
    *("region", "country", "email", "buyer_reference", "iban", "bic", "account_name", "payment_days"),
    *("zero_tax", "zero_tax_reason"),
)


def _plain(details: PartyDetails) -> dict[str, object]:
    """All fields, those that are not set too."""
    return {name: getattr(details, name) for name in details.__struct_fields__}


def _key(party: str) -> str:
    """`CC*PID` of what somebody typed. Raises ValueError."""
    import re

    plain = re.sub(r"[^A-Za-z0-9]", "", party).upper()
    if not re.fullmatch("[A-Z]{2}[A-Z0-9]{3}", plain):
        raise ValueError(f"{party!r} is not a party like NL*TNM")
    return f"{plain[:2]}*{plain[2:]}"
