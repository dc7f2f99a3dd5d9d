"""The OCPI client against a platform that misbehaves in every way that platforms do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from api.peer import (
    MalformedError,
    PeerError,
    Peers,
    RefusedError,
    Routing,
    UnreachableError,
    following,
    origin,
    with_query,
)
from tests.integration.counterpart import Mood, Platform, refusal, running


@pytest.fixture
def platform() -> Iterator[Platform]:
    with running() as found:
        yield found


def locations(count: int) -> list[dict[str, Any]]:
    return [{"id": f"L{n}", "last_updated": f"2026-01-01T00:00:{n % 60:02}Z"} for n in range(count)]


async def ids(peers: Peers, platform: Platform, query: str = "") -> list[str]:
    url = f"{platform.url}/ocpi/2.3.0/sender/locations{query}"
    pages = peers.pages(url, platform.token, plain=platform.plain, pause=0.01, longest_pause=0.05)
    return [json.loads(item)["id"] async for page in pages for item in page.items]


async def test_a_request_carries_what_it_must(platform: Platform) -> None:
    """The token in Base64, message ids, who it is from and to; a plain token for those who want it so."""
    async with Peers() as peers:
        routing = Routing(("DE", "EMS"), ("NL", "TNM"))
        reply = await peers.call(
            "GET", platform.versions_url, platform.token, routing=routing, correlation_id="c1"
        )
        assert json.loads(reply.data or b"")[0]["version"] == "2.3.0"
        assert (reply.http, reply.ocpi) == (200, 1000)
        seen = platform.seen[-1]
        assert seen.header("ocpi-from-party-id") == "EMS"
        assert seen.header("ocpi-to-country-code") == "NL"
        assert seen.header("x-correlation-id") == "c1"
        assert seen.header("x-request-id")
        with pytest.raises(RefusedError) as refused:
            await peers.call("GET", platform.versions_url, platform.token, plain=True)
        assert (refused.value.http, refused.value.ocpi) == (401, 2000)
        platform.plain = True
        await peers.call("GET", platform.versions_url, platform.token, plain=True)


@pytest.mark.parametrize(
    ("mood", "error", "words"),
    [
        (refusal(500), RefusedError, "HTTP 500, OCPI 3000"),
        (refusal(200, 2001), RefusedError, "HTTP 200, OCPI 2001"),
        (lambda _: web.Response(text="<html>Bad gateway</html>", status=502), RefusedError, "Bad gateway"),
        (lambda _: web.Response(text="<html>hello</html>"), MalformedError, "<html>hello"),
        (lambda _: web.Response(text='{"status_code": "fine"}'), MalformedError, "no OCPI envelope"),
        (lambda _: web.Response(), MalformedError, "empty"),
        (lambda _: web.Response(body=b"x" * 200_000), MalformedError, "larger than 100000"),
        (lambda _: b'{"status_code": 1000, "da', UnreachableError, "broke off"),
        (lambda _: 5.0, UnreachableError, "no answer within"),
        (lambda _: web.Response(status=302, headers={"Location": "http://example.com"}), RefusedError, "302"),
    ],
)
async def test_whatever_comes_back_is_one_of_three(
    platform: Platform, mood: Mood, error: type[PeerError], words: str
) -> None:
    """Refused, malformed or unreachable; never anything else, and never for longer than it may take."""
    platform.mood = mood
    async with Peers(timeout=0.4, largest=100_000) as peers:
        with pytest.raises(error) as raised:
            await peers.call("GET", platform.versions_url, platform.token)
        assert words in str(raised.value)
        if isinstance(raised.value, UnreachableError):
            assert raised.value.timed_out, "it may have been carried out"
        platform.down()
        with pytest.raises(UnreachableError) as unreachable:
            await peers.call("GET", platform.versions_url, platform.token)
        assert not unreachable.value.timed_out
        with pytest.raises(UnreachableError):
            await peers.call("GET", "nonsense", platform.token)


async def test_a_list_is_read_through_whatever_befalls_its_pages(platform: Platform) -> None:
    """429, 500, too slow, broken off, one object a page, no Link, a Link to a host of its own imagination."""
    platform.lists["locations"] = locations(25)
    wanted = [f"L{n}" for n in range(25)]
    platform.page = 10
    async with Peers(timeout=0.4) as peers:
        assert await ids(peers, platform) == wanted
        assert len(platform.seen) == 3
        faults: list[Mood] = [
            refusal(429, 2000, Retry_After="0"),
            refusal(500),
            lambda _: 2.0,
            lambda _: b'{"data": [{"id": "L1',
            refusal(200, 3000),
        ]
        for fault in faults:
            platform.moods.extend([fault, lambda _: None])
        assert await ids(peers, platform, "?limit=8") == wanted
        platform.moods.clear()
        platform.page = 1
        assert await ids(peers, platform) == wanted
        platform.links = False
        assert await ids(peers, platform) == wanted
        platform.page = 10
        assert await ids(peers, platform, "?offset=20") == wanted[20:], "resumed in the middle"
        platform.lists["locations"] = []
        assert await ids(peers, platform) == []


async def test_a_list_ends_where_another_attempt_would_not_help(platform: Platform) -> None:
    """What is refused for good is told at once, what fails on and on after some attempts."""
    platform.lists["locations"] = locations(5)
    async with Peers(timeout=0.4) as peers:
        platform.mood = refusal(404, 2000)
        with pytest.raises(RefusedError):
            await ids(peers, platform)
        assert len(platform.seen) == 1
        platform.mood = refusal(503)
        with pytest.raises(RefusedError):
            await ids(peers, platform)
        assert len(platform.seen) == 1 + 6
        platform.mood = lambda seen: web.json_response(
            {"status_code": 1000, "data": [{"id": "X"}], "timestamp": "2026-01-01T00:00:00Z"},
            headers={"Link": f'<{platform.url}{seen.path}>; rel="next"'},
        )
        with pytest.raises(MalformedError, match="leads back"):
            await ids(peers, platform)
        platform.mood = lambda seen: web.json_response(
            {"status_code": 1000, "data": [{"id": "X"}], "timestamp": "2026-01-01T00:00:00Z"},
            headers={"Link": f'<{seen.path}?offset={1 + int(seen.query.get("offset", 0))}>; rel="next"'},
        )
        with pytest.raises(MalformedError, match="leads on"):
            await ids(peers, platform)
        platform.mood = lambda _: web.json_response({"status_code": 1000, "data": {"id": "X"}})
        with pytest.raises(MalformedError, match="a list"):
            await ids(peers, platform)


@pytest.mark.parametrize(
    ("link", "count", "total", "expected"),
    [
        (None, 10, None, None),
        (None, 10, 10, None),
        (None, 10, 11, "https://a.example/l?date_from=x&offset=10"),
        (None, 0, 11, None),
        ('<https://a.example/l?offset=10>; rel="next"', 10, 5, "https://a.example/l?offset=10"),
        ('</l?offset=10>; rel="next"', 10, None, "https://a.example/l?offset=10"),
        ('<http://evil.example:8/l?o=1>; rel="next"', 10, None, "https://a.example/l?o=1"),
        (
            '<https://a.example/p>; rel="prev", <https://a.example/n>; rel=next',
            10,
            None,
            "https://a.example/n",
        ),
        ('<https://a.example/p>; rel="prev"', 10, 20, None),
    ],
)
def test_the_next_page(link: str | None, count: int, total: int | None, expected: str | None) -> None:
    """As Link says it, on the host that was asked; without one, as the total says."""
    assert following("https://a.example/l?date_from=x", link, count, total) == expected


async def test_a_status_in_quotes_is_one_all_the_same(platform: Platform) -> None:
    """A common slip, which leaves no doubt about what is meant."""
    async with Peers() as peers:
        platform.mood = lambda _: web.json_response({"status_code": "1000", "data": {"a": "1"}})
        reply = await peers.call("GET", platform.versions_url, platform.token)
        assert (reply.ocpi, reply.data) == (1000, b'{"a": "1"}')
        platform.mood = lambda _: web.json_response({"status_code": "2001"})
        with pytest.raises(RefusedError, match="2001"):
            await peers.call("GET", platform.versions_url, platform.token)


async def test_retry_after_is_seconds_or_a_date(platform: Platform) -> None:
    """RFC 9110, section 10.2.3; anything else is no wish."""
    date = "Fri, 31 Dec 2100 23:59:59 GMT"
    async with Peers() as peers:
        for said, at_least in (
            ("7", 7.0),
            (date, 1e9),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
            ("soon", None),
        ):
            platform.moods.append(refusal(429, 2000, Retry_After=said))
            with pytest.raises(RefusedError) as raised:
                await peers.call("GET", platform.versions_url, platform.token)
            wish = raised.value.retry_after
            assert wish is None if at_least is None else wish is not None and wish >= at_least


def test_urls() -> None:
    """Origins are compared with their default ports; queries keep what is not set anew."""
    assert origin("https://A.example/x") == origin("https://a.example:443")
    assert origin("http://a.example") != origin("https://a.example")
    for bad in ("ftp://a.example", "a.example", "http://", "http://a.example:99999"):
        with pytest.raises(ValueError):
            origin(bad)
    assert with_query("http://h/p?a=1&b=2", b="3", a=None) == "http://h/p?b=3"
