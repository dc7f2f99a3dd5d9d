"""The credentials module: platforms that register with us, change what they said, and leave.

    INVITED --POST--> REGISTERED --PUT--> REGISTERED --DELETE--> UNREGISTERED

What a platform says is not kept as it came, for there is a secret in it: the event holds the connection that
came of it, with the secret sealed.

Spec: chapter "Credentials module". While a POST or PUT waits, we ask the platform for its versions with the
token that it just gave us.
"""

from __future__ import annotations

import hmac
import logging

from msgspec.structs import replace

from api import clock
from api.answers import Answer, Refusal, Status
from api.calls import Call
from api.config import ApiConfig
from api.handshake import (
    HandshakeError,
    Us,
    admitted,
    discover,
    our_credentials,
    registered,
    roles_of,
    unregistered,
)
from api.log import Log
from api.partners import (
    INVITED,
    RECEIVE_ONLY,
    REGISTERED,
    Connection,
    Registry,
    candidates,
    connection_event,
    new_token,
    token_digest,
)
from api.peer import Peers
from api.vault import Vault, key_in
from api.view import View
from schemas.ocpi import wire

log = logging.getLogger("voltfold.handshake")


class Credentials:
    """Answers the four methods of the module, in all versions."""

    def __init__(self, config: ApiConfig, log: Log, view: View, registry: Registry, peers: Peers) -> None:
        self._config = config
        self._log = log
        self._view = view
        self._registry = registry
        self._peers = peers
        self._vault = config.vault
        self._partition = view.partition(config.topics.parties, "")

    async def handle(self, call: Call) -> Answer:
        """Answer one. Raises Refusal, and wire.InvalidObjectError for a body that is no credentials."""
        connection = call.partner.connection
        match call.method:
            case "GET":
                return self._ours(call, self._token_of(call), connection)
            case "DELETE":
                self._must_be(connection, REGISTERED)
                await self._keep(call, unregistered(connection))
                log.info("%s has unregistered", connection.id)
                return Answer(200, Status.SUCCESS, "Success")
            case "POST":
                self._must_be(connection, INVITED, RECEIVE_ONLY)
            case _:
                self._must_be(connection, REGISTERED)
        return await self._exchange(call, connection)

    async def _exchange(self, call: Call, connection: Connection) -> Answer:
        """POST or PUT: their credentials for ours."""
        theirs = wire.decode("credentials", call.version, call.body)
        if connection.stage == RECEIVE_ONLY and connection.expected_party is None and connection.roles:
            connection = _expecting(connection)
        try:
            found = await discover(
                self._peers, theirs.url, theirs.token,
                version=call.version, plain=call.version == "2.1.1" or connection.plain_token,
            )  # fmt: skip
            roles = admitted(
                connection, roles_of(theirs, found, connection.expected_roles), theirs.hub_party_id,
                self._registry,
            )  # fmt: skip
        except HandshakeError as error:
            log.warning("%s of credentials by %s: %s", call.method, connection.id, error)
            raise Refusal(200, error.status, str(error)) from None
        token = new_token()
        since = connection.registered_at or clock.now()
        self._vault = self._vault or Vault(key_in(self._config.data))
        done = registered(connection, roles, theirs, found, self._vault, token_digest(token).hex(), since)
        await self._keep(call, done)
        log.info("%s has registered from %s, OCPI %s", done.id, theirs.url, found.version)
        return self._ours(call, token, done)

    def _ours(self, call: Call, token: str, to: Connection) -> Answer:
        country, party = self._config.party
        us = Us(country, party, self._config.party_name, f"{call.base_url}/ocpi/versions")
        data = our_credentials(us, token, call.version, self._registry, to)
        return Answer(200, Status.SUCCESS, "Success", data)

    async def _keep(self, call: Call, connection: Connection) -> None:
        """Write the connection as it is now. Raises Refusal (405) when another request was first."""
        event = connection_event(connection, sender=call.partner.key)
        event.request_id, event.correlation_id = call.request_id, call.correlation_id
        offset = await self._log.append(self._partition, event.key.encode(), event.encode())
        await self._view.reach(self._partition, offset + 1)
        known = self._registry.get(connection.id)
        if known is not None and known.token_sha256 != connection.token_sha256:
            raise _not_now(known)

    @staticmethod
    def _must_be(connection: Connection, *stages: str) -> None:
        if connection.stage not in stages:
            raise _not_now(connection)

    @staticmethod
    def _token_of(call: Call) -> str:
        """The very token that the caller used: we know its hash alone."""
        known = [call.partner.connection.token_sha256, call.partner.connection.next_token_sha256]
        for token in candidates(call.authorization):
            digest = token_digest(token)
            if any(one is not None and hmac.compare_digest(bytes.fromhex(one), digest) for one in known):
                return token
        raise AssertionError("an authenticated call has a token")


def _expecting(connection: Connection) -> Connection:
    """One with a token that was made by hand: it has to be who the token was made for."""
    roles = tuple(dict.fromkeys(role.role for role in connection.roles))
    return replace(connection, expected_party=connection.roles[0].key, expected_roles=roles)


def _not_now(connection: Connection) -> Refusal:
    """405: credentials "POST Method", "PUT Method", "DELETE Method"."""
    if connection.stage == REGISTERED:
        why, allowed = "you are registered already: PUT changes, DELETE ends it", b"GET, PUT, DELETE"
    else:
        why, allowed = "you are not registered: POST does that", b"GET, POST"
    return Refusal(405, Status.CLIENT_ERROR, f"Not now: {why}", headers=((b"allow", allowed),))
