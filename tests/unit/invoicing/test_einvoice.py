"""E-invoices: valid by the schema and by the rules of EN 16931, with the totals of the statement.

The rules are checked twice: by the Schematron that Factur-X publishes, run as it is, and by arithmetic of our
own on what the XML says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import facturx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree
from saxonche import PySaxonProcessor

from schemas.records import EntryRecord, TaxRecord, quantized
from schemas.settlement import Statement
from streams.banking.references import found_in
from streams.invoicing.cii import write
from streams.invoicing.einvoice import InvoiceError, figures
from streams.invoicing.parties import MissingDetailsError, PartyDetails
from tests.unit.invoicing.statements import BUYER, SELLER, at, closed, entry

RULES = Path(facturx.__file__).parent / "xsd_and_schematron" / "facturx-en16931"
NAMES = {
    "ram": "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100",
    "rsm": "urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100",
    "svrl": "http://purl.oclc.org/dsdl/svrl",
}
CENT = Decimal("0.01")

Breaks = Callable[[bytes], list[str]]
"""The rules that an invoice breaks, warnings included."""


@pytest.fixture(scope="module")
def breaks() -> Iterator[Breaks]:
    """Factur-X's schema and Schematron for its profile EN 16931."""
    schema = etree.XMLSchema(etree.parse(RULES / "Factur-X_EN16931.xsd"))
    with PySaxonProcessor(license=False) as processor:
        rules = processor.new_xslt30_processor().compile_stylesheet(
            stylesheet_file=str(RULES / "FACTUR-X_EN16931.xslt")
        )

        def check(xml: bytes) -> list[str]:
            schema.assertValid(etree.fromstring(xml))
            report = rules.transform_to_string(xdm_node=processor.parse_xml(xml_text=xml.decode()))
            told = etree.fromstring(report.encode())
            assert told.findall(".//svrl:fired-rule", NAMES)
            return [" ".join(one.itertext()).strip() for one in told.findall(".//svrl:failed-assert", NAMES)]

        yield check


def amounts(xml: bytes, path: str) -> list[Decimal]:
    """The numbers at a path."""
    return [Decimal(one.text) for one in etree.fromstring(xml).findall(f".//{path}", NAMES)]


def check_arithmetic(xml: bytes, statement: Statement) -> None:
    """BR-CO-10, 13, 14, 15, 16, 17 and BR-S-08, and the statement's own totals."""
    root = etree.fromstring(xml)
    turn = -1 if root.findtext(".//rsm:ExchangedDocument/ram:TypeCode", None, NAMES) == "381" else 1
    totals = root.find(".//ram:SpecifiedTradeSettlementHeaderMonetarySummation", NAMES)
    assert totals is not None

    def total(name: str) -> Decimal:
        return Decimal(totals.findtext(f"ram:{name}", "0", NAMES))

    lines: dict[tuple[str, Decimal], Decimal] = {}
    for line in root.findall(".//ram:IncludedSupplyChainTradeLineItem", NAMES):
        settlement = line.find("ram:SpecifiedLineTradeSettlement", NAMES)
        assert settlement is not None
        category = settlement.findtext("ram:ApplicableTradeTax/ram:CategoryCode", "", NAMES)
        rate = Decimal(settlement.findtext("ram:ApplicableTradeTax/ram:RateApplicablePercent", "", NAMES))
        net = Decimal(settlement.findtext(".//ram:LineTotalAmount", "", NAMES))
        price = Decimal(line.findtext(".//ram:ChargeAmount", "", NAMES))
        assert price >= 0
        assert net == price * Decimal(line.findtext(".//ram:BilledQuantity", "", NAMES))
        lines[category, rate] = lines.get((category, rate), Decimal(0)) + net
    taxes = Decimal(0)
    rows = root.findall(".//ram:ApplicableHeaderTradeSettlement/ram:ApplicableTradeTax", NAMES)
    for row in rows:
        base = Decimal(row.findtext("ram:BasisAmount", "", NAMES))
        rate = Decimal(row.findtext("ram:RateApplicablePercent", "", NAMES))
        tax = Decimal(row.findtext("ram:CalculatedAmount", "", NAMES))
        assert lines.pop((row.findtext("ram:CategoryCode", "", NAMES), rate)) == base
        assert tax == (base * rate / 100).quantize(CENT, ROUND_HALF_UP)
        taxes += tax
    assert not lines
    assert total("LineTotalAmount") == total("TaxBasisTotalAmount") == turn * statement.total_before_taxes
    assert total("TaxTotalAmount") == taxes
    assert total("GrandTotalAmount") == total("TaxBasisTotalAmount") + taxes
    assert total("DuePayableAmount") == total("GrandTotalAmount") + total("RoundingAmount")
    assert total("DuePayableAmount") == turn * statement.total


