"""CSV, JSON and the page to print: exact, the same bytes each time, and safe with what partners write."""

from __future__ import annotations

import csv
import io
import json
import re
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import html

from schemas.records import quantized
from streams.invoicing.figures import money, plain
from streams.invoicing.page import to_html
from streams.invoicing.parties import PartyDetails
from streams.invoicing.tables import COLUMNS, safe, to_csv, to_json
from tests.unit.invoicing.statements import BUYER, SELLER, at, closed, entry

STATEMENT = closed(
    [
        entry(1, "10.123456789"),
        entry(2, "-2.00", "9"),
        entry(3, "1.50", "9", late=True, cdr_id="=1+1", location_id='<script>alert("x")</script>'),
        entry(4, "0", None, kind="payment", amount=Decimal(-20)),
    ],
    opening="7.00",
    paid="5.00",
)
SHOWN = to_html(STATEMENT, SELLER, BUYER).decode()


def test_csv_has_every_line_exactly() -> None:
    """One row each; sums of the rows are those of the lines."""
    rows = list(csv.DictReader(io.StringIO(to_csv(STATEMENT).decode(), newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert [row["cdr_id"] for row in rows] == ["C1", "C2", "'=1+1", "C4"]
    assert [row["late"] for row in rows] == ["no", "no", "yes", "no"]
    assert Decimal(rows[0]["before_taxes"]) == Decimal("10.123456789")
    assert rows[0]["taxes_by_name"] == "VAT 21 %: 2.125925926"
    assert rows[1]["before_taxes"] == "-2.00"
    assert rows[0]["started_at"] == "2026-03-05T10:00:00Z"
    assert sum(Decimal(row["amount"]) for row in rows) == sum(line.amount for line in STATEMENT.lines)


def test_json_has_all_of_it_exactly() -> None:
    """Amounts as strings, times with their zone."""
    found = json.loads(to_json(STATEMENT))
    assert found["total"] == plain(STATEMENT.total, 2)
    assert found["closing"] == "-1.30"
    assert found["closed_at"] == "2026-04-02T22:30:00Z"
    assert found["period_start"] == "2026-02-28T23:00:00Z"
    assert [tax["percentage"] for tax in found["taxes"]] == ["21", "9"]
    assert len(found["lines"]) == len(STATEMENT.lines)
    line = found["lines"][0]
    assert (line["before_taxes"], line["taxes"][0]["amount"], line["kwh"]) == (
        "10.123456789",
        "2.125925926",
        "12.345",
    )
    assert found["digest"] == STATEMENT.digest


def test_the_page_says_who_owes_what() -> None:
    """Its figures are the statement's."""
    page = html.fromstring(SHOWN)
    texts = [
        " ".join(" ".join(cell.itertext()) for cell in row).replace("\xa0", " ") for row in page.iter("tr")
    ]
    assert "VAT 9 % -0.50 -0.05" in texts
    assert "VAT 21 % 10.12 2.13" in texts
    assert "Opening balance 7.00" in texts
    assert "Services without taxes 9.62" in texts
    assert "Taxes 2.08" in texts
    assert "Total of the period 11.70" in texts
    assert "Payments received in the period -20.00" in texts
    assert "Closing balance -1.30 EUR" in texts
    assert "Paid for this statement so far 5.00" in texts
    assert len(page.find_class("lines")[0].findall("tbody/tr")) == 4
    assert [tag.text for tag in page.find_class("tag")] == ["Credit", "late", "Payment"]
    for what in (
        SELLER.name,
        SELLER.vat_id,
        BUYER.name,
        BUYER.city,
        STATEMENT.digest,
        "2026-03-01 to 2026-03-31",
    ):
        assert what in page.text_content()


def test_the_net_of_both_directions() -> None:
    """When there is something owed in return."""
    opposite = closed([entry(1, "4.00", "0")])
    shown = html.fromstring(to_html(STATEMENT, SELLER, BUYER, opposite)).text_content()
    assert "Net of both directions" in shown
    assert money(STATEMENT.closing - opposite.closing, "EUR") in shown


def test_the_page_needs_nothing_and_runs_nothing() -> None:
    """No script, no link, nothing to load; what partners wrote is text."""
    page = html.fromstring(SHOWN)
    assert not page.xpath("//script | //link | //img | //iframe | //@onload | //@src | //@href")
    assert "url(" not in SHOWN
    assert "@import" not in SHOWN
    assert '<script>alert("x")</script>' in page.text_content()
    assert "Operator <BV>" in page.text_content()


def test_an_open_statement_says_so() -> None:
    """And shows neither a due date nor a digest."""
    still_open = msgspec.structs.replace(STATEMENT, closed_at=None, digest="")
    nobody = PartyDetails(country_code="NL", party_id="TNM")
    page = html.fromstring(to_html(still_open, nobody, nobody)).text_content()
    assert "Open: not final" in page
    assert "Due" not in page
    assert "Digest" not in page
    assert json.loads(to_json(still_open))["closed_at"] is None


def test_a_due_date_and_how_to_pay() -> None:
    """When something is owed."""
    page = html.fromstring(to_html(closed([entry(1, "10.00")]), SELLER, BUYER)).text_content()
    assert "Due 2026-05-03" in page
    assert re.search(r"Payment reference RF\d\d NLTN MDEE MSEU R202 603", page)
    assert "IBAN NL91 ABNA 0417 1643 00" in page


def test_the_same_bytes_again() -> None:
    """Made anew from the same postings, in whatever order they came."""
    entries = [entry(number, f"{number}.01", opened) for number, opened in ((1, "21"), (2, "9"), (3, "0"))]
    one, other = closed(entries), closed(entries[::-1])
    for write in (to_csv, to_json, lambda statement: to_html(statement, SELLER, BUYER)):
        assert write(one) == write(other)


@settings(deadline=None)
@given(st.text())
def test_no_cell_is_a_formula(text: str) -> None:
    """However an identifier begins."""
    assert safe(text)[:1] not in ("=", "+", "-", "@", "\t", "\r")
    assert safe(text).removeprefix("'") == text.removeprefix("'")


@settings(deadline=None)
@given(st.decimals(min_value=-(10**9), max_value=10**9, places=9), st.integers(0, 4))
def test_numbers_are_spelled_exactly(number: Decimal, places: int) -> None:
    """Without exponents, with the decimals that were asked for or more."""
    text = plain(quantized(number), places)
    assert Decimal(text) == number
    assert re.fullmatch(r"-?\d+(\.\d+)?", text)
    assert len(text.partition(".")[2]) >= places


@pytest.mark.parametrize(("text", "shown"), [("-0", "0"), ("-0.00", "0"), ("1E+3", "1000"), ("0E-9", "0")])
def test_odd_numbers(text: str, shown: str) -> None:
    """Nothing is minus zero."""
    assert plain(Decimal(text)) == shown


def test_times_of_an_unknown_zone() -> None:
    """Are those of UTC."""
    statement = msgspec.structs.replace(
        STATEMENT, time_zone="Nowhere/City", closed_at=at("2026-04-02T22:30:00")
    )
    assert "2026-04-02 22:30" in html.fromstring(to_html(statement, SELLER, BUYER)).text_content()
