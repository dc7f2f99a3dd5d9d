"""Commands, charging profiles and preferences: from a provider through us to an operator, and back."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.topics import Topics
from tests.integration.api_helpers import Api, a_location, a_session, a_token
from tests.integration.counterpart import Platform, eventually, query_of, refusal, running
from tests.integration.courier_helpers import QUICK, Courier, connect
from voltfold.topics import create_topics

EMS = {"country_code": "DE", "party_id": "EMS"}
TOKEN = {**EMS, "uid": "012345678", "type": "RFID", "contract_id": "DE8ACC12E46L89"}
ENVELOPE = tuple[int, dict[str, Any]]


@pytest.fixture(scope="module")
def house(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API and a courier on a log of this module's own."""
    topics = Topics(f"t-{uuid.uuid4().hex[:10]}", partitions=3)
    asyncio.run(create_topics(broker, topics.all()))
    api = Api(broker, topics, tmp_path_factory.mktemp("api"), settings=dict(QUICK)).start()
    courier = Courier(api).start()
    yield api
    courier.kill()
    api.kill()


@pytest.fixture(scope="module")
def tnm(house: Api) -> Iterator[Platform]:
    """An operator in 2.3.0 with a location, and sessions of DE*EMS and of another provider."""
    with running(version="2.3.0", roles=(("CPO", "NL", "TNM"),)) as platform:
        connect(house, platform, "tnm")
        for path, body in (
            ("locations/NL/TNM/LOC1", a_location("2.3.0", "LOC1")),
            ("sessions/NL/TNM/S1", a_session("2.3.0", "S1", cdr_token=TOKEN)),
            ("sessions/NL/TNM/S2", a_session("2.3.0", "S2", cdr_token={**TOKEN, "party_id": "XYZ"})),
        ):
            http, said = platform.send("PUT", f"{house.url}/ocpi/2.3.0/receiver/{path}", body)
            assert http == 201, said
        yield platform


@pytest.fixture(scope="module")
def ems(house: Api) -> Iterator[Platform]:
    """A provider in 2.2.1."""
    with running(version="2.2.1", roles=(("EMSP", "DE", "EMS"),)) as platform:
        connect(house, platform, "ems")
        yield platform


@pytest.fixture(scope="module")
def old(house: Api) -> Iterator[Platform]:
    """A provider in 2.1.1."""
    with running(version="2.1.1", roles=(("EMSP", "FR", "OLD"),), plain=True) as platform:
        connect(house, platform, "old")
        yield platform


def command(house: Api, platform: Platform, name: str, body: dict[str, Any], **headers: str) -> ENVELOPE:
    url = f"{house.url}/ocpi/{platform.version}/receiver/commands/{name}"
    return platform.send("POST", url, {"response_url": f"{platform.url}/results/{name}", **body}, **headers)


def a_start(platform: Platform, **changes: Any) -> dict[str, Any]:
    token = a_token("2.2.1", "K7")
    if platform.version == "2.1.1":
        for name in ("country_code", "party_id", "contract_id"):
            token.pop(name, None)
        token = {**token, "auth_id": "FR8ACC12E46L89", "type": "RFID"}
    return {"token": token, "location_id": "LOC1", "evse_uid": "3256", **changes}


def test_a_command_goes_there_and_its_result_comes_back(
    house: Api, tnm: Platform, ems: Platform, old: Platform
) -> None:
    """Each side in its own version and with a URL of ours between them; a second result changes nothing."""
    for platform in (ems, old):
        tnm.seen.clear()
        http, said = command(house, platform, "START_SESSION", a_start(platform))
        assert (http, said["status_code"]) == (200, 1000), said
        assert said["data"]["result"] == "ACCEPTED"
        assert ("timeout" in said["data"]) == (platform.version != "2.1.1")
        (asked,) = tnm.requests("POST", "/receiver/commands/START_SESSION")
        assert asked.body["token"]["country_code"] == platform.roles[0][1]
        assert asked.header("ocpi-from-party-id") == platform.roles[0][2]
        assert asked.header("ocpi-to-party-id") == "TNM"
        back = asked.body["response_url"]
        assert back.startswith(f"{house.url}/ocpi/2.3.0/sender/commands/START_SESSION/")
        for result in ("EVSE_OCCUPIED", "ACCEPTED"):
            http, said = tnm.send("POST", back, {"result": result})
            assert (http, said["status_code"]) == (200, 1000), said
        (posted,) = eventually(lambda: platform.requests("POST", "/results/"))  # noqa: B023
        wanted = {"ems": "EVSE_OCCUPIED", "old": "REJECTED"}["old" if platform is old else "ems"]
        assert posted.body["result"] == wanted
        http, said = ems.send("POST", back, {"result": "ACCEPTED"})
        assert http == 404, "only the operator that was asked knows that URL"


