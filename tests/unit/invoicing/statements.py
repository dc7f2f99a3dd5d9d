"""Statements for the tests of documents, made by the ledger's own arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from schemas.records import EntryRecord, TaxRecord, micros, quantized
from schemas.settlement import Reference, Statement
from streams.invoicing.parties import PartyDetails
from streams.ledger.periods import period_of
from streams.ledger.statements import Sums, add, closed_statement, line_of, record_of

ZONE = "Europe/Amsterdam"
SELLER = PartyDetails(
    country_code="NL",
    party_id="TNM",
    name="Operator <BV>",
    vat_id="NL123456789B01",
    company_number="12345678",
    street="Damrak 1",
    postal_code="1012 LG",
    city="Amsterdam",
    country="NL",
    email="billing@operator.example",
    iban="NL91ABNA0417164300",
    bic="ABNANL2A",
)
BUYER = PartyDetails(
    country_code="DE",
    party_id="EMS",
    name="Provider GmbH",
    vat_id="DE123456789",
    street="Hauptstraße 1",
    postal_code="10115",
    city="Berlin",
    country="DE",
)


def at(text: str) -> int:
    """Microseconds of a time in UTC."""
    return micros(datetime.fromisoformat(text).replace(tzinfo=UTC))


def entry(
    number: int,
    before: str | Decimal,
    percentage: str | None = "21",
    tax: str | Decimal | None = None,
    **changes: Any,
) -> EntryRecord:
    """A posting; without `tax`, the percentage of what is before taxes, in billionths."""
    net = quantized(Decimal(before))
    rate = None if percentage is None else quantized(Decimal(percentage))
    amount = quantized(net * (rate or 0) / 100 if tax is None else Decimal(tax))
    taxes = [TaxRecord(name="VAT", percentage=rate, amount=amount)] if rate is not None or amount else []
    fields: dict[str, Any] = {
        "id": f"NL*TNM*C{number}#1",
        "session_key": f"NL*TNM*S{number}",
        "creditor": "NL*TNM",
        "debtor": "DE*EMS",
        "currency": "EUR",
        "amount": net + amount,
        "credit_of": None,
        "occurred_at": at("2026-03-05T12:00:00"),
        "event_id": bytes(16),
        "legs": [],
        "kind": "cdr" if net >= 0 else "credit",
        "sequence": number,
        "statement": "NLTNM-DEEMS-EUR-202603",
        "cdr_id": f"C{number}",
        "session_id": f"S{number}",
        "started_at": at("2026-03-05T10:00:00"),
        "ended_at": at("2026-03-05T11:30:00"),
        "kwh": quantized(Decimal("12.345")),
        "location_id": "LOC1",
        "token_uid": "TOKEN1",
        "contract_id": "DE-EMS-C12345678-X",
        "before_taxes": net,
        "taxes": taxes,
    }
    return EntryRecord(**(fields | changes))


def closed(
    entries: Sequence[EntryRecord], currency: str = "EUR", opening: str = "0", paid: str = "0"
) -> Statement:
    """The closed statement for March 2026 with these postings."""
    reference = Reference("NL*TNM", "DE*EMS", currency, "202603")
    mine = [_on(one, str(reference), currency) for one in entries]
    period = period_of("month", ZONE, at("2026-03-05T12:00:00"))
    sums = Sums(period.start, period.end, {}, {})
    for one in sorted(mine, key=lambda one: one.sequence):
        add(sums, line_of(one))
    record = record_of(reference, ZONE, sums, Decimal(opening), at("2026-04-02T22:30:00"), bytes(16))
    return closed_statement(record, mine, Decimal(paid))


def _on(one: EntryRecord, reference: str, currency: str) -> EntryRecord:
    one.statement, one.currency = reference, currency
    return one
