"""Deliveries: what concerns a platform reaches it, whatever happens to it, to others and to the courier."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.outbound import read_outcomes
from schemas.topics import Topics
from tests.integration.api_helpers import (
    Api,
    a_cdr,
    a_location,
    a_session,
    a_tariff,
    a_token,
)
from tests.integration.counterpart import Platform, eventually, refusal, running
from tests.integration.courier_helpers import QUICK, Courier, cli, connect
from voltfold.topics import create_topics

EMS = {"country_code": "DE", "party_id": "EMS"}
OTHER = {"country_code": "FR", "party_id": "OTH"}


def token_of(owner: dict[str, str]) -> dict[str, str]:
    return {
        **owner,
        "uid": "012345678",
        "type": "RFID",
        "contract_id": f"{owner['country_code']}8ACC12E46L89",
    }


@pytest.fixture(scope="module")
def house(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API on a log of this module's own."""
    topics = Topics(f"t-{uuid.uuid4().hex[:10]}", partitions=3)
    asyncio.run(create_topics(broker, topics.all()))
    api = Api(broker, topics, tmp_path_factory.mktemp("api"), settings=dict(QUICK)).start()
    yield api
    api.kill()


def push(cpo: Platform, api: Api, path: str, body: Any, method: str = "PUT", **headers: str) -> None:
    http, envelope = cpo.send(method, f"{api.url}/ocpi/{cpo.version}/receiver/{path}", body, **headers)
    assert http in (200, 201), envelope
    assert envelope["status_code"] == 1000, envelope


