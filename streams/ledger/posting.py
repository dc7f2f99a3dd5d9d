"""Entries: each one balanced, with a deterministic id, never changed. What was wrong is taken back by
another.

Accounts are `PARTY:kind:COUNTERPARTY`: the debtor's payable; the creditor's revenue, tax (one for each tax
and percentage, behind a further colon), bank and rounding. Debit is positive, credit negative.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from hashlib import blake2b

from schemas.records import ClaimRecord, EntryRecord, LegRecord, quantized
from schemas.settlement import Receipt, Reference
from streams.ledger.settling import ZERO, Amount


class UnbalancedError(Exception):
    """An entry whose legs do not sum to zero: a defect, which must not reach the books."""


def entry_of(
    claim: ClaimRecord,
    amount: Amount,
    *,
    kind: str,
    basis: str,
    number: int,
    sequence: int,
    statement: str,
    late: bool,
    event_id: bytes,
    reverses: str | None = None,
) -> EntryRecord:
    """The posting of an amount for a claim, its `number`th. Raises UnbalancedError."""
    creditor, debtor = claim.creditor, claim.debtor
    taxes = amount.records()
    legs = [
        (f"{debtor}:payable:{creditor}", amount.gross),
        (f"{creditor}:revenue:{debtor}", -amount.before),
        *((_tax_account(creditor, debtor, one.name, one.percentage), -one.amount) for one in taxes),
    ]
    return EntryRecord(
        id=_id(claim.id, number, event_id, claim.tariffs, legs, reverses),
        session_key=claim.session_key,
        creditor=creditor,
        debtor=debtor,
        currency=claim.currency,
        amount=quantized(amount.gross),
        credit_of=claim.credit_of,
        occurred_at=claim.occurred_at,
        event_id=event_id,
        legs=_legs(legs),
        kind=kind,
        claim=claim.id,
        sequence=sequence,
        reverses=reverses,
        basis=basis,
        statement=statement,
        late=late,
        cdr_id=claim.cdr_id,
        session_id=claim.session_id,
        started_at=claim.started_at,
        ended_at=claim.ended_at,
        kwh=claim.kwh,
        location_id=claim.location_id,
        token_uid=claim.token_uid,
        contract_id=claim.contract_id,
        before_taxes=quantized(amount.before),
        taxes=taxes,
        tariffs=claim.tariffs,
    )


def payment_of(
    receipt: Receipt,
    creditor: str,
    debtor: str,
    *,
    number: int,
    sequence: int,
    statement: str,
    late: bool,
    event_id: bytes,
    reverses: str | None = None,
) -> EntryRecord:
    """The posting of money received, the receipt's `number`th; with `reverses`, it is taken back."""
    amount = quantized(receipt.amount if reverses is None else -receipt.amount)
    legs = [(f"{debtor}:payable:{creditor}", -amount), (f"{creditor}:bank:{debtor}", amount)]
    entry = _plain(
        Reference(creditor, debtor, receipt.currency, ""), receipt.id, legs, "payment", receipt.received_on,
        sequence=sequence, statement=statement, late=late, event_id=event_id,
    )  # fmt: skip
    entry.id = _id(receipt.id, number, event_id, (), legs, reverses)
    entry.reverses = reverses
    return entry


def rounding_of(
    reference: Reference, amount: Decimal, at: int, *, sequence: int, event_id: bytes
) -> EntryRecord:
    """The posting of what rounding added to a statement."""
    creditor, debtor = reference.creditor, reference.debtor
    legs = [(f"{debtor}:payable:{creditor}", amount), (f"{creditor}:rounding:{debtor}", -amount)]
    return _plain(
        reference, str(reference), legs, "rounding", at,
        sequence=sequence, statement=str(reference), late=False, event_id=event_id,
    )  # fmt: skip


def _plain(
    of: Reference,
    claim: str,
    legs: list[tuple[str, Decimal]],
    kind: str,
    at: int,
    *,
    sequence: int,
    statement: str,
    late: bool,
    event_id: bytes,
) -> EntryRecord:
    return EntryRecord(
        id=_id(claim, 1, event_id, (), legs, None),
        session_key="",
        creditor=of.creditor,
        debtor=of.debtor,
        currency=of.currency,
        amount=quantized(legs[0][1]),
        credit_of=None,
        occurred_at=at,
        event_id=event_id,
        legs=_legs(legs),
        kind=kind,
        claim=claim,
        sequence=sequence,
        basis=kind,
        statement=statement,
        late=late,
        started_at=at,
        ended_at=at,
        kwh=ZERO,
        before_taxes=ZERO,
    )


def _id(
    claim: str,
    number: int,
    event_id: bytes,
    tariffs: Iterable[str],
    legs: Iterable[tuple[str, Decimal]],
    reverses: str | None,
) -> str:
    """`CLAIM#NUMBER-HASH`: the hash ties it to the event and the price that caused it."""
    digest = blake2b(event_id, digest_size=8)
    for part in (claim, str(number), *tariffs, reverses or "", *(f"{name}={one:f}" for name, one in legs)):
        digest.update(part.encode() + b"\0")
    return f"{claim}#{number}-{digest.hexdigest()}"


def _legs(legs: Iterable[tuple[str, Decimal]]) -> list[LegRecord]:
    found: dict[str, Decimal] = {}
    for account, amount in legs:
        found[account] = found.get(account, ZERO) + amount
    if sum(found.values(), ZERO) != 0:
        raise UnbalancedError(f"the legs sum to {sum(found.values(), ZERO)}: {found}")
    return [
        LegRecord(account=account, amount=quantized(amount)) for account, amount in found.items() if amount
    ]


def _tax_account(creditor: str, debtor: str, name: str, percentage: Decimal | None) -> str:
    what = name if percentage is None else f"{name} {percentage.normalize():f}%"
    return f"{creditor}:tax:{debtor}" + (f":{what}" if what else "")
