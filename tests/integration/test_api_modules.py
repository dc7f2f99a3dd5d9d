"""The five modules over HTTP, in both versions: every method, and what is read back and kept."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from schemas.keys import object_key
from tests.integration.api_helpers import (
    VERSIONS,
    Api,
    Partner,
    a_cdr,
    a_location,
    a_session,
    a_tariff,
    a_token,
    events_of,
    is_refusal,
    is_success,
    unchanged,
)
from tests.integration.conftest import NewId

both = pytest.mark.parametrize("version", VERSIONS)


def other(version: str) -> str:
    """The other version."""
    return next(name for name in VERSIONS if name != version)


# versions


def test_versions_and_their_details(api: Api, cpo: Partner) -> None:
    """From the versions URL a partner finds all the rest (version_information_endpoint)."""
    answer = cpo.http.get("/ocpi/versions")
    is_success(answer)
    versions = answer.json()["data"]
    assert [entry["version"] for entry in versions] == ["2.1.1", *VERSIONS]
    for entry in versions:
        details = cpo.http.get(entry["url"]).json()["data"]
        assert details["version"] == entry["version"]
        role = None if entry["version"] == "2.1.1" else "RECEIVER"  # 2.1.1 knows no interface roles
        found = {(endpoint["identifier"], endpoint.get("role")) for endpoint in details["endpoints"]}
        assert found >= {(module, role) for module in ("sessions", "cdrs", "locations", "tariffs")}
        for endpoint in details["endpoints"]:
            assert endpoint["url"].startswith(f"{api.url}/ocpi/{entry['version']}/")
    is_success(cpo.http.get("/ocpi/versions/"))


# sessions


@both
def test_a_session_is_put_read_replaced_and_patched(version: str, cpo: Partner, new_id: NewId) -> None:
    """201 for a new one, 200 afterwards; PUT replaces all of it (mod_sessions, "PUT Method")."""
    id_ = new_id()
    first = a_session(version, id_)
    answer = cpo.put(version, "sessions", first, id_)
    is_success(answer, 201)
    assert "data" not in answer.json()
    assert cpo.found(version, "sessions", id_) == first

    period = {
        "start_date_time": "2020-03-09T10:17:09Z",
        "dimensions": [{"type": "ENERGY", "volume": 1.25}],
    }
    active = {**first, "status": "ACTIVE", "kwh": 1.25, "charging_periods": [period]}
    active["last_updated"] = "2020-03-09T10:30:00Z"
    is_success(cpo.put(version, "sessions", active, id_))
    assert cpo.found(version, "sessions", id_) == active

    second = {**period, "start_date_time": "2020-03-09T10:30:00Z"}
    patch: dict[str, Any] = {"charging_periods": [second], "kwh": 2.5, "last_updated": "2020-03-09T10:45:00Z"}
    is_success(cpo.patch(version, "sessions", patch, id_))
    patched = {**active, **patch, "charging_periods": [period, second]}
    assert cpo.found(version, "sessions", id_) == patched

    empty = {"charging_periods": [], "last_updated": "2020-03-09T10:46:00Z"}
    is_success(cpo.patch(version, "sessions", empty, id_))
    assert cpo.found(version, "sessions", id_)["charging_periods"] == [period, second]

    ended = {**first, "status": "COMPLETED", "last_updated": "2020-03-09T11:00:00Z"}
    is_success(cpo.put(version, "sessions", ended, id_))
    assert cpo.found(version, "sessions", id_) == ended, "periods that are left out are gone"


@both
def test_older_never_overwrites_newer(version: str, cpo: Partner, new_id: NewId, api: Api) -> None:
    """An older PUT or PATCH is answered as a success, kept as evidence, and changes nothing."""
    id_ = new_id()
    newest = a_session(version, id_, kwh=5, status="ACTIVE", last_updated="2024-01-01T12:00:00Z")
    is_success(cpo.put(version, "sessions", newest, id_), 201)
    late = {**newest, "kwh": 1, "last_updated": "2024-01-01T11:59:59Z"}
    is_success(cpo.put(version, "sessions", late, id_))
    answer = cpo.patch(version, "sessions", {"kwh": 2, "last_updated": "2024-01-01T11:00:00Z"}, id_)
    is_success(answer)
    assert "newer" in answer.json()["status_message"]
    assert cpo.found(version, "sessions", id_) == newest
    assert len(events_of(api, "sessions", object_key("NL", "TNM", id_))) == 3


@both
def test_what_comes_again_changes_nothing(version: str, cpo: Partner, new_id: NewId) -> None:
    """A repeated PATCH appends its periods once, also when another of the same moment came between."""
    id_ = new_id()
    session = a_session(version, id_, last_updated="2024-01-01T12:00:00Z")
    is_success(cpo.put(version, "sessions", session, id_), 201)

    def patch(minute: int) -> dict[str, Any]:
        period = {
            "start_date_time": f"2024-01-01T12:{minute}:00Z",
            "dimensions": [{"type": "ENERGY", "volume": 1}],
        }
        return {"charging_periods": [period], "last_updated": "2024-01-01T12:30:00Z"}

    for minute in (10, 20, 10, 20):
        is_success(cpo.patch(version, "sessions", patch(minute), id_))
    periods = cpo.found(version, "sessions", id_)["charging_periods"]
    assert [period["start_date_time"] for period in periods] == [
        "2024-01-01T12:10:00Z",
        "2024-01-01T12:20:00Z",
    ]


@both
def test_what_was_said_in_one_version_is_read_in_the_other(version: str, cpo: Partner, new_id: NewId) -> None:
    """2.2.1's excl_vat is 2.3.0's before_taxes."""
    id_ = new_id()
    is_success(cpo.put(version, "sessions", a_session(version, id_), id_), 201)
    assert cpo.found(other(version), "sessions", id_) == a_session(other(version), id_)


# cdrs


@both
def test_a_cdr_is_posted_and_read_where_location_says(version: str, cpo: Partner, new_id: NewId) -> None:
    """POST answers 201 with the URL, which a GET finds (mod_cdrs, "POST Method")."""
    id_ = new_id()
    cdr = a_cdr(version, id_, session_id=f"S-{id_}")
    answer = cpo.http.post(f"/ocpi/{version}/receiver/cdrs", json=cdr)
    is_success(answer, 201)
    location = answer.headers["location"]
    found = cpo.http.get(location)
    is_success(found)
    assert found.json()["data"] == cdr

    again = cpo.http.post(f"/ocpi/{version}/receiver/cdrs", json=cdr)
    is_success(again)
    assert again.headers["location"] == location


@both
def test_a_cdr_cannot_be_changed(version: str, cpo: Partner, new_id: NewId, api: Api) -> None:
    """Neither by another POST nor by PUT, PATCH or DELETE, which do not exist."""
    id_ = new_id()
    cdr = a_cdr(version, id_)
    answer = cpo.http.post(f"/ocpi/{version}/receiver/cdrs", json=cdr)
    is_success(answer, 201)
    url = answer.headers["location"]
    with unchanged(api):
        is_refusal(
            cpo.http.post(f"/ocpi/{version}/receiver/cdrs", json={**cdr, "total_energy": 99}), 200, 2001, "id"
        )
        is_success(cpo.http.post(f"/ocpi/{version}/receiver/cdrs", json=cdr))
        for method in ("PUT", "PATCH", "DELETE"):
            answer = cpo.http.request(method, url, json=cdr)
            is_refusal(answer, 405, 2000, method)
            assert answer.headers["allow"] == "GET"
    assert cpo.http.get(url).json()["data"] == cdr


def test_cdrs_lie_with_their_session(cpo: Partner, new_id: NewId, api: Api) -> None:
    """Session and CDR share a Kafka key, so they share a partition and an order."""
    id_ = new_id()
    is_success(cpo.put("2.3.0", "sessions", a_session("2.3.0", id_), id_), 201)
    for name, cdr in (("a", a_cdr("2.3.0", f"{id_}A", session_id=id_)), ("b", a_cdr("2.3.0", f"{id_}B"))):
        answer = cpo.http.post("/ocpi/2.3.0/receiver/cdrs", json=cdr)
        is_success(answer, 201)
        assert answer.headers["location"].endswith(f"/NL/TNM/{id_}{name.upper()}")
    modules = [event.module for event in events_of(api, "sessions", f"NL*TNM*{id_}")]
    assert modules == ["sessions", "cdrs"]
    (alone,) = events_of(api, "sessions", f"NL*TNM*#CDR:{id_}B")
    assert alone.key == f"NL*TNM*{id_}B"


# locations, EVSEs, connectors


@both
def test_a_location_and_its_parts(version: str, cpo: Partner, new_id: NewId) -> None:
    """Parts are read, put and patched by themselves and move their parents' last_updated (mod_locations)."""
    id_ = new_id()
    location = a_location(version, id_)
    is_success(cpo.put(version, "locations", location, id_), 201)
    assert cpo.found(version, "locations", id_) == location
    evse = location["evses"][0]
    assert cpo.found(version, "locations", id_, "3256") == evse
    assert cpo.found(version, "locations", id_, "3256", "2") == evse["connectors"][1]

    status = {"status": "CHARGING", "last_updated": "2020-01-01T00:00:00Z"}
    is_success(cpo.patch(version, "locations", status, id_, "3256"))
    assert cpo.found(version, "locations", id_, "3256") == {**evse, **status}
    assert cpo.found(version, "locations", id_)["last_updated"] == "2020-01-01T00:00:00Z"

    tariff = {"tariff_ids": ["15"], "last_updated": "2020-02-01T00:00:00Z"}
    is_success(cpo.patch(version, "locations", tariff, id_, "3256", "2"))
    assert cpo.found(version, "locations", id_, "3256", "2") == {**evse["connectors"][1], **tariff}
    for ids in ((id_,), (id_, "3256")):
        assert cpo.found(version, "locations", *ids)["last_updated"] == "2020-02-01T00:00:00Z"
    assert cpo.found(version, "locations", id_, "3257") == location["evses"][1]

    added = {**evse["connectors"][0], "id": "3", "last_updated": "2020-03-01T00:00:00Z"}
    is_success(cpo.put(version, "locations", added, id_, "3257", "3"), 201)
    assert cpo.found(version, "locations", id_, "3257", "3") == added
    new = {**evse, "uid": "3300", "last_updated": "2020-04-01T00:00:00Z"}
    is_success(cpo.put(version, "locations", new, id_, "3300"), 201)
    is_success(cpo.put(version, "locations", {**new, "status": "BLOCKED"}, id_, "3300"))
    found = cpo.found(version, "locations", id_)
    assert [one["uid"] for one in found["evses"]] == ["3256", "3257", "3300"]
    assert found["evses"][2]["status"] == "BLOCKED"
    assert found["last_updated"] == "2020-04-01T00:00:00Z"

    name = {"name": "Interparking Gent Zuid", "last_updated": "2020-05-01T00:00:00Z"}
    is_success(cpo.patch(version, "locations", name, id_))
    assert cpo.found(version, "locations", id_) == {**found, **name}


