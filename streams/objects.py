"""The newest state of one object, folded from its events: the rules of PUT, PATCH, POST and DELETE.

- PUT replaces, PATCH merges (a session's charging periods are appended), POST creates a CDR, which nothing
  changes afterwards, DELETE removes.
- An older `last_updated` never overwrites a newer one; of two events with the same one, the later in the
  log wins.
- An event that comes again (same id) changes nothing.
- EVSEs and connectors are parts of their location: each has its own `last_updated`, and a change of one is a
  change of those above it (mod_locations, "PUT Method").

Pure: bytes in, bytes out. A state is MessagePack: the object's `last_updated`, when its first event came into
the log, whom it concerns, the ids of the events that carried it (per part of a location), and the canonical
object as JSON.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from schemas.keys import owner_of, party_key
from schemas.ocpi import wire
from schemas.records import Event, micros
from streams import terminals
from streams.concerns import ADDRESSED, BROADCAST, NOBODY, concerned, named

FORMAT = 3  # of a state; another number makes every view build itself again

KINDS = {
    "sessions": "session",
    "cdrs": "cdr",
    "tariffs": "tariff",
    "locations": "location",
    "tokens": "token",
    "hubclientinfo": "client_info",
    terminals.MODULE: "terminal",
    "confirmations": "financial_advice_confirmation",
    "invoicereconciliation": "invoice_reconciliation",
}
PARTS = {1: "evse", 2: "connector"}
_CANONICAL = "2.3.0"
_WHOLE = ""
_BETWEEN = "\n"  # in no identifier: those are printable


class Head(msgspec.Struct, array_like=True):
    """What a list must know of an object: `created` is when its first event came into the log, in
    microseconds, `concerns` as `streams.concerns` has it.
    """

    last_updated: int
    created: int
    concerns: str


class State(Head, array_like=True):
    """What is kept. `seen`: by part ("" is the whole), ids of the events with its last_updated."""

    seen: dict[str, list[bytes]]
    body: bytes
    received_at: int = 0  # of a CDR


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(State).decode
head = msgspec.msgpack.Decoder(Head).decode
"""The head of a state, without reading the rest."""


def load(module: str, state: bytes) -> Any:
    """The canonical object of a state."""
    return wire.decode(KINDS[module], _CANONICAL, _unpack(state).body)


def body(state: bytes) -> bytes:
    """The canonical object of a state, as JSON."""
    return _unpack(state).body


def last_updated(state: bytes) -> int:
    """The object's last_updated in microseconds; for a location the newest of its own and its parts'."""
    return head(state).last_updated


def fold_object(
    module: str, current: bytes | None, event: Event, logged_at: int | None = None, said: Any = None
) -> bytes | None:
    """The state after an event: `current` itself when nothing changes, None when the object is gone.

    `logged_at`: when the event came into the log, as the log has it, in microseconds; by default, when it was
    received. `said`: the canonical object in the event's body, where it was decoded already.
    Raises schemas.ocpi.wire.InvalidObjectError for a body that cannot be read or merged; the door lets none
    of those pass, so it takes a PATCH that overtook another for a merge to become invalid.
    """
    if event.method == "DELETE":
        return None
    if logged_at is None:
        logged_at = event.received_at
    if module == "cdrs":
        return _fold_cdr(current, event, logged_at, said)
    state = None if current is None else _unpack(current)
    if module == "locations" and len(event.path) > 3:
        folded = _fold_part(state, event)
    else:
        folded = _fold_whole(module, state, event, logged_at, said)
    return current if folded is None else _pack(folded)


def _fold_cdr(current: bytes | None, event: Event, logged_at: int, said: Any) -> bytes | None:
    """The first one counts. Two that raced through different partitions: the one that was received first."""
    if current is not None:
        state = _unpack(current)
        earlier = min(state.created, logged_at)
        if (state.received_at, state.seen[_WHOLE][0]) <= (event.received_at, event.id):
            return current if earlier == state.created else _pack(replace(state, created=earlier))
        logged_at = earlier
    new = said or wire.decode("cdr", event.version, event.body, party=owner_of(event.key))
    return _pack(
        State(
            micros(new.last_updated), logged_at, concerned("cdrs", new),
            {_WHOLE: [event.id]}, wire.encode("cdr", _CANONICAL, new), event.received_at,
        )
    )  # fmt: skip


def _is_news(last: int, seen: list[bytes], stamp: int, event: Event) -> bool:
    """Whether an event with this last_updated changes an object that has that one."""
    return stamp > last or (stamp == last and event.id not in seen)


def _fold_whole(module: str, state: State | None, event: Event, logged_at: int, said: Any) -> State | None:
    """PUT or PATCH of a whole object. None: nothing changes."""
    kind = KINDS[module]
    current = None
    if module == terminals.MODULE:
        current = None if state is None else wire.decode(kind, _CANONICAL, state.body)
        new = terminals.after(current, event)
        if new is None or (state is not None and event.id in state.seen.get(_WHOLE, [])):
            return None  # which, coming again without last_updated, would look newer than it is
    elif event.method == "PUT" or (module in ADDRESSED and event.method == "POST"):
        new = said or wire.decode(kind, event.version, event.body, party=owner_of(event.key))
    elif state is None:
        return None
    else:
        current = wire.decode(kind, _CANONICAL, state.body)
        new = wire.apply_patch(kind, event.version, current, event.body)
    stamp = micros(new.last_updated)
    seen: dict[str, list[bytes]] = {}
    if state is not None:
        if not _is_news(state.last_updated, state.seen.get(_WHOLE, []), stamp, event):
            return None
        if stamp == state.last_updated:
            seen[_WHOLE] = state.seen.get(_WHOLE, [])
        if len(state.seen) > 1:
            seen |= _still_seen(current or wire.decode(kind, _CANONICAL, state.body), new, state.seen)
    seen[_WHOLE] = [*seen.get(_WHOLE, []), event.id]
    created = logged_at if state is None else state.created
    concerns = concerned(module, new)
    if module in ADDRESSED:
        concerns = (
            party_key(*event.path[3:5]) if len(event.path) >= 5 else state.concerns if state else NOBODY
        )
    elif module in BROADCAST:
        concerns = named(None if state is None else state.concerns, event.receiver)
    return State(stamp, created, concerns, seen, wire.encode(kind, _CANONICAL, new))


def _still_seen(old: Any, new: Any, seen: dict[str, list[bytes]]) -> dict[str, list[bytes]]:
    """Of what was seen of a location's parts, that of parts whose last_updated is still the same."""
    kept = {}
    for name, ids in seen.items():
        if name != _WHOLE:
            before, after = part(old, name.split(_BETWEEN)), part(new, name.split(_BETWEEN))
            if before is not None and after is not None and before.last_updated == after.last_updated:
                kept[name] = ids
    return kept


