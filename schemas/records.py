"""Events (what partners said) and records (what was concluded), as Python sees them.

The Avro schemas in `schemas/avro/` are the contract with every other reader; the classes here carry the same
fields, in the same order. Timestamps are microseconds since 1970 in UTC (`micros`, `moment`), amounts are
decimals with nine places (`quantized`) in units of the record's currency; energy is kWh.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import ClassVar, Self

import msgspec

from schemas.codec import Codec

_PLACES = Decimal("1e-9")
_CONTEXT = Context(prec=38, rounding=ROUND_HALF_EVEN)


def quantized(number: Decimal) -> Decimal:
    """The number with nine places, as every amount in a record. Raises InvalidOperation beyond 29 digits."""
    return number.quantize(_PLACES, context=_CONTEXT)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(micros: int) -> datetime:
    """The aware UTC datetime of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=micros)


def _unpacked(data: bytes | str | None) -> Decimal | None:
    if isinstance(data, str):  # a default, as it stands in the schema
        data = data.encode("latin-1")
    return None if data is None else Decimal(int.from_bytes(data, "big", signed=True)).scaleb(-9, _CONTEXT)


class Record(msgspec.Struct, kw_only=True):
    """Base of everything that is written to the log."""

    codec: ClassVar[Codec]
    decimals: ClassVar[tuple[str, ...]] = ()
    # Fields with lists of structs, each with the decimals among theirs.
    nested: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def encode(self) -> bytes:
        """The record in Avro single-object encoding."""
        return self.codec.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The record from its bytes, of whichever version. Raises schemas.codec.UnknownSchemaError."""
        datum = cls.codec.decode(data)
        for name in cls.decimals:
            datum[name] = _unpacked(datum[name])
        for field, decimals in cls.nested.items():
            for fields in datum[field]:
                for name in decimals:
                    fields[name] = _unpacked(fields[name])
        return msgspec.convert(datum, cls)


class Event(Record):
    """A request as it passed the door. See `schemas/avro/event-2.avsc`."""

    codec: ClassVar[Codec] = Codec("event")

    id: bytes
    received_at: int
    sender: str
    version: str
    module: str
    method: str
    key: str
    path: list[str]
    request_id: str | None
    correlation_id: str | None
    body: bytes
    receiver: str | None = None

    @classmethod
    def decode(cls, data: bytes) -> Event:
        """As Record.decode, the short way: every fold starts here."""
        return _read_event(data)


_read_event = Event.codec.reader(Event, Event.__struct_fields__)


class Told(msgspec.Struct, kw_only=True):
    """An event without what only the evidence needs: who said it, by which path and request."""

    id: bytes
    received_at: int
    version: str
    module: str
    method: str
    key: str
    body: bytes


read_told = Event.codec.reader(Told, Told.__struct_fields__)
"""The fields of an event's bytes that a fold needs. Raises schemas.codec.UnknownSchemaError."""


def event_id(sender: str, module: str, method: str, path: Iterable[str], body: bytes) -> bytes:
    """Sixteen bytes that are the same for the same request sent again, and differ otherwise."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (sender, module, method, *path):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    digest.update(body)
    return digest.digest()


class PeriodRecord(msgspec.Struct, kw_only=True):
    """A charging period of a session, with the end that OCPI leaves to the reader."""

    started_at: int
    ended_at: int
    kwh: Decimal
    charging: bool
    tariff_id: str | None


class SessionRecord(Record):
    """A session's state and running price. See `schemas/avro/session-2.avsc`."""

    codec: ClassVar[Codec] = Codec("session")
    decimals: ClassVar[tuple[str, ...]] = (
        "kwh",
        "reported_before_taxes",
        "reported_after_taxes",
        "price_before_taxes",
        "price_after_taxes",
    )
    nested: ClassVar[Mapping[str, tuple[str, ...]]] = {"periods": ("kwh",)}

    key: str
    country_code: str
    party_id: str
    session_id: str
    status: str
    started_at: int
    ended_at: int | None
    kwh: Decimal
    currency: str
    location_id: str
    evse_uid: str
    connector_id: str
    token_country_code: str
    token_party_id: str
    token_uid: str
    contract_id: str
    auth_method: str
    cdr_id: str | None
    reported_before_taxes: Decimal | None
    reported_after_taxes: Decimal | None
    price_before_taxes: Decimal | None
    price_after_taxes: Decimal | None
    tariffs: list[str]
    warnings: list[str]
    last_updated: int
    received_at: int
    event_id: bytes
    periods: list[PeriodRecord]
    invalid_candidate: bool = False


class AmountRecord(msgspec.Struct, kw_only=True):
    """One total of a bill: as billed, as priced, and the verdict."""

    total: str
    billed_before_taxes: Decimal | None
    billed_after_taxes: Decimal | None
    priced_before_taxes: Decimal | None
    priced_after_taxes: Decimal | None
    verdict: str


