"""Pulls: how far a partner's lists have been read, one of its modules at a time.

An event on the `parties` topic asks for a pull or tells how far one has come; the latest is the state. So a
pull goes on where it was, whoever goes on with it, and everybody can watch it.

Pure: bytes in, bytes out.
"""

from __future__ import annotations

import msgspec

from schemas.records import Event

MODULE = "pulls"  # of the events, and of states in the view

ASKED, RUNNING, DONE, FAILED = "asked", "running", "done", "failed"


class Pull(msgspec.Struct, frozen=True, omit_defaults=True):
    """One pull of a connection's module; the body of an event.

    `party`: who on the platform is asked now, where it has several. `since`: what was updated before then is
    left out, as OCPI's DateTime; none: everything. `next_url`: the page that comes next. `newest`: the newest
    last_updated that was seen. `reached`: from when on the next pull has to ask. `began` and `at`: micros.
    `objects` were read, of them `kept` were news, `known` were not, `refused` were wrong or somebody else's;
    `total` as the partner says.
    """

    connection: str
    module: str
    run: str
    state: str
    party: str | None = None
    since: str | None = None
    next_url: str | None = None
    newest: str | None = None
    reached: str | None = None
    began: int = 0
    at: int = 0
    objects: int = 0
    kept: int = 0
    known: int = 0
    refused: int = 0
    total: int | None = None
    error: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has come to an end, good or bad."""
        return self.state in (DONE, FAILED)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Pull).decode


def pull_key(connection: str, module: str) -> str:
    """The key of a pull's events and state."""
    return f"{connection}|{module}"


def dump(pull: Pull) -> bytes:
    """The body of an event."""
    return _encode(pull)


def load(state: bytes) -> Pull:
    """The pull of a state, or of an event's body. Raises msgspec's errors for anything else."""
    return _decode(state)


def fold_pull(current: bytes | None, event: Event) -> bytes | None:
    """The state after an event. Progress of a run that is not the latest asked for changes nothing."""
    try:
        new = _decode(event.body)
    except msgspec.MsgspecError:
        return current
    if current is not None and new.state != ASKED and _decode(current).run != new.run:
        return current
    return event.body