def test_what_concerns_a_platform_reaches_it(house: Api, tmp_path: Path) -> None:
    """Each module to whom it concerns, in the version that each speaks; one down, one slow, one refusing."""
    roles = {"ems": (("EMSP", "DE", "EMS"),), "oth": (("EMSP", "FR", "OTH"),), "tnm": (("CPO", "NL", "TNM"),)}
    courier = Courier(house)
    with (
        running(version="2.2.1", roles=roles["ems"]) as ems,
        running(version="2.1.1", roles=roles["oth"], plain=True) as oth,
        running(version="2.3.0", roles=roles["tnm"]) as tnm,
    ):
        for name, platform in (("ems", ems), ("oth", oth), ("tnm", tnm)):
            connect(house, platform, name)
        try:
            courier.start()
            push(tnm, house, "locations/NL/TNM/LOC1", a_location("2.3.0", "LOC1"))
            push(tnm, house, "tariffs/NL/TNM/T1", a_tariff("2.3.0", "T1"))
            push(ems, house, "tokens/DE/EMS/K1", a_token("2.2.1", "K1"))
            mine = a_session("2.3.0", "S1", cdr_token=token_of(EMS))
            push(tnm, house, "sessions/NL/TNM/S1", mine)
            push(tnm, house, "cdrs", a_cdr("2.3.0", "C1", cdr_token=token_of(EMS)), "POST")
            for platform in (ems, oth):
                eventually(lambda: platform.received["locations"].get("NL*TNM*LOC1"))  # noqa: B023
                eventually(lambda: platform.received["tariffs"].get("NL*TNM*T1"))  # noqa: B023
            eventually(lambda: ems.cdrs.get("C1"))
            assert ems.received["sessions"]["NL*TNM*S1"]["status"] == "PENDING"
            assert "country_code" in ems.received["locations"]["NL*TNM*LOC1"]
            assert "country_code" not in oth.received["locations"]["NL*TNM*LOC1"], "as 2.1.1 has it"
            assert eventually(lambda: tnm.received["tokens"].get("DE*EMS*K1"))["uid"] == "K1"
            assert not oth.received["sessions"]
            assert not oth.cdrs
            assert not tnm.received["locations"], "what it sent itself"
            posted = ems.requests("POST", "/cdrs")[0]
            assert posted.header("ocpi-from-party-id") == "TNM"
            assert posted.header("ocpi-to-party-id") == "EMS"
            put = ems.requests("PUT", "/locations/")[0]
            assert put.header("ocpi-from-party-id") == "VLF", "what is for everybody comes from us"

            # A push that names its receiver goes there alone; the next one, to the hub, to all.
            def to(country: str, party: str) -> dict[str, str]:
                return {"OCPI_to_country_code": country, "OCPI_to_party_id": party}

            push(tnm, house, "tariffs/NL/TNM/T8", a_tariff("2.3.0", "T8"), **to("DE", "EMS"))
            push(tnm, house, "tariffs/NL/TNM/T9", a_tariff("2.3.0", "T9"), **to("NL", "VLF"))
            for platform in (ems, oth):
                eventually(lambda: platform.received["tariffs"].get("NL*TNM*T9"))  # noqa: B023
            assert "NL*TNM*T8" in ems.received["tariffs"]
            assert "NL*TNM*T8" not in oth.received["tariffs"]
            push(tnm, house, "tariffs/NL/TNM/T8", a_tariff("2.3.0", "T8"), **to("FR", "OTH"))
            eventually(lambda: oth.received["tariffs"].get("NL*TNM*T8"))
            url = f"{house.url}/ocpi/2.3.0/receiver/tariffs/NL/TNM/T7"
            _, said = tnm.send("PUT", url, a_tariff("2.3.0", "T7"), **to("ZZ", "NOP"))
            assert said["status_code"] == 4001

            # Hub client info: who can be reached, told to all others.
            eventually(
                lambda: tnm.received["hubclientinfo"].get("DE*EMS*EMSP", {}).get("status") == "CONNECTED"
            )
            ems.down()
            for count in range(40):
                changed = {**mine, "kwh": count + 0.5, "last_updated": f"2026-01-01T00:00:{count:02}Z"}
                push(tnm, house, "sessions/NL/TNM/S1", changed)
                if count % 10 == 0:
                    push(tnm, house, "cdrs", a_cdr("2.3.0", f"D{count}", cdr_token=token_of(EMS)), "POST")
            push(tnm, house, "cdrs", a_cdr("2.3.0", "O1", cdr_token=token_of(OTHER)), "POST")
            eventually(lambda: oth.cdrs.get("O1"), 5)
            eventually(lambda: tnm.received["hubclientinfo"]["DE*EMS*EMSP"]["status"] == "OFFLINE")
            assert courier.health()["offline"] == ["ems"]

            # Who comes later is told of everybody who is there, in roles that it knows.
            with running(version="2.3.0", roles=(("EMSP", "CH", "LAT"),)) as late:
                connect(house, late, "lat")
                met = late.received["hubclientinfo"]
                eventually(lambda: {"NL*TNM*CPO", "DE*EMS*EMSP", "FR*OTH*EMSP"} <= met.keys())
                assert met["DE*EMS*EMSP"]["status"] == "OFFLINE"
                assert "CH*LAT*EMSP" not in met

            # The courier is killed while it is down, and goes on.
            courier.kill()
            push(tnm, house, "cdrs", a_cdr("2.3.0", "D99", cdr_token=token_of(EMS)), "POST")
            courier.start()
            before = len(ems.requests("PUT", "/sessions/"))
            ems.up()
            eventually(lambda: ems.cdrs.keys() >= {"C1", "D0", "D10", "D20", "D30", "D99"})
            eventually(lambda: ems.received["sessions"]["NL*TNM*S1"]["kwh"] == 39.5)
            eventually(lambda: tnm.received["hubclientinfo"]["DE*EMS*EMSP"]["status"] == "CONNECTED")
            assert len(ems.requests("PUT", "/sessions/")) == before + 1, "once, as it is now"
            assert set(ems.cdr_posts.values()) == {1}

            # A tariff that goes is deleted, at those who have it.
            push(tnm, house, "tariffs/NL/TNM/T1", None, "DELETE")
            for platform in (ems, oth):
                eventually(lambda: platform.received["tariffs"].keys() == {"NL*TNM*T8", "NL*TNM*T9"})  # noqa: B023
        finally:
            courier.kill()


