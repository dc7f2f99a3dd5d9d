"""Sender interfaces over HTTP, on two API processes of one log: lists, single locations, authorization."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from api.partners import (
    RECEIVE_ONLY,
    Connection,
    CredentialsRole,
    connection_event,
    token_digest,
    write_event,
)
from schemas.topics import Topics
from tests.integration.api_helpers import (
    Api,
    Json,
    Partner,
    a_cdr,
    a_location,
    a_session,
    a_tariff,
    a_token,
    add,
    events_of,
    is_refusal,
    is_success,
    unchanged,
)
from tests.integration.conftest import NewId
from tests.integration.counterpart import Seen, now, running
from tests.integration.courier_helpers import QUICK, connect
from voltfold.topics import create_topics

EMS = ("DE", "EMS")
OTH = ("FR", "OTH")


@pytest.fixture(scope="module")
def apis(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, Api]]:
    """Two processes on a log of this module's own, 3 partitions wide."""
    topics = Topics(f"t-{uuid.uuid4().hex[:10]}", partitions=3)
    asyncio.run(create_topics(broker, topics.all()))
    one, two = (
        Api(broker, topics, tmp_path_factory.mktemp("api"), settings=dict(QUICK), number=number)
        for number in (0, 1)
    )
    one.start()
    two.start()
    yield one, two
    one.kill()
    two.kill()


@pytest.fixture(scope="module")
def api(apis: tuple[Api, Api]) -> Api:
    """The first of them."""
    return apis[0]


@pytest.fixture
def other_emsp(api: Api) -> Partner:
    """FR*OTH, another provider."""
    return add(api, *OTH, "EMSP")


def platform(api: Api, *roles: tuple[str, str, str]) -> Partner:
    """A platform with several parties: role, country code, party id of each."""
    token = uuid.uuid4().hex
    found = tuple(CredentialsRole(*role) for role in roles)
    connection = Connection(token[:8], RECEIVE_ONLY, found, token_sha256=token_digest(token).hex())
    asyncio.run(write_event(api.kafka, api.topics, connection_event(connection)))
    return Partner(api, roles[0][1], roles[0][2], token)


def token_of(party: tuple[str, str]) -> Json:
    """A cdr_token of a party."""
    country, name = party
    ids = {"uid": "012345678", "contract_id": f"{country}{name}C12345678"}
    return {"country_code": country, "party_id": name, "type": "RFID", **ids}


def sender(version: str, module: str, *ids: str) -> str:
    """The URL of a sender interface."""
    return "/".join([f"/ocpi/{version}/sender/{module}", *ids])


def to(country: str, party: str) -> dict[str, str]:
    """Headers that name a receiver."""
    return {"OCPI-to-country-code": country, "OCPI-to-party-id": party}


def of(country: str, party: str) -> dict[str, str]:
    """Headers that name a sender."""
    return {"OCPI-from-country-code": country, "OCPI-from-party-id": party}


def pages(
    partner: Partner, url: str, headers: dict[str, str] | None = None, **query: Any
) -> list[httpx.Response]:
    """All pages of a list, by their links, each held to be one."""
    found = []
    following: str | None = str(httpx.URL(url, params=query))
    while following:
        answer = partner.http.get(following, headers=headers)
        is_success(answer)
        found.append(answer)
        assert len(answer.json()["data"]) <= int(answer.headers["x-limit"])
        following = answer.links["next"]["url"] if "next" in answer.links else None
    return found


def listed(partner: Partner, url: str, headers: dict[str, str] | None = None, **query: Any) -> list[Json]:
    """The objects of a list, whose number is held to be what it says."""
    found = pages(partner, url, headers, **query)
    objects = [one for page in found for one in page.json()["data"]]
    assert int(found[-1].headers["x-total-count"]) == len(objects)
    return objects


def ids(objects: list[Json]) -> list[str]:
    """Their identifiers."""
    return [one.get("id") or one["uid"] for one in objects]


# Who sees what


