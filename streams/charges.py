"""What sessions and CDRs with an authorization reference cost, for the payments fold.

The amount that a payment terminal provider ought to reserve is the tariff's `preauthorize_amount`
(mod_tariffs of 2.3.0 payments); of several tariffs, the greatest.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Protocol

from schemas.keys import object_key, party_key
from schemas.ocpi.objects import CDR, Session, Tariff
from schemas.payments import ChargeRecord, payment_key
from schemas.records import BillRecord, SessionRecord, micros, quantized

_ZERO = quantized(Decimal(0))

WITHDRAWN = "WITHDRAWN"
"""Status of a session that does not count for a payment any more."""


class Kept(Protocol):
    """The last event of a session."""

    received_at: int
    event_id: bytes


def limit_of(tariffs: Iterable[Tariff]) -> Decimal | None:
    """What is reserved before a session with these tariffs; None where none of them says."""
    amounts = [one.preauthorize_amount for one in tariffs if one.preauthorize_amount is not None]
    return quantized(max(amounts)) if amounts else None


def charge_of_cdr(cdr: CDR, bill: BillRecord, limit: Decimal | None) -> ChargeRecord | None:
    """What a CDR costs, as billed; None without a reference."""
    if not cdr.authorization_reference:
        return None
    token, total = cdr.cdr_token, bill.amounts[0]
    before = total.billed_before_taxes or _ZERO
    return ChargeRecord(
        key=bill.key,
        payment=payment_key((token.country_code, token.party_id), cdr.authorization_reference),
        reference=cdr.authorization_reference,
        kind="cdr",
        session_key=bill.session_key,
        session_id=cdr.session_id,
        cdr_id=cdr.id,
        operator=party_key(cdr.country_code, cdr.party_id),
        provider=party_key(token.country_code, token.party_id),
        token_uid=token.uid,
        token_type=token.type,
        auth_method=str(cdr.auth_method),
        status="COMPLETED",
        currency=cdr.currency,
        before_taxes=before,
        after_taxes=before if total.billed_after_taxes is None else total.billed_after_taxes,
        credit=bill.credit,
        preauthorized=limit,
        invoice_reference_id=cdr.invoice_reference_id,
        started_at=bill.started_at,
        ended_at=bill.ended_at,
        kwh=bill.total_energy,
        location_id=bill.location_id,
        evse_uid=bill.evse_uid,
        received_at=bill.received_at,
        event_id=bill.event_id,
    )


def payment_of(session: Session) -> str | None:
    """Key of the payment that a session refers to."""
    if not session.authorization_reference:
        return None
    token = session.cdr_token
    return payment_key((token.country_code, token.party_id), session.authorization_reference)


def charge_of_session(
    session: Session, payment: str, kept: Kept, record: SessionRecord | None, limit: Decimal | None
) -> ChargeRecord:
    """What a session costs so far: as reported, else as priced.

    Nothing, and WITHDRAWN, when it refers to another payment by now, or a CDR has taken its place (`record`
    is None).
    """
    token = session.cdr_token
    before: Decimal | None = None
    after: Decimal | None = None
    gone = record is None or payment != payment_of(session)
    if record is not None and not gone:
        if record.reported_before_taxes is not None:
            before, after = record.reported_before_taxes, record.reported_after_taxes
        else:
            before, after = record.price_before_taxes, record.price_after_taxes
    key = object_key(session.country_code, session.party_id, session.id)
    end = session.end_date_time
    return ChargeRecord(
        key=key,
        payment=payment,
        reference=payment.split("*", 2)[2] if gone else session.authorization_reference or "",
        kind="session",
        session_key=key,
        session_id=session.id,
        cdr_id=None,
        operator=party_key(session.country_code, session.party_id),
        provider="*".join(payment.split("*", 2)[:2]),
        token_uid=token.uid,
        token_type=token.type,
        auth_method=str(session.auth_method),
        status=WITHDRAWN if gone else str(session.status),
        currency=session.currency,
        before_taxes=before or _ZERO,
        after_taxes=after if after is not None else before or _ZERO,
        credit=False,
        preauthorized=None if gone else limit,
        invoice_reference_id=None,
        started_at=micros(session.start_date_time),
        ended_at=None if end is None else micros(end),
        kwh=quantized(session.kwh),
        location_id=session.location_id,
        evse_uid=session.evse_uid,
        received_at=kept.received_at,
        event_id=kept.event_id,
    )
