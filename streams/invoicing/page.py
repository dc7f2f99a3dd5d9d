"""A statement as a page to print: an invoice specification on A4, one HTML file that needs nothing else.

The same statement and parties make the same bytes. What comes from partners is escaped; the page has no
script and loads nothing.
"""

from __future__ import annotations

from decimal import Decimal
from html import escape

from schemas.settlement import Line, Statement
from streams.banking.references import printed, structured
from streams.invoicing import einvoice
from streams.invoicing.figures import ITEMS, minute, money, period_of, places_of, plain, rate
from streams.invoicing.parties import PartyDetails
from streams.invoicing.style import PAGE, running


def to_html(
    statement: Statement,
    seller: PartyDetails,
    buyer: PartyDetails,
    opposite: Statement | None = None,
) -> bytes:
    """The page in UTF-8. `opposite`: what the creditor owes the debtor for the same period, for the net."""
    closed = statement.closed_at is not None
    state, shown = ("closed", "Closed") if closed else ("open", "Open: not final")
    reference = escape(statement.reference)
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>Invoice specification {reference}</title>',
        '<meta http-equiv="Content-Security-Policy"',
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width">',
        f"<style>{PAGE}{running(statement.reference)}</style></head><body>",
        f'<header><div><h1>Invoice specification</h1><p class="reference">{reference}</p></div>',
        f'<span class="state {state}">{shown}</span></header>',
        '<section class="parties">',
        _party("From", statement.creditor, seller),
        _party("To", statement.debtor, buyer),
        _terms(statement, seller),
        "</section>",
        '<section class="two"><div>',
        _taxes(statement),
        "</div><div>",
        _account(statement, opposite),
        "</div></section>",
        _lines(statement),
        "<footer>",
        _colophon(statement),
        "</footer></body></html>",
    ]
    return ("\n".join(parts) + "\n").encode()


def _party(role: str, key: str, details: PartyDetails) -> str:
    place = " ".join(filter(None, (details.country, details.postal_code, details.city)))
    lines = [f"<strong>{escape(details.name or key)}</strong>"]
    lines += [escape(text) for text in (details.street, details.street_more, details.region, place) if text]
    for what, text in (
        ("VAT", details.vat_id),
        ("Tax number", details.tax_number),
        ("Company", details.company_number),
        ("", details.email),
    ):
        if text:
            lines.append(f'<span class="quiet">{what} {escape(text)}</span>')
    if details.name:
        lines.append(f'<span class="quiet">{escape(key)}</span>')
    return f"<div><h2>{role}</h2><p>{'<br>'.join(lines)}</p></div>"


def _terms(statement: Statement, seller: PartyDetails) -> str:
    rows = [("Period", period_of(statement)), ("Time zone", statement.time_zone)]
    if statement.closed_at is not None:
        rows.append(("Closed", minute(statement.closed_at, statement.time_zone)))
        if statement.closing > 0:
            rows.append(("Due", f"{einvoice.due_on(statement, seller)}"))
            rows.append(("Payment reference", printed(structured(statement.reference))))
    if seller.iban:
        rows.append(("IBAN", printed(seller.iban)))
    if seller.bic:
        rows.append(("BIC", seller.bic))
    told = "<br>".join(
        f'<span class="quiet">{what}</span> <span class="one">{escape(text)}</span>' for what, text in rows
    )
    return f"<div><h2>Terms</h2><p>{told}</p></div>"


def _taxes(statement: Statement) -> str:
    currency = statement.currency
    rows = [
        f"<tr><td>{escape(tax.name or 'Tax')}</td><td class=n>{rate(tax.percentage) or '&ndash;'}</td>"
        f"<td class=n>{money(tax.base, currency)}</td><td class=n>{money(tax.amount, currency)}</td></tr>"
        for tax in statement.taxes
    ]
    if not rows:
        rows = ["<tr><td colspan=4>No taxes</td></tr>"]
    taxes = sum((tax.amount for tax in statement.taxes), Decimal(0))
    return (
        "<h2>Taxes by rate</h2><table><thead><tr><th>Tax<th class=n>Rate<th class=n>Base<th class=n>Tax"
        f"</tr></thead><tbody>{''.join(rows)}"
        f'<tr class="sum"><td colspan=3>Taxes</td><td class=n>{money(taxes, currency)}</td></tr>'
        "</tbody></table>"
    )