def test_each_sees_what_concerns_it(api: Api, cpo: Partner, emsp: Partner, other_emsp: Partner) -> None:
    """Sessions and CDRs by their token, the rest by role, in every version; nothing of one's own platform."""
    bec, nsp = add(api, "BE", "BEC", "CPO"), add(api, "DE", "NAV", "NSP")
    duo = platform(api, ("CPO", "IT", "DUO"), ("EMSP", "IT", "DUO"), ("EMSP", "IT", "TWO"))
    owners = ((cpo, "NL", "TNM"), (bec, "BE", "BEC"), (duo, "IT", "DUO"))
    mine: dict[tuple[str, str], list[str]] = {EMS: [], OTH: [], ("IT", "DUO"): [], ("IT", "TWO"): []}
    for owner, country, party in owners:
        own = {"country_code": country, "party_id": party}
        is_success(owner.put("2.3.0", "locations", a_location("2.3.0", f"L{party}", **own), f"L{party}"), 201)
        is_success(owner.put("2.2.1", "tariffs", a_tariff("2.2.1", f"T{party}", **own), f"T{party}"), 201)
        for reader, found in mine.items():
            name = f"{party}-{reader[1]}"
            session = a_session("2.3.0", name, cdr_token=token_of(reader), location_id=f"L{party}", **own)
            is_success(owner.put("2.3.0", "sessions", session, name), 201)
            cdr = a_cdr("2.2.1", name, cdr_token=token_of(reader), **own)
            is_success(owner.http.post("/ocpi/2.2.1/receiver/cdrs", json=cdr), 201)
            found.append(name)
    is_success(emsp.put("2.3.0", "tokens", a_token("2.3.0", "KEMS"), "KEMS"), 201)
    is_success(
        duo.put("2.3.0", "tokens", a_token("2.3.0", "KDUO", country_code="IT", party_id="DUO"), "KDUO"), 201
    )

    everyone = ["TNM", "BEC", "DUO"]
    for version in ("2.1.1", "2.2.1", "2.3.0"):
        for module in ("sessions", "cdrs"):
            url = sender(version, module)
            assert ids(listed(emsp, url)) == mine[EMS]
            assert ids(listed(other_emsp, url, limit=1)) == mine[OTH]
            both = mine["IT", "DUO"] + mine["IT", "TWO"]
            assert sorted(ids(listed(duo, url, limit=2))) == sorted(both)
            assert ids(listed(duo, url, of("it", "two"))) == mine["IT", "TWO"]
            assert ids(listed(duo, url, of("IT", "TWO") | to("BE", "BEC"))) == ["BEC-TWO"]
            for stranger in (cpo, nsp):
                is_refusal(stranger.http.get(url), 404, 2000, "is for the role")
            is_refusal(duo.http.get(url, headers=of(*EMS)), 200, 2001, "OCPI-from-party-id", "DE*EMS")
        for module, letter in (("locations", "L"), ("tariffs", "T")):
            url = sender(version, module)
            for reader in (emsp, other_emsp, nsp):
                assert ids(listed(reader, url)) == [f"{letter}{party}" for party in everyone]
            assert ids(listed(duo, url)) == [f"{letter}TNM", f"{letter}BEC"]
            assert ids(listed(emsp, url, to("be", "bec"))) == [f"{letter}BEC"]
            assert ids(listed(emsp, url, to("NL", "VLF"))) == [f"{letter}{party}" for party in everyone]
            is_refusal(emsp.http.get(url, headers=to("XX", "YYY")), 200, 4001, "XX*YYY")
            is_refusal(cpo.http.get(url), 404, 2000)
        tokens = sender(version, "tokens")
        assert ids(listed(cpo, tokens)) == ["KEMS", "KDUO"]
        assert ids(listed(duo, tokens)) == ["KEMS"]
        is_refusal(emsp.http.get(tokens), 404, 2000)
    old = listed(emsp, sender("2.1.1", "sessions"))[1]
    assert old["auth_id"] == token_of(EMS)["contract_id"]
    assert old["location"]["id"] == "LBEC"
    assert old["location"]["city"] == a_location("2.3.0", "LBEC")["city"], "2.1.1 embeds the location"
    assert "excl_vat" in listed(emsp, sender("2.2.1", "cdrs"))[0]["total_cost"]

    # What moves on leaves, and what is gone is gone.
    own = {"country_code": "BE", "party_id": "BEC", "last_updated": "2026-03-01T00:00:00Z"}
    session = a_session("2.3.0", "BEC-EMS", cdr_token=token_of(OTH), **own)
    is_success(bec.put("2.3.0", "sessions", session, "BEC-EMS"))
    is_success(bec.http.delete(bec.url("2.3.0", "tariffs", "TBEC")))
    assert ids(listed(emsp, sender("2.3.0", "sessions"))) == ["TNM-EMS", "DUO-EMS"]
    assert "BEC-EMS" in ids(listed(other_emsp, sender("2.3.0", "sessions")))
    assert ids(listed(emsp, sender("2.3.0", "tariffs"))) == ["TTNM", "TDUO"]


