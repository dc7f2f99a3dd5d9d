"""Registration in both directions with a platform that has no code of ours (credentials, "Registration")."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from api.partners import Connection, invite, read_registry
from tests.integration.api_helpers import Api, a_session, add, unchanged
from tests.integration.counterpart import Json, Platform, Seen, eventually, refusal, running
from voltfold.cli import app

VERSIONS = ("2.1.1", "2.2.1", "2.3.0")


def invited(api: Api, *who: str, roles: tuple[str, ...] = ()) -> str:
    """CREDENTIALS_TOKEN_A."""
    return asyncio.run(invite(api.kafka, api.topics, *who, roles=roles))[0]


def known(api: Api, party: str) -> Connection:
    """A connection as the log has it."""
    return asyncio.run(read_registry(api.kafka, api.topics)).named(party)


def command(api: Api, *words: str, code: int = 0) -> Any:
    """Run `voltfold partner ...` and return what it says."""
    env = {
        "VOLTFOLD_KAFKA": api.kafka,
        "VOLTFOLD_TOPIC_PREFIX": api.topics.prefix,
        "VOLTFOLD_PARTITIONS": str(api.topics.partitions),
        "VOLTFOLD_DATA": str(api.folder),
        "VOLTFOLD_PUBLIC_URL": api.url,
        "VOLTFOLD_PARTNER_TIMEOUT": "3",
    }
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level  # the command sets up logging for itself
    try:
        done = CliRunner().invoke(app, ["partner", *words, "--json"], env=env)
    finally:
        root.handlers[:], root.level = handlers, level
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code == 0 else done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_they_register_change_and_leave(version: str, api: Api) -> None:
    """POST, PUT and DELETE, each in its stage alone; a token is good until the next one is there."""
    party = "P" + version.replace(".", "")[:2]
    with running(version=version, roles=(("CPO", "NL", party),), plain=version == "2.1.1") as platform:
        token_a = invited(api, "NL", party, roles=("CPO",))
        url = f"{api.url}/ocpi/{version}/credentials"
        session = f"{api.url}/ocpi/{version}/receiver/sessions/NL/{party}/S1"

        http, found = platform.send("GET", f"{api.url}/ocpi/versions", token=token_a)
        assert [one["version"] for one in found["data"]] == list(VERSIONS)
        http, found = platform.send("GET", f"{api.url}/ocpi/{version}", token=token_a)
        assert url in [one["url"] for one in found["data"]["endpoints"] if one["identifier"] == "credentials"]
        assert platform.send("GET", session, token=token_a)[0] == 401, "it opens these two modules alone"
        for method in ("PUT", "DELETE"):
            body = platform.credentials() if method == "PUT" else None
            assert platform.send(method, url, body, token=token_a)[0] == 405

        http, found = platform.send("POST", url, platform.credentials(), token=token_a)
        assert (http, found["status_code"]) == (200, 1000), found
        assert any(seen.path == "/ocpi/versions" for seen in platform.seen), "it asked for our versions"
        ours = found["data"]
        platform.our_token = token_c = ours["token"]
        assert ours["url"] == f"{api.url}/ocpi/versions"
        if version == "2.3.0":
            assert ours["hub_party_id"] == "NLVLF"
            assert ours["roles"][0]["role"] == "OTHER", "2.3.0 has no role HUB"
        elif version == "2.2.1":
            assert [(one["role"], one["party_id"]) for one in ours["roles"]] == [("HUB", "VLF")]
        else:
            assert (ours["country_code"], ours["party_id"]) == ("NL", "VLF")
        assert platform.send("GET", f"{api.url}/ocpi/versions", token=token_a)[0] == 401
        assert platform.send("GET", session)[0] == 404
        assert platform.send("POST", url, platform.credentials())[0] == 405
        assert platform.send("GET", url)[1]["data"] == ours
        connection = known(api, f"NL*{party}")
        assert (connection.version, connection.plain_token) == (version, platform.plain)
        assert connection.endpoint("sessions", "RECEIVER")
        assert platform.token not in connection.their_token

        platform.token = "another" + party
        http, found = platform.send("PUT", url, platform.credentials())
        assert (http, found["status_code"]) == (200, 1000)
        assert platform.send("GET", url)[0] == 401
        platform.our_token = found["data"]["token"]
        assert platform.our_token != token_c
        assert platform.send("GET", url)[0] == 200

        assert platform.send("DELETE", url)[0] == 200
        assert platform.send("GET", url)[0] == 401
        assert known_stage(api, connection.id) == "UNREGISTERED"


def known_stage(api: Api, id_: str) -> str | None:
    """How far a connection has come."""
    found = asyncio.run(read_registry(api.kafka, api.topics)).get(id_)
    return found.stage if found else None


def test_what_stops_a_registration(api: Api) -> None:
    """3001, 3002 and 3003, parties of others, and nonsense: each is told, and nothing is kept."""
    add(api, "NL", "AAA", "CPO")
    with running(roles=(("CPO", "NL", "ERR"),)) as platform:
        token_a = invited(api)
        url = f"{api.url}/ocpi/2.3.0/credentials"

        def refused(body: Any, version: str = "2.3.0") -> Json:
            http, found = platform.send("POST", f"{api.url}/ocpi/{version}/credentials", body, token=token_a)
            assert http == 200
            return found

        mine = platform.credentials()
        with unchanged(api):
            assert refused({**mine, "url": "http://127.0.0.1:9/versions"})["status_code"] == 3001
            assert refused({**mine, "token": "wrong"})["status_code"] == 3001
            platform.mood = refusal(500)
            assert refused(mine)["status_code"] == 3001
            platform.mood = lambda seen: _json({"status_code": 1000, "data": {"no": "list"}})
            assert refused(mine)["status_code"] == 3001
            platform.mood = lambda seen: _details(seen, platform, [])
            assert refused(mine)["status_code"] == 3003
            platform.mood = None
            assert refused(platform.credentials(), "2.2.1")["status_code"] == 3002
            for roles in (["NL*AAA"], ["NL*ERR", "NL*ERR"]):
                named = [
                    {
                        "role": "CPO",
                        "country_code": one[:2],
                        "party_id": one[3:],
                        "business_details": {"name": "x"},
                    }
                    for one in roles
                ]
                found = refused({**mine, "roles": named})
                assert found["status_code"] == 2001
                assert "roles[" in found["status_message"]
            assert refused({**mine, "roles": []})["status_code"] == 2001
            assert refused({"token": "x y"})["status_code"] == 2001
            assert platform.send("POST", url, token=token_a)[0] == 400
        other = invited(api, "NL", "XYZ")
        assert platform.send("POST", url, mine, token=other)[1]["status_code"] == 2001, (
            "somebody else is expected"
        )
        assert platform.send("POST", url, mine, token=token_a)[1]["status_code"] == 1000


def _json(body: Json) -> Any:
    return web.json_response(body)


def _details(seen: Seen, platform: Platform, endpoints: list[Json]) -> Any:
    if seen.path.endswith("/versions"):
        return None
    return _json({"status_code": 1000, "data": {"version": platform.version, "endpoints": endpoints}})


class Curious(Platform):
    """Asks us for our versions and endpoints before it answers our credentials, as the chapter has it."""

    answered: Json

    def credentials(self) -> Json:
        """Its credentials; whoever asked is asked back first."""
        if self.seen and self.seen[-1].path.endswith("/credentials"):
            told = self.seen[-1].body
            _, versions = self.send("GET", told["url"], token=told["token"])
            best = next(one for one in versions["data"] if one["version"] == self.version)
            self.answered = self.send("GET", best["url"], token=told["token"])[1]["data"]
            self.token = f"{self.token[:8]}-{len(self.seen)}"  # CREDENTIALS_TOKEN_C
        return super().credentials()


@pytest.mark.parametrize("version", VERSIONS)
def test_we_register_rotate_and_unregister(version: str, api: Api) -> None:
    """`voltfold partner connect`, `rotate` and `unregister`, with either kind of token."""
    party = "Q" + version.replace(".", "")[:2]
    platform = Curious(version=version, roles=(("EMSP", "DE", party),), plain=version != "2.3.0").start()
    try:
        where = ["--versions-url", platform.versions_url, "--token", platform.token]
        wrong = command(api, "connect", "--versions-url", platform.versions_url, "--token", "no", code=1)
        assert "3001" in wrong
        found = command(api, "connect", *where, "--role", "EMSP")
        assert (found["stage"], found["version"], found["parties"]) == (
            "REGISTERED", version, [f"DE*{party} EMSP"],
        )  # fmt: skip
        modules = {one["identifier"] for one in platform.answered["endpoints"]}
        assert {"credentials", "tokens", "sessions"} <= modules
        first = platform.our_token
        tokens = f"{api.url}/ocpi/{version}/receiver/tokens/DE/{party}/U1"
        assert platform.send("GET", tokens)[0] == 404
        assert known(api, f"DE*{party}").plain_token is platform.plain

        command(api, "rotate", f"DE*{party}")
        assert platform.our_token != first
        eventually(lambda: platform.send("GET", tokens, token=first)[0] == 401)
        assert platform.send("GET", tokens)[0] == 404

        platform.mood = refusal(500)
        assert "500" in command(api, "rotate", f"DE*{party}", code=1)
        platform.mood = None
        assert platform.send("GET", tokens)[0] == 404, "a rotation that failed changes nothing"

        platform.moods.append(refusal(405))
        gone = command(api, "unregister", f"DE*{party}")
        assert gone["stage"] == "UNREGISTERED"
        eventually(lambda: platform.send("GET", tokens)[0] == 401)
        listed = {one["id"]: one["stage"] for one in command(api, "list")}
        assert listed[found["id"]] == "UNREGISTERED"
    finally:
        platform.stop()


def test_a_hub_speaks_for_the_parties_behind_it(api: Api) -> None:
    """Several parties on one connection: each may push its own, and nobody else's."""
    roles = (("CPO", "BE", "BE1"), ("CPO", "FR", "FR1"), ("EMSP", "FR", "FR2"))
    with running(roles=roles) as platform:
        credentials = {**platform.credentials(), "hub_party_id": "BEHUB"}
        _, found = platform.send(
            "POST", f"{api.url}/ocpi/2.3.0/credentials", credentials, token=invited(api, "BE", "HUB")
        )
        platform.our_token = found["data"]["token"]
        for country, party, http in (
            ("BE", "BE1", 201),
            ("FR", "FR1", 201),
            ("FR", "FR2", 404),
            ("NL", "TNM", 404),
        ):
            session = a_session("2.3.0", "H1", country_code=country, party_id=party)
            url = f"{api.url}/ocpi/2.3.0/receiver/sessions/{country}/{party}/H1"
            headers = {"OCPI_from_country_code": country, "OCPI_from_party_id": party}
            assert platform.send("PUT", url, session, **headers)[0] == http


