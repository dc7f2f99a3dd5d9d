"""What the ledger fold keeps: claims, books, receipts, invoices, policies; each under keys of their own."""

from __future__ import annotations

from decimal import Decimal
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec

from schemas.records import (
    ClaimRecord,
    Event,
    TaxRecord,
)
from schemas.settlement import (
    Decision,
    Policy,
    Receipt,
    StatementRecord,
    pair_key,
)
from streams.ledger import statements
from streams.ledger.settling import (
    ZERO,
    Amount,
    amount_of,
)
from streams.quarantine import RefusedError
from streams.table import Shelf
from streams.versions import Version

ISSUER = "voltfold"
"""The sender of the events that this fold writes itself."""
MODULE = "invoicereconciliation"
"""The module of invoice reconciliation records."""
CHUNK = 64

B = TypeVar("B")


class Posted(msgspec.Struct, array_like=True):
    """What stands in the books for a claim: the entry, and its amount."""

    entry: str
    before: Decimal
    taxes: list[TaxRecord]

    @property
    def amount(self) -> Amount:
        return amount_of(self.before, self.taxes)


class KeptDecision(msgspec.Struct, array_like=True):
    """The last decision on a claim."""

    at: int
    event_id: bytes
    decision: Decision


class KeptClaim(msgspec.Struct, array_like=True):
    """A claim. It may be known by its credits or by a decision before it is here itself."""

    claim: ClaimRecord | None = None
    credits: list[str] = []
    decided: KeptDecision | None = None
    posted: Posted | None = None
    entries: int = 0
    first: str | None = None
    """The statement that its first posting is on."""
    last: str | None = None
    status: str = ""
    reason: str = ""
    emitted: bytes = b""
    fees: dict[str, bytes] = {}


class Book(msgspec.Struct, array_like=True):
    """What a debtor owes a creditor in a currency: accounts, open periods by statement, the last closing."""

    sequence: int = 0
    closed_until: int = 0
    closing: Decimal = ZERO
    accounts: dict[str, Decimal] = {}
    open: dict[str, statements.Sums] = {}


class KeptReceipt(msgspec.Struct, array_like=True):
    """A receipt, and its entry."""

    receipt: Receipt
    event_id: bytes
    entry: str | None = None
    emitted: bytes = b""
    entries: int = 0


class KeptInvoice(msgspec.Struct, array_like=True):
    """An invoice reconciliation record."""

    owner: str = ""
    other: str = ""
    id: str = ""
    invoice_id: str = ""
    cdrs: list[str] = []
    last_updated: int = 0
    received_at: int = 0
    event_id: bytes = b""
    issued: bool = False
    deleted: bool = False
    emitted: bytes = b""


Emitting = KeptClaim | KeptReceipt | KeptInvoice
"""What remembers the last record that was written of it."""


class KeptPolicies(msgspec.Struct, array_like=True):
    """Versions of the policy of a creditor and a debtor."""

    versions: list[Version[Policy]] = []


CLAIMS = Shelf(b"c", KeptClaim, KeptClaim)
SESSIONS: Shelf[list[str]] = Shelf(b"s", list[str], list)
BOOKS = Shelf(b"b", Book, Book)
CLOSED: Shelf[StatementRecord] = Shelf(b"w", StatementRecord, lambda: StatementRecord(**never()))
COUNTS: Shelf[int] = Shelf(b"n", int, int)
MEMBERS: Shelf[list[str]] = Shelf(b"m", list[str], list)
POLICIES = Shelf(b"y", KeptPolicies, KeptPolicies)
RECEIPTS: Shelf[KeptReceipt] = Shelf(b"z", KeptReceipt, lambda: KeptReceipt(**never()))
PAYING: Shelf[list[str]] = Shelf(b"p", list[str], list)
INVOICES = Shelf(b"r", KeptInvoice, KeptInvoice)
LISTED: Shelf[list[str]] = Shelf(b"v", list[str], list)
MATCHED: Shelf[list[str]] = Shelf(b"u", list[str], list)


def never() -> Any:
    raise AssertionError("a state that is only made from what is known")


def digest_of(value: bytes) -> bytes:
    return blake2b(value, digest_size=16).digest()


def body(event: Event, kind: type[B]) -> B:
    try:
        return msgspec.json.decode(event.body, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise RefusedError("invalid_object", f"{event.module}: {error}") from None


def held_to(pair: str, creditor: str, debtor: str) -> None:
    if pair != pair_key(creditor, debtor):
        raise RefusedError("wrong_pair", f"{creditor} and {debtor} do not belong under {pair}")