def test_what_is_for_one_party_is_shown_to_it_alone(
    apis: tuple[Api, Api], cpo: Partner, emsp: Partner, other_emsp: Partner
) -> None:
    """An object that was only ever pushed to receivers by name, in lists and by its URL, at every process."""
    makers = {"tariffs": a_tariff, "locations": a_location}

    def push(module: str, minute: int, headers: dict[str, str]) -> None:
        body = makers[module]("2.3.0", "ONE", last_updated=f"2026-01-05T08:{minute:02}:00Z")
        is_success(cpo.put("2.3.0", module, body, "ONE", headers=headers), 200 if minute else 201)

    def readers(module: str) -> list[Partner]:
        """Who sees it, at either process, by the same answer in every way."""
        found = []
        for one in (emsp, other_emsp):
            seen = set()
            for api in apis:
                reader = Partner(api, one.country, one.party, one.token)
                for since in ({}, {"date_from": "2026-01-01T00:00:00Z"}):
                    seen.add("ONE" in ids(listed(reader, sender("2.2.1", module), **since)))
                if module == "locations":
                    seen.add(reader.http.get(sender("2.3.0", module, "ONE")).status_code == 200)
            assert len(seen) == 1
            found += [one] if seen == {True} else []
        return found

    for module in makers:
        push(module, 0, to(*OTH))
        assert readers(module) == [other_emsp]
        push(module, 1, to(*OTH))
        assert readers(module) == [other_emsp]
        push(module, 2, to(*EMS))
        assert readers(module) == [emsp, other_emsp]
    is_success(cpo.http.delete(cpo.url("2.3.0", "tariffs", "ONE")))
    assert readers("tariffs") == []
    push("tariffs", 0, to(*EMS))
    assert readers("tariffs") == [emsp]
    push("tariffs", 1, {})
    assert readers("tariffs") == [emsp, other_emsp]
    push("tariffs", 2, to(*EMS))
    assert readers("tariffs") == [emsp, other_emsp], "what everybody was told is no secret"


def test_a_session_of_211_concerns_the_provider_of_its_contract(api: Api, cpo: Partner) -> None:
    """It names no party, but an eMA ID."""
    ema = add(api, "AT", "EMA", "EMSP")
    body = {
        "id": "OLD", "start_datetime": "2026-01-05T09:00:00Z", "kwh": 0, "auth_id": "AT-EMA-C00000012-3",
        "auth_method": "WHITELIST", "currency": "EUR", "status": "ACTIVE", "total_cost": 0,
        "last_updated": "2026-01-05T09:00:00Z",
        "location": {
            "id": "L1", "type": "ON_STREET", "address": "A 1", "city": "B", "postal_code": "1000",
            "country": "NLD", "coordinates": {"latitude": "52.089444", "longitude": "5.110278"},
            "last_updated": "2026-01-05T09:00:00Z",
            "evses": [{
                "uid": "E1", "status": "CHARGING", "last_updated": "2026-01-05T09:00:00Z",
                "connectors": [{
                    "id": "1", "standard": "IEC_62196_T2", "format": "SOCKET", "power_type": "AC_3_PHASE",
                    "voltage": 230, "amperage": 16, "last_updated": "2026-01-05T09:00:00Z",
                }],
            }],
        },
    }  # fmt: skip
    is_success(cpo.put("2.1.1", "sessions", body, "OLD"), 201)
    assert ids(listed(ema, sender("2.3.0", "sessions"))) == ["OLD"]


# Pages


WRITTEN = 120
"""Objects that each writer adds while somebody crawls; one who reads more slowly comes to an end."""


