"""Settlement, as Python sees it: what is concluded (records), what is decided (bodies of events in the ledger
topic), and the statement that a creditor and a debtor get to see.

Amounts are decimals with nine places in units of their currency; those of a statement's totals are rounded to
the currency's minor unit (`schemas.currencies`), which is the one place where money is rounded. Parties are
`CC*PID`, times microseconds since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import ClassVar

import msgspec

from schemas.codec import Codec
from schemas.records import Record, TaxRecord

# -- where it goes -------------------------------------------------------------------------------------------


def pair_key(one: str, other: str) -> str:
    """Key of the ledger topic: the two parties (`CC*PID`) in alphabetical order, `DE*EMS|NL*TNM`."""
    return "|".join(sorted((one.upper(), other.upper())))


def reference_of(creditor: str, debtor: str, currency: str, period: str) -> str:
    """A statement's reference, which says by itself whose it is: `NLTNM-DEEMS-EUR-202603`."""
    return f"{creditor.replace('*', '')}-{debtor.replace('*', '')}-{currency}-{period}".upper()


_REFERENCE = re.compile(
    r"(?<![A-Z0-9])([A-Z]{2})([A-Z0-9]{1,3})-([A-Z]{2})([A-Z0-9]{1,3})-([A-Z]{3})-"
    r"(\d{8}|\d{6}|\d{4}W\d{2})(?![A-Z0-9])"
)


class Reference(msgspec.Struct, frozen=True):
    """What a statement's reference says."""

    creditor: str
    debtor: str
    currency: str
    period: str

    def __str__(self) -> str:
        return reference_of(self.creditor, self.debtor, self.currency, self.period)


def read_references(text: str) -> list[Reference]:
    """The statement references in a text, such as a payment's remittance information, in their order.

    Case does not count, nor does white space that a bank put between the characters of one.
    """
    plain = text.upper()
    found = _REFERENCE.findall(plain) or _REFERENCE.findall(re.sub(r"\s+", "", plain))
    return list(
        dict.fromkeys(Reference(f"{one[0]}*{one[1]}", f"{one[2]}*{one[3]}", one[4], one[5]) for one in found)
    )


# -- bodies of events in the ledger topic (JSON) -------------------------------------------------------------

MODES = ("as_billed", "as_priced", "within_tolerance")
PERIODS = ("day", "week", "month")
ISSUES = ("none", "direct", "reverse")


class Fee(msgspec.Struct, frozen=True, kw_only=True):
    """What a hub takes for each CDR that is settled in this currency: `party` from `payer`."""

    currency: str
    party: str
    payer: str
    fixed: Decimal = Decimal(0)
    per_kwh: Decimal = Decimal(0)
    percent: Decimal = Decimal(0)
    """Of what is settled, before taxes."""
    tax_name: str = ""
    tax_percentage: Decimal = Decimal(0)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Module `policies`: what is settled between a creditor and a debtor for services from `since` on."""

    creditor: str
    debtor: str
    since: int
    mode: str = "as_billed"
    tolerance_amount: Decimal = Decimal(0)
    tolerance_percent: Decimal = Decimal(0)
    period: str = "month"
    time_zone: str = "UTC"
    issue: str = "none"
    fees: list[Fee] = []
    why: str = ""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Module `decisions`: what a person says about a claim: `accept` (as billed) or `reject`."""

    claim: str
    creditor: str
    debtor: str
    verdict: str
    why: str


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """Module `closings`: this statement's period is over."""

    reference: str
    why: str = ""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Module `receipts`: money that the creditor got; from the debtor to the creditor when positive.

    `id` is the payment's own, unique for ever (the bank's reference, the card's capture). Without parties it
    is listed and not posted. `source`: bank, card or other.
    """

    id: str
    currency: str
    amount: Decimal
    received_on: int
    creditor: str | None = None
    debtor: str | None = None
    statement: str | None = None
    source: str = "bank"
    text: str = ""


# -- records -------------------------------------------------------------------------------------------------


class SettledRecord(Record):
    """Where a claim stands. See `schemas/avro/settled-1.avsc`."""

    codec: ClassVar[Codec] = Codec("settled")
    decimals: ClassVar[tuple[str, ...]] = (
        *("billed_before_taxes", "billed_taxes", "priced_before_taxes", "priced_after_taxes"),
        *("settled_before_taxes", "settled_taxes", "credited"),
    )

    id: str
    session_key: str
    creditor: str
    debtor: str
    currency: str
    kind: str
    credit_of: str | None
    status: str
    reason: str
    message: str
    basis: str
    billed_before_taxes: Decimal
    billed_taxes: Decimal
    priced_before_taxes: Decimal | None
    priced_after_taxes: Decimal | None
    settled_before_taxes: Decimal
    settled_taxes: Decimal
    credited: Decimal
    verdict: str
    decision: str | None
    why: str
    statement: str | None
    entries: int
    ended_at: int
    occurred_at: int
    event_id: bytes


class TaxTotal(msgspec.Struct, kw_only=True):
    """A statement's sum for one tax and percentage, rounded. An empty name: what no tax was named for."""

    name: str
    percentage: Decimal | None
    base: Decimal
    amount: Decimal