@both
def test_parts_of_what_is_unknown(version: str, cpo: Partner, new_id: NewId, api: Api) -> None:
    """Nothing can be put or patched under a location or EVSE that nobody knows: 404 with 2003."""
    id_ = new_id()
    location = a_location(version, id_)
    is_success(cpo.put(version, "locations", location, id_), 201)
    evse = location["evses"][0]
    connector = evse["connectors"][0]
    patch = {"status": "CHARGING", "last_updated": "2020-01-01T00:00:00Z"}
    with unchanged(api):
        is_refusal(cpo.put(version, "locations", evse, "NOWHERE", "3256"), 404, 2003, "NOWHERE")
        is_refusal(cpo.put(version, "locations", connector, id_, "9", "1"), 404, 2003, "EVSE", "9")
        is_refusal(cpo.patch(version, "locations", patch, id_, "9"), 404, 2003, "EVSE")
        is_refusal(cpo.patch(version, "locations", patch, "NOWHERE"), 404, 2003, "NOWHERE")
        for ids in (("NOWHERE",), (id_, "9"), (id_, "3256", "9"), (id_, "9", "1")):
            is_refusal(cpo.get(version, "locations", *ids), 404, 2003)
    answer = cpo.http.delete(cpo.url(version, "locations", id_))
    is_refusal(answer, 405, 2000)
    assert answer.headers["allow"] == "GET, PATCH, PUT"


