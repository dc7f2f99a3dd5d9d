"""Connections: the platforms we speak with, who speaks through each of them, in which roles, by which tokens.

The registry is a fold over the `parties` topic, small enough for memory. A token that others use with us is
256 bits of randomness and is shown once; the log keeps its SHA-256 alone. A slow, salted password hash guards
secrets that people choose, which can be guessed; nobody can guess 256 random bits, whatever a guess costs,
and no two tokens are alike, so there is nothing that a salt could add. What the fast hash buys is that every
request can afford the check. The token that we use with others is sealed (`api.vault`).

An event holds a connection as it is from now on, with a revision one above the last. Two that raced have the
same revision, and the first one in the log counts, at every process alike.
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

from api import clock
from schemas.keys import party_key
from schemas.records import Event, event_id
from schemas.topics import Topics

MODULE = "parties"
OPERATOR = "OPERATOR"  # the sender of partner events: whoever runs this system

# types "Role" of 2.3.0 (mod_types role enum); the payments module adds PTP.
ROLES = ("CPO", "EMSP", "HUB", "NAP", "NSP", "OTHER", "PTP", "SCSP")

# How far a connection has come.
RECEIVE_ONLY = "RECEIVE_ONLY"  # `partner add`: it has a token, and we have none of theirs
INVITED = "INVITED"  # it has CREDENTIALS_TOKEN_A, and may register
CONNECTING = "CONNECTING"  # we are registering with it; it has CREDENTIALS_TOKEN_B
REGISTERED = "REGISTERED"
UNREGISTERED = "UNREGISTERED"
STAGES = (RECEIVE_ONLY, INVITED, CONNECTING, REGISTERED, UNREGISTERED)


class CredentialsRole(msgspec.Struct, frozen=True, omit_defaults=True):
    """One party on a platform, in one role (credentials "CredentialsRole class")."""

    role: str
    country_code: str
    party_id: str
    business_details: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """`CC*PID`."""
        return party_key(self.country_code, self.party_id)


class Endpoint(msgspec.Struct, frozen=True):
    """Where a partner's module is (version_information_endpoint "Endpoint class").

    `role` is SENDER or RECEIVER; versions before 2.2 do not say it, and it is empty then.
    """

    identifier: str
    role: str
    url: str


class Connection(msgspec.Struct, frozen=True, omit_defaults=True):
    """One platform that we speak with; the body of an event of the `parties` topic.

    `token_sha256`: of the token that they use with us. `next_token_sha256`: of the one that is about to take
    its place, while we tell them so (credentials, "Updating the credentials"). `their_token`: the one that we
    use with them, sealed; `plain_token`: they want it without Base64. `registered_at`: in microseconds.
    """

    id: str
    stage: str
    roles: tuple[CredentialsRole, ...] = ()
    revision: int = 1
    token_sha256: str | None = None
    next_token_sha256: str | None = None
    their_token: str | None = None
    plain_token: bool = False
    version: str | None = None
    versions_url: str | None = None
    endpoints: tuple[Endpoint, ...] = ()
    hub_party_id: str | None = None
    registered_at: int | None = None
    name: str | None = None
    # What the operator of this system expects of the party that was invited; 2.1.1 does not tell roles.
    expected_party: str | None = None
    expected_roles: tuple[str, ...] = ()

    @property
    def is_hub(self) -> bool:
        """Whether the platform is a hub, so that others may be behind it."""
        return bool(self.hubs)

    @property
    def hubs(self) -> set[str]:
        """Keys of the hubs that the platform is: `hub_party_id`, before 2.3.0 those in the role HUB."""
        found = {role.key for role in self.roles if role.role == "HUB"}
        if self.hub_party_id is not None:
            found.add(party_key(self.hub_party_id[:2], self.hub_party_id[2:]))
        return found

    def endpoint(self, module: str, role: str) -> str | None:
        """The URL of a module's SENDER or RECEIVER interface, without a slash at its end."""
        for one in self.endpoints:
            if one.identifier == module and one.role in (role, ""):
                return one.url.rstrip("/")
        return None

    @property
    def takes_cards(self) -> bool:
        """Whether the platform has to do with payments, and so knows the role PTP."""
        return self.has("PTP") or any(one.identifier == "payments" for one in self.endpoints)

    def has(self, role: str) -> bool:
        """Whether anybody on the platform has the role."""
        return any(one.role == role for one in self.roles)

    def but(self, **changes: Any) -> Connection:
        """The next revision, with some fields changed."""
        return msgspec.structs.replace(self, revision=self.revision + 1, **changes)