def test_a_month(breaks: Breaks) -> None:
    """Two rates, a credit, a correction, a fee, a late one, a payment in between: one valid invoice."""
    statement = closed(
        [
            entry(1, "12.345678901"),
            entry(2, "-3.10", "9"),
            entry(3, "0.333333333", "9", late=True, started_at=at("2026-02-10T10:00:00")),
            entry(4, "-12.345678901", kind="correction"),
            entry(5, "12.00", kind="correction", cdr_id="A&B<C>"),
            entry(6, "40.50", "9"),
            entry(7, "0.10", kind="fee", location_id="", token_uid="", contract_id=""),
            entry(8, "0", None, kind="payment", amount=Decimal(-20)),
        ],
        opening="7.00",
    )
    xml = write(statement, SELLER, BUYER)
    assert breaks(xml) == []
    check_arithmetic(xml, statement)
    root = etree.fromstring(xml)
    assert len(root.findall(".//ram:IncludedSupplyChainTradeLineItem", NAMES)) == 7
    assert b"A&amp;B&lt;C&gt;" in xml
    for what in (SELLER.name, SELLER.vat_id, SELLER.iban, BUYER.name, BUYER.vat_id, statement.reference):
        assert what in "".join(root.itertext())
    # closed at half past midnight in Amsterdam, to be paid within 30 days
    dates = {one.getparent().tag.rpartition("}")[2]: one.text for one in root.iter("{*}DateTimeString")}
    assert dates["IssueDateTime"] == "20260403"
    assert dates["DueDateDateTime"] == "20260503"
    assert write(statement, SELLER, BUYER) == xml


def test_who_pays_by_the_invoice_is_matched() -> None:
    """The payment reference on it (BT-83) leads to the statement."""
    statement = closed([entry(1, "10.00")])
    found = etree.fromstring(write(statement, SELLER, BUYER)).findtext(".//ram:PaymentReference", "", NAMES)
    assert [str(one) for one in found_in([found])] == [statement.reference]


def test_a_credit_note(breaks: Breaks) -> None:
    """A statement that comes out negative, with a rate that does not."""
    statement = closed([entry(1, "-10.00"), entry(2, "2.00", "9"), entry(3, "1.00")])
    xml = write(statement, SELLER, BUYER)
    assert b">381<" in xml
    assert breaks(xml) == []
    check_arithmetic(xml, statement)


@pytest.mark.parametrize(
    ("changes", "category"),
    [
        ({}, "AE"),
        ({"zero_tax": "E", "zero_tax_reason": "Small business"}, "E"),
        ({"zero_tax": "G"}, "G"),
        ({"zero_tax": "Z"}, "Z"),
    ],
)
def test_without_tax(breaks: Breaks, changes: dict[str, str], category: str) -> None:
    """Every category has the reason that its rule wants."""
    seller = msgspec.structs.replace(SELLER, **changes)
    statement = closed([entry(1, "10.00", None), entry(2, "5.00", "0"), entry(3, "1.00", "21")])
    xml = write(statement, seller, BUYER)
    assert breaks(xml) == []
    check_arithmetic(xml, statement)
    assert f"<ram:CategoryCode>{category}<".encode() in xml
    assert changes.get("zero_tax_reason", "").encode() in xml