def test_a_hub_of_221_tells_whom_it_reaches(api: Api) -> None:
    """Its credentials name itself alone; hub client info opens, and closes, the URLs of those behind it."""
    with running(version="2.2.1", roles=(("HUB", "AT", "HUB"),)) as platform:
        credentials = f"{api.url}/ocpi/2.2.1/credentials"
        token_a = invited(api, "AT", "HUB")
        _, found = platform.send("POST", credentials, platform.credentials(), token=token_a)
        platform.our_token = found["data"]["token"]

        def pushes(number: int) -> int:
            session = a_session("2.2.1", f"A{number}", country_code="AT", party_id="BEH")
            url = f"{api.url}/ocpi/2.2.1/receiver/sessions/AT/BEH/A{number}"
            return platform.send("PUT", url, session)[0]

        def tells(status: str, stamp: str) -> None:
            info = {"country_code": "AT", "party_id": "BEH", "role": "CPO", "status": status}
            url = f"{api.url}/ocpi/2.2.1/receiver/hubclientinfo/AT/BEH"
            assert platform.send("PUT", url, {**info, "last_updated": stamp})[1]["status_code"] == 1000

        _, details = platform.send("GET", f"{api.url}/ocpi/2.2.1")
        listed = {(one["identifier"], one["role"]) for one in details["data"]["endpoints"]}
        assert {("locations", "RECEIVER"), ("tokens", "RECEIVER"), ("tokens", "SENDER")} <= listed, (
            "whoever comes to be behind it will need them"
        )
        assert pushes(1) == 404
        tells("CONNECTED", "2026-01-01T00:00:00Z")
        assert pushes(2) == 201
        assert known(api, "AT*BEH").id == known(api, "AT*HUB").id
        _, found = platform.send("PUT", credentials, platform.credentials())
        platform.our_token = found["data"]["token"]
        assert pushes(3) == 201, "its credentials do not unsay it"
        tells("SUSPENDED", "2026-01-02T00:00:00Z")
        assert pushes(4) == 404