def test_a_crawl_over_what_changes(apis: tuple[Api, Api], cpo: Partner) -> None:
    """Whoever follows the links, at any process, sees each object once and in one order, whatever comes."""
    reader = add(apis[0], "ES", "CRW", "EMSP")
    readers = [reader, reader.at(apis[1])]
    writers = [cpo, cpo.at(apis[1])]
    acknowledged: list[str] = []
    enough, begun = threading.Event(), threading.Event()

    def write(mine: Partner, letter: str) -> None:
        number = 0
        while not enough.is_set() and number < WRITTEN:
            name = f"{letter}{number:04}"
            session = a_session("2.3.0", name, cdr_token=token_of(("ES", "CRW")))
            is_success(mine.put("2.3.0", "sessions", session, name), 201)
            acknowledged.append(name)
            if number % 3 == 2:  # an old one is updated, and stays where it is
                changes = {"kwh": number, "last_updated": "2026-01-05T10:00:00Z"}
                is_success(mine.patch("2.3.0", "sessions", changes, f"{letter}{number // 2:04}"))
            number += 1
            if number == 40:
                begun.set()

    threads = [threading.Thread(target=write, args=pair) for pair in zip(writers, ("A", "B"), strict=True)]
    for thread in threads:
        thread.start()
    try:
        assert begun.wait(60)
        url, seen, totals = sender("2.3.0", "sessions"), list[str](), list[int]()
        while True:  # each page from the other process
            before = len(acknowledged)
            query = {"offset": len(seen), "limit": 7}
            answer = readers[len(totals) % 2].http.get(url, params=query)
            is_success(answer)
            found = ids(answer.json()["data"])
            totals.append(int(answer.headers["x-total-count"]))
            seen += found
            assert ("next" in answer.links) == (len(seen) < totals[-1])
            if len(seen) >= totals[-1]:
                break
        assert set(acknowledged[:before]) <= set(seen), "what was acknowledged is listed"
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    assert len(seen) == len(set(seen))
    assert totals == sorted(totals)
    assert len(totals) > 10
    whole = [ids(listed(each, url)) for each in readers]
    assert whole[0] == whole[1], "both processes have one order"
    assert whole[0][: len(seen)] == seen
    assert sorted(whole[0]) == sorted(acknowledged)
    updated = ids(listed(reader, url, date_from="2026-01-05T10:00:00Z", limit=5))
    assert updated == [name for name in whole[0] if name in set(updated)]
    assert 0 < len(updated) < len(whole[0])
    assert sorted(updated) == sorted(name for name in whole[0] if cpo.found("2.3.0", "sessions", name)["kwh"])


def test_filters_and_headers(api: Api, cpo: Partner) -> None:
    """date_from counts and date_to does not; a link has the filters; what is wrong is named."""
    reader = add(api, "ES", "FLT", "EMSP")
    url = sender("2.2.1", "cdrs")
    for hour in range(5):
        stamp = f"2026-01-05T0{hour}:00:00Z"
        cdr = a_cdr("2.2.1", f"F{hour}", cdr_token=token_of(("ES", "FLT")), last_updated=stamp)
        is_success(cpo.http.post("/ocpi/2.2.1/receiver/cdrs", json=cdr), 201)
    query = {"date_from": "2026-01-05T01:00:00", "date_to": "2026-01-05T04:00:00Z", "limit": "2"}
    first, second = pages(reader, f"{url}/", **query)
    link = httpx.URL(first.links["next"]["url"])
    assert str(link.copy_with(query=None)) == f"{api.url}{url}"
    assert dict(link.params) == {**query, "offset": "2"}
    assert ids(first.json()["data"]) == ["F1", "F2"]
    assert ids(second.json()["data"]) == ["F3"]
    assert [page.headers["x-total-count"] for page in (first, second)] == ["3", "3"]
    assert [page.headers["x-limit"] for page in (first, second)] == ["2", "2"]
    assert ids(listed(reader, url, date_to="2026-01-05T00:00:00.001Z")) == ["F0"]
    far = reader.http.get(url, params={"offset": 99})
    is_success(far)
    assert (far.json()["data"], far.headers["x-total-count"], "link" in far.headers) == ([], "5", False)
    assert reader.http.get(url, params={"limit": 10**9}).headers["x-limit"] == "500"
    for name, value in (("offset", "-1"), ("limit", "0"), ("date_from", "soon"), ("date_to", "2026")):
        is_refusal(reader.http.get(url, params={name: value}), 200, 2001, f"{name}: ")
    is_refusal(reader.http.post(url, json={}), 405, 2000)