def test_least_details(breaks: Breaks) -> None:
    """Names, countries and a VAT number are enough."""
    seller = PartyDetails(country_code="NL", party_id="TNM", name="A", country="NL", vat_id="NL123456789B01")
    buyer = PartyDetails(country_code="DE", party_id="EMS", name="B", country="DE")
    assert breaks(write(closed([entry(1, "10.00")]), seller, buyer)) == []


def test_other_currencies(breaks: Breaks) -> None:
    """Without decimals: whole units."""
    statement = closed([entry(1, "1234.4", "10"), entry(2, "99.7", "10")], "JPY")
    xml = write(statement, SELLER, BUYER)
    assert breaks(xml) == []
    assert amounts(xml, "ram:DuePayableAmount") == [Decimal(1467)]


def test_taxes_without_a_rate() -> None:
    """A bill with and without tax only: a rate that the statement names, else the one they come to."""
    tenth = entry(1, "0.10", None, "0.02")
    statement = closed([entry(2, "10.00"), tenth, entry(3, "50.00", None, "4.50")])
    found = figures(statement, "Z")
    assert [row.rate for row in found.vat] == [Decimal(9), Decimal(21)]
    assert found.due == statement.total
    overall = figures(closed([entry(1, "3.00", None, "0.57"), entry(2, "97.00", None, "18.43")]), "Z")
    assert [row.rate for row in overall.vat] == [Decimal(19)]


def test_a_tax_that_rounds_to_nothing() -> None:
    """Is a tax of its rate, and the line is none without tax."""
    found = figures(closed([entry(1, "0.01", "21", "0.00"), entry(2, "10.00")]), "AE")
    assert [(row.category, row.rate, row.base) for row in found.vat] == [("S", 21, Decimal("10.01"))]


def two_rates(before: str, *taxes: tuple[str, str], name: str = "VAT") -> EntryRecord:
    """A posting with amounts of one tax at several rates."""
    found = entry(1, before, None)
    found.taxes = [
        TaxRecord(
            name=name if number else "VAT",
            percentage=quantized(Decimal(rate)),
            amount=quantized(Decimal(tax)),
        )
        for number, (rate, tax) in enumerate(taxes)
    ]
    found.amount = found.before_taxes + sum(one.amount for one in found.taxes)
    return found


def test_a_line_at_two_rates_is_two_lines(breaks: Breaks) -> None:
    """Energy at 21 %, parking at 9 %, and what bears nothing: as much of the price as the taxes say."""
    statement = closed([two_rates("13.50", ("21", "2.10"), ("9", "0.27")), entry(2, "5.00", "9")])
    xml = write(statement, SELLER, BUYER)
    assert breaks(xml) == []
    check_arithmetic(xml, statement)
    found = figures(statement, "Z")
    assert [(one.rate, one.net, one.part) for one in found.lines] == [
        (21, Decimal("10.00"), 1), (9, Decimal("3.00"), 2), (0, Decimal("0.50"), 3), (9, Decimal("5.00"), 0),
    ]  # fmt: skip
    assert xml.count(b"C1, at 9 %") == 1
    assert xml.count(b"<ram:Description>kWh<") == 2, "the energy is said once"


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 50_000), st.integers(0, 50_000), st.integers(0, 9_999)),
        min_size=1, max_size=6,
    ),
    st.booleans(),
)  # fmt: skip
def test_lines_at_two_rates_add_up(prices: list[tuple[int, int, int]], credit: bool) -> None:
    """Whatever their taxes were rounded to: the parts are the line, and what is due is the statement's."""
    entries = []
    for number, (energy, parking, free) in enumerate(prices, 1):
        taxes = [(rate, (Decimal(net) * Decimal(rate) / 100).quantize(Decimal(1)) / 100)
                 for rate, net in (("21", energy), ("9", parking))]  # fmt: skip
        sign = -1 if credit and number % 2 else 1
        made = two_rates(str(sign * Decimal(energy + parking + free) / 100),
                         *((rate, str(sign * tax)) for rate, tax in taxes))  # fmt: skip
        made.id, made.cdr_id, made.sequence = f"NL*TNM*C{number}#1", f"C{number}", number
        entries.append(made)
    statement = closed(entries)
    found = figures(statement, "Z")
    turn = -1 if found.credit_note else 1
    assert found.due == turn * statement.total
    assert sum(one.net for one in found.lines) == found.net == turn * statement.total_before_taxes
    assert abs(found.rounding) <= CENT * (2 * len(prices) + 1)


