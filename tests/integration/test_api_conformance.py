"""Every answer is what the tables of its version say, whichever version its object came in."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from api.partners import invite
from tests.integration.api_helpers import (
    EXAMPLES,
    Api,
    Json,
    Partner,
    a_cdr,
    a_location,
    a_session,
    a_tariff,
    a_token,
    add,
    authorization,
    is_success,
)
from tests.ocpi_tables import faults

VERSIONS = ("2.1.1", "2.2.1", "2.3.0")
CLASSES = {
    "locations": "Location",
    "tariffs": "Tariff",
    "tokens": "Token",
    "sessions": "Session",
    "cdrs": "CDR",
    "hubclientinfo": "ClientInfo",
}
WHEN = "2026-01-05T09:00:00Z"
CDR_TOKEN = {
    "country_code": "DE",
    "party_id": "EMS",
    "uid": "0123",
    "type": "EMAID",
    "contract_id": "DE-EMS-C12345678-X",
}
ROUTING = ("ocpi-to-country-code", "ocpi-to-party-id", "ocpi-from-country-code", "ocpi-from-party-id")


def of_211(name: str, **changes: Any) -> Json:
    """An example of 2.1.1."""
    found: Json = json.loads((EXAMPLES / "2.1.1" / f"{name}.json").read_text("utf-8"))
    return found | changes


def newest_location() -> Json:
    """A location of 2.3.0 with words that no earlier version has."""
    location = a_location("2.3.0", "NEW")
    location |= {"parking_type": "BENEATH_A_TREE", "facilities": ["TRAM_STOP", "SAUNA"]}
    location["help_phone"] = "+31 30 123"
    evse = location["evses"][0]
    evse |= {"capabilities": ["RESERVABLE", "SINGING"], "parking_restrictions": ["TAXIS"]}
    plug = evse["connectors"][0] | {"id": "9", "standard": "SAE_J3400", "power_type": "AC_2_PHASE_SPLIT"}
    evse["connectors"].append(plug)
    location["evses"].append(evse | {"uid": "NACS", "connectors": [plug]})
    return location


def used(location: Json) -> Json:
    """The fields by which a session names where it is."""
    evse = location["evses"][0]
    return {
        "location_id": location["id"],
        "evse_uid": evse["uid"],
        "connector_id": evse["connectors"][0]["id"],
    }


@pytest.fixture(scope="module")
def known(cpo: Partner, emsp: Partner) -> list[str]:
    """What operator and provider said, each in each version; URLs where they can be read again."""
    urls = []

    def put(partner: Partner, version: str, module: str, body: Json, query: str = "") -> None:
        id_ = str(body["uid"] if module == "tokens" else body["id"])
        is_success(partner.http.put(partner.url(version, module, id_) + query, json=body), 201)
        urls.append(partner.url("{version}", module, id_) + query)

    for version in ("2.2.1", "2.3.0"):
        tail = version[2]
        location = newest_location() if version == "2.3.0" else a_location(version, f"L{tail}")
        put(cpo, version, "locations", location)
        put(cpo, version, "tariffs", a_tariff(version, f"T{tail}"))
        put(cpo, version, "sessions", a_session(version, f"S{tail}", cdr_token=CDR_TOKEN, **used(location)))
        put(
            cpo,
            version,
            "sessions",
            a_session(version, f"R{tail}", cdr_token=CDR_TOKEN, status="RESERVATION", **used(location)),
        )
        cdr = a_cdr(version, f"C{tail}", cdr_token=CDR_TOKEN)
        is_success(cpo.http.post(f"/ocpi/{version}/receiver/cdrs", json=cdr), 201)
        urls.append(cpo.url("{version}", "cdrs", f"C{tail}"))
        put(emsp, version, "tokens", a_token(version, f"U{tail}", type="APP_USER"), "?type=APP_USER")
    put(emsp, "2.3.0", "tokens", a_token("2.3.0", "UE", type="EMAID"), "?type=EMAID")
    place = of_211("location", id="L1")
    put(cpo, "2.1.1", "locations", place)
    put(cpo, "2.1.1", "tariffs", of_211("tariff_1", id="T1"))
    auth = {"auth_id": "DEEMSC12345678X"}
    put(
        cpo,
        "2.1.1",
        "sessions",
        of_211("session_1_simple_start", id="S1", last_updated=WHEN, location=place, **auth),
    )
    nowhere = of_211("location", id="NOWHERE")
    there = of_211("session_1_simple_start", id="S9", last_updated=WHEN, location=nowhere, **auth)
    put(cpo, "2.1.1", "sessions", there)
    is_success(cpo.http.post("/ocpi/2.1.1/receiver/cdrs", json=of_211("cdr", id="C1", **auth)), 201)
    put(emsp, "2.1.1", "tokens", of_211("token", uid="U1"))
    return urls


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_and_lists_are_what_the_tables_say(
    version: str, known: list[str], cpo: Partner, emsp: Partner
) -> None:
    for url in known:
        owner = emsp if "/tokens/" in url else cpo
        answer = owner.http.get(url.format(version=version))
        is_success(answer)
        module = url.split("/")[4]
        assert faults(version, CLASSES[module], answer.json()["data"]) == [], url
    for reader, modules in (
        (emsp, ("locations", "tariffs", "sessions", "cdrs", "hubclientinfo")),
        (cpo, ("tokens", "hubclientinfo")),
    ):
        for module in modules:
            if module == "hubclientinfo" and version == "2.1.1":
                continue
            answer = reader.http.get(f"/ocpi/{version}/sender/{module}")
            is_success(answer)
            found = answer.json()["data"]
            assert int(answer.headers["x-total-count"]) == len(found) <= int(answer.headers["x-limit"])
            assert module == "hubclientinfo" or len(found) >= 3, module
            for one in found:
                assert faults(version, CLASSES[module], one) == [], (module, one)


@pytest.mark.parametrize("version", VERSIONS)
def test_versions_details_and_credentials_are_what_the_tables_say(version: str, cpo: Partner) -> None:
    for one in cpo.http.get("/ocpi/versions").json()["data"]:
        assert faults("2.3.0", "Version", one) == []
    assert faults(version, "Data", cpo.http.get(f"/ocpi/{version}").json()["data"]) == []
    found = cpo.http.get(f"/ocpi/{version}/credentials").json()["data"]
    assert faults(version, "Credentials", found) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_an_authorization_is_what_the_tables_say(version: str, known: list[str], cpo: Partner) -> None:
    assert any("/tokens/" in url for url in known)
    url = f"/ocpi/{version}/sender/tokens/U1/authorize"
    answer = cpo.http.post(url, json={"location_id": "L1"})
    is_success(answer)
    assert faults(version, "AuthorizationInfo", answer.json()["data"]) == []


def test_functional_modules_answer_with_routing_headers_and_others_without(cpo: Partner) -> None:
    """transport_and_format "Message Routing Headers": also in refusals, and who named nobody hears of us."""
    mine = {"OCPI-from-country-code": "NL", "OCPI-from-party-id": "TNM"}
    turned = dict(zip(ROUTING, ("NL", "TNM", "NL", "VLF"), strict=True))
    for answer, http in (
        (cpo.get("2.3.0", "tariffs", "NONE", headers=mine), 404),
        (cpo.put("2.3.0", "tariffs", {}, "NONE", headers=mine), 200),
        (cpo.http.get("/ocpi/2.2.1/sender/tokens", headers=mine), 200),
    ):
        assert answer.status_code == http, answer.text
        assert {name: answer.headers.get(name) for name in ROUTING} == turned, answer.request.url
    for url in (
        "/ocpi/versions",
        "/ocpi/2.3.0",
        "/ocpi/2.3.0/credentials",
        "/ocpi/2.3.0/sender/hubclientinfo",
    ):
        answer = cpo.http.get(url, headers=mine)
        is_success(answer)
        assert not set(ROUTING) & set(answer.headers), url


def test_credentials_token_a_opens_versions_and_credentials_alone(api: Api) -> None:
    """transport_and_format "Authorization header": 401 elsewhere, whether there is such a URL or not."""
    token = asyncio.run(invite(api.kafka, api.topics, "NL", "TKA", roles=("CPO",)))[0]
    http = add(api, "FR", "TKB", "CPO").http
    headers = authorization(token)
    for url, status in (
        ("/ocpi/versions", 200),
        ("/ocpi/2.3.0", 200),
        ("/ocpi/2.3.0/credentials", 200),
        ("/ocpi/2.3.0/sender/locations", 401),
        ("/ocpi/2.3.0/receiver/locations/NL/TKA/L1", 401),
        ("/ocpi/2.3.0/receiver/locations", 401),
        ("/ocpi/2.3.0/receiver/nothing", 401),
    ):
        assert http.get(url, headers=headers).status_code == status, url
