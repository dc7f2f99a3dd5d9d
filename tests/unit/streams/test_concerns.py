"""Whom objects concern, and whether a token may be used: from what is known of them alone."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ocpi.objects import CdrToken, Location, Session, Token
from schemas.ocpi.requests import AllowedType, LocationReferences
from streams.authorization import authorize
from streams.concerns import EVERYBODY, NOBODY, concerned, is_for, named
from tests import strategies


@given(strategies.canonical("session"), strategies.ids)
def test_a_session_concerns_the_party_of_its_token(session: Session, party: str) -> None:
    """Whatever else is in it, and however it is written."""
    token = msgspec.structs.replace(session.cdr_token, country_code="de", party_id="eMs")
    session = msgspec.structs.replace(session, cdr_token=token, party_id=party)
    assert concerned("sessions", session) == "DE*EMS"
    assert concerned("cdrs", session) == "DE*EMS"
    assert concerned("locations", session) == EVERYBODY


@pytest.mark.parametrize(
    ("contract", "party"),
    [
        ("DE8ACC12E46L89", "DE*8AC"),
        ("de-8ac-c12e46l89-1", "DE*8AC"),
        ("NLTNM", "NL*TNM"),
        ("NLTN", NOBODY),
        ("012345678", NOBODY),
        ("", NOBODY),
        ("D8ABCDEF", NOBODY),
    ],
)
def test_without_a_party_the_contract_tells(contract: str, party: str) -> None:
    """An eMA ID begins with its provider's; who cannot be told of is nobody, never everybody."""

    class Held(msgspec.Struct):
        cdr_token: CdrToken

    token = CdrToken(country_code="", party_id="", uid="1", type="OTHER", contract_id=contract)
    assert concerned("cdrs", Held(token)) == party


@given(st.lists(st.none() | st.sampled_from(["DE*EMS", "FR*OTH", "BE*BEC"]), min_size=1))
def test_names_add_up(receivers: list[str | None]) -> None:
    """Who was named has it, in whatever order and however often; once it was for all it stays for all."""
    concerns = None
    for receiver in receivers:
        concerns = named(concerns, receiver)
    assert concerns is not None
    for party in ("DE*EMS", "FR*OTH", "BE*BEC"):
        assert is_for(concerns, {party, "XX*YYY"}) is (None in receivers or party in receivers)
    assert is_for(concerns, ()) is (None in receivers)
    assert (concerns == EVERYBODY) is (None in receivers)


_references = st.none() | st.builds(
    LocationReferences, location_id=strategies.ids, evse_uids=st.lists(st.sampled_from("abcD"), max_size=4)
)


@given(
    strategies.canonical("token"),
    _references,
    st.none() | strategies.canonical("location"),
    st.lists(st.tuples(st.sampled_from("ABCd"), st.booleans()), max_size=4, unique_by=lambda one: one[0]),
    strategies.canonical("evse"),
)
def test_authorization(
    token: Token,
    asked: LocationReferences | None,
    location: Location | None,
    evses: list[tuple[str, bool]],
    evse: object,
) -> None:
    """Of what was asked for, all that can be meant is told, and nothing else; the token always."""
    if location is not None:
        made = [
            msgspec.structs.replace(evse, uid=uid, status="REMOVED" if gone else "INOPERATIVE")  # type: ignore[type-var]
            for uid, gone in evses
        ]
        location = msgspec.structs.replace(location, evses=made)
    info = authorize(token, asked, location)
    assert info.token is token
    if not token.valid:
        assert (info.allowed, info.location) == (AllowedType.BLOCKED, None)
    elif asked is None or location is None:
        assert (info.allowed, info.location) == (AllowedType.ALLOWED, asked)
    else:
        there = {uid.upper() for uid, gone in evses if not gone}
        left = [uid for uid in asked.evse_uids if uid.upper() in there]
        if asked.evse_uids and not left:
            assert (info.allowed, info.location) == (AllowedType.NOT_ALLOWED, None)
        else:
            assert info.allowed is AllowedType.ALLOWED
            assert info.location == LocationReferences(location_id=asked.location_id, evse_uids=left)
