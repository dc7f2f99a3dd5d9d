"""What the operator tells, in which order, and how it behaves when it is not answered."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from decimal import Decimal

import httpx
import pytest

from schemas.ocpi import wire
from voltfold.demo.garage import read_visits
from voltfold.demo.traffic import PROVIDERS, Garage, Partner, RefusedError, Request, _encode, tell

VISITS = read_visits()[::25]


@pytest.fixture(scope="module")
def garage() -> Garage:
    return Garage(VISITS)


def test_the_same_visits_make_the_same_story(garage: Garage) -> None:
    assert garage.stories == Garage(VISITS).stories
    assert garage.wrong == Garage(VISITS).wrong
    assert len(garage.wrong) == 3


def test_everything_told_is_ocpi(garage: Garage) -> None:
    kinds = {"tariffs": "tariff", "locations": "location", "tokens": "token"}
    for _, version, module, _, body in garage.prepare():
        wire.decode(kinds[module], version, _encode(body))
    for story in garage.stories:
        first = story.requests[0]
        session = wire.decode("session", first.version, _encode(first.body))
        for request in story.requests[1:]:
            if request.module == "cdrs":
                wire.decode("cdr", request.version, _encode(request.body))
            else:
                session = wire.apply_patch("session", request.version, session, _encode(request.body))
        assert session.status == "COMPLETED"


def test_a_story_is_told_in_order_and_adds_up(garage: Garage) -> None:
    for visit, story in zip(garage.visits, garage.stories, strict=True):
        assert [one.at for one in story.requests] == sorted(one.at for one in story.requests)
        assert story.requests[0].method == "PUT"
        (cdr,) = (one.body for one in story.requests if one.module == "cdrs")
        patches = [one.body for one in story.requests if one.method == "PATCH"]
        periods = [period for patch in patches for period in patch["charging_periods"]]
        assert periods == cdr["charging_periods"]
        volumes = [
            Decimal(str(dimension["volume"]))
            for period in periods
            for dimension in period["dimensions"]
            if dimension["type"] == "ENERGY"
        ]
        assert sum(volumes) == visit.energy_kwh
        assert Decimal(str(cdr["total_energy"])) == visit.energy_kwh
        assert [patch["kwh"] for patch in patches] == sorted(patch["kwh"] for patch in patches)
        assert {one.version for one in story.requests} == {garage.version_of(visit.station)}


def test_both_versions_all_tariffs_and_all_providers_take_part(garage: Garage) -> None:
    assert {garage.version_of(one.station) for one in VISITS} == {"2.2.1", "2.3.0"}
    assert len({garage.tariff_of(one.station) for one in VISITS}) == 3
    providers = {provider for provider, _, module, _, _ in garage.prepare() if module == "tokens"}
    assert providers == set(range(len(PROVIDERS)))


OK = {"status_code": 1000, "timestamp": "2019-05-13T14:00:00Z"}


def partner(handler: httpx.MockTransport) -> Partner:
    found = Partner(httpx.AsyncClient(transport=handler), "http://api", "secret")
    for version in ("2.2.1", "2.3.0"):
        for module in ("sessions", "cdrs"):
            found._endpoints[version, module] = f"http://api/{version}/{module}"
    return found


async def test_whoever_is_not_answered_sends_the_same_bytes_again() -> None:
    seen: list[tuple[bytes, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.content, request.headers["X-Request-ID"]))
        match len(seen):
            case 1:
                raise httpx.ReadError("gone")
            case 2:
                return httpx.Response(503)
            case 3:
                return httpx.Response(429)
            case _:
                return httpx.Response(200, json=OK)

    assert await partner(httpx.MockTransport(answer)).send("PUT", "http://api/x", {"a": 1}) == OK
    assert len(seen) == 4
    assert len({content for content, _ in seen}) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        httpx.Response(400, json={"status_code": 2001, "status_message": "kwh: expected a number"}),
        httpx.Response(200, json={"status_code": 2001, "status_message": "kwh: expected a number"}),
    ],
)
async def test_a_refusal_is_final_and_says_why(refusal: httpx.Response) -> None:
    with pytest.raises(RefusedError, match="kwh: expected a number"):
        await partner(httpx.MockTransport(lambda _: refusal)).send("PUT", "http://api/x", {})


async def test_requests_of_a_session_keep_their_order_however_long_answers_take(garage: Garage) -> None:
    arrived: dict[str, list[bytes]] = defaultdict(list)
    running: set[str] = set()
    at_once = 0

    def session_of(request: Request) -> str:
        return request.body["session_id"] if request.module == "cdrs" else request.ids[-1]

    owner = {
        _encode(request.body): session_of(request) for story in garage.stories for request in story.requests
    }

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal at_once
        session = owner[request.content]
        assert session not in running
        running.add(session)
        at_once = max(at_once, len(running))
        await asyncio.sleep(0.001 * (len(request.content) % 3))
        arrived[session].append(request.content)
        running.remove(session)
        return httpx.Response(200, json=OK)

    told = 0

    def count() -> None:
        nonlocal told
        told += 1

    await tell(garage, partner(httpx.MockTransport(answer)), count)
    assert told == garage.requests
    assert at_once > 1
    for story in garage.stories:
        assert arrived[story.session] == [_encode(request.body) for request in story.requests]
