"""What the operator tells, in which order, and how it behaves when it is not answered."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

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

Handler = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def partner(handler: Handler) -> AsyncIterator[Partner]:
    """A partner of a server that answers as the handler does."""
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)
    async with TestServer(app) as server, aiohttp.ClientSession() as client:
        api = str(server.make_url("/")).rstrip("/")
        found = Partner(client, api, "secret")
        for version in ("2.2.1", "2.3.0"):
            for module in ("sessions", "cdrs"):
                found._endpoints[version, module] = f"{api}/{version}/{module}"
        yield found


async def test_whoever_is_not_answered_sends_the_same_bytes_again() -> None:
    seen: list[tuple[bytes, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((await request.read(), request.headers["X-Request-ID"]))
        match len(seen):
            case 1:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case 2:
                return web.Response(status=503)
            case 3:
                return web.Response(status=429)
            case _:
                return web.json_response(OK)

    async with partner(answer) as one:
        assert await one.send("PUT", one.url("2.3.0", "sessions", "x"), {"a": 1}) == OK
    assert len(seen) == 4
    assert len({content for content, _ in seen}) == 1


@pytest.mark.parametrize("status", [400, 200])
async def test_a_refusal_is_final_and_says_why(status: int) -> None:
    seen = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal seen
        seen += 1
        refusal = {"status_code": 2001, "status_message": "kwh: expected a number"}
        return web.json_response(refusal, status=status)

    async with partner(answer) as one:
        with pytest.raises(RefusedError, match="kwh: expected a number"):
            await one.send("PUT", one.url("2.3.0", "sessions", "x"), {})
    assert seen == 1


async def test_requests_of_a_session_keep_their_order_however_long_answers_take(garage: Garage) -> None:
    arrived: dict[str, list[bytes]] = defaultdict(list)
    running: set[str] = set()
    at_once = 0

    def session_of(request: Request) -> str:
        return request.body["session_id"] if request.module == "cdrs" else request.ids[-1]

    owner = {
        _encode(request.body): session_of(request) for story in garage.stories for request in story.requests
    }

    async def answer(request: web.Request) -> web.Response:
        nonlocal at_once
        content = await request.read()
        session = owner[content]
        assert session not in running
        running.add(session)
        at_once = max(at_once, len(running))
        await asyncio.sleep(0.001 * (len(content) % 3))
        arrived[session].append(content)
        running.remove(session)
        return web.json_response(OK)

    told = 0

    def count() -> None:
        nonlocal told
        told += 1

    async with partner(answer) as one:
        await tell(garage, one, count)
    assert told == garage.requests
    assert at_once > 1
    for story in garage.stories:
        assert arrived[story.session] == [_encode(request.body) for request in story.requests]
