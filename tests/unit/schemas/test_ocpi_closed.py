"""What earlier versions are told has only words that they have; and strings that no version has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.ocpi import wire
from tests import strategies

EXAMPLES = Path(__file__).parents[2] / "data" / "ocpi-examples"
WHEN = "2026-01-05T09:00:00Z"
PLUGS = ("IEC_62196_T2", "SAE_J3400", "NEMA_14_50", "SOME_NEW_PLUG")

# What a closed enum of 2.2.1 or 2.1.1 has, in a few: the tables of mod_locations, mod_tokens, types.
TOKENS = {"2.2.1": {"AD_HOC_USER", "APP_USER", "OTHER", "RFID"}, "2.1.1": {"OTHER", "RFID"}}


def connector(name: str, standard: str, power: str = "AC_2_PHASE") -> dict[str, Any]:
    return {
        "id": name,
        "standard": standard,
        "format": "CABLE",
        "power_type": power,
        "max_voltage": 230,
        "max_amperage": 16,
        "last_updated": WHEN,
    }


def location() -> dict[str, Any]:
    return {
        "country_code": "NL",
        "party_id": "TNM",
        "id": "L1",
        "publish": False,
        "publish_allowed_to": [{"uid": "1", "type": "EMAID"}, {"uid": "2", "type": "RFID"}],
        "address": "Stationsplein 1",
        "city": "Utrecht",
        "postal_code": "3511",
        "country": "NLD",
        "coordinates": {"latitude": "52.089444", "longitude": "5.110278"},
        "time_zone": "Europe/Amsterdam",
        "parking_type": "BENEATH_A_TREE",
        "facilities": ["TRAM_STOP", "WIFI", "SWIMMING_POOL"],
        "images": [{"url": "https://example.com/1.png", "category": "NIGHT", "type": "png"}],
        "energy_mix": {
            "is_green_energy": True,
            "environ_impact": [
                {"category": "CARBON_DIOXIDE", "amount": 2},
                {"category": "NOISE", "amount": 1},
            ],
        },
        "evses": [
            {
                "uid": f"E{number}",
                "status": "AVAILABLE",
                "capabilities": ["RESERVABLE", "PED_TERMINAL", "SINGING"],
                "parking_restrictions": ["EV_ONLY", "TAXIS"],
                "connectors": [connector("1", PLUGS[number]), connector("2", PLUGS[number % 2])],
                "last_updated": WHEN,
            }
            for number in range(4)
        ],
        "last_updated": WHEN,
    }


def said(kind: str, version: str, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    found = wire.decode(kind, "2.3.0", json.dumps(body).encode())
    told: dict[str, Any] = json.loads(wire.encode(kind, version, found, **more))
    return told


def test_a_location_of_221_has_only_words_of_221() -> None:
    told = said("location", "2.2.1", location())
    assert told["publish_allowed_to"] == [{"uid": "2", "type": "RFID"}]
    assert "parking_type" not in told
    assert told["facilities"] == ["TRAM_STOP", "WIFI"]
    assert told["images"][0]["category"] == "OTHER"
    assert [item["category"] for item in told["energy_mix"]["environ_impact"]] == ["CARBON_DIOXIDE"]
    evses = {evse["uid"]: [plug["standard"] for plug in evse["connectors"]] for evse in told["evses"]}
    assert evses == {"E0": ["IEC_62196_T2"] * 2, "E2": ["NEMA_14_50", "IEC_62196_T2"]}
    assert told["evses"][0]["capabilities"] == ["RESERVABLE", "PED_TERMINAL"]
    assert told["evses"][0]["parking_restrictions"] == ["EV_ONLY"]


def test_a_location_of_211_has_only_words_of_211() -> None:
    told = said("location", "2.1.1", location())
    assert told["type"] == "OTHER"
    assert told["facilities"] == ["WIFI"]
    evses = {evse["uid"]: [plug["standard"] for plug in evse["connectors"]] for evse in told["evses"]}
    assert evses == {"E0": ["IEC_62196_T2"] * 2, "E2": ["IEC_62196_T2"]}
    assert told["evses"][0]["capabilities"] == ["RESERVABLE"]
    assert told["evses"][0]["connectors"][0]["power_type"] == "AC_1_PHASE"


def test_the_newest_version_says_everything() -> None:
    assert said("location", "2.3.0", location())["evses"][3]["capabilities"][2] == "SINGING"


@pytest.mark.parametrize("version", ["2.2.1", "2.1.1"])
def test_an_evse_by_itself_has_the_nearest_connectors(version: str) -> None:
    evse = location()["evses"][3]
    told = said("evse", version, evse)
    assert [plug["standard"] for plug in told["connectors"]] == ["IEC_62196_T2", "TESLA_S"]
    for plug, nearest in (("MCS", "IEC_62196_T2_COMBO"), ("GBT_DC", "CHADEMO"), ("NEMA_14_50", "DOMESTIC_B")):
        (told,) = said("evse", version, evse | {"connectors": [connector("1", plug)]})["connectors"]
        assert told["standard"] == (plug if version == "2.2.1" and plug != "MCS" else nearest)


@pytest.mark.parametrize("version", ["2.2.1", "2.1.1"])
def test_cdrs_and_sessions_have_plugs_of_their_version(version: str) -> None:
    body = json.loads((EXAMPLES / "2.3.0" / "cdr_example.json").read_bytes())
    for plug, nearest in (("SAE_J3400", "TESLA_S"), ("#NA", "IEC_62196_T2")):
        body["cdr_location"]["connector_standard"] = plug
        told = said("cdr", version, body)
        if version == "2.2.1":
            assert told["cdr_location"]["connector_standard"] == nearest
        else:
            assert told["location"]["evses"][0]["connectors"][0]["standard"] == nearest
    if version == "2.1.1":
        (evse,) = said("session", version, session())["location"]["evses"]
        assert evse["connectors"][0]["standard"] == "IEC_62196_T2"


@pytest.mark.parametrize("version", ["2.2.1", "2.1.1"])
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_tokens_are_of_types_that_the_version_has(version: str, data: st.DataObject) -> None:
    for kind in ("token", "start_session", "reserve_now"):
        found = data.draw(strategies.canonical(kind))
        told = json.loads(wire.encode(kind, version, found))
        token = told if kind == "token" else told["token"]
        its = found.type if kind == "token" else found.token.type
        assert token["type"] == (its if its in TOKENS[version] else "OTHER")


def session(evse: str = "E0") -> dict[str, Any]:
    return {
        "country_code": "NL",
        "party_id": "TNM",
        "id": "S1",
        "start_date_time": WHEN,
        "kwh": 1,
        "cdr_token": {
            "country_code": "DE",
            "party_id": "EMS",
            "uid": "1",
            "type": "EMAID",
            "contract_id": "DE-EMS-1",
        },
        "auth_method": "WHITELIST",
        "location_id": "l1",
        "evse_uid": evse,
        "connector_id": "2",
        "currency": "EUR",
        "status": "ACTIVE",
        "last_updated": WHEN,
    }


def test_a_session_of_211_embeds_the_location_that_is_known() -> None:
    place = wire.decode("location", "2.3.0", json.dumps(location()).encode())
    told = said("session", "2.1.1", session("e0"), place=place)["location"]
    assert (told["id"], told["address"], told["city"]) == ("L1", "Stationsplein 1", "Utrecht")
    assert [evse["uid"] for evse in told["evses"]] == ["E0"]
    assert [plug["id"] for plug in told["evses"][0]["connectors"]] == ["2"]
    assert told["evses"][0]["connectors"][0]["standard"] == "IEC_62196_T2"
    back = wire.decode(
        "session", "2.1.1", json.dumps(said("session", "2.1.1", session("e0"), place=place)).encode()
    )
    assert (back.location_id, back.evse_uid, back.connector_id) == ("L1", "E0", "2")


def test_a_session_at_an_unknown_evse_names_it_in_words_of_the_version() -> None:
    """What the operator said of it is kept; a connector needs a standard, so it is one that 2.1.1 has."""
    place = wire.decode("location", "2.3.0", json.dumps(location()).encode())
    told = said("session", "2.1.1", session("GONE"), place=place)["location"]
    nowhere = said("session", "2.1.1", session("E0"))["location"]
    assert (told["address"], nowhere["id"]) == ("Stationsplein 1", "l1")
    for where, uid in ((told, "GONE"), (nowhere, "E0")):
        (evse,) = where["evses"]
        (plug,) = evse["connectors"]
        assert (evse["uid"], plug["id"], plug["standard"]) == (uid, "2", "IEC_62196_T2")


def test_a_session_of_221_and_of_230_only_names_its_location() -> None:
    place = wire.decode("location", "2.3.0", json.dumps(location()).encode())
    for version in ("2.2.1", "2.3.0"):
        assert said("session", version, session(), place=place) == said("session", version, session())


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "\u0000", "a\rb", "\u007f", "a\u0085b", "\u2028"])
def test_no_string_holds_a_control_character(text: str) -> None:
    body = location() | {"city": text}
    with pytest.raises(wire.InvalidObjectError, match=r"^city: a string holds printable characters only"):
        wire.decode("location", "2.3.0", json.dumps(body).encode())
    patch = {"city": text, "last_updated": WHEN}
    known = wire.decode("location", "2.3.0", json.dumps(location()).encode())
    with pytest.raises(wire.InvalidObjectError, match=r"^city: "):
        wire.apply_patch("location", "2.3.0", known, json.dumps(patch).encode())


@pytest.mark.parametrize("text", ["Köln", "東京", "a\u00a0b", "🔌", 'say "ah"', "back\\slash"])
def test_a_string_holds_any_other_character(text: str) -> None:
    body = location() | {"city": text}
    assert wire.decode("location", "2.3.0", json.dumps(body).encode()).city == text


def test_what_is_no_text_is_refused_wherever_it_is() -> None:
    """Also in a field that nobody reads: the body is evidence, and JSON is UTF-8 (RFC 8259)."""
    body = json.dumps(location() | {"unknown": "@"}).encode().replace(b"@", b"\xff")
    with pytest.raises(wire.InvalidObjectError, match="not valid UTF-8"):
        wire.decode("location", "2.3.0", body)