class _PartnerBody(msgspec.Struct, frozen=True):
    """The body of a partner event as it was before there were connections."""

    country_code: str
    party_id: str
    roles: list[str]
    token_sha256: str
    name: str | None = None

    def connection(self) -> Connection:
        roles = tuple(CredentialsRole(role, self.country_code, self.party_id) for role in self.roles)
        return Connection(
            connection_id(party_key(self.country_code, self.party_id), self.token_sha256),
            RECEIVE_ONLY, roles, token_sha256=self.token_sha256, name=self.name,
        )  # fmt: skip


def connection_id(party: str | None, token_sha256: str) -> str:
    """The id of a connection that begins with this token: `nl-tnm-1a2b3c4d`."""
    return f"{(party or 'new').lower().replace('*', '-')}-{token_sha256[:8]}"


class Partner:
    """A connection as the door knows it: the platform behind a token."""

    __slots__ = (
        "_allowance",
        "_refilled",
        "_speaks",
        "added_at",
        "connection",
        "country_code",
        "key",
        "name",
        "party_id",
        "roles",
    )

    def __init__(self, connection: Connection, added_at: int) -> None:
        self.connection = connection
        first = connection.roles[0] if connection.roles else None
        self.country_code = first.country_code if first else ""
        self.party_id = first.party_id if first else ""
        self.key = first.key if first else connection.id
        self.roles = frozenset(role.role for role in connection.roles)
        self.name = connection.name
        self.added_at = added_at
        self._speaks = frozenset((role.role, role.key) for role in connection.roles)
        self._allowance = -1.0
        self._refilled = 0.0

    @property
    def is_through(self) -> bool:
        """Whether the handshake is over (or was none), so that all modules are open."""
        return self.connection.stage in (REGISTERED, RECEIVE_ONLY)

    def may(self, role: str, country_code: str, party_id: str) -> bool:
        """Whether the partner speaks for this party in this role."""
        return (role, party_key(country_code, party_id)) in self._speaks

    def parties(self, roles: Iterable[str]) -> set[str]:
        """Keys of the parties that the partner speaks for in any of these roles."""
        wanted = set(roles)
        return {key for role, key in self._speaks if role in wanted}

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


def new_token() -> str:
    """A token of 256 bits; printable ASCII without spaces, as credentials "Credentials object" wants it."""
    return secrets.token_urlsafe(32)


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


_FOUND = 10_000
_DIGEST = re.compile(r"[0-9a-f]{64}")


def _connection(event: Event) -> Connection | None:
    """What a partner event says; None for one that cannot be read."""
    try:
        fields = msgspec.json.decode(event.body)
        if isinstance(fields, dict) and "country_code" in fields:
            found = msgspec.convert(fields, _PartnerBody).connection()
        else:
            found = msgspec.convert(fields, Connection)
    except (msgspec.MsgspecError, ValueError):
        return None
    digests = [found.token_sha256, found.next_token_sha256]
    return found if all(one is None or _DIGEST.fullmatch(one) for one in digests) else None


