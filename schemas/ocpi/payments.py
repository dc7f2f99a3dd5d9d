"""OCPI 2.3.0's payments and invoice reconciliation: terminals, confirmations of captures, invoiced CDRs.

The payments module's own examples lack some of what its table of fields requires, so what is asked for
depends on the request (`wire` has a kind for each):

- a terminal that is created may come without `last_updated` ("just the terminal id"): `NewTerminal`;
- one that is activated or updated by PUT may come without `terminal_id`: `TerminalUpdate`;
- a PATCH, which assigns locations and EVSEs, may come without `last_updated`;
- a confirmation of a failed capture has no `eft_data`;
- the price of a confirmation is written as in 2.2.1 (`excl_vat`, `incl_vat`), or as in 2.3.0: `EitherPrice`.
"""

# ruff: noqa: RUF012 - an empty default of a struct is copied for each object

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from schemas.ocpi import v221
from schemas.ocpi.objects import (
    CdrId,
    CiString3,
    CiString10,
    CiString20,
    CiString36,
    CiString45,
    CiString255,
    CountryCode,
    Currency,
    DateTime,
    GeoLocation,
    Id,
    Number,
    Part,
    PartyId,
    Price,
    Short,
    TaxAmount,
    Url,
    sane,
    utc,
)


class InvoiceCreator(StrEnum):
    """mod_payments, "InvoiceCreator"."""

    CPO = "CPO"
    PTP = "PTP"


class CaptureStatusCode(StrEnum):
    """mod_payments, "CaptureStatusCode"."""

    SUCCESS = "SUCCESS"
    PARTIAL_SUCCESS = "PARTIAL_SUCCESS"
    FAILED = "FAILED"


class _TerminalParts(Part, frozen=True, kw_only=True):
    customer_reference: CiString36 | None = None
    party_id: PartyId | None = None
    country_code: CountryCode | None = None
    address: CiString45 | None = None
    city: CiString45 | None = None
    postal_code: CiString10 | None = None
    state: CiString20 | None = None
    country: CiString3 | None = None
    coordinates: GeoLocation | None = None
    invoice_base_url: Url | None = None
    invoice_creator: InvoiceCreator | None = None
    reference: CiString36 | None = None
    location_ids: list[CiString36] = []
    evse_uids: list[CiString36] = []


class Terminal(_TerminalParts, frozen=True, kw_only=True):
    """mod_payments, "Terminal". Party id and country code are those of the CPO that uses it."""

    terminal_id: Id
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)


class NewTerminal(_TerminalParts, frozen=True, kw_only=True):
    """mod_payments, "POST Terminal Method": a terminal as it is created."""

    terminal_id: Id
    last_updated: DateTime | None = None

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)


class TerminalUpdate(_TerminalParts, frozen=True, kw_only=True):
    """mod_payments, "POST Activate Terminal Method" and "PUT Terminal Method"."""

    terminal_id: Id | None = None
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)


class FinancialAdviceConfirmation(Part, frozen=True, kw_only=True):
    """mod_payments, "Financial Advice Confirmation". `total_costs` is what was captured, taxes included."""

    id: Id
    authorization_reference: Id
    total_costs: Price
    currency: Currency
    eft_data: list[Short] = []
    capture_status_code: CaptureStatusCode
    capture_status_message: Short | None = None
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)


class EitherPrice(Part, frozen=True, kw_only=True):
    """types, "Price" of 2.3.0 or of 2.2.1."""

    before_taxes: Number | None = None
    taxes: list[TaxAmount] = []
    excl_vat: Number | None = None
    incl_vat: Number | None = None

    def __post_init__(self) -> None:
        sane("before_taxes", self.before_taxes)
        sane("excl_vat", self.excl_vat)
        sane("incl_vat", self.incl_vat)
        if self.before_taxes is None and self.excl_vat is None:
            raise ValueError("before_taxes: is required, but missing")
        if self.before_taxes is not None and (self.excl_vat is not None or self.incl_vat is not None):
            raise ValueError("excl_vat: is another way to say before_taxes; one of them is expected")
        if self.excl_vat is not None and self.taxes:
            raise ValueError("taxes: belongs to before_taxes")


class SentConfirmation(Part, frozen=True, kw_only=True):
    """A Financial Advice Confirmation with either form of price."""

    id: Id
    authorization_reference: Id
    total_costs: EitherPrice
    currency: Currency
    eft_data: list[Short] = []
    capture_status_code: CaptureStatusCode
    capture_status_message: Short | None = None
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)


def up_confirmation(sent: SentConfirmation) -> FinancialAdviceConfirmation:
    """With the price as 2.3.0 has it."""
    costs = sent.total_costs
    if costs.before_taxes is not None:
        price: Price | None = Price(before_taxes=costs.before_taxes, taxes=costs.taxes)
    else:
        assert costs.excl_vat is not None
        price = v221.up_price(v221.Price(excl_vat=costs.excl_vat, incl_vat=costs.incl_vat))
    return v221.recast(sent, FinancialAdviceConfirmation, total_costs=price)


class InvoiceReconciliationRecord(Part, frozen=True, kw_only=True):
    """mod_invoice_reconciliation, "InvoiceReconciliationRecord". An id of a CDR may be as long as there."""

    country_code: CountryCode
    party_id: PartyId
    id: Id
    invoice_id: CiString255
    cdrs: Annotated[list[CdrId], Meta(min_length=1)]
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)
