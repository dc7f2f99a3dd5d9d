"""Connections as the registry folds them, and who is let onto one; the vault of tokens."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from api.handshake import Found as Discovered
from api.handshake import HandshakeError, admitted, registered, roles_of, unregistered
from api.parcels import client_info_for
from api.partners import (
    INVITED,
    RECEIVE_ONLY,
    REGISTERED,
    Connection,
    CredentialsRole,
    Endpoint,
    Registry,
    connection_event,
    token_digest,
)
from api.peer import authorization
from api.pull import asked
from api.vault import SealError, Vault, key_in, key_of
from schemas.ocpi import wire
from schemas.ocpi.platforms import ClientInfo, ConnectionStatus, Role
from schemas.records import Event

VAULT = Vault(b"k" * 32)
CREDENTIALS = wire.decode(
    "credentials", "2.1.1",
    b'{"token": "theirs", "url": "https://x.example/versions", "business_details": {"name": "X"},'
    b'"party_id": "xyz", "country_code": "nl"}',
)  # fmt: skip


def test_roles_are_told_in_words_that_a_platform_knows() -> None:
    """types "Role" of 2.3.0 has neither HUB nor PTP; who has to do with payments knows what PTP is."""
    when = datetime(2026, 1, 1, tzinfo=UTC)

    def said(role: Role, version: str, *modules: str) -> Role:
        endpoints = tuple(Endpoint(module, "RECEIVER", "https://x.example") for module in modules)
        roles = (CredentialsRole("CPO", "NL", "TNM"),)
        to = Connection("x", REGISTERED, roles, version=version, endpoints=endpoints)
        info = ClientInfo(
            party_id="PTP", country_code="NL", role=role, status=ConnectionStatus.CONNECTED, last_updated=when
        )
        return client_info_for(to, version, info).role

    assert said(Role.PTP, "2.3.0", "locations") is Role.OTHER
    assert said(Role.PTP, "2.3.0", "payments") is Role.PTP
    assert said(Role.HUB, "2.3.0", "payments") is Role.OTHER
    assert said(Role.CPO, "2.3.0") is Role.CPO
    assert said(Role.HUB, "2.2.1") is Role.HUB


def test_a_list_is_asked_of_the_parties_that_have_it() -> None:
    """Of a hub itself, of 2.1.1 nobody by name, else of each party in its role."""
    parties = (("CPO", "NL", "B"), ("CPO", "NL", "A"), ("EMSP", "NL", "E"))
    roles = tuple(CredentialsRole(role, country, party) for role, country, party in parties)
    platform = Connection("x", REGISTERED, roles, version="2.3.0")
    assert asked(platform, "locations") == ["NL*A", "NL*B"]
    assert asked(platform, "tokens") == ["NL*E"]
    assert asked(platform.but(hub_party_id="NLHUB"), "locations") == ["NL*HUB"]
    hub = platform.but(roles=(*roles, CredentialsRole("HUB", "NL", "HUB")), version="2.2.1")
    assert asked(hub, "tokens") == ["NL*HUB"]
    assert asked(platform.but(version="2.1.1"), "locations") == [""]


def shown(token: str, *, plain: bool = False) -> bytes:
    """The header of a token."""
    return authorization(token, plain=plain).encode()


def role(name: str, key: str) -> CredentialsRole:
    """A role of a party."""
    return CredentialsRole(name, *key.split("*"))


def folded(*connections: Connection) -> Registry:
    """The registry after these."""
    registry = Registry()
    for one in connections:
        registry.fold(connection_event(one))
    return registry


def one(id_: str, stage: str, token: str | None, *roles: CredentialsRole, **more: object) -> Connection:
    """A connection."""
    digest = token_digest(token).hex() if token else None
    return msgspec.structs.replace(Connection(id_, stage, tuple(roles), token_sha256=digest), **more)


def test_tokens_open_while_they_are_good() -> None:
    """The present one, and beside it the next one; neither after the end."""
    first = one("a", REGISTERED, "old", role("CPO", "NL*TNM"))
    both = first.but(next_token_sha256=token_digest("new").hex())
    after = both.but(token_sha256=both.next_token_sha256, next_token_sha256=None)
    for steps, good in (
        ([first], {"old"}),
        ([first, both], {"old", "new"}),
        ([first, both, after], {"new"}),
        ([first, both, after, unregistered(after)], set()),
    ):
        registry = Registry()
        for step in steps:
            for token in ("old", "new", "other"):
                registry.find(shown(token))  # what was found once is not found for ever
            registry.fold(connection_event(step))
        for token in ("old", "new", "other"):
            for plain in (False, True):
                for _ in range(2):
                    found = registry.find(shown(token, plain=plain))
                    assert (found.connection if found else None) == (steps[-1] if token in good else None)


def test_of_two_that_raced_the_first_counts() -> None:
    """Both are the next revision; whoever folds them in the log's order agrees."""
    start = one("a", INVITED, "A")
    won, lost = (start.but(stage=REGISTERED, token_sha256=token_digest(t).hex()) for t in ("C1", "C2"))
    registry = folded(start, won, lost)
    assert registry.find(shown("C1"))
    assert not registry.find(shown("C2"))
    assert not registry.find(shown("A"))
    again = folded(start, won, lost, start, won)  # a view that lost Kafka reads from the beginning
    assert again.get("a") == won