class Registry:
    """All connections: by id, by the hash of their token, by the parties on them."""

    def __init__(self) -> None:
        self._by_id: dict[str, Partner] = {}
        self._by_digest: dict[bytes, Partner] = {}
        self._parties: frozenset[str] | None = None
        self._found: dict[bytes, Partner] = {}  # by a keyed hash of the header that named them
        self._key = secrets.token_bytes(32)

    def fold(self, event: Event) -> None:
        """Learn of one partner event. One that does not decode is passed over: it opens no door."""
        found = _connection(event)
        if found is None:
            return
        known = self._by_id.get(found.id)
        self._parties = None
        self._found.clear()
        if event.method == "DELETE":
            self._forget(known)
            self._by_id.pop(found.id, None)
        elif event.method == "PUT":
            if known is not None and found.revision != known.connection.revision + 1:
                return  # another one was first
            self._forget(known)
            self._by_id[found.id] = partner = Partner(found, known.added_at if known else event.received_at)
            if found.stage != UNREGISTERED:
                for digest in (found.token_sha256, found.next_token_sha256):
                    if digest is not None:
                        self._by_digest[bytes.fromhex(digest)] = partner

    def _forget(self, partner: Partner | None) -> None:
        if partner is not None:
            for digest in (partner.connection.token_sha256, partner.connection.next_token_sha256):
                if digest is not None:
                    self._by_digest.pop(bytes.fromhex(digest), None)

    def find(self, authorization: bytes) -> Partner | None:
        """The partner who holds the token of an Authorization header.

        The table is searched by the token's hash, of which an attacker cannot choose the bytes, and the hit
        is compared in constant time. A header that was understood is known again by a hash with a key that
        nobody else has.
        """
        name = hashlib.blake2b(authorization, digest_size=32, key=self._key).digest()
        if (known := self._found.get(name)) is not None:
            return known
        partner = self._search(authorization)
        if partner is not None:
            if len(self._found) >= _FOUND:
                self._found.clear()
            self._found[name] = partner
        return partner

    def _search(self, authorization: bytes) -> Partner | None:
        for token in candidates(authorization):
            digest = token_digest(token)
            partner = self._by_digest.get(digest)
            if partner is None:
                continue
            for known in (partner.connection.token_sha256, partner.connection.next_token_sha256):
                if known is not None and hmac.compare_digest(bytes.fromhex(known), digest):
                    return partner
        return None

    def get(self, connection: str) -> Connection | None:
        """The connection with this id."""
        found = self._by_id.get(connection)
        return found.connection if found else None

    def partner(self, connection: str) -> Partner | None:
        """Who is behind a connection."""
        return self._by_id.get(connection)

    def partners(self) -> list[Partner]:
        """Everybody, ordered by party and age."""
        return sorted(self._by_id.values(), key=lambda partner: (partner.key, partner.added_at))

    def connections(self) -> list[Connection]:
        """All connections, ordered by party and age."""
        return [partner.connection for partner in self.partners()]

    def reachable(self) -> list[Connection]:
        """Those that we can send to: registered, with endpoints and a token of theirs."""
        return [
            one for one in self.connections() if one.stage == REGISTERED and one.their_token and one.endpoints
        ]

    def has_party(self, key: str) -> bool:
        """Whether a party is on any connection that has not ended."""
        if self._parties is None:
            live = [one for one in self.connections() if one.stage != UNREGISTERED]
            self._parties = frozenset(role.key for one in live for role in one.roles)
        return key in self._parties

    def only_hub(self) -> Connection | None:
        """The hub through which a party may be reached that is on no connection: if there is just one."""
        hubs = [one for one in self.reachable() if one.is_hub]
        return hubs[0] if len(hubs) == 1 else None

    def by_party(self, country_code: str, party_id: str, role: str | None = None) -> Connection | None:
        """The connection that a party is on, in a role if one is given.

        A registered one before others, and its own before a hub's.
        """
        key = party_key(country_code, party_id)
        found = [
            one for one in self.connections()
            if one.stage != UNREGISTERED
            and any(each.key == key and role in (None, each.role) for each in one.roles)
        ]  # fmt: skip
        return min(found, key=lambda one: (one.stage != REGISTERED, one.is_hub), default=None)

    def named(self, name: str) -> Connection:
        """The connection that a person means: by its id, or by a party on it. Raises LookupError."""
        if (found := self.get(name)) is not None:
            return found
        country, _, party = name.replace("-", "*").partition("*")
        if (found := self.by_party(country, party)) is not None:
            return found
        raise LookupError(f"there is no connection {name}: `voltfold partner list` shows them")