def test_what_is_refused_is_kept_and_can_be_sent_again(house: Api, tmp_path: Path) -> None:
    """Others go on; busy platforms are let alone; a store that is lost makes nothing come twice."""
    courier = Courier(house)
    other = Courier(house, {"VOLTFOLD_COURIER_MEMBER": "two", "VOLTFOLD_DATA": str(tmp_path)})

    def outcomes(**which: Any) -> Any:
        return asyncio.run(read_outcomes(house.kafka, house.topics, connection="emx", **which))

    with (
        running(roles=(("EMSP", "AT", "EMX"),)) as emx,
        running(roles=(("CPO", "BE", "OPX"),)) as opx,
    ):
        owner = {"country_code": "AT", "party_id": "EMX"}
        own = {"country_code": "BE", "party_id": "OPX"}
        connect(house, emx, "emx")
        connect(house, opx, "opx")
        try:
            courier.start()
            emx.mood = lambda seen: (
                refusal(200, 2001)(seen) if seen.path.endswith("/cdrs") and seen.body["id"] == "BAD" else None
            )
            for name in ("A", "BAD", "B"):
                push(opx, house, "cdrs", a_cdr("2.3.0", name, cdr_token=token_of(owner), **own), "POST")
            eventually(lambda: emx.cdrs.keys() == {"A", "B"})
            emx.mood = None
            emx.moods.extend([refusal(429, 2000, Retry_After="1"), refusal(500), refusal(200, 3000)])
            push(opx, house, "cdrs", a_cdr("2.3.0", "C", cdr_token=token_of(owner), **own), "POST")
            eventually(lambda: "C" in emx.cdrs)
            # Between a delivery and its outcome in the log, a crash would make it come twice.
            eventually(lambda: len(outcomes(module="cdrs", delivered=True)) == 4)
            courier.kill()
            for file in (house.folder / "courier").rglob("*"):
                if file.is_file():
                    file.unlink()
            courier.start()
            push(opx, house, "cdrs", a_cdr("2.3.0", "D", cdr_token=token_of(owner), **own), "POST")
            eventually(lambda: "D" in emx.cdrs)
            assert emx.cdr_posts == {"A": 1, "B": 1, "C": 1, "D": 1}

            (refused,) = cli(house, "outbound", "list", "--connection", "emx")
            assert (refused["key"], refused["outcome"], refused["ocpi"]) == ("BE*OPX*BAD", "refused", 2001)
            assert cli(house, "outbound", "retry", "--key", "be*opx*bad") == {"retried": 1}
            eventually(lambda: "BAD" in emx.cdrs)
            eventually(lambda: not outcomes())

            # Another courier stands by, and takes over without saying anything twice.
            other.start()
            assert not other.health()["delivers"]
            courier.kill()
            push(opx, house, "cdrs", a_cdr("2.3.0", "E", cdr_token=token_of(owner), **own), "POST")
            eventually(lambda: "E" in emx.cdrs)
            assert set(emx.cdr_posts.values()) == {1}

            # An object that it always breaks off on, though it is there: others pass it, and it is not tried
            # for ever.
            emx.mood = lambda seen: (
                b"{" if seen.path.endswith("/cdrs") and seen.body["id"] == "POISON" else None
            )
            push(opx, house, "cdrs", a_cdr("2.3.0", "POISON", cdr_token=token_of(owner), **own), "POST")
            for name in ("F", "G"):
                push(opx, house, "cdrs", a_cdr("2.3.0", name, cdr_token=token_of(owner), **own), "POST")
                eventually(lambda: name in emx.cdrs)  # noqa: B023
            assert "emx" not in other.health()["offline"]
            eventually(lambda: {one.outcome for one in outcomes()} == {"failed"})
        finally:
            courier.kill()
            other.kill()