class BillRecord(Record):
    """A CDR, what it should have been, and the verdicts. See `schemas/avro/bill-1.avsc`."""

    codec: ClassVar[Codec] = Codec("bill")
    decimals: ClassVar[tuple[str, ...]] = ("total_energy", "total_time", "total_parking_time")
    nested: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "amounts": ("billed_before_taxes", "billed_after_taxes", "priced_before_taxes", "priced_after_taxes")
    }

    key: str
    session_key: str
    country_code: str
    party_id: str
    cdr_id: str
    session_id: str | None
    credit: bool
    credit_reference_id: str | None
    started_at: int
    ended_at: int
    currency: str
    location_id: str
    evse_uid: str
    connector_id: str
    token_country_code: str
    token_party_id: str
    token_uid: str
    contract_id: str
    total_energy: Decimal
    total_time: Decimal
    total_parking_time: Decimal | None
    amounts: list[AmountRecord]
    verdict: str
    reason: str
    tariffs: list[str]
    tariff_source: str
    late_tariff: bool
    warnings: list[str]
    last_updated: int
    received_at: int
    event_id: bytes


class TaxRecord(msgspec.Struct, kw_only=True):
    """A tax in an amount: its name, its percentage where it is known, how much of it."""

    name: str
    percentage: Decimal | None
    amount: Decimal


class ClaimRecord(Record):
    """What a CDR entitles its operator to, or the hub's fee for one. See `schemas/avro/claim-2.avsc`.

    `taxes` is the sum of `billed_taxes`. A claim comes again, as a whole, when the price of its CDR changes.
    """

    codec: ClassVar[Codec] = Codec("claim")
    decimals: ClassVar[tuple[str, ...]] = (
        *("before_taxes", "taxes", "kwh", "priced_before_taxes", "priced_after_taxes"),
    )
    nested: ClassVar[Mapping[str, tuple[str, ...]]] = {"billed_taxes": ("percentage", "amount")}

    id: str
    session_key: str
    creditor: str
    debtor: str
    currency: str
    before_taxes: Decimal
    taxes: Decimal
    credit_of: str | None
    occurred_at: int
    event_id: bytes
    kind: str = "cdr"
    credit: bool = False
    cdr_id: str = ""
    session_id: str | None = None
    started_at: int = 0
    ended_at: int = 0
    kwh: Decimal = Decimal(0)
    location_id: str = ""
    token_uid: str = ""
    contract_id: str = ""
    billed_taxes: list[TaxRecord] = []
    priced_before_taxes: Decimal | None = None
    priced_after_taxes: Decimal | None = None
    verdict: str = ""
    reason: str = ""
    tariffs: list[str] = []


class LegRecord(msgspec.Struct, kw_only=True):
    """One side of a posting: debit positive, credit negative."""

    account: str
    amount: Decimal


class EntryRecord(Record):
    """A settlement entry: one balanced posting, never changed. See `schemas/avro/entry-2.avsc`.

    `kind`: cdr, credit, correction (what takes a posting back, and the one that takes its place), fee,
    payment or rounding. `statement` is the reference of the statement that it is on; `sequence` counts the
    entries of a creditor, debtor and currency, without a gap.
    """

    codec: ClassVar[Codec] = Codec("entry")
    decimals: ClassVar[tuple[str, ...]] = ("amount", "kwh", "before_taxes")
    nested: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "legs": ("amount",),
        "taxes": ("percentage", "amount"),
    }

    id: str
    session_key: str
    creditor: str
    debtor: str
    currency: str
    amount: Decimal
    credit_of: str | None
    occurred_at: int
    event_id: bytes
    legs: list[LegRecord]
    kind: str = "cdr"
    claim: str = ""
    sequence: int = 0
    reverses: str | None = None
    basis: str = "as_billed"
    statement: str = ""
    late: bool = False
    cdr_id: str = ""
    session_id: str | None = None
    started_at: int = 0
    ended_at: int = 0
    kwh: Decimal = Decimal(0)
    location_id: str = ""
    token_uid: str = ""
    contract_id: str = ""
    before_taxes: Decimal = Decimal(0)
    taxes: list[TaxRecord] = []
    tariffs: list[str] = []


class QuarantineRecord(Record):
    """What could not be folded, and why. See `schemas/avro/quarantine-1.avsc`."""

    codec: ClassVar[Codec] = Codec("quarantine")

    topic: str
    partition: int
    offset: int
    reason: str
    message: str
    received_at: int | None
    value: bytes


class DeliveryRecord(Record):
    """What became of an object that a platform has to get. See `schemas/avro/delivery-1.avsc`."""

    codec: ClassVar[Codec] = Codec("delivery")

    connection: str
    module: str
    key: str
    outcome: str
    digest: bytes
    attempts: int
    http: int | None
    ocpi: int | None
    message: str
    since: int
    at: int
