"""Partners: who may speak to us, with which token, in which roles.

The registry is a fold over the `parties` topic, small enough for memory. A token is 256 bits of randomness
and is shown once; the log keeps its SHA-256 alone. A slow, salted password hash guards secrets that people
choose, which can be guessed; nobody can guess 256 random bits, whatever a guess costs, and no two tokens
are alike, so there is nothing that a salt could add. What the fast hash buys is that every request can
afford the check.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.keys import party_key
from schemas.records import Event, event_id
from schemas.topics import Topics

MODULE = "parties"
OPERATOR = "OPERATOR"  # the sender of partner events: whoever runs this system

# types "Role" of 2.3.0 (mod_types role enum); the payments module adds PTP.
ROLES = ("CPO", "EMSP", "HUB", "NAP", "NSP", "OTHER", "PTP", "SCSP")


class PartnerBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of a partner event: one credential and the party and roles it speaks for."""

    country_code: str
    party_id: str
    roles: list[str]
    token_sha256: str
    name: str | None = None


class Partner:
    """A credential as the door knows it."""

    __slots__ = (
        "_allowance",
        "_refilled",
        "added_at",
        "country_code",
        "digest",
        "key",
        "name",
        "party_id",
        "roles",
    )

    def __init__(self, body: PartnerBody, added_at: int) -> None:
        self.country_code = body.country_code
        self.party_id = body.party_id
        self.key = party_key(body.country_code, body.party_id)
        self.roles = frozenset(body.roles)
        self.name = body.name
        self.digest = bytes.fromhex(body.token_sha256)
        self.added_at = added_at
        self._allowance = -1.0
        self._refilled = 0.0

    def may(self, role: str, country_code: str, party_id: str) -> bool:
        """Whether the partner speaks for this party in this role."""
        return role in self.roles and party_key(country_code, party_id) == self.key

    def take(self, rate: float, burst: float) -> float:
        """Take one request from the partner's bucket: 0, or the seconds until there is one to take."""
        now = time.monotonic()
        if self._allowance < 0:
            self._allowance = burst
        else:
            self._allowance = min(burst, self._allowance + (now - self._refilled) * rate)
        self._refilled = now
        if self._allowance < 1.0:
            return (1.0 - self._allowance) / rate
        self._allowance -= 1.0
        return 0.0


def token_digest(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


def candidates(authorization: bytes) -> Iterator[str]:
    """Tokens that an Authorization header may mean, the specification's reading first.

    Spec: transport_and_format "Authorization header": `Token`, one space, the token in Base64 (RFC 4648,
    section 4). Its note: many do not encode it, so the plain reading comes second. The specification's own
    example encodes a trailing newline, as `echo TOKEN | base64` does, hence the strip.
    """
    scheme, _, credentials = authorization.partition(b" ")
    credentials = credentials.strip()
    if scheme.lower() != b"token" or not credentials:
        return
    with contextlib.suppress(binascii.Error, UnicodeDecodeError):
        yield base64.b64decode(credentials, validate=True).decode().strip()
    yield credentials.decode("latin-1")


class Registry:
    """All credentials, by the hash of their token."""

    def __init__(self) -> None:
        self._by_digest: dict[bytes, Partner] = {}

    def fold(self, event: Event) -> None:
        """Learn of one partner event. One that does not decode is passed over: it opens no door."""
        try:
            partner = Partner(msgspec.json.decode(event.body, type=PartnerBody), event.received_at)
        except (msgspec.DecodeError, ValueError):
            return
        if event.method == "DELETE":
            self._by_digest.pop(partner.digest, None)
        elif event.method == "PUT":
            self._by_digest[partner.digest] = partner

    def find(self, authorization: bytes) -> Partner | None:
        """The partner who holds the token of an Authorization header.

        The table is searched by the token's hash, of which an attacker cannot choose the bytes, and the hit
        is compared in constant time.
        """
        for token in candidates(authorization):
            digest = token_digest(token)
            partner = self._by_digest.get(digest)
            if partner is not None and hmac.compare_digest(partner.digest, digest):
                return partner
        return None

    def partners(self) -> list[Partner]:
        """Everybody, ordered by party and age."""
        return sorted(self._by_digest.values(), key=lambda partner: (partner.key, partner.added_at))


def _checked(country: str, party: str, roles: Iterable[str]) -> tuple[str, str, list[str]]:
    if not re.fullmatch(r"[A-Za-z]{2}", country):
        raise ValueError(f"country: {country!r} is not an ISO 3166 alpha-2 code of two letters")
    if not re.fullmatch(r"[A-Za-z0-9]{3}", party):
        raise ValueError(f"party: {party!r} is not a party id of three letters or digits")
    wanted = sorted({role.upper() for role in roles})
    if not wanted:
        raise ValueError("role: at least one is needed")
    for role in wanted:
        if role not in ROLES:
            raise ValueError(f"role: {role!r} is none of {', '.join(ROLES)}")
    return country.upper(), party.upper(), wanted


async def add_partner(
    kafka: str, topics: Topics, country: str, party: str, roles: Iterable[str], name: str | None = None
) -> str:
    """Give a party a token for its roles, as an event; return the token, which nobody can show again.

    It works at every API process as soon as this returns. A party may hold several tokens, each with its
    own roles. Raises ValueError that names the argument, and aiokafka's KafkaError when the log cannot be
    written.
    """
    country, party, wanted = _checked(country, party, roles)
    token = secrets.token_urlsafe(32)
    body = msgspec.json.encode(PartnerBody(country, party, wanted, token_digest(token).hex(), name))
    path = [country, party]
    event = Event(
        id=event_id(OPERATOR, MODULE, "PUT", path, body),
        received_at=time.time_ns() // 1000,
        sender=OPERATOR,
        version="",
        module=MODULE,
        method="PUT",
        key=party_key(country, party),
        path=path,
        request_id=None,
        correlation_id=None,
        body=body,
    )
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True) as producer:
        await producer.send_and_wait(topics.parties.name, event.encode(), event.key.encode())
    return token


async def list_partners(kafka: str, topics: Topics) -> list[dict[str, Any]]:
    """Every credential, without its token: country_code, party_id, roles, name, added_at (micros)."""
    registry = Registry()
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    async with consumer:
        partition = TopicPartition(topics.parties.name, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    registry.fold(Event.decode(record.value))
    return [
        {
            "country_code": partner.country_code,
            "party_id": partner.party_id,
            "roles": sorted(partner.roles),
            "name": partner.name,
            "added_at": partner.added_at,
        }
        for partner in registry.partners()
    ]
