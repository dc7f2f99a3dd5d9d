"""What a fleet costs: vehicle by vehicle, site by site, taxes apart; as table, CSV, JSON and page to print.

The figures are those of what was settled between the operators and the provider. Rows are exact; the totals
of each currency are rounded once, to its minor unit. Currencies are never mixed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from html import escape
from typing import Any

import msgspec

from schemas.currencies import rounded
from streams.invoicing.figures import money, places_of, plain, rate
from streams.invoicing.style import PAGE, running
from streams.invoicing.tables import safe

_ZERO = Decimal(0)


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one vehicle cost at one site: as the query `fleet_costs` answers it."""

    token_uid: str
    contract_id: str
    visual_number: str
    provider: str
    operator: str
    location_id: str
    currency: str
    sessions: int
    kwh: Decimal
    before_taxes: Decimal
    taxes: Decimal
    amount: Decimal


class Tax(msgspec.Struct, frozen=True, kw_only=True):
    """One tax and percentage in it: as the query `fleet_taxes` answers it."""

    currency: str
    name: str
    percentage: Decimal | None
    base: Decimal
    amount: Decimal


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """Several costs together. `label` and `detail` say of what, for people."""

    label: str
    detail: str
    currency: str
    sessions: int
    kwh: Decimal
    before_taxes: Decimal
    taxes: Decimal
    amount: Decimal


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """All of a currency, rounded: `before_taxes` and every tax's amount add up to `amount`."""

    currency: str
    sessions: int
    kwh: Decimal
    before_taxes: Decimal
    taxes: list[Tax]
    amount: Decimal