def test_an_operator_that_says_nothing_has_said_timeout(house: Api, tnm: Platform, ems: Platform) -> None:
    """In the time that it named itself; what comes later is not told."""
    tnm.command_answer = {"result": "ACCEPTED", "timeout": 1}
    ems.seen.clear()
    _, said = command(house, ems, "STOP_SESSION", {"session_id": "S1"})
    assert said["data"] == {"result": "ACCEPTED", "timeout": 1}
    (posted,) = eventually(lambda: ems.requests("POST", "/results/STOP_SESSION"))
    assert posted.body == {"result": "TIMEOUT"}
    back = tnm.requests("POST", "/receiver/commands/STOP_SESSION")[-1].body["response_url"]
    assert "stays" in tnm.send("POST", back, {"result": "ACCEPTED"})[1]["status_message"]
    tnm.command_answer = {"result": "ACCEPTED", "timeout": 30}


def test_commands_that_are_not_passed_on(house: Api, tnm: Platform, ems: Platform) -> None:
    """Foreign URLs and tokens, unknown places, sessions, parties; operators away, slow, refusing."""
    tnm.seen.clear()

    def status(name: str, body: dict[str, Any], **headers: str) -> int:
        http, said = command(house, ems, name, body, **headers)
        assert http == 200, said
        return int(said["status_code"])

    assert status("START_SESSION", a_start(ems, response_url="http://127.0.0.1:9/x")) == 2001
    assert status("START_SESSION", a_start(ems, response_url="https://evil.example/x")) == 2001
    assert status("START_SESSION", a_start(ems, token=a_token("2.2.1", "K1", party_id="XYZ"))) == 2001
    assert status("START_SESSION", a_start(ems, location_id="NOWHERE")) == 2003
    assert status("EXPLODE", {}) == 2001
    assert status("START_SESSION", {}) == 2001
    assert status("CANCEL_RESERVATION", {"reservation_id": "R1"}) == 2002
    to = {"OCPI_to_country_code": "NL", "OCPI_to_party_id": "NOP"}
    assert status("START_SESSION", a_start(ems), **to) == 4001
    for session in ("S2", "S3"):
        _, said = command(house, ems, "STOP_SESSION", {"session_id": session})
        assert said["data"]["result"] == "UNKNOWN_SESSION"
    to = {"OCPI_to_country_code": "NL", "OCPI_to_party_id": "TNM"}
    _, said = command(house, ems, "STOP_SESSION", {"session_id": "S2"}, **to)
    assert said["data"]["result"] == "UNKNOWN_SESSION", "another's, whoever is named"
    for trick in (f"http://evil.example\\@127.0.0.1:{ems.port}/x", f"http://u@127.0.0.1:{ems.port}/x"):
        assert status("START_SESSION", a_start(ems, response_url=trick), **to) == 2001
    assert not tnm.seen

    tnm.moods.append(refusal(200, 2003))
    assert status("START_SESSION", a_start(ems)) == 2003
    tnm.moods.append(refusal(500, 3000))
    assert status("START_SESSION", a_start(ems)) == 3000
    tnm.moods.append(lambda _: 3.0)
    assert status("START_SESSION", a_start(ems)) == 4002
    tnm.down()
    assert status("START_SESSION", a_start(ems)) == 4003
    tnm.up()
    assert tnm.send("POST", f"{house.url}/ocpi/2.3.0/receiver/commands/START_SESSION", {})[0] == 404


def test_a_reservation_is_cancelled_where_it_was_made(house: Api, tnm: Platform, ems: Platform) -> None:
    """A cancellation names nothing but the reservation."""
    reservation = {**a_start(ems), "reservation_id": "R7", "expiry_date": "2030-01-01T00:00:00Z"}
    _, said = command(house, ems, "RESERVE_NOW", reservation)
    assert said["data"]["result"] == "ACCEPTED"
    _, said = eventually(
        lambda: (
            found
            if (found := command(house, ems, "CANCEL_RESERVATION", {"reservation_id": "R7"}))[1][
                "status_code"
            ]
            == 1000
            else None
        )
    )
    assert said["data"]["result"] == "ACCEPTED"
    assert tnm.requests("POST", "/commands/CANCEL_RESERVATION")[0].body["reservation_id"] == "R7"


