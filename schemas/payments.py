"""Payments, as Python sees them: what an authorised session costs, and what became of its payment.

Amounts are decimals with nine places in units of their currency, times microseconds since 1970, parties
`CC*PID`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import ClassVar

import msgspec

from schemas.codec import Codec
from schemas.keys import object_key
from schemas.records import Record


def payment_key(provider: tuple[str, str], reference: str) -> str:
    """Key of a payment: whose token and terminal it is, and that party's authorization reference.

    Two providers may give the same reference; neither may touch the payments of the other.
    """
    return object_key(*provider, reference)


class ChargeRecord(Record):
    """What a session or a CDR with an authorization reference costs. See `schemas/avro/charge-1.avsc`."""

    codec: ClassVar[Codec] = Codec("charge")
    decimals: ClassVar[tuple[str, ...]] = ("before_taxes", "after_taxes", "kwh", "preauthorized")

    key: str
    payment: str
    reference: str
    kind: str
    session_key: str
    session_id: str | None
    cdr_id: str | None
    operator: str
    provider: str
    token_uid: str
    token_type: str
    auth_method: str
    status: str
    currency: str
    before_taxes: Decimal
    after_taxes: Decimal
    credit: bool
    preauthorized: Decimal | None
    invoice_reference_id: str | None
    started_at: int
    ended_at: int | None
    kwh: Decimal
    location_id: str
    evse_uid: str
    received_at: int
    event_id: bytes


class CaptureRecord(msgspec.Struct, kw_only=True):
    """A confirmation of a capture: `status` as in mod_payments, "CaptureStatusCode"."""

    id: str
    status: str
    currency: str
    amount: Decimal
    message: str | None
    at: int


class PaymentRecord(Record):
    """What became of a payment. See `schemas/avro/payment-2.avsc`."""

    codec: ClassVar[Codec] = Codec("payment")
    decimals: ClassVar[tuple[str, ...]] = ("preauthorized", "due", "captured", "difference", "kwh")
    nested: ClassVar[Mapping[str, tuple[str, ...]]] = {"captures": ("amount",)}

    key: str
    reference: str
    provider: str
    operator: str | None
    kind: str
    status: str
    issues: list[str]
    currency: str | None
    preauthorized: Decimal | None
    due: Decimal | None
    captured: Decimal
    difference: Decimal | None
    session_key: str | None
    session_id: str | None
    cdr_id: str | None
    cdrs: list[str]
    captures: list[CaptureRecord]
    invoice_reference_id: str | None
    invoice_by: str | None
    token_uid: str | None
    token_type: str | None
    location_id: str | None
    evse_uid: str | None
    started_at: int | None
    ended_at: int | None
    kwh: Decimal | None
    waiting_since: int
    received_at: int
    event_id: bytes
    stop: str | None = None
