"""An invoice in UN/CEFACT Cross Industry Invoice, as Factur-X has it, written by `drafthorse`.

Business terms (BT-n) and groups (BG-n) are those of EN 16931-1.
"""

from __future__ import annotations

from decimal import Decimal

from drafthorse.models.accounting import ApplicableTradeTax
from drafthorse.models.document import Document
from drafthorse.models.note import IncludedNote
from drafthorse.models.party import TaxRegistration, TradeParty
from drafthorse.models.payment import PaymentMeans, PaymentTerms
from drafthorse.models.product import ProductCharacteristic
from drafthorse.models.tradelines import LineItem

from schemas.settlement import Statement
from streams.banking.references import structured
from streams.invoicing import einvoice
from streams.invoicing.einvoice import Invoice, InvoiceLine
from streams.invoicing.figures import ITEMS, local
from streams.invoicing.parties import PartyDetails, zero_tax_of

SCHEMA = "FACTUR-X_EN16931"
_ONE = "C62"  # UN/ECE Recommendation 20: one
_SEPA, _TRANSFER = "58", "30"  # UNTDID 4461


def write(statement: Statement, seller: PartyDetails, buyer: PartyDetails) -> bytes:
    """The invoice of a closed statement as XML, checked against the schema of Factur-X's profile EN 16931.

    Raises MissingDetailsError (a ValueError) when a party's details do not suffice, InvoiceError when the
    statement cannot be an invoice.
    """
    invoice = einvoice.figures(statement, zero_tax_of(seller, buyer))
    einvoice.check_details(invoice, seller, buyer)
    doc = Document()
    doc.context.guideline_parameter.id = einvoice.PROFILE
    doc.header.id = statement.reference  # BT-1
    doc.header.type_code = "381" if invoice.credit_note else "380"  # BT-3
    doc.header.issue_date_time = einvoice.issued_on(statement)  # BT-2
    note = IncludedNote()  # BT-22
    note.content = f"Charging services, statement {statement.reference}, digest {statement.digest}"
    doc.header.notes.add(note)
    agreement = doc.trade.agreement
    if buyer.buyer_reference:
        agreement.buyer_reference = buyer.buyer_reference  # BT-10
    _party(agreement.seller, seller)  # BG-4
    _party(agreement.buyer, buyer)  # BG-7
    for number, line in enumerate(invoice.lines, 1):
        doc.trade.items.add(_line(number, line, statement))
    doc.trade.delivery.event.occurrence = einvoice.days_of(statement)[1]  # BT-72
    _settlement(doc, statement, invoice, seller)
    xml: bytes = doc.serialize(schema=SCHEMA)
    return xml


def _party(party: TradeParty, details: PartyDetails) -> None:
    party.id = details.key  # BT-29, BT-46
    party.name = details.name  # BT-27, BT-44
    if details.company_number:
        party.legal_organization.id = ("", details.company_number)  # BT-30, BT-47
    party.address.postcode = details.postal_code
    party.address.line_one = details.street
    party.address.line_two = details.street_more
    party.address.city_name = details.city
    party.address.country_id = details.country  # BT-40, BT-55
    party.address.country_subdivision = details.region
    if details.email:
        party.electronic_address.uri_ID = ("EM", details.email)  # BT-34, BT-49
    if details.vat_id:
        party.tax_registrations.add(TaxRegistration(id=("VA", details.vat_id)))  # BT-31, BT-48
    if details.tax_number:
        party.tax_registrations.add(TaxRegistration(id=("FC", details.tax_number)))  # BT-32


def _line(number: int, each: InvoiceLine, statement: Statement) -> LineItem:
    line, net = each.line, each.net
    item = LineItem()
    item.document.line_id = str(number)  # BT-126
    if line.late:
        note = IncludedNote()  # BT-127
        note.content = "Arrived after its own period was closed"
        item.document.notes.add(note)
    of_several = f", at {each.rate:f} %" if each.part else ""
    item.product.name = f"{ITEMS[line.kind]} {line.cdr_id or line.entry_id}{of_several}"  # BT-153
    started = local(line.started_at, statement.time_zone)
    ended = local(line.ended_at, statement.time_zone)
    # Of a session and its place: BG-32.
    for name, value in (
        ("kWh", f"{line.kwh.normalize():f}" if each.part < 2 else ""),
        ("Start", started.isoformat(timespec="seconds")),
        ("End", ended.isoformat(timespec="seconds")),
        ("Location", line.location_id),
        ("Contract", line.contract_id),
        ("Token", line.token_uid),
    ):
        if value:
            item.product.characteristics.add(ProductCharacteristic(description=name, value=value))
    sign = -1 if net < 0 else 1
    item.agreement.net.amount = abs(net)  # BT-146
    item.delivery.billed_quantity = (Decimal(sign), _ONE)  # BT-129, BT-130
    item.settlement.trade_tax.type_code = "VAT"
    item.settlement.trade_tax.category_code = each.category  # BT-151
    item.settlement.trade_tax.rate_applicable_percent = each.rate  # BT-152
    item.settlement.period.start = started.date()  # BT-134
    item.settlement.period.end = ended.date()  # BT-135
    item.settlement.monetary_summation.total_amount = net  # BT-131
    if line.cdr_id:
        reference = item.settlement.additional_referenced_document  # BT-128
        reference.issuer_assigned_id = line.cdr_id
        reference.type_code = "130"
    return item


def _settlement(doc: Document, statement: Statement, invoice: Invoice, seller: PartyDetails) -> None:
    settlement = doc.trade.settlement
    settlement.currency_code = statement.currency  # BT-5
    settlement.payment_reference = structured(statement.reference)  # BT-83
    if seller.iban:
        means = PaymentMeans()  # BG-16
        means.type_code = _SEPA if statement.currency == "EUR" else _TRANSFER
        means.payee_account.iban = seller.iban
        means.payee_account.account_name = seller.account_name or seller.name
        if seller.bic:
            means.payee_institution.bic = seller.bic
        settlement.payment_means.add(means)
    for row in invoice.vat:
        tax = ApplicableTradeTax()  # BG-23
        tax.calculated_amount = row.amount
        tax.type_code = "VAT"
        reason, code = einvoice.reason_of(row.category, seller)
        if reason:
            tax.exemption_reason = reason
        if code:
            tax.exemption_reason_code = code
        tax.basis_amount = row.base
        tax.category_code = row.category
        tax.rate_applicable_percent = row.rate
        settlement.trade_tax.add(tax)
    settlement.period.start, settlement.period.end = einvoice.days_of(statement)  # BT-73, BT-74
    terms = PaymentTerms()
    terms.description = f"Payable within {seller.payment_days} days"  # BT-20
    terms.due = einvoice.due_on(statement, seller)  # BT-9
    settlement.terms.add(terms)
    totals = settlement.monetary_summation  # BG-22
    totals.line_total = invoice.net
    totals.charge_total = Decimal("0.00")
    totals.allowance_total = Decimal("0.00")
    totals.tax_basis_total = invoice.net
    totals.tax_total = (sum((row.amount for row in invoice.vat), Decimal("0.00")), statement.currency)
    if invoice.rounding:
        totals.rounding_amount = invoice.rounding
    totals.grand_total = invoice.gross
    totals.prepaid_total = Decimal("0.00")
    totals.due_amount = invoice.due
