"""What the demo ends with: figures that ClickHouse counted, as a person wants to see them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client
from rich.columns import Columns
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from analytics.queries import run
from voltfold.demo.billing import TIME_ZONE

Row = dict[str, Any]
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HEAT = ("#1b2a41", "#1f4e5f", "#227c70", "#5aa469", "#b8b84a", "#e3a02d", "#e0702a", "#c8372d")
_SHOWN = 8


def figures(client: Client, seeded: set[str]) -> Row:
    """Everything that the demo reports, counted in ClickHouse; `seeded`: CDRs that are wrong on purpose."""
    counted = run(client, "summary")[0]
    revenue = run(client, "revenue")
    flagged = {row["cdr_id"] for row in run(client, "wrong_bills", limit=1_000_000)}
    return {
        "sessions": counted["sessions"],
        "cdrs": counted["cdrs"],
        "settlement_entries": counted["settlement_entries"],
        "kwh": Decimal(counted["kwh"] or 0),
        "billed_kwh": Decimal(counted["billed_kwh"] or 0),
        "wrong_bills_seeded": len(seeded),
        "wrong_bills_found": len(flagged & seeded),
        "right_bills_accused": len(flagged - seeded),
        "unpriced_bills": counted["unpriced_bills"],
        "quarantined": counted["quarantined"],
        "revenue": {row["currency"]: Decimal(row["amount"]) for row in revenue},
        "postings_balance": {row["currency"]: Decimal(row["balance"]) for row in revenue},
    }


def show(console: Console, client: Client, found: Row, folder: Path) -> None:
    """Print the summary."""
    console.print()
    console.print(
        Columns(
            [
                _tile(f"{found['sessions']:,}", "sessions"),
                _tile(f"{found['kwh']:,.1f}", "kWh"),
                *(_tile(f"{amount:,.2f}", f"{name} billed") for name, amount in found["revenue"].items()),
                _tile(f"{found['wrong_bills_found']} of {found['wrong_bills_seeded']}", "wrong bills found"),
                _tile(str(found["right_bills_accused"]), "right bills accused"),
                _tile(f"{found['seconds']:.0f} s", "from first push to here"),
            ]
        )
    )
    console.print(Panel(_owes(client), title="Who owes whom", title_align="left", border_style="dim"))
    console.print(Panel(_wrong(client), title="Bills that are wrong", title_align="left", border_style="dim"))
    title = "When the garage is full: stations occupied on average, hour by weekday, local time"
    console.print(Panel(_heat(client), title=title, title_align="left", border_style="dim"))
    console.print(
        f"\nLook further:\n"
        f"  voltfold replay --check                  fold the whole log again, compare every record\n"
        f"  voltfold up --data {folder}    start it again, with all of this in it\n"
        f"  SELECT * FROM priced_cdrs WHERE verdict = 'overcharged'      in ClickHouse, database voltfold\n",
        highlight=False,
        soft_wrap=True,
    )


def _tile(number: str, what: str) -> Panel:
    return Panel(Group(Text(number, style="bold cyan"), Text(what, style="dim")), border_style="dim")


def _owes(client: Client) -> Table:
    table = Table(box=None, pad_edge=False)
    for name, side in (("debtor", "left"), ("creditor", "left"), ("entries", "right"), ("owes", "right")):
        table.add_column(name, justify="right" if side == "right" else "left")
    for row in run(client, "who_owes_whom"):
        owed = f"{Decimal(row['net']):,.2f} {row['currency']}"
        table.add_row(row["debtor"], row["creditor"], f"{row['settlement_entries']:,}", owed)
    return table


def _wrong(client: Client) -> Table | Text:
    rows = run(client, "wrong_bills", limit=1_000_000)
    if not rows:
        return Text("none", style="green")
    table = Table(box=None, pad_edge=False)
    for name in ("CDR", "billed", "should be", "off by", "why"):
        table.add_column(name, justify="left" if name in ("CDR", "why") else "right")
    for row in rows[:_SHOWN]:
        off = Decimal(row["difference"])
        table.add_row(
            row["cdr_id"],
            _amount(row["billed_after_taxes"]),
            _amount(row["priced_after_taxes"]),
            Text(f"{off:+.2f}", style="red" if off > 0 else "yellow"),
            row["reason"],
        )
    if len(rows) > _SHOWN:
        table.add_row(f"and {len(rows) - _SHOWN} more", "", "", "", "")
    return table


def _amount(value: Any) -> str:
    return "" if value is None else f"{Decimal(value):.2f}"


def _heat(client: Client) -> Group:
    rows = {(row["weekday"], row["hour"]): float(row["occupied_evses"]) for row in
            run(client, "occupancy", time_zone=TIME_ZONE)}  # fmt: skip
    most = max(rows.values(), default=0) or 1
    lines = [Text("     " + "".join(f"{hour:<3}" for hour in range(24)), style="dim")]
    for day, name in enumerate(_DAYS, 1):
        line = Text(f"{name}  ")
        for hour in range(24):
            value = rows.get((day, hour))
            if value is None:
                line.append("   ")
                continue
            colour = _HEAT[min(int(value / most * len(_HEAT)), len(_HEAT) - 1)]
            line.append(f"{value:2.0f} " if value >= 0.5 else "   ", style=f"white on {colour}")
        lines.append(line)
    return Group(*lines)