# tariffs


@both
def test_a_tariff_is_put_replaced_and_deleted(version: str, cpo: Partner, new_id: NewId) -> None:
    """DELETE removes it; PUT makes it anew (mod_tariffs, "Receiver Interface")."""
    id_ = new_id()
    tariff = a_tariff(version, id_)
    is_success(cpo.put(version, "tariffs", tariff, id_), 201)
    assert cpo.found(version, "tariffs", id_) == tariff
    newer = {**tariff, "currency": "CHF", "last_updated": "2024-06-01T00:00:00Z"}
    is_success(cpo.put(version, "tariffs", newer, id_))
    assert cpo.found(version, "tariffs", id_) == newer
    url = cpo.url(version, "tariffs", id_)
    is_refusal(cpo.http.patch(url, json={"last_updated": "2025-01-01T00:00:00Z"}), 405, 2000)

    is_success(cpo.http.delete(url))
    is_refusal(cpo.http.get(url), 404, 2000, id_)
    is_refusal(cpo.http.delete(url), 404, 2000, id_)
    is_success(cpo.put(version, "tariffs", tariff, id_), 201)
    assert cpo.found(version, "tariffs", id_) == tariff


# tokens


@both
def test_tokens_are_known_by_uid_and_type(version: str, emsp: Partner, new_id: NewId, api: Api) -> None:
    """Two tokens of one uid and different types are two; without `type` it is the RFID one (mod_tokens)."""
    uid = new_id()
    rfid = a_token(version, uid)
    app = a_token(version, uid, type="APP_USER", visual_number=None)
    is_success(emsp.put(version, "tokens", app, uid, params={"type": "APP_USER"}), 201)
    assert emsp.found(version, "tokens", uid) == app, "there is no other"
    is_success(emsp.put(version, "tokens", rfid, uid), 201)
    assert emsp.found(version, "tokens", uid) == rfid
    assert emsp.found(version, "tokens", uid, params={"type": "APP_USER"}) == app

    patch = {"valid": False, "last_updated": "2024-01-01T00:00:00Z"}
    is_success(emsp.patch(version, "tokens", patch, uid, params={"type": "APP_USER"}))
    assert emsp.found(version, "tokens", uid, params={"type": "APP_USER"}) == {**app, **patch}
    assert emsp.found(version, "tokens", uid) == rfid
    with unchanged(api):
        is_refusal(emsp.get(version, "tokens", uid, params={"type": "OTHER"}), 404, 2004)
        is_refusal(emsp.get(version, "tokens", uid, params={"type": ""}), 200, 2001, "type")
        is_refusal(emsp.put(version, "tokens", rfid, uid, params={"type": "APP_USER"}), 200, 2001, "type")
        is_refusal(emsp.patch(version, "tokens", {**patch, "type": "OTHER"}, uid), 200, 2001, "type")
        is_refusal(emsp.patch(version, "tokens", patch, "NOBODY"), 404, 2004, "NOBODY")


