"""What an event makes of a payment terminal (mod_payments, "Terminal Assignment", "Terminal Activation").

The terminal belongs to its provider (PTP), who creates it by POST. The operator (CPO) assigns locations and
EVSEs to it by PATCH, and updates it by PUT. Neither takes away what the other said: a PUT changes the fields
that it names, as the specification's own example has it, and a POST that names no assignment leaves it as it
is. A terminal that is deactivated serves nothing any more.

A request without `last_updated` counts from when it was received.

Pure.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec.structs import replace

from schemas.ocpi import wire
from schemas.ocpi.payments import Terminal
from schemas.ocpi.v221 import recast
from schemas.records import Event, moment

MODULE = "terminals"
ACTIVATE, DEACTIVATE = "activate", "deactivate"


def asks(event: Event) -> str:
    """What an event asks for beside its method: ACTIVATE, DEACTIVATE, or nothing."""
    return event.path[5] if len(event.path) > 5 else ""


def after(current: Terminal | None, event: Event) -> Terminal | None:
    """The terminal after an event; None when it says nothing about one that is known.

    Raises schemas.ocpi.wire.InvalidObjectError.
    """
    received = moment(event.received_at - event.received_at % 1000)
    match event.method, asks(event):
        case "POST", "":
            new = wire.decode("new_terminal", event.version, event.body)
            kept: dict[str, Any] = {}
            if current is not None:
                if not (new.location_ids or new.evse_uids):
                    kept = {"location_ids": current.location_ids, "evse_uids": current.evse_uids}
                kept |= {name: getattr(current, name) for name in OPERATOR if getattr(new, name) is None}
            found = recast(new, Terminal, last_updated=new.last_updated or received, **kept)
        case "POST", "deactivate" if current is not None:
            found = replace(
                current, location_ids=[], evse_uids=[], last_updated=_later(current.last_updated, received)
            )
        case (("PUT" | "PATCH"), _) if current is not None:
            changed = wire.apply_patch("terminal", event.version, current, event.body)
            if changed.last_updated == current.last_updated:
                changed = replace(changed, last_updated=_later(current.last_updated, received))
            found = changed
        case _:
            return None
    operator = event.path[3:5]
    if found.party_id is None and len(operator) == 2:
        found = replace(found, country_code=operator[0], party_id=operator[1])
    return found


OPERATOR = ("country_code", "party_id")
"""Fields that say whose locations a terminal serves."""


def _later(known: datetime, received: datetime) -> datetime:
    return max(known, received)