def test_a_large_page_ends_early(api: Api, cpo: Partner) -> None:
    """A page holds some MB; its link says where it goes on."""
    reader = add(api, "ES", "BIG", "EMSP")
    changes = {"cdr_token": token_of(("ES", "BIG"))}
    period = a_cdr("2.3.0", "P")["charging_periods"][0]
    for number in range(8):
        cdr = a_cdr("2.3.0", f"G{number}", **changes, charging_periods=[period] * 6500)
        is_success(cpo.http.post("/ocpi/2.3.0/receiver/cdrs", json=cdr), 201)
    found = pages(reader, sender("2.3.0", "cdrs"))
    assert len(found) > 1
    assert [one for page in found for one in ids(page.json()["data"])] == [f"G{n}" for n in range(8)]


# Single locations


def test_locations_and_their_parts(api: Api, cpo: Partner, emsp: Partner, new_id: NewId) -> None:
    """By the operator's id alone (mod_locations "GET Object"); where two have it, the headers tell."""
    id_ = new_id()
    mine = a_location("2.3.0", id_)
    is_success(cpo.put("2.3.0", "locations", mine, id_), 201)
    evse = mine["evses"][0]
    for version in ("2.1.1", "2.2.1", "2.3.0"):
        found = [
            emsp.http.get(sender(version, "locations", id_.lower(), *parts))
            for parts in ((), (evse["uid"],), (evse["uid"], evse["connectors"][0]["id"]))
        ]
        for answer in found:
            is_success(answer)
        assert found[0].json()["data"]["city"] == mine["city"]
        assert found[1].json()["data"]["uid"] == evse["uid"]
        assert found[2].json()["data"]["standard"] == evse["connectors"][0]["standard"]
        assert ("country_code" in found[0].json()["data"]) == (version != "2.1.1")
        is_refusal(emsp.http.get(sender(version, "locations", "NONE")), 404, 2003, "Unknown Location: NONE")
        is_refusal(emsp.http.get(sender(version, "locations", id_, "NONE")), 404, 2003, "Unknown EVSE")
        is_refusal(cpo.http.get(sender(version, "locations", id_)), 404, 2000, "is for the role")
    twin = add(api, "BE", "TWN", "CPO")
    theirs = a_location("2.3.0", id_, country_code="BE", party_id="TWN", city="Ghent")
    is_success(twin.put("2.3.0", "locations", theirs, id_), 201)
    url = sender("2.3.0", "locations", id_)
    is_refusal(emsp.http.get(url), 200, 2002, "BE*TWN and NL*TNM", "OCPI-to")
    for headers, city in ((to("BE", "TWN"), "Ghent"), (to("NL", "TNM"), mine["city"])):
        answer = emsp.http.get(url, headers=headers)
        is_success(answer)
        assert answer.json()["data"]["city"] == city
        assert answer.headers["ocpi-from-party-id"] == headers["OCPI-to-party-id"]


# Authorization