def test_events_of_before_there_were_connections() -> None:
    """A token that was given in the log's first days still opens."""
    body = {
        "country_code": "NL", "party_id": "TNM", "roles": ["CPO", "EMSP"],
        "token_sha256": token_digest("t").hex(), "name": "x",
    }  # fmt: skip
    event = Event(
        id=b"0" * 16, received_at=1, sender="OPERATOR", version="", module="parties", method="PUT",
        key="NL*TNM", path=["NL", "TNM"], request_id=None, correlation_id=None,
        body=json.dumps(body).encode(),
    )  # fmt: skip
    registry = Registry()
    registry.fold(event)
    partner = registry.find(shown("t"))
    assert partner is not None
    assert partner.is_through
    assert partner.may("EMSP", "nl", "tnm")
    assert not partner.may("HUB", "NL", "TNM")
    for broken in (b"", b"[]", b"{}", b'{"id": 1}', b'{"id": "x", "stage": "INVITED", "token_sha256": "zz"}'):
        event.body = broken
        registry.fold(event)
    assert len(registry.partners()) == 1


def test_whose_connection_a_party_is_on() -> None:
    """One that is registered before one by hand, and its own before a hub's."""
    registry = folded(
        one("hand", RECEIVE_ONLY, "1", role("CPO", "NL*TNM")),
        one("hub", REGISTERED, "2", role("HUB", "NL*HUB"), role("CPO", "NL*TNM"), role("EMSP", "DE*EMS")),
        one("own", REGISTERED, "3", role("CPO", "NL*TNM")),
    )
    for found, *who in (
        ("own", "NL", "TNM"),
        ("own", "nl", "tnm", "CPO"),
        ("hub", "DE", "EMS"),
        (None, "DE", "EMS", "CPO"),
        (None, "FR", "XXX"),
    ):
        connection = registry.by_party(*who)
        assert (connection.id if connection else None) == found
    assert registry.named("NL-TNM").id == "own"
    with pytest.raises(LookupError):
        registry.named("FR*XXX")


def test_who_is_let_onto_a_connection() -> None:
    """Nobody takes another's party; who was expected has to come, and may take over from a token by hand."""
    registry = folded(
        one("own", REGISTERED, "1", role("CPO", "NL*TNM")),
        one("hand", RECEIVE_ONLY, "2", role("CPO", "NL*MAN")),
    )
    new = one("new", INVITED, "3")
    fine = [role("CPO", "NL*NEW"), role("EMSP", "NL*TNM")]
    assert admitted(new, fine, None, registry) == tuple(fine)
    for taken in ("NL*TNM", "NL*MAN"):
        with pytest.raises(HandshakeError, match=r"roles\[1\]"):
            admitted(new, [fine[0], role("CPO", taken)], None, registry)
        hubs = admitted(new, [fine[0], role("CPO", taken)], "NLHUB", registry)
        assert hubs == (fine[0],), "a hub's is passed over"
    with pytest.raises(HandshakeError, match="twice"):
        admitted(new, [fine[0], fine[0]], None, registry)
    invited = msgspec.structs.replace(new, expected_party="NL*MAN")
    assert admitted(invited, [role("CPO", "NL*MAN")], None, registry)
    with pytest.raises(HandshakeError, match="expected"):
        admitted(invited, fine, None, registry)
    with pytest.raises(HandshakeError, match=r"roles\[0\]"):
        admitted(
            msgspec.structs.replace(new, expected_party="NL*TNM"), [role("CPO", "NL*TNM")], None, registry
        )


@pytest.mark.parametrize(
    ("expected", "path", "modules", "found"),
    [
        (("SCSP",), "/ocpi/cpo/", ["sessions"], ["SCSP"]),
        ((), "/ocpi/emsp/2.1.1", ["commands"], ["EMSP"]),
        ((), "/CPO/", ["sessions"], ["CPO"]),
        ((), "/ocpi", ["sessions", "commands"], ["CPO"]),
        ((), "/ocpi", ["sessions", "tokens"], ["EMSP"]),
    ],
)
def test_roles_of_211(expected: tuple[str, ...], path: str, modules: list[str], found: list[str]) -> None:
    """Its credentials do not tell them."""
    endpoints = tuple(Endpoint(one, "", f"https://x.example{path}/{one}") for one in modules)
    roles = roles_of(CREDENTIALS, Discovered("2.1.1", endpoints, True), expected)
    assert [(one.role, one.key) for one in roles] == [(name, "NL*XYZ") for name in found]


def test_what_a_handshake_leaves() -> None:
    """The token sealed, the next one taken over, the parties behind a hub of 2.2.1 still there."""
    before = one("hub", REGISTERED, "B", role("HUB", "NL*XYZ"), role("CPO", "BE*BBB"))
    found = Discovered("2.2.1", (Endpoint("tokens", "SENDER", "https://x.example/t/"),), False)
    after = registered(before, (role("HUB", "NL*XYZ"),), CREDENTIALS, found, VAULT, "0" * 64, 7)
    assert after.revision == before.revision + 1
    assert b"theirs" not in msgspec.json.encode(after)
    assert VAULT.open(after.their_token or "") == "theirs"
    assert [one.key for one in after.roles] == ["NL*XYZ", "BE*BBB"]
    assert after.endpoint("tokens", "SENDER") == "https://x.example/t"
    assert after.endpoint("tokens", "RECEIVER") is None
    newer = registered(
        before, after.roles[:1], CREDENTIALS, found.__class__("2.3.0", (), False), VAULT, "", 7
    )
    assert [one.key for one in newer.roles] == ["NL*XYZ"]


def test_the_vault(tmp_path: Path) -> None:
    """One key in a folder, its owner's alone; what another key sealed does not open."""
    key = key_in(tmp_path / "data")
    assert key_in(tmp_path / "data") == key
    (file,) = (tmp_path / "data").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert key_of(file.read_text()) == key
    with pytest.raises(SealError):
        Vault(key).open(VAULT.seal("x"))
    for wrong in ("", "short", "ä" * 44):
        with pytest.raises(ValueError, match="32"):
            key_of(wrong)