def connection_event(connection: Connection, *, sender: str = OPERATOR, method: str = "PUT") -> Event:
    """The event that makes a connection what it is from now on. Received now."""
    body = msgspec.json.encode(connection)
    path = [connection.id]
    return Event(
        id=event_id(sender, MODULE, method, path, body),
        received_at=clock.now(),
        sender=sender,
        version="",
        module=MODULE,
        method=method,
        key=connection.id,
        path=path,
        request_id=None,
        correlation_id=None,
        body=body,
    )


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


async def write_event(kafka: str, topics: Topics, event: Event) -> None:
    """Append an event to the `parties` topic. Raises aiokafka's KafkaError when that fails."""
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True) as producer:
        await producer.send_and_wait(topics.parties.name, event.encode(), event.key.encode())


async def add_partner(
    kafka: str, topics: Topics, country: str, party: str, roles: Iterable[str], name: str | None = None
) -> str:
    """Give a party a token for its roles, as an event; return the token, which nobody can show again.

    It works at every API process as soon as this returns. A party may hold several tokens, each with its
    own roles. Raises ValueError that names the argument, and aiokafka's KafkaError when the log cannot be
    written.
    """
    country, party, wanted = _checked(country, party, roles)
    token = new_token()
    digest = token_digest(token).hex()
    found = tuple(CredentialsRole(role, country, party) for role in wanted)
    id_ = connection_id(party_key(country, party), digest)
    connection = Connection(id_, RECEIVE_ONLY, found, token_sha256=digest, name=name)
    await write_event(kafka, topics, connection_event(connection))
    return token


async def invite(
    kafka: str,
    topics: Topics,
    country: str | None = None,
    party: str | None = None,
    roles: Iterable[str] = (),
    name: str | None = None,
) -> tuple[str, Connection]:
    """Make a CREDENTIALS_TOKEN_A, with which a platform may register; return it, and the new connection.

    `country` and `party`: who it has to be; `roles`: which it has, for 2.1.1, whose credentials do not tell.
    Raises as `add_partner`.
    """
    expected, wanted = None, sorted({role.upper() for role in roles})
    if country or party:
        country, party, _ = _checked(country or "", party or "", wanted or ("OTHER",))
        expected = party_key(country, party)
    for role in wanted:
        if role not in ROLES:
            raise ValueError(f"role: {role!r} is none of {', '.join(ROLES)}")
    token = new_token()
    digest = token_digest(token).hex()
    connection = Connection(
        connection_id(expected, digest), INVITED, token_sha256=digest, name=name,
        expected_party=expected, expected_roles=tuple(wanted),
    )  # fmt: skip
    await write_event(kafka, topics, connection_event(connection))
    return token, connection


async def read_registry(kafka: str, topics: Topics) -> Registry:
    """The registry as the log has it now. Raises aiokafka's KafkaError."""
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
                    event = Event.decode(record.value)
                    if event.module == MODULE:
                        registry.fold(event)
    return registry


async def list_partners(kafka: str, topics: Topics) -> list[dict[str, Any]]:
    """Every connection, without its tokens: id, stage, parties, roles, name, version, added_at (micros)."""
    registry = await read_registry(kafka, topics)
    return [
        {
            "id": partner.connection.id,
            "stage": partner.connection.stage,
            "country_code": partner.country_code,
            "party_id": partner.party_id,
            "roles": sorted(partner.roles),
            "parties": [f"{role.key} {role.role}" for role in partner.connection.roles],
            "name": partner.name,
            "version": partner.connection.version,
            "versions_url": partner.connection.versions_url,
            "added_at": partner.added_at,
        }
        for partner in registry.partners()
    ]