def _fold_part(state: State | None, event: Event) -> State | None:
    """PUT or PATCH of an EVSE or a connector. None: nothing changes."""
    if state is None:
        return None
    path = event.path[3:]
    kind = PARTS[len(path)]
    location = wire.decode("location", _CANONICAL, state.body)
    if len(path) > 1 and part(location, path[:-1]) is None:
        return None
    current = part(location, path)
    if event.method == "PUT":
        new = wire.decode(kind, event.version, event.body, party=owner_of(event.key))
    elif current is None:
        return None
    else:
        new = wire.apply_patch(kind, event.version, current, event.body)
    name = _BETWEEN.join(path).upper()
    seen = state.seen.get(name, [])
    if current is not None:
        if not _is_news(micros(current.last_updated), seen, micros(new.last_updated), event):
            return None
        if new.last_updated > current.last_updated:
            seen = []
    whole = _with_part(location, path, new, new.last_updated)
    still = _still_seen(location, whole, state.seen)
    still[_WHOLE] = state.seen.get(_WHOLE, [])
    still[name] = [*seen, event.id]
    body = wire.encode("location", _CANONICAL, whole)
    return State(micros(whole.last_updated), state.created, state.concerns, still, body)


def part(location: Any, path: list[str] | tuple[str, ...]) -> Any | None:
    """The EVSE (path of one identifier) or connector (two) of a location; the location itself for none."""
    found = location
    for depth, name in enumerate(path):
        parts = found.connectors if depth else found.evses
        found = next((item for item in parts or () if _same(_id(item), name)), None)
        if found is None:
            return None
    return found


def _id(item: Any) -> str:
    identifier: str = item.uid if hasattr(item, "uid") else item.id
    return identifier


def _same(one: str, other: str) -> bool:
    return one.upper() == other.upper()


def _with_part(whole: Any, path: list[str], new: Any, stamp: datetime) -> Any:
    """The location (or EVSE) with one part replaced or added, and its last_updated moved on, never back."""
    field = "evses" if hasattr(whole, "evses") else "connectors"
    parts = list(getattr(whole, field) or ())
    index = next((i for i, item in enumerate(parts) if _same(_id(item), path[0])), len(parts))
    if len(path) > 1:
        new = _with_part(parts[index], path[1:], new, stamp)
    parts[index : index + 1] = [new]
    changes: dict[str, Any] = {field: parts, "last_updated": max(whole.last_updated, stamp)}
    return msgspec.structs.replace(whole, **changes)