def _account(statement: Statement, opposite: Statement | None) -> str:
    currency = statement.currency
    taxes = sum((tax.amount for tax in statement.taxes), Decimal(0))
    rows = [
        ("Opening balance", statement.opening),
        ("Services without taxes", statement.total_before_taxes),
        ("Taxes", taxes),
        ("Total of the period", statement.total),
        ("Payments received in the period", -statement.payments),
    ]

    def row(what: str, amount: Decimal, style: str = "") -> str:
        unit = f"&nbsp;{escape(currency)}" if style == "due" else ""
        shown = f"{money(amount, currency)}{unit}"
        return f'<tr class="{style}"><td>{escape(what)}</td><td class=n>{shown}</td></tr>'

    told = [row(what, amount, "sum" if amount is statement.total else "") for what, amount in rows]
    told.append(row("Closing balance", statement.closing, "due"))
    if opposite is not None:
        told.append(row(f"Owed in return ({opposite.reference})", opposite.closing))
        told.append(row("Net of both directions", statement.closing - opposite.closing, "sum"))
    if statement.paid != statement.payments:
        told.append(row("Paid for this statement so far", statement.paid))
    return f"<h2>Account</h2><table><tbody>{''.join(told)}</tbody></table>"


def _lines(statement: Statement) -> str:
    amounts = (amount for line in statement.lines for amount in (line.before_taxes, line.amount))
    places = places_of(amounts, statement.currency)
    head = (
        "<tr><th class=n>#<th>Session<th>CDR<th>Location<th>Contract<th class=n>kWh"
        "<th class=n>Net<th>Tax<th class=n>Tax<th class=n>Total</tr>"
    )
    body = "".join(_line(number, line, statement, places) for number, line in enumerate(statement.lines, 1))
    late = sum(line.late for line in statement.lines)
    note = (
        f'<p class="quiet">{late} of {len(statement.lines)} lines arrived after their own period was closed, '
        "and are marked late.</p>"
        if late
        else ""
    )
    return f'<h2>Lines</h2>{note}<table class="lines"><thead>{head}</thead><tbody>{body}</tbody></table>'


def _line(number: int, line: Line, statement: Statement, places: int) -> str:
    zone = statement.time_zone
    labels = [] if line.kind == "cdr" else [escape(ITEMS.get(line.kind, line.kind))]
    labels += ["late"] if line.late else []
    tags = "".join(f' <span class="tag">{label}</span>' for label in labels)
    if line.started_at:
        start, end = minute(line.started_at, zone), minute(line.ended_at, zone)
        end = end[11:] if end[:10] == start[:10] else end
        times = f"<time>{start}</time>&ndash;<wbr><time>{end}</time>"
    else:
        times = "&ndash;"
    rates = "<br>".join(
        escape(f"{tax.name} {rate(tax.percentage)}".strip()).replace(" ", "&nbsp;") for tax in line.taxes
    )
    token = line.contract_id or line.token_uid
    return (
        f"<tr{' class=minus' if line.amount < 0 else ''}><td class=n>{number}</td><td>{times}</td>"
        f"<td class=id>{escape(line.cdr_id)}{tags}</td><td class=id>{escape(line.location_id)}</td>"
        f"<td class=id>{escape(token)}</td><td class=n>{plain(line.kwh, 3)}</td>"
        f"<td class=n>{line.before_taxes:.{places}f}</td><td>{rates}</td>"
        f"<td class=n>{line.amount - line.before_taxes:.{places}f}</td>"
        f"<td class=n>{line.amount:.{places}f}</td></tr>\n"
    )


def _colophon(statement: Statement) -> str:
    told = [
        f"Amounts in {escape(statement.currency)}. Lines are exact; the sums above are rounded once, to the "
        "currency's minor unit."
    ]
    if statement.digest:
        told.append(f"Digest of the closed statement: {escape(statement.digest)}.")
    return " ".join(told)
