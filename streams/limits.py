"""The ad-hoc session that has used up what was reserved for it is stopped.

Of the three ways in which a session ends, two are for its limit: the payment terminal provider sends a
StopSession, or the operator's backend stops it by itself (mod_payments, "Transaction"). Not every one of them
does. So Voltfold, which knows what the session costs and stands between the two, sends that StopSession to
the operator in the provider's name, when the price comes to `stop_percent` of the reserved amount: between
two updates of a session its price goes on.

Here it is decided, once for each session, and written as a request; the courier makes it (`api/stops.py`).
What the share is, the log says (`streams.clock`), and without a clock in it nothing is stopped. So a replay
decides the same; and since it delivers nothing, it stops nothing.
"""

from __future__ import annotations

from schemas.payments import ChargeRecord
from schemas.records import Event, event_id
from streams.clock import Tick
from streams.ledger.state import ISSUER
from streams.requests import MODULE, OURS, Requested

MODULE_OF_RESULTS = "stops"
"""Module of the events that tell a payment what became of its stop; path: session, ANSWERED or RESULTED."""
NAME = "STOP_SESSION"
CARD = "AD_HOC_USER"
_GOING = frozenset({"ACTIVE", "PENDING"})
_VERSION = "2.3.0"


def is_reached(charge: ChargeRecord, tick: Tick | None) -> bool:
    """Whether a session has come so near to its limit that it is to be stopped."""
    if tick is None or not tick.stop_percent or not charge.preauthorized:
        return False
    return (
        charge.kind == "session"
        and charge.token_type == CARD
        and charge.status in _GOING
        and charge.ended_at is None
        and 100 * charge.after_taxes >= tick.stop_percent * charge.preauthorized
    )


def request_to_stop(charge: ChargeRecord) -> Event:
    """The request to stop a session, which has the same id whoever decides it and how often.

    It is from the provider to the operator; what comes of it is for the payment.
    """
    asked = Requested(
        *("commands", NAME, charge.session_id or "", charge.provider, OURS, charge.operator, ""),
        charge.payment,
    )
    key = event_id(ISSUER, MODULE, "POST", [NAME, charge.payment, charge.key], b"").hex()
    path = asked.path
    return Event(
        id=event_id(ISSUER, MODULE, "POST", [key, *path], b""),
        received_at=charge.received_at,
        sender=ISSUER,
        version=_VERSION,
        module=MODULE,
        method="POST",
        key=key,
        path=path,
        request_id=None,
        correlation_id=None,
        body=b"",
    )