# What is kept


def test_the_event_is_the_body_byte_for_byte(cpo: Partner, new_id: NewId, api: Api) -> None:
    """Spaces, order, unknown fields and digits are kept as they came, with who, when and the message ids."""
    id_ = new_id()
    plain = a_session("2.2.1", id_, kwh=0)
    body = json.dumps({"x_own": "ü\t", **plain}, indent=3).replace('"kwh": 0', '"kwh" :0.10').encode()
    ids = {"X-Request-ID": f"request {id_}", "X-Correlation-ID": f"correlation {id_}"}
    headers = {"Content-Type": "application/json; charset=utf-8", **ids}
    answer = cpo.http.put(cpo.url("2.2.1", "sessions", id_), content=body, headers=headers)
    is_success(answer, 201)
    assert {name: answer.headers[name] for name in ids} == ids
    (event,) = events_of(api, "sessions", f"NL*TNM*{id_}")
    assert event.body == body
    assert (event.request_id, event.correlation_id) == tuple(ids.values())
    assert (event.sender, event.version, event.module, event.method) == ("NL*TNM", "2.2.1", "sessions", "PUT")
    assert (event.key, event.path) == (f"NL*TNM*{id_}", ["NL", "TNM", id_])
    assert cpo.found("2.2.1", "sessions", id_) == {**plain, "kwh": 0.1}


