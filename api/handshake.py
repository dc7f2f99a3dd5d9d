"""The handshake with a platform: find its versions and endpoints, check whom it speaks for, say who we are.

The same steps in both directions: `api.credentials` answers those who register with us, and
`connect`, `rotate` and `unregister` are ours towards others.

Spec: chapters "Credentials module" and "Versions module" of each version.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from api import clock
from api.answers import Status
from api.partners import (
    CONNECTING,
    REGISTERED,
    UNREGISTERED,
    Connection,
    CredentialsRole,
    Endpoint,
    Registry,
    connection_event,
    connection_id,
    new_token,
    read_registry,
    token_digest,
    write_event,
)
from api.peer import MalformedError, PeerError, Peers, RefusedError, Reply
from api.routes import VERSIONS
from api.vault import SealError, Vault
from schemas.keys import party_key
from schemas.ocpi import platforms, wire
from schemas.ocpi.objects import BusinessDetails
from schemas.topics import Topics

log = logging.getLogger("voltfold.handshake")

_FUNCTIONAL = frozenset(
    (
        *("cdrs", "chargingprofiles", "commands", "hubclientinfo", "invoicereconciliation", "locations"),
        *("payments", "sessions", "tariffs", "tokens"),
    )
)
_OTHER_WAY = (400, 401, 403)  # what servers answer to a token that they read the other way


class HandshakeError(Exception):
    """The handshake cannot go on: the OCPI status that says so, and why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Us:
    """We, as partners hear of us. `url`: our versions endpoint."""

    country_code: str
    party_id: str
    name: str
    url: str


@dataclass(frozen=True)
class Found:
    """What a platform's versions endpoint led to."""

    version: str
    endpoints: tuple[Endpoint, ...]
    plain: bool

    @property
    def credentials(self) -> str:
        """Where its credentials module is. Raises HandshakeError (3003)."""
        for one in self.endpoints:
            if one.identifier == "credentials":
                return one.url
        raise HandshakeError(Status.NO_MATCHING_ENDPOINTS, f"no credentials endpoint in {self.version}")


class _Version(msgspec.Struct):
    version: str
    url: str


class _Endpoint(msgspec.Struct):
    identifier: str
    url: str
    role: str = ""


class _Details(msgspec.Struct):
    endpoints: list[_Endpoint]


async def discover(
    peers: Peers, versions_url: str, token: str, *, version: str | None = None, plain: bool = False
) -> Found:
    """Ask a platform for its versions, and for the endpoints of one: `version`, or the highest of ours.

    `plain`: how the token is tried first, without Base64 or with it; the other way comes next
    (transport_and_format "Authorization header", its note). Raises HandshakeError: 3001 when it does not
    answer as it should, 3002 without a version in common, 3003 without a module.
    """
    offered = None
    for way in (plain, not plain):
        try:
            reply = await peers.call("GET", versions_url, token, plain=way)
            offered = _read(reply, list[_Version], versions_url)
            plain = way
            break
        except RefusedError as error:
            if way is not plain or not (error.http in _OTHER_WAY or 2000 <= (error.ocpi or 0) < 3000):
                raise _unusable(versions_url, error) from None
        except PeerError as error:
            raise _unusable(versions_url, error) from None
    assert offered is not None
    common = [one for one in offered if one.version in VERSIONS and version in (None, one.version)]
    if not common:
        wanted = version or ", ".join(VERSIONS)
        there = ", ".join(one.version for one in offered) or "none"
        raise HandshakeError(Status.UNSUPPORTED_VERSION, f"{versions_url} has no {wanted}, but {there}")
    best = max(common, key=lambda one: VERSIONS.index(one.version))
    try:
        details = _read(await peers.call("GET", best.url, token, plain=plain), _Details, best.url)
    except PeerError as error:
        raise _unusable(best.url, error) from None
    endpoints = tuple(Endpoint(one.identifier, one.role.upper(), one.url) for one in details.endpoints)
    if not any(one.identifier in _FUNCTIONAL for one in endpoints):
        raise HandshakeError(
            Status.NO_MATCHING_ENDPOINTS, f"{best.url} has no endpoint of a module that we have"
        )
    return Found(best.version, endpoints, plain)