class StatementRecord(Record):
    """A closed statement without its lines. See `schemas/avro/statement-1.avsc`."""

    codec: ClassVar[Codec] = Codec("statement")
    decimals: ClassVar[tuple[str, ...]] = (
        *("opening", "total_before_taxes", "total", "rounding", "payments", "closing"),
    )
    nested: ClassVar[Mapping[str, tuple[str, ...]]] = {"taxes": ("percentage", "base", "amount")}

    reference: str
    creditor: str
    debtor: str
    currency: str
    period: str
    time_zone: str
    period_start: int
    period_end: int
    opening: Decimal
    total_before_taxes: Decimal
    taxes: list[TaxTotal]
    total: Decimal
    rounding: Decimal
    payments: Decimal
    closing: Decimal
    entries: int
    late: int
    closed_at: int
    event_id: bytes
    lines_digest: str
    digest: str


class ReceiptRecord(Record):
    """A payment received, and what became of it. See `schemas/avro/receipt-1.avsc`."""

    codec: ClassVar[Codec] = Codec("receipt")
    decimals: ClassVar[tuple[str, ...]] = ("amount",)

    id: str
    creditor: str | None
    debtor: str | None
    currency: str
    amount: Decimal
    statement: str | None
    source: str
    text: str
    outcome: str
    entry_id: str | None
    received_on: int
    event_id: bytes


class FeeRecord(msgspec.Struct, kw_only=True):
    """A policy's fee; as `Fee`."""

    currency: str
    party: str
    payer: str
    fixed: Decimal
    per_kwh: Decimal
    percent: Decimal
    tax_name: str
    tax_percentage: Decimal


class PolicyRecord(Record):
    """A policy as it is in force. See `schemas/avro/policy-1.avsc`."""

    codec: ClassVar[Codec] = Codec("policy")
    decimals: ClassVar[tuple[str, ...]] = ("tolerance_amount", "tolerance_percent")
    nested: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "fees": ("fixed", "per_kwh", "percent", "tax_percentage")
    }

    creditor: str
    debtor: str
    since: int
    mode: str
    tolerance_amount: Decimal
    tolerance_percent: Decimal
    period: str
    time_zone: str
    issue: str
    fees: list[FeeRecord]
    why: str
    received_at: int
    event_id: bytes


class DifferenceRecord(msgspec.Struct, kw_only=True):
    """One CDR that an invoice and our books do not agree on."""

    cdr_id: str
    outcome: str
    detail: str
    billed: Decimal | None
    settled: Decimal | None


class ReconciliationRecord(Record):
    """An invoice reconciliation record against our books. See `schemas/avro/reconciliation-1.avsc`."""

    codec: ClassVar[Codec] = Codec("reconciliation")
    decimals: ClassVar[tuple[str, ...]] = ("amount",)
    nested: ClassVar[Mapping[str, tuple[str, ...]]] = {"differences": ("billed", "settled")}

    key: str
    owner: str
    counterparty: str
    id: str
    invoice_id: str
    billing: str
    issued: bool
    statement: str | None
    currency: str | None
    status: str
    amount: Decimal
    matched: int
    differences: list[DifferenceRecord]
    last_updated: int
    received_at: int
    event_id: bytes


# -- the statement with its lines ----------------------------------------------------------------------------


class Line(msgspec.Struct, kw_only=True):
    """One line of a statement: an entry as a person reads it. Amounts are exact, not rounded.

    `kind`: cdr, credit, correction, fee or payment (negative: it lessens what is owed).
    """

    entry_id: str
    sequence: int
    kind: str
    late: bool
    cdr_id: str
    session_id: str | None
    started_at: int
    ended_at: int
    kwh: Decimal
    location_id: str
    token_uid: str
    contract_id: str
    before_taxes: Decimal
    taxes: list[TaxRecord]
    amount: Decimal


class Statement(msgspec.Struct, kw_only=True):
    """What a creditor and a debtor owe each other for a period in one direction, with every line.

    `opening` + `total` - `payments` = `closing`; `total` is `total_before_taxes` and the taxes' amounts.
    `paid` is what was received for this statement so far, whenever it came. `closed_at` None: still open,
    and then neither rounding line nor digest.
    """

    reference: str
    creditor: str
    debtor: str
    currency: str
    period: str
    time_zone: str
    period_start: int
    period_end: int
    opening: Decimal
    total_before_taxes: Decimal
    taxes: list[TaxTotal]
    total: Decimal
    rounding: Decimal
    payments: Decimal
    closing: Decimal
    paid: Decimal = Decimal(0)
    closed_at: int | None = None
    lines_digest: str = ""
    digest: str = ""
    lines: list[Line] = []