def test_messages_without_ids_get_some(cpo: Partner, new_id: NewId, api: Api) -> None:
    """An id that was not sent is made, answered, and kept."""
    id_ = new_id()
    answer = cpo.put("2.3.0", "sessions", a_session("2.3.0", id_), id_)
    (event,) = events_of(api, "sessions", f"NL*TNM*{id_}")
    assert event.request_id == answer.headers["x-request-id"]
    assert event.correlation_id == answer.headers["x-correlation-id"]


def test_a_repeated_request_is_the_same_event(cpo: Partner, new_id: NewId, api: Api) -> None:
    """So that whoever folds the log can tell."""
    id_ = new_id()
    session = a_session("2.3.0", id_)
    is_success(cpo.put("2.3.0", "sessions", session, id_), 201)
    is_success(cpo.put("2.3.0", "sessions", session, id_))
    is_success(cpo.put("2.3.0", "sessions", {**session, "kwh": 1}, id_))
    first, second, third = events_of(api, "sessions", f"NL*TNM*{id_}")
    assert first.id == second.id != third.id
    assert first.received_at < second.received_at


# Identifiers


@both
def test_ids_are_compared_without_case(version: str, cpo: Partner, new_id: NewId) -> None:
    """CiString: abc and ABC are one session; it keeps the spelling of who said it last."""
    id_ = new_id()
    lower = a_session(version, id_.lower(), country_code="nl", party_id="tnm")
    is_success(cpo.http.put(f"/ocpi/{version}/receiver/sessions/nl/tnm/{id_.lower()}", json=lower), 201)
    assert cpo.found(version, "sessions", id_) == lower
    upper = a_session(version, id_, last_updated="2024-01-01T00:00:00Z")
    is_success(cpo.http.put(f"/ocpi/{version}/receiver/sessions/nl/Tnm/{id_.lower()}", json=upper))
    assert cpo.http.get(f"/ocpi/{version}/receiver/sessions/nl/tnm/{id_.lower()}").json()["data"] == upper


@pytest.mark.parametrize("name", ["a/b", "a b", "%41", "*", "a?b#c", "..", "+&=;"])
def test_ids_are_percent_encoded(name: str, cpo: Partner, emsp: Partner, new_id: NewId, api: Api) -> None:
    """Any printable character may be in an id, and a CDR's Location can be followed."""
    id_ = f"{new_id()}{name}"
    encoded = "".join(f"%{byte:02x}" for byte in id_.encode())
    url = cpo.url("2.3.0", "sessions", encoded)
    session = a_session("2.3.0", id_)
    is_success(_raw(cpo, "PUT", url, json=session), 201)
    assert _raw(cpo, "GET", url).json()["data"] == session
    (event,) = events_of(api, "sessions", f"NL*TNM*{id_}".upper())
    assert event.path == ["NL", "TNM", id_]
    cdr = a_cdr("2.3.0", id_)
    answer = cpo.http.post("/ocpi/2.3.0/receiver/cdrs", json=cdr)
    is_success(answer, 201)
    assert _raw(cpo, "GET", answer.headers["location"].removeprefix(api.url)).json()["data"] == cdr


def _raw(partner: Partner, method: str, target: str, **more: Any) -> httpx.Response:
    """A request whose target is sent as it is."""
    request = partner.http.build_request(method, partner.api.url, **more)
    request.extensions["target"] = target.encode()
    return partner.http.send(request)


@both
def test_a_removed_evse_stays_to_be_seen(version: str, cpo: Partner, new_id: NewId) -> None:
    """REMOVED is a state: the EVSE is still there, and its location has changed (mod_locations, "Status")."""
    id_ = new_id()
    location = a_location(version, id_)
    is_success(cpo.put(version, "locations", location, id_), 201)
    uid = location["evses"][0]["uid"]
    patch = {"status": "REMOVED", "last_updated": "2030-01-01T00:00:00Z"}
    is_success(cpo.patch(version, "locations", patch, id_, uid))
    found = cpo.found(version, "locations", id_)
    assert [one["uid"] for one in found["evses"]] == [one["uid"] for one in location["evses"]]
    assert found["evses"][0]["status"] == "REMOVED"
    assert found["last_updated"] == patch["last_updated"]
    assert cpo.found(version, "locations", id_, uid)["status"] == "REMOVED"
    answer = cpo.http.delete(cpo.url(version, "locations", id_, uid))
    assert answer.status_code == 405, "there is no other way to remove it"