def _read(reply: Reply, type_: Any, url: str) -> Any:
    try:
        return msgspec.json.decode(reply.data or b"null", type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(reply.http, f"data: {error}") from None


def _unusable(url: str, error: PeerError) -> HandshakeError:
    return HandshakeError(Status.UNUSABLE_API, f"GET {url}: {error}")


def roles_of(
    credentials: platforms.Credentials, found: Found, expected: Iterable[str]
) -> list[CredentialsRole]:
    """The roles of a platform.

    2.1.1 does not tell them: they are the `expected` ones, else what the URLs seem to say (`/cpo/`,
    `/emsp/`), else CPO for one that takes commands, and EMSP for one that does not (2.1.1 mod_commands: its
    only interface is the operator's).
    """
    if found.version != "2.1.1":
        return [
            CredentialsRole(
                str(one.role), one.country_code.upper(), one.party_id.upper(),
                msgspec.to_builtins(one.business_details),
            )
            for one in credentials.roles
        ]  # fmt: skip
    one = credentials.roles[0]
    names = list(expected)
    if not names:
        segments = {
            segment.lower()
            for url in (credentials.url, *(each.url for each in found.endpoints))
            for segment in urlsplit(url).path.split("/")
        }
        names = [name for name in ("CPO", "EMSP") if name.lower() in segments]
    if not names:
        names = ["CPO" if any(each.identifier == "commands" for each in found.endpoints) else "EMSP"]
    details = msgspec.to_builtins(one.business_details)
    return [CredentialsRole(name, one.country_code.upper(), one.party_id.upper(), details) for name in names]


def admitted(
    connection: Connection, roles: list[CredentialsRole], hub_party_id: str | None, registry: Registry
) -> tuple[CredentialsRole, ...]:
    """The roles that a platform may have. Raises HandshakeError (2001).

    Nobody takes a party in a role that somebody else speaks for; of a hub, those are passed over. Where the
    operator said who is expected, that party has to be among them, and may take over from a token that
    was made by hand.
    """
    seen: set[tuple[str, str]] = set()
    keys = {role.key for role in roles}
    if hub_party_id:
        keys.add(party_key(hub_party_id[:2], hub_party_id[2:]))
    if connection.expected_party and connection.expected_party not in keys:
        raise HandshakeError(Status.INVALID_PARAMETERS, f"roles: {connection.expected_party} is expected")
    hub = hub_party_id is not None or any(role.role == "HUB" for role in roles)
    kept = []
    for number, role in enumerate(roles):
        if (role.role, role.key) in seen:
            raise HandshakeError(
                Status.INVALID_PARAMETERS, f"roles[{number}]: {role.key} has the role {role.role} twice"
            )
        seen.add((role.role, role.key))
        holder = _holder(connection, role, registry)
        if holder is None:
            kept.append(role)
        elif not hub:
            raise HandshakeError(
                Status.INVALID_PARAMETERS,
                f"roles[{number}]: another platform speaks for {role.key} in the role {role.role}",
            )
    return tuple(kept)


def _holder(connection: Connection, role: CredentialsRole, registry: Registry) -> Connection | None:
    """Who else speaks for a party in a role, and is not to give way."""
    for other in registry.connections():
        if other.id == connection.id or other.stage == UNREGISTERED or other.is_hub:
            continue
        if other.stage != REGISTERED and role.key == connection.expected_party:
            continue  # a token that was made by hand gives way to who the operator invited
        if any((one.role, one.key) == (role.role, role.key) for one in other.roles):
            return other
    return None


def our_credentials(us: Us, token: str, version: str, registry: Registry, to: Connection) -> bytes:
    """The credentials object that a platform gets, in a version's JSON.

    Spec: 2.3.0 credentials "Credentials object": a hub is `hub_party_id`, and the parties that can be reached
    through it are among the roles (our own is OTHER, for there is no HUB); 2.2.1: "A Hub SHALL only reports
    itself as role: Hub".
    """
    ours = CredentialsRole("OTHER", us.country_code, us.party_id, {"name": us.name})
    roles = [_told(ours)]
    theirs = {(role.role, role.key) for role in to.roles}
    for connection in registry.reachable():
        if connection.id == to.id:
            continue
        for role in connection.roles:
            if role.role in ("HUB", "PTP") or (role.role, role.key) in theirs:
                continue
            theirs.add((role.role, role.key))
            roles.append(_told(role))
    found = platforms.Credentials(
        token=token, url=us.url, hub_party_id=f"{us.country_code}{us.party_id}", roles=roles
    )
    return wire.encode("credentials", version, found)


def _told(role: CredentialsRole) -> platforms.CredentialsRole:
    details = BusinessDetails(name=role.key)
    with contextlib.suppress(msgspec.ValidationError):
        details = msgspec.convert(role.business_details, BusinessDetails)
    return platforms.CredentialsRole(
        role=platforms.Role(role.role),
        business_details=details,
        party_id=role.party_id,
        country_code=role.country_code,
    )


# Ours towards others


class Outgoing:
    """Registers us with others, and keeps that up: what the command line does, straight on the log.

    Every method raises HandshakeError, with what went wrong, and aiokafka's KafkaError.
    """

    def __init__(self, kafka: str, topics: Topics, peers: Peers, vault: Vault, us: Us) -> None:
        self._kafka = kafka
        self._topics = topics
        self._peers = peers
        self._vault = vault
        self._us = us

    async def connect(
        self,
        versions_url: str,
        token_a: str,
        *,
        party: tuple[str, str] | None = None,
        roles: Iterable[str] = (),
        name: str | None = None,
    ) -> Connection:
        """Register us with a platform that has given us CREDENTIALS_TOKEN_A.

        `party`: who it has to be; `roles`: which it has, for 2.1.1. Spec: credentials "Registration".
        """
        found = await discover(self._peers, versions_url, token_a)
        url = found.credentials
        token_b = new_token()
        digest = token_digest(token_b).hex()
        expected = party_key(*party) if party else None
        connection = Connection(
            connection_id(expected, digest), CONNECTING, token_sha256=digest, version=found.version,
            versions_url=versions_url, name=name, expected_party=expected, expected_roles=tuple(roles),
        )  # fmt: skip
        await self._write(connection)  # they ask for our versions with it before they answer
        try:
            return await self._exchange("POST", url, token_a, token_b, found, connection)
        except HandshakeError:
            await write_event(self._kafka, self._topics, connection_event(connection, method="DELETE"))
            raise

    async def rotate(self, name: str) -> Connection:
        """New tokens on both sides, and their versions and endpoints anew; `name` as in `Registry.named`.

        Spec: credentials "Updating the credentials and resetting the credentials token", "Updating to a newer
        version".
        """
        connection, token = await self._registered(name)
        found = await discover(
            self._peers, connection.versions_url or "", token, plain=connection.plain_token
        )
        url = found.credentials
        token_b = new_token()
        connection = connection.but(next_token_sha256=token_digest(token_b).hex())
        await self._write(connection)  # both tokens open our door until theirs has come back
        try:
            return await self._exchange("PUT", url, token, token_b, found, connection)
        except HandshakeError:
            await self._write(connection.but(next_token_sha256=None))
            raise

    async def unregister(self, name: str, *, force: bool = False) -> Connection:
        """End a connection; with `force` also when the other side does not answer.

        Spec: credentials "DELETE Method"; one that answers 401 or 405 does not know us any more.
        """
        connection, token = await self._registered(name)
        try:
            url = Found(connection.version or "", connection.endpoints, connection.plain_token).credentials
            await self._peers.call("DELETE", url, token, plain=connection.plain_token)
        except RefusedError as error:
            if error.http not in (401, 404, 405) and not force:
                raise HandshakeError(
                    error.ocpi or Status.UNUSABLE_API, f"DELETE of credentials: {error}"
                ) from None
        except (PeerError, HandshakeError) as error:
            if not force:
                raise HandshakeError(Status.UNUSABLE_API, f"DELETE of credentials: {error}") from None
        gone = unregistered(connection)
        await self._write(gone)
        return gone

    async def _registered(self, name: str) -> tuple[Connection, str]:
        """A registered connection, and the token that we use with it."""
        registry = await read_registry(self._kafka, self._topics)
        try:
            connection = registry.named(name)
        except LookupError as error:
            raise HandshakeError(Status.CLIENT_ERROR, str(error)) from None
        if connection.stage != REGISTERED or connection.their_token is None:
            raise HandshakeError(Status.CLIENT_ERROR, f"{connection.id} is not registered")
        try:
            return connection, self._vault.open(connection.their_token)
        except SealError as error:
            raise HandshakeError(Status.SERVER_ERROR, str(error)) from None

    async def _exchange(
        self, method: str, url: str, token: str, token_b: str, found: Found, connection: Connection
    ) -> Connection:
        """Send our credentials, take theirs, and note the connection as registered."""
        registry = await read_registry(self._kafka, self._topics)
        body = our_credentials(self._us, token_b, found.version, registry, connection)
        try:
            reply = await self._peers.call(method, url, token, plain=found.plain, body=body)
            theirs = wire.decode("credentials", found.version, reply.data or b"null")
        except PeerError as error:
            status = error.ocpi if isinstance(error, RefusedError) and error.ocpi else Status.UNUSABLE_API
            raise HandshakeError(status, f"{method} {url}: {error}") from None
        except wire.InvalidObjectError as error:
            raise HandshakeError(Status.UNUSABLE_API, f"{method} {url}: its answer: {error}") from None
        told = roles_of(theirs, found, connection.expected_roles)
        roles = admitted(connection, told, theirs.hub_party_id, registry)
        with contextlib.suppress(HandshakeError):  # with the lasting token they may show us more
            found = await discover(
                self._peers, theirs.url, theirs.token, version=found.version, plain=found.plain
            )
        since = connection.registered_at or clock.now()
        digest = token_digest(token_b).hex()
        done = registered(connection, roles, theirs, found, self._vault, digest, since)
        await self._write(done)
        log.info("registered with %s at %s, OCPI %s", done.id, theirs.url, found.version)
        return done

    async def _write(self, connection: Connection) -> None:
        await write_event(self._kafka, self._topics, connection_event(connection))


def registered(
    connection: Connection,
    roles: tuple[CredentialsRole, ...],
    theirs: platforms.Credentials,
    found: Found,
    vault: Vault,
    digest: str,
    registered_at: int,
) -> Connection:
    """The connection once credentials were exchanged. `digest`: of the token that they use from now on.

    Before 2.3.0 a hub's credentials name itself alone, so the parties that it has told of otherwise stay.
    """
    if found.version != "2.3.0" and any(role.role == "HUB" for role in roles):
        named = {(role.role, role.key) for role in roles}
        roles += tuple(role for role in connection.roles if (role.role, role.key) not in named)
    return connection.but(
        stage=REGISTERED,
        roles=roles,
        token_sha256=digest,
        next_token_sha256=None,
        their_token=vault.seal(theirs.token),
        plain_token=found.plain,
        version=found.version,
        versions_url=theirs.url,
        endpoints=found.endpoints,
        hub_party_id=theirs.hub_party_id,
        registered_at=registered_at,
    )


def unregistered(connection: Connection) -> Connection:
    """The connection once it has ended: nobody's token is good any more."""
    return connection.but(
        stage=UNREGISTERED, token_sha256=None, next_token_sha256=None, their_token=None, endpoints=()
    )
