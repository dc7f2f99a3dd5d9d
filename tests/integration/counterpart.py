"""A partner's platform, as another would build it: OCPI over HTTP, receiver and sender interfaces, and moods.

It shares no code with Voltfold. It runs in a thread of its own, keeps what it receives in dictionaries, and
misbehaves when it is told to: refuses connections, answers 500 or 429, is slow, breaks off in mid-body.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from voltfold.ports import free_port

Json = dict[str, Any]

RECEIVES = {  # module: by which fields an object is known
    "locations": ("country_code", "party_id", "id"),
    "tariffs": ("country_code", "party_id", "id"),
    "sessions": ("country_code", "party_id", "id"),
    "tokens": ("country_code", "party_id", "uid"),
    "hubclientinfo": ("country_code", "party_id", "role"),
}


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any

    def header(self, name: str) -> str | None:
        """A header, whatever its case."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), None)


Mood = Callable[[Seen], "web.StreamResponse | float | bytes | None"]
"""What it does with a request instead of answering it: a response; seconds to sleep first; bytes of a body
that breaks off; None: nothing unusual."""


@dataclass
class Platform:
    """One platform, in one version, with its parties `(role, country code, party id)`."""

    version: str = "2.3.0"
    roles: tuple[tuple[str, str, str], ...] = (("EMSP", "DE", "EMS"),)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)  # which it wants to see
    plain: bool = False  # wants its token as it is, not in Base64
    our_token: str = ""  # which it shows Voltfold
    page: int = 50
    links: bool = True  # whether its lists carry Link headers
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.received: dict[str, dict[str, Json]] = {module: {} for module in RECEIVES}
        self.cdrs: dict[str, Json] = {}
        self.cdr_posts: Counter[str] = Counter()
        self.lists: dict[str, list[Json]] = {}
        self.seen: list[Seen] = []
        self.moods: deque[Mood] = deque()  # each for one request
        self.mood: Mood | None = None  # for all others
        self.command_answer: Json = {"result": "ACCEPTED", "timeout": 30}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None

    # -- life ----------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def versions_url(self) -> str:
        """Its versions endpoint."""
        return f"{self.url}/ocpi/versions"

    def start(self) -> Platform:
        """Begin to serve."""
        self._thread.start()
        self.up()
        return self

    def stop(self) -> None:
        """End."""
        self.down()
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def up(self) -> None:
        """Listen (again), on the same port."""
        self._do(self._up())

    def down(self) -> None:
        """Refuse connections."""
        self._do(self._down())

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _up(self) -> None:
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def _down(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _end(self) -> None:
        """Nothing is left under way when the loop ends."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    # -- as a server ---------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        seen = Seen(
            request.method,
            request.path,
            dict(request.query),
            dict(request.headers),
            json.loads(raw) if raw else None,
        )
        self.seen.append(seen)
        mood = self.moods.popleft() if self.moods else self.mood
        does = mood(seen) if mood else None
        if isinstance(does, float):
            await asyncio.sleep(does)
        elif isinstance(does, bytes):
            answer = web.StreamResponse(headers={"Content-Length": str(len(does) + 100)})
            await answer.prepare(request)
            await answer.write(does)
            assert request.transport is not None
            request.transport.close()
            return answer
        elif does is not None:
            return does
        known = self.token if self.plain else base64.b64encode(self.token.encode()).decode()
        if request.headers.get("Authorization") != f"Token {known}":
            return _envelope(None, status=2000, http=401)
        return self._answer(seen)

    def _answer(self, seen: Seen) -> web.Response:
        parts = seen.path.strip("/").split("/")
        match parts:
            case ["ocpi", "versions"]:
                return _envelope([{"version": self.version, "url": f"{self.url}/ocpi/{self.version}"}])
            case ["ocpi", _]:
                return _envelope({"version": self.version, "endpoints": self.endpoints()})
            case ["ocpi", _, "credentials"] if seen.method in ("POST", "PUT"):
                self.our_token = seen.body["token"]
                return _envelope(self.credentials())
            case ["ocpi", _, "receiver", "cdrs"]:
                self.cdr_posts[seen.body["id"]] += 1
                self.cdrs[seen.body["id"]] = seen.body
                return _envelope(None, headers={"Location": f"{self.url}{seen.path}/{seen.body['id']}"})
            case ["ocpi", _, "receiver", "commands", _]:
                return _envelope(self.command_answer)
            case ["ocpi", _, "receiver", "chargingprofiles", _]:
                return _envelope(self.command_answer)
            case ["ocpi", _, "sender", "chargingprofiles", _]:
                return _envelope(None)
            case ["ocpi", _, "sender", "sessions", _, "charging_preferences"]:
                return _envelope("ACCEPTED")
            case ["ocpi", _, "receiver" | "sender", "payments" | "invoicereconciliation", *_]:
                return _envelope(None)
            case ["results", *_]:
                return _envelope(None)
            case ["ocpi", _, "receiver", module, country, party, *rest] if module in self.received:
                return self._receive(seen, module, "*".join([country, party, *rest]))
            case ["ocpi", _, "sender", module]:
                return self._list(seen, module)
        return _envelope(None, status=2000, http=404)

    def _receive(self, seen: Seen, module: str, key: str) -> web.Response:
        kept = self.received[module]
        if seen.method == "PUT":
            if module == "hubclientinfo":
                key = f"{key}*{seen.body['role']}"
            kept[key] = seen.body
            return _envelope(None)
        if seen.method == "DELETE":
            return _envelope(None) if kept.pop(key, None) else _envelope(None, status=2000, http=404)
        return _envelope(kept[key]) if key in kept else _envelope(None, status=2003, http=404)

    def _list(self, seen: Seen, module: str) -> web.Response:
        since, until = seen.query.get("date_from", ""), seen.query.get("date_to", "9")
        found = [one for one in self.lists.get(module, []) if since <= one["last_updated"] < until]
        offset = int(seen.query.get("offset", 0))
        limit = min(self.page, int(seen.query.get("limit", self.page)))
        headers = {"X-Total-Count": str(len(found)), "X-Limit": str(self.page)}
        if self.links and offset + limit < len(found):
            query = {**seen.query, "offset": offset + limit, "limit": limit}
            # As behind a proxy: it does not know its own name.
            headers["Link"] = f'<http://internal:1{seen.path}?{urlencode(query)}>; rel="next"'
        return _envelope(found[offset : offset + limit], headers=headers)

    def endpoints(self) -> list[Json]:
        """Of all modules, in both roles."""
        modules = [*RECEIVES, "cdrs", "commands", "chargingprofiles", "credentials"]
        modules += ["payments", "invoicereconciliation"]
        found = []
        for module in modules:
            for role in ("receiver", "sender"):
                path = "credentials" if module == "credentials" else f"{role}/{module}"
                url = f"{self.url}/ocpi/{self.version}/{path}"
                found.append({"identifier": module, "role": role.upper(), "url": url})
        if self.version == "2.1.1":
            return [{"identifier": one["identifier"], "url": one["url"]} for one in found]
        return found

    def credentials(self) -> Json:
        """Its credentials object."""
        roles = [
            {"role": role, "country_code": country, "party_id": party, "business_details": {"name": party}}
            for role, country, party in self.roles
        ]
        if self.version == "2.1.1":
            return {
                "token": self.token,
                "url": self.versions_url,
                "business_details": {"name": roles[0]["party_id"]},
                "country_code": roles[0]["country_code"],
                "party_id": roles[0]["party_id"],
            }
        return {"token": self.token, "url": self.versions_url, "roles": roles}

    # -- as a client ---------------------------------------------------------------------------------------

    def send(
        self, method: str, url: str, body: Any = None, *, token: str | None = None, **headers: str
    ) -> tuple[int, Json]:
        """A request to Voltfold: HTTP status and envelope. Underscores in header names are hyphens."""
        shown = self.our_token if token is None else token
        encoded = shown if self.plain else base64.b64encode(shown.encode()).decode()
        request = urllib.request.Request(
            url,
            None if body is None else json.dumps(body).encode(),
            {
                "Authorization": f"Token {encoded}",
                "Content-Type": "application/json",
                "X-Request-ID": str(uuid.uuid4()),
                "X-Correlation-ID": str(uuid.uuid4()),
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def requests(self, method: str, part: str) -> list[Seen]:
        """What arrived with a method at a path that holds a part."""
        return [one for one in self.seen if one.method == method and part in one.path]


def _envelope(
    data: Any, *, status: int = 1000, http: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    body = {"status_code": status, "status_message": "", "timestamp": now()}
    if data is not None:
        body["data"] = data
    return web.json_response(body, status=http, headers=headers)


def refusal(http: int, status: int = 3000, **headers: str) -> Mood:
    """Answers with this, whatever it was asked."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: _envelope(None, status=status, http=http, headers=named)


def now() -> str:
    """OCPI's DateTime of now."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@contextmanager
def running(**fields: Any) -> Iterator[Platform]:
    """A platform for as long as the block lasts."""
    platform = Platform(**fields).start()
    try:
        yield platform
    finally:
        platform.stop()


def eventually(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)
    return found


def query_of(url: str) -> dict[str, str]:
    """The query of a URL."""
    return dict(parse_qsl(url.partition("?")[2]))