def test_real_time_authorization(
    api: Api, cpo: Partner, emsp: Partner, other_emsp: Partner, new_id: NewId
) -> None:
    """From the token's state, whatever its whitelist (mod_tokens "POST Method")."""
    uid, place = new_id(), new_id()
    location = a_location("2.3.0", place)
    is_success(cpo.put("2.3.0", "locations", location, place), 201)
    here, there = (evse["uid"] for evse in location["evses"])

    def ask(version: str = "2.3.0", body: Json | None = None, name: str = uid, **more: Any) -> httpx.Response:
        url = sender(version, "tokens", name, "authorize")
        if body is None:
            return cpo.http.post(url, **more)
        return cpo.http.post(url, json=body, **more)

    for number, whitelist in enumerate(("ALWAYS", "ALLOWED", "ALLOWED_OFFLINE", "NEVER")):
        stamp = f"2026-01-05T0{number}:00:00Z"
        token = a_token("2.3.0", uid, whitelist=whitelist, last_updated=stamp)
        is_success(emsp.put("2.3.0", "tokens", token, uid), 200 if number else 201)
        with unchanged(api):
            answer = ask()
        is_success(answer)
        assert answer.json()["data"] == {"allowed": "ALLOWED", "token": token}, "NEVER only means: ask"
    for asked, allowed, known in (
        ({"location_id": place}, "ALLOWED", {"location_id": place}),
        (
            {"location_id": place, "evse_uids": [there, "NONE", here]},
            "ALLOWED",
            {"location_id": place, "evse_uids": [there, here]},
        ),
        ({"location_id": place, "evse_uids": ["NONE"]}, "NOT_ALLOWED", None),
        (
            {"location_id": "PRIVATE", "evse_uids": ["E1"]},
            "ALLOWED",
            {"location_id": "PRIVATE", "evse_uids": ["E1"]},
        ),
    ):
        for version in ("2.2.1", "2.3.0"):
            answer = ask(version, asked, params={"type": "RFID"})
            is_success(answer)
            data = answer.json()["data"]
            assert data["token"]["uid"] == uid
            assert (data["allowed"], _filled(data.get("location"))) == (allowed, known)
    connectors = [connector["id"] for connector in location["evses"][0]["connectors"]]
    old = ask("2.1.1", {"location_id": place, "evse_uids": [here], "connector_ids": [connectors[0], "NONE"]})
    is_success(old)
    references = {"location_id": place, "evse_uids": [here], "connector_ids": connectors[:1]}
    assert old.json()["data"] == {"allowed": "ALLOWED", "location": references}

    is_refusal(ask(name="NOBODYS"), 404, 2004, "Unknown Token: NOBODYS")
    is_refusal(ask(params={"type": "APP_USER"}), 404, 2004)
    is_refusal(ask(params={"type": ""}), 200, 2001, "type")
    is_refusal(ask(body={"evse_uids": []}), 200, 2001, "location_id")
    is_refusal(emsp.http.post(sender("2.3.0", "tokens", uid, "authorize")), 404, 2000)
    is_refusal(cpo.http.get(sender("2.3.0", "tokens", uid, "authorize")), 405, 2000)

    theirs = a_token("2.3.0", uid, country_code="FR", party_id="OTH", valid=False)
    is_success(other_emsp.put("2.3.0", "tokens", theirs, uid), 201)
    is_refusal(ask(), 200, 2002, "2 providers", "OCPI-to")
    is_refusal(ask(headers=to("XX", "YYY")), 200, 4001)
    for party, allowed in ((EMS, "ALLOWED"), (OTH, "BLOCKED")):
        answer = ask(body={"location_id": place}, headers=to(*party))
        is_success(answer)
        data = answer.json()["data"]
        assert (data["allowed"], data["token"]["party_id"]) == (allowed, party[1])
        assert ("location" in data) == (allowed == "ALLOWED")


def test_an_authorization_is_passed_on(api: Api, cpo: Partner) -> None:
    """Of a token that nobody told us of, to the provider that the headers name, in its version."""
    allowed = {
        "allowed": "NO_CREDIT",
        "info": {"language": "en", "text": "Top up, please."},
        "token": a_token("2.2.1", "K/1", country_code="SE", party_id="FWD"),
    }
    data: list[Any] = [allowed, None]

    def mood(seen: Seen) -> web.StreamResponse | None:
        if not seen.path.endswith("/authorize"):
            return None
        status = 1000 if data[0] else 2004
        body = {"status_code": status, "status_message": "", "timestamp": now(), "data": data[0]}
        return web.json_response(body, status=200 if data[0] else 404)

    url = sender("2.3.0", "tokens", "K/1", "authorize").replace("K/1", "K%2F1")
    with running(version="2.2.1", roles=(("EMSP", "SE", "FWD"),)) as provider:
        connect(api, provider, "forwards")
        provider.mood = mood
        is_refusal(cpo.http.post(url), 404, 2004, "Unknown Token: K/1")
        assert not provider.seen, "nobody was named"
        body = {"location_id": "L1", "evse_uids": ["E1"]}
        more = {"json": body, "params": {"type": "RFID"}, "headers": to("SE", "FWD")}
        answer = cpo.http.post(url, **more)
        is_success(answer)
        found = answer.json()["data"]
        assert found == allowed
        (seen,) = provider.requests("POST", "authorize")
        assert (seen.path, seen.query, seen.body) == (
            "/ocpi/2.2.1/sender/tokens/K/1/authorize",
            {"type": "RFID"},
            {"location_id": "L1", "evse_uids": ["E1"]},
        )
        data[0] = None
        is_refusal(cpo.http.post(url, **more), 404, 2004, "Unknown Token: K/1")
        provider.down()
        is_refusal(cpo.http.post(url, **more), 200, 4003, "SE*FWD")


