"""The clock in the log: events that say what time it is, so that folds may conclude from silence.

A fold knows no clock, and a replay must conclude what the live system did. So time itself is a fact: whoever
owns a partition appends, once an interval, an event of module `clock` to it (`streams.ticker`). It says the
moment at which the interval began, how long a session may be silent, and what else is a setting and yet
decides what is concluded; so the log alone decides, whatever the settings are later. The same interval gives
the same event, byte for byte, whoever writes it and how often.

A partition's time is the newest that any of its clock events says. Time says nothing about what came before
it in the log: an event that was received earlier may lie behind a later tick.
"""

from __future__ import annotations

import msgspec

from schemas.records import Event, event_id

MODULE = "clock"
KEY = b"clock"
_VERSION = "2.3.0"  # of no meaning here, but every event has one


HOUR = 3_600_000_000
"""In microseconds."""


class Tick(msgspec.Struct, order=True, frozen=True):
    """What a clock event says, in microseconds: the time, and after how long a silent session is overdue.

    `missing_after`: after how long a capture or a CDR that did not come is missing; `stop_percent`: the share
    of the reserved amount at which an ad-hoc session is stopped, 0 for never.
    """

    now: int
    stale_after: int
    missing_after: int = 72 * HOUR
    stop_percent: int = 95


_decode = msgspec.json.Decoder(Tick).decode
_encode = msgspec.json.Encoder().encode


def tick_event(
    now: int, interval: int, stale_after: int, missing_after: int = 72 * HOUR, stop_percent: int = 95
) -> Event:
    """The clock event of the interval that a moment lies in; times in microseconds."""
    begun = now - now % interval
    body = _encode(Tick(begun, stale_after, missing_after, stop_percent))
    return Event(
        id=event_id("", MODULE, "PUT", (), body),
        received_at=begun,
        sender="",
        version=_VERSION,
        module=MODULE,
        method="PUT",
        key=KEY.decode(),
        path=[],
        request_id=None,
        correlation_id=None,
        body=body,
    )


def read_tick(body: bytes) -> Tick:
    """What a clock event says. Raises msgspec.MsgspecError when it is none."""
    found: Tick = _decode(body)
    return found