def test_refusals() -> None:
    """Each says what is wrong."""
    statement = closed([entry(1, "10.00")])
    with pytest.raises(InvoiceError, match="still open"):
        figures(msgspec.structs.replace(statement, closed_at=None), "Z")
    with pytest.raises(InvoiceError, match="nothing to invoice"):
        figures(closed([entry(1, "0", None, kind="payment", amount=Decimal(-20))]), "Z")
    with pytest.raises(InvoiceError, match="two decimals"):
        figures(closed([entry(1, "1.234")], "KWD"), "Z")
    with pytest.raises(InvoiceError, match="names no rate"):
        figures(closed([entry(1, "100.00", None, "12.34567")]), "Z")
    with pytest.raises(InvoiceError, match="not its rates' share"):
        figures(closed([entry(1, "100.00", "21", "19.00")]), "Z")
    with pytest.raises(InvoiceError, match="do not add up"):
        figures(msgspec.structs.replace(statement, total_before_taxes=Decimal("11.00")), "Z")
    twice = entry(1, "10.00")
    twice.taxes = [*twice.taxes, *twice.taxes]
    with pytest.raises(InvoiceError, match="2 taxes"):
        figures(closed([twice]), "Z")
    for several in (two_rates("10.00", ("5", "0.50"), ("7", "0.70"), name="PST"),
                    two_rates("10.00", ("5", "0.50"), ("7", "0.70"))):  # fmt: skip
        with pytest.raises(InvoiceError, match="2 taxes on one price"):
            figures(closed([several]), "Z")


@pytest.mark.parametrize(
    ("who", "field", "percentage"),
    [
        ("NL*TNM", "name", "21"),
        ("NL*TNM", "country", "21"),
        ("NL*TNM", "vat_id", "21"),
        ("DE*EMS", "name", "21"),
        ("DE*EMS", "country", "21"),
        ("DE*EMS", "vat_id", "0"),
    ],
)
def test_what_is_missing_is_told(who: str, field: str, percentage: str) -> None:
    """With the command that sets it."""
    parties = {one.key: one for one in (msgspec.structs.replace(SELLER, zero_tax="AE"), BUYER)}
    parties[who] = msgspec.structs.replace(parties[who], **{field: ""})
    with pytest.raises(MissingDetailsError) as told:
        write(closed([entry(1, "10.00", percentage)]), parties["NL*TNM"], parties["DE*EMS"])
    assert (told.value.party, told.value.fields) == (who, [field])
    assert f"voltfold party set '{who}' --{field.replace('_', '-')}" in str(told.value)


bills = st.lists(
    st.tuples(
        st.decimals(min_value=-500, max_value=500, places=9), st.sampled_from(["21", "9", "5.5", "0", None])
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(bills)
def test_any_statement_adds_up(lines: list[tuple[Decimal, str | None]]) -> None:
    """Line by line: none is off by a whole cent; together: what is due is what the statement says."""
    statement = closed([entry(number, net, rate) for number, (net, rate) in enumerate(lines, 1)])
    found = figures(statement, "Z")
    turn = -1 if found.credit_note else 1
    assert sum(one.net for one in found.lines) == found.net == turn * statement.total_before_taxes
    assert found.due == turn * statement.total
    assert abs(found.rounding) <= CENT * len(found.vat)
    rates = len(found.vat)
    assert all(abs(one.net - turn * one.line.before_taxes) < CENT * rates for one in found.lines)


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bills)
def test_any_statement_is_a_valid_invoice(breaks: Breaks, lines: list[tuple[Decimal, str | None]]) -> None:
    """Whatever is on it: no rule is broken, and not a cent is lost."""
    statement = closed([entry(number, net, rate) for number, (net, rate) in enumerate(lines, 1)])
    xml = write(statement, SELLER, BUYER)
    assert breaks(xml) == []
    check_arithmetic(xml, statement)