def _filled(references: Json | None) -> Json | None:
    """Without empty lists."""
    return references and {name: value for name, value in references.items() if value}


# Hub client info


def ids_of(found: list[Json]) -> list[tuple[str, str]]:
    """Parties and roles."""
    return [(one["party_id"], one["role"]) for one in found]


def test_hub_client_info(api: Api, emsp: Partner, cpo: Partner) -> None:
    """Another hub tells of its parties, and everybody else hears it; of those that are ours it may not."""
    hub = platform(api, ("HUB", "EU", "HUB"))
    info = {
        "country_code": "SE", "party_id": "FAR", "role": "CPO", "status": "CONNECTED",
        "last_updated": "2026-01-05T08:00:00Z",
    }  # fmt: skip

    def put(body: Json, partner: Partner = hub, version: str = "2.2.1") -> httpx.Response:
        path = f"/ocpi/{version}/receiver/hubclientinfo/{body['country_code']}/{body['party_id']}"
        return partner.http.put(path, json=body)

    is_success(put(info), 201)
    is_success(put({**info, "role": "HUB", "party_id": "OWN"}), 201)
    event = events_of(api, "client_info", "SE*FAR*CPO")[0]
    assert (event.sender, event.module, event.path) == ("EU*HUB", "hubclientinfo", ["SE", "FAR", "CPO"])
    later = {**info, "status": "OFFLINE", "last_updated": "2026-01-05T09:00:00Z"}
    is_success(put(later))
    is_success(put(info))
    read = hub.http.get("/ocpi/2.2.1/receiver/hubclientinfo/se/far")
    is_success(read)
    assert read.json()["data"] == later, "what is older overwrites nothing"
    with unchanged(api):
        is_refusal(put({**info, "country_code": "NL", "party_id": "TNM"}), 200, 2001, "NL*TNM")
        is_refusal(put(info, cpo), 404, 2000, "hubs")
        is_refusal(put({**info, "status": "GONE"}), 200, 2001, "status")
        is_refusal(
            hub.http.put("/ocpi/2.2.1/receiver/hubclientinfo/SE/OTH", json=info), 200, 2001, "party_id"
        )
    is_refusal(hub.http.get("/ocpi/2.2.1/receiver/hubclientinfo/SE/NIL"), 404, 2000, "Unknown")
    assert ids_of(listed(hub, sender("2.2.1", "hubclientinfo"))) == [("OWN", "HUB")], "FAR is its own"
    for partner in (emsp, cpo):
        found = listed(partner, sender("2.2.1", "hubclientinfo"), limit=1)
        assert ids_of(found) == [("FAR", "CPO"), ("OWN", "HUB")]
        assert found[0] == later
    newer = listed(emsp, sender("2.3.0", "hubclientinfo"))
    assert [one["role"] for one in newer] == ["CPO", "OTHER"], "2.3.0 knows no role HUB"
    assert len(listed(emsp, sender("2.3.0", "hubclientinfo"), date_from="2026-01-05T09:00:00Z")) == 1
    is_refusal(emsp.http.get("/ocpi/2.1.1/sender/hubclientinfo"), 404, 2000)


def test_lists_last_longer_than_a_process(apis: tuple[Api, Api], emsp: Partner, tmp_path: Path) -> None:
    """One that is killed, and one whose folder is new, answer as the others do."""
    urls = [sender("2.3.0", module) for module in ("locations", "sessions", "cdrs", "tariffs")]
    before = [ids(listed(emsp, url)) for url in urls]
    assert before[0]
    apis[1].kill()
    apis[1].start()
    fresh = Api(apis[0].kafka, apis[0].topics, tmp_path, number=2).start()
    try:
        for api in (apis[1], fresh):
            assert [ids(listed(emsp.at(api), url)) for url in urls] == before
    finally:
        fresh.kill()
