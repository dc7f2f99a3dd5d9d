"""Pull: a platform's lists, through misbehaving pages, into the log; later what changed; after a gap, too."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.topics import Topics
from tests.integration.api_helpers import Api, a_cdr, a_location, a_tariff, a_token, events
from tests.integration.counterpart import Platform, eventually, refusal, running
from tests.integration.courier_helpers import QUICK, Courier, cli, connect
from voltfold.topics import create_topics


@pytest.fixture(scope="module")
def house(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API on a log of this module's own."""
    topics = Topics(f"t-{uuid.uuid4().hex[:10]}", partitions=3)
    asyncio.run(create_topics(broker, topics.all()))
    api = Api(broker, topics, tmp_path_factory.mktemp("api"), settings=dict(QUICK)).start()
    yield api
    api.kill()


def listed(house: Api, platform: Platform, key: str) -> int:
    """How often an object of the platform is in the log."""
    topics = ("sessions", "locations", "tariffs", "tokens")
    return sum(event.key == key for topic in topics for _, event in events(house, topic))


def test_lists_are_pulled_whatever_befalls_their_pages(house: Api) -> None:
    """Each object once, of its owner alone; what is known is not written again; a gap is filled by itself."""
    courier = Courier(house, {"VOLTFOLD_PARTNER_SILENCE": "1"})
    with running(version="2.2.1", roles=(("CPO", "NL", "TNM"), ("EMSP", "NL", "TNM")), page=3) as tnm:
        own = {"country_code": "NL", "party_id": "TNM"}
        tnm.lists = {
            "locations": [a_location("2.2.1", f"L{n}") for n in range(10)],
            "tariffs": [a_tariff("2.2.1", "T1"), a_tariff("2.2.1", "T2", party_id="XYZ")],
            "cdrs": [a_cdr("2.2.1", f"C{n}") for n in range(5)],
            "tokens": [
                {"uid": "broken", "last_updated": "2026-01-01T00:00:00Z"},
                a_token("2.2.1", "K1", **own),
            ],
        }
        tnm.mood = None
        connect(house, tnm, "tnm")

        def faulty(seen: Any) -> Any:
            """Every page of locations fails once, in another way each time."""
            page = seen.path + str(sorted(seen.query.items()))
            if "/sender/locations" in seen.path and page not in failed:
                failed.append(page)
                kinds = [
                    refusal(500),
                    refusal(429, 2000, Retry_After="0"),
                    lambda _: b'{"data": [{',
                    refusal(503),
                ]
                return kinds[len(failed) % len(kinds)](seen)
            return None

        failed: list[str] = []
        tnm.mood = faulty
        try:
            courier.start()
            eventually(lambda: listed(house, tnm, "NL*TNM*L9") == 1)
            for key in ("NL*TNM*T1", "NL*TNM*C0", "NL*TNM*C4", "NL*TNM*K1*RFID", "NL*TNM*L0"):
                eventually(lambda: listed(house, tnm, key) == 1)  # noqa: B023
            assert len(failed) >= 4
            assert listed(house, tnm, "NL*XYZ*T2") == 0, "somebody else's"

            tnm.lists["cdrs"].append(a_cdr("2.2.1", "C9"))
            again = {one["module"]: one for one in cli(house, "partner", "sync", "NL*TNM")}
            assert {name: one["state"] for name, one in again.items()} == dict.fromkeys(again, "done")
            assert set(again) == {"locations", "tariffs", "sessions", "cdrs", "tokens"}
            assert (again["cdrs"]["kept"], again["cdrs"]["known"]) == (1, 5)
            assert (again["locations"]["kept"], again["locations"]["known"]) == (0, 10)
            assert (again["tariffs"]["refused"], again["tokens"]["refused"]) == (1, 1)

            # It is away for a while; what it could not push meanwhile is fetched once it is back.
            tnm.down()
            eventually(lambda: courier.health()["offline"] == ["tnm"])
            changed = a_location("2.2.1", "L3", city="Changed", last_updated="2030-01-01T00:00:00Z")
            tnm.lists["locations"][3] = changed
            courier.kill()
            courier.start()
            tnm.up()
            eventually(lambda: listed(house, tnm, "NL*TNM*L3") == 2)
            assert listed(house, tnm, "NL*TNM*L9") == 1
            asked = [
                one.query for one in tnm.requests("GET", "/sender/locations") if "date_from" in one.query
            ]
            assert asked, "from where the last one ended"
        finally:
            courier.kill()


def test_a_courier_that_dies_in_the_middle_of_a_pull_goes_on_there(house: Api) -> None:
    """Every object once, and not again from the first page."""
    courier = Courier(house, {"VOLTFOLD_COURIER_MEMBER": "two"})
    roles = (("CPO", "BE", "OPX"), ("CPO", "BE", "OPY"), ("EMSP", "BE", "OPZ"))
    with running(version="2.3.0", roles=roles, page=2) as opx:
        own = {"country_code": "BE", "party_id": "OPX"}
        opx.lists["locations"] = [a_location("2.3.0", f"L{n}", **own) for n in range(60)]
        opx.mood = lambda seen: 0.25 if "/sender/locations" in seen.path else None
        connect(house, opx, "opx")
        try:
            courier.start()
            eventually(lambda: listed(house, opx, "BE*OPX*L20") == 1)
            courier.kill()
            before = len(opx.requests("GET", "/sender/locations"))
            opx.mood = None
            courier.start()
            eventually(lambda: listed(house, opx, "BE*OPX*L59") == 1)
            told = Counter(event.key for _, event in events(house, "locations"))
            assert {told[f"BE*OPX*L{n}"] for n in range(60)} == {1}
            after = opx.requests("GET", "/sender/locations")[before:]
            assert after[0].query.get("offset", "0") != "0"
            eventually(lambda: opx.requests("GET", "/sender/cdrs"))
            named = {one.header("ocpi-to-party-id") for one in opx.requests("GET", "/sender/locations")}
            assert named == {"OPX", "OPY"}, "each party that has locations is asked for its own"
        finally:
            courier.kill()