class FleetStatement(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet's costs for sessions that ended from `since` until before `until`."""

    group_id: str
    provider: str
    since: datetime
    until: datetime
    vehicles: list[Sum]
    sites: list[Sum]
    totals: list[Total]
    costs: list[Cost]


def statement_of(
    group_id: str,
    provider: str,
    since: datetime,
    until: datetime,
    costs: Iterable[Mapping[str, Any]],
    taxes: Iterable[Mapping[str, Any]],
) -> FleetStatement:
    """The statement out of the answers of `fleet_costs` and `fleet_taxes`."""
    rows = sorted((msgspec.convert(dict(one), Cost) for one in costs), key=_order)
    return FleetStatement(
        group_id=group_id,
        provider=provider,
        since=since,
        until=until,
        vehicles=_sums(
            rows, lambda one: (one.visual_number or one.contract_id or one.token_uid, _vehicle(one))
        ),
        sites=_sums(rows, lambda one: (one.location_id, one.operator)),
        totals=_totals(rows, [msgspec.convert(dict(one), Tax) for one in taxes]),
        costs=rows,
    )


def _order(one: Cost) -> tuple[str, ...]:
    return (one.currency, one.provider, one.token_uid, one.operator, one.location_id)


def _vehicle(one: Cost) -> str:
    """What tells a vehicle apart, without what already names it."""
    told = [one.contract_id if one.visual_number else "", f"token {one.token_uid}"]
    return ", ".join(filter(None, told))


def _sums(rows: Iterable[Cost], names: Callable[[Cost], tuple[str, str]]) -> list[Sum]:
    groups: dict[tuple[str, str, str], list[Cost]] = {}
    for one in rows:
        groups.setdefault((one.currency, *names(one)), []).append(one)
    return [
        Sum(
            label=label,
            detail=detail,
            currency=currency,
            sessions=sum(one.sessions for one in members),
            kwh=sum((one.kwh for one in members), _ZERO),
            before_taxes=sum((one.before_taxes for one in members), _ZERO),
            taxes=sum((one.taxes for one in members), _ZERO),
            amount=sum((one.amount for one in members), _ZERO),
        )
        for (currency, label, detail), members in sorted(groups.items())
    ]


def _totals(rows: Sequence[Cost], taxes: Sequence[Tax]) -> list[Total]:
    found = []
    for currency in sorted({one.currency for one in rows}):
        mine = [one for one in rows if one.currency == currency]
        before = rounded(sum((one.before_taxes for one in mine), _ZERO), currency)
        told = [
            Tax(
                currency=currency,
                name=one.name,
                percentage=one.percentage,
                base=rounded(one.base, currency),
                amount=rounded(one.amount, currency),
            )
            for one in sorted(taxes, key=lambda one: (one.name, one.percentage or _ZERO))
            if one.currency == currency
        ]
        found.append(
            Total(
                currency=currency,
                sessions=sum(one.sessions for one in mine),
                kwh=sum((one.kwh for one in mine), _ZERO),
                before_taxes=before,
                taxes=told,
                amount=before + sum((tax.amount for tax in told), _ZERO),
            )
        )
    return found


COLUMNS = (
    *("group_id", "provider", "since", "until", "token_uid", "contract_id", "visual_number", "operator"),
    *("location_id", "currency", "sessions", "kwh", "before_taxes", "taxes", "amount"),
)
"""The columns of the CSV, in their order."""


def to_csv(statement: FleetStatement) -> bytes:
    """A row for each vehicle at each site, exact, as CSV (RFC 4180) in UTF-8."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    since, until = _time(statement.since), _time(statement.until)
    for one in statement.costs:
        amounts = (money(amount, one.currency) for amount in (one.before_taxes, one.taxes, one.amount))
        writer.writerow(
            (
                *(safe(statement.group_id), one.provider, since, until),
                *map(safe, (one.token_uid, one.contract_id, one.visual_number)),
                *(one.operator, safe(one.location_id), one.currency, one.sessions, plain(one.kwh), *amounts),
            )
        )
    return text.getvalue().encode()


def to_json(statement: FleetStatement) -> bytes:
    """All of it as JSON: amounts and energy as exact decimal strings, times as ISO 8601."""
    told = _plain(statement, "")
    return msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"


def _plain(value: Any, currency: str, name: str = "") -> Any:
    if isinstance(value, msgspec.Struct):
        currency = getattr(value, "currency", currency)
        return {field: _plain(getattr(value, field), currency, field) for field in value.__struct_fields__}
    if isinstance(value, list):
        return [_plain(one, currency) for one in value]
    if isinstance(value, Decimal):
        return plain(value) if name in ("kwh", "percentage") else money(value, currency)
    return _time(value) if isinstance(value, datetime) else value


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def to_html(statement: FleetStatement) -> bytes:
    """A page to print on A4, one file that needs nothing else; the same statement makes the same bytes."""
    name = escape(statement.group_id)
    period = f"{statement.since:%Y-%m-%d %H:%M %Z} until {statement.until:%Y-%m-%d %H:%M %Z}"
    totals = "".join(_total(one) for one in statement.totals) or "<p>Nothing was charged.</p>"
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Fleet {name}</title>',
        '<meta http-equiv="Content-Security-Policy"',
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<style>{PAGE}{running(f'Fleet {statement.group_id}')}</style></head><body>",
        f'<header><div><h1>Fleet {name}</h1><p class="reference">{escape(period)}</p></div>',
        f'<p class="reference">{escape(statement.provider)}</p></header>',
        totals,
        _table("Vehicles", statement.vehicles),
        _table("Sites", statement.sites),
        "<footer>What was settled for sessions that ended in this time. Rows are exact; totals are rounded "
        "once, to the currency's minor unit.</footer></body></html>",
    ]
    return ("\n".join(parts) + "\n").encode()


def _total(one: Total) -> str:
    taxes = "".join(_row(f"{tax.name or 'Tax'} {rate(tax.percentage)}", tax.amount, tax) for tax in one.taxes)
    return (
        f'<h2>{one.sessions} sessions, {plain(one.kwh, 3)} kWh</h2><table class="half"><tbody>'
        f"{_row('Without taxes', one.before_taxes, one)}{taxes}"
        f'<tr class="due"><td>Total</td><td class=n>{money(one.amount, one.currency)}&nbsp;'
        f"{escape(one.currency)}</td></tr></tbody></table>"
    )


def _row(what: str, amount: Decimal, of: Total | Tax) -> str:
    return f"<tr><td>{escape(what.strip())}</td><td class=n>{money(amount, of.currency)}</td></tr>"


def _table(title: str, sums: Sequence[Sum]) -> str:
    places = {
        currency: places_of(
            (amount for one in sums if one.currency == currency for amount in (one.before_taxes, one.amount)),
            currency,
        )
        for currency in {one.currency for one in sums}
    }
    rows = "".join(_sum(one, places[one.currency]) for one in sums)
    head = (
        "<th>&nbsp;<th class=n>Sessions<th class=n>kWh<th class=n>Net<th class=n>Taxes<th class=n>Total<th>"
    )
    return f"<h2>{title}</h2><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _sum(one: Sum, places: int) -> str:
    figures = (
        *(str(one.sessions), plain(one.kwh, 3)),
        *(plain(amount, places) for amount in (one.before_taxes, one.taxes, one.amount)),
    )
    return (
        f"<tr><td>{escape(one.label)}<br><span class=quiet>{escape(one.detail)}</span></td>"
        f"{''.join(f'<td class=n>{figure}</td>' for figure in figures)}<td>{escape(one.currency)}</td></tr>\n"
    )