def test_profiles_and_preferences(house: Api, tnm: Platform, ems: Platform) -> None:
    """Set, asked for, taken away; results to where they are wanted; the active profile to whoever set one."""
    base = f"{house.url}/ocpi/2.2.1"
    profile = {
        "charging_rate_unit": "A",
        "charging_profile_period": [{"start_period": 0, "limit": 16}],
    }
    tnm.seen.clear()
    active = {"start_date_time": "2026-01-01T00:00:00Z", "charging_profile": profile}
    at_us = f"{house.url}/ocpi/2.3.0/sender/chargingprofiles/S1"
    _, said = tnm.send("PUT", at_us, active)
    assert said["status_code"] == 2001, "nobody has set one"
    body = {"charging_profile": profile, "response_url": f"{ems.url}/results/set"}
    http, said = ems.send("PUT", f"{base}/receiver/chargingprofiles/S1", body)
    assert (http, said["data"]["result"]) == (200, "ACCEPTED"), said
    put = tnm.requests("PUT", "/receiver/chargingprofiles/S1")[0]
    assert put.body["charging_profile"] == profile
    assert tnm.send("POST", put.body["response_url"], {"result": "ACCEPTED"})[1]["status_code"] == 1000
    assert eventually(lambda: ems.requests("POST", "/results/set"))[0].body == {"result": "ACCEPTED"}

    wanted = f"?duration=900&response_url={ems.url}/results/get"
    _, said = ems.send("GET", f"{base}/receiver/chargingprofiles/S1{wanted}")
    assert said["data"]["result"] == "ACCEPTED", said
    got = tnm.requests("GET", "/receiver/chargingprofiles/S1")[0]
    assert got.query["duration"] == "900"
    result = {"result": "ACCEPTED", "profile": active}
    assert tnm.send("POST", got.query["response_url"], result)[1]["status_code"] == 1000
    assert eventually(lambda: ems.requests("POST", "/results/get"))[0].body == result

    wanted = f"?response_url={ems.url}/results/clear"
    _, said = ems.send("DELETE", f"{base}/receiver/chargingprofiles/S1{wanted}")
    assert said["data"]["result"] == "ACCEPTED", said
    assert query_of(tnm.requests("DELETE", "S1")[0].query["response_url"]) == {}

    _, said = tnm.send("PUT", at_us, active)
    assert said["status_code"] == 1000, said
    assert ems.requests("PUT", "/sender/chargingprofiles/S1")[0].body == active

    preferences = {"profile_type": "GREEN", "energy_need": 12.5}
    url = f"{base}/sender/sessions/S1/charging_preferences"
    _, said = ems.send("PUT", url, preferences)
    assert said["data"] == "ACCEPTED", said
    assert tnm.requests("PUT", "/sessions/S1/charging_preferences")[0].body == preferences
    to = {"OCPI_to_country_code": "NL", "OCPI_to_party_id": "TNM"}
    for named in ({}, to):
        url_2 = f"{base}/sender/sessions/S2/charging_preferences"
        assert ems.send("PUT", url_2, preferences, **named)[0] == 404
        _, said = ems.send("PUT", f"{base}/receiver/chargingprofiles/S2", body, **named)
        assert said["data"]["result"] == "UNKNOWN_SESSION"
    assert ems.send("PUT", url, {"profile_type": "NONSENSE"})[1]["status_code"] == 2001


def test_nobody_is_asked_for_what_their_version_has_not(house: Api, ems: Platform) -> None:
    """A platform that speaks 2.1.1 may list charging profiles among its endpoints; it is not asked."""
    with running(version="2.1.1", roles=(("CPO", "NL", "OLC"),), plain=True) as operator:
        connect(house, operator, "olc")
        owner = {"country_code": "NL", "party_id": "OLC"}
        session = a_session("2.3.0", "S9", cdr_token=TOKEN, **owner)
        http, said = operator.send("PUT", f"{house.url}/ocpi/2.3.0/receiver/sessions/NL/OLC/S9", session)
        assert http == 201, said
        wanted = f"?duration=900&response_url={ems.url}/results/get"
        body = {"charging_profile": {"charging_rate_unit": "A"}, "response_url": f"{ems.url}/results/set"}
        for method, query, sent in (("GET", wanted, None), ("DELETE", wanted, None), ("PUT", "", body)):
            url = f"{house.url}/ocpi/2.2.1/receiver/chargingprofiles/S9{query}"
            http, said = ems.send(method, url, sent)
            assert (http, said["status_code"]) == (200, 4003), said
        assert not operator.requests("GET", "chargingprofiles")
