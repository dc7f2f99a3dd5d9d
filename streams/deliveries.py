"""Deliveries: what has to go to whom, and when it may be tried. Pure: times and chances are handed in.

What has to go to a platform is not a queue of messages but an ordered set of *marks*: this object has
changed since it was last delivered. However often it changes while the platform is away, it is marked once,
and what is sent is what it is then (transport_and_format "Offline behaviour": messages are not queued). A CDR
never changes, so it is delivered once.

- `Mark`: one object that one platform has to get, with its place in the order: when it changed first.
- `judge`: what an answer means for the object and for the platform.
- `Circuit`: whether a platform is to be spoken to at all. It opens after failures in a row; then a probe,
  again and again, finds out when it is back.
- `backoff`: how long to wait, growing with each failure, spread at random.

Times are microseconds since 1970.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec

SECOND = 1_000_000
_BETWEEN = b"\x00"  # in no identifier, connection id or module: those are printable


class Mark(msgspec.Struct, frozen=True, order=True):
    """An object that has changed, and for whom. Ordered by platform, then by when it changed first."""

    connection: str
    since: int
    module: str
    key: str

    @property
    def identity(self) -> tuple[str, str, str]:
        """What is marked, whenever that was."""
        return self.connection, self.module, self.key


def queue_key(mark: Mark) -> bytes:
    """Bytes that sort as marks do."""
    tail = mark.module.encode() + _BETWEEN + mark.key.encode()
    return queue_of(mark.connection) + mark.since.to_bytes(8, "big") + tail


def queue_of(connection: str) -> bytes:
    """What the queue keys of a platform's marks begin with."""
    return connection.encode() + _BETWEEN


def mark_of(queue_key: bytes) -> Mark:
    """The mark whose queue key this is."""
    connection, _, rest = queue_key.partition(_BETWEEN)
    module, _, key = rest[8:].partition(_BETWEEN)
    return Mark(connection.decode(), int.from_bytes(rest[:8], "big"), module.decode(), key.decode())


def identity_key(connection: str, module: str, key: str) -> bytes:
    """Bytes that are the same for the same object and platform, and start with `queue_of(connection)`."""
    return queue_of(connection) + module.encode() + _BETWEEN + key.encode()


def record_key(connection: str, module: str, key: str) -> str:
    """The key of a delivery record in the log: `CONNECTION|MODULE|KEY`."""
    return f"{connection}|{module}|{key}"


def digest(state: bytes) -> bytes:
    """Sixteen bytes that tell one state of an object from another."""
    return hashlib.blake2b(state, digest_size=16).digest()


class Outcome(StrEnum):
    """What became of a delivery."""

    DELIVERED = "delivered"
    REFUSED = "refused"  # the platform understood it and does not want it
    FAILED = "failed"  # the platform stumbled over it too often, and takes others
    UNSUPPORTED = "unsupported"  # the platform has no endpoint for it, or its version no such module
    EXPIRED = "expired"  # it came too late to be of use: the result of a command


SETTLED = frozenset(Outcome)
"""All of them: none is tried again by itself, until the object changes or somebody says so."""


class Verdict(StrEnum):
    """What one attempt says."""

    ACCEPTED = "accepted"
    REFUSED = "refused"  # of this object; the platform is well
    STUMBLED = "stumbled"  # over this object, perhaps; an error of the platform's
    BUSY = "busy"  # later, it says; the platform is well
    DOWN = "down"  # not reachable, or not in time, or it does not know us any more


def judge(http: int | None, ocpi: int | None) -> Verdict:
    """What an answer's HTTP status and OCPI status mean. No HTTP status: there was no answer.

    Spec: status_codes "2xxx: Client errors", "3xxx: Server errors", "4xxx: Hub errors"; a hub that could not
    pass it on (4001 to 4003) has refused it for now, as its receiver has to fetch it later.
    """
    if http is None or http in (401, 403, 502, 503, 504):
        return Verdict.DOWN
    if http == 429:
        return Verdict.BUSY
    if http == 408 or 300 <= http < 400 or http >= 500:  # we follow no redirects: a token is for one host
        return Verdict.STUMBLED
    if 200 <= http < 300:
        # Without an envelope: a proxy's page is a 200, and never says that something was made.
        if ocpi is None:
            return Verdict.ACCEPTED if http in (201, 202, 204) else Verdict.STUMBLED
        if 1000 <= ocpi < 2000:
            return Verdict.ACCEPTED
        return Verdict.STUMBLED if 3000 <= ocpi < 4000 else Verdict.REFUSED
    return Verdict.REFUSED


class Pace(msgspec.Struct, frozen=True):
    """How patient we are. Times in microseconds.

    `failures`: in a row, until the circuit opens; `first`, `longest`: the first and the longest wait of a
    backoff; `attempts`: at one object, over which a platform that takes others stumbles.
    """

    failures: int = 3
    first: int = SECOND
    longest: int = 60 * SECOND
    attempts: int = 6


def backoff(failures: int, chance: float, pace: Pace) -> int:
    """Microseconds to wait after so many failures in a row: doubling, half of it fixed and half by chance.

    `chance`: from 0 to 1, evenly distributed, so that many who failed at once do not come back at once.
    """
    whole = min(pace.longest, pace.first << min(max(failures, 1) - 1, 40))
    return whole // 2 + int(whole // 2 * chance)


class Circuit(msgspec.Struct, frozen=True):
    """Whether a platform is spoken to. `failures`: in a row; `until`: nothing is sent before then."""

    failures: int = 0
    until: int = 0
    opened_at: int | None = None  # None: closed

    @property
    def is_open(self) -> bool:
        """Only probes go out."""
        return self.opened_at is not None

    def permits(self, now: int) -> bool:
        """Whether something may be sent now: a delivery when it is closed, a probe when it is open."""
        return now >= self.until

    def passed(self, now: int) -> Circuit:
        """After an answer that shows the platform alive: closed."""
        return Circuit(until=self.until if self.until > now and not self.is_open else 0)

    def failed(self, now: int, chance: float, pace: Pace, asked: int = 0) -> Circuit:
        """After a failure: wait, and open once there have been enough. `asked`: by the platform, to wait."""
        failures = self.failures + 1
        opened_at = self.opened_at
        if opened_at is None and failures >= pace.failures:
            opened_at = now
        return Circuit(failures, now + max(asked, backoff(failures, chance, pace)), opened_at)

    def held(self, now: int, asked: int) -> Circuit:
        """After an answer that asks to wait: the platform is alive, and let alone until then."""
        return Circuit(until=now + asked)


def gives_up(verdict: Verdict, attempts: int, pace: Pace) -> Outcome | None:
    """The outcome that ends attempts at an object, of which there have been so many; None: try again."""
    match verdict:
        case Verdict.ACCEPTED:
            return Outcome.DELIVERED
        case Verdict.REFUSED:
            return Outcome.REFUSED
        case Verdict.STUMBLED if attempts >= pace.attempts:
            return Outcome.FAILED
        case _:
            return None
