"""The door: every request under /ocpi, from its first byte to its envelope.

Pure ASGI, since the usual stack of middlewares and dependencies would cost more than the work itself. The
order is: who is it (401), how often (429), what is it about (404, 405), may they (404), can we take more
(503), what does the body weigh (413) and claim to be (415); then `api.ingress`. Whatever happens, the
answer is an OCPI envelope.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from api.answers import Answer, Refusal, Status, encoded, envelope, invalid, no_json, unavailable
from api.calls import NO_ROUTING, Call, Handler, Routing
from api.config import ApiConfig
from api.log import LogUnavailableError
from api.metrics import IN_FLIGHT, observe, refused
from api.partners import Partner, Registry
from api.pricing import NAMES as PRICES
from api.pricing import Pricing
from api.routes import ROUTES, VERSIONS, Route
from api.view import View
from schemas.keys import party_key
from schemas.ocpi import wire

log = logging.getLogger("voltfold.api")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_Fixed = tuple[tuple[int, str], ...]

CREDENTIALS = "credentials"  # the one module whose URL names no interface, and that CREDENTIALS_TOKEN_A opens
_CONFIGURATION = (CREDENTIALS, "hubclientinfo")  # modules that are never routed
_DRAIN = 8  # of a body that is too large, so many times the limit is read, that its sender hears the answer
_ROUTING = (b"ocpi-to-country-code", b"ocpi-to-party-id", b"ocpi-from-country-code", b"ocpi-from-party-id")
_LONGEST_ID = 255  # of X-Request-ID and X-Correlation-ID, which are advised to be GUIDs
_UNAUTHORIZED = Refusal(
    401,
    Status.CLIENT_ERROR,
    "Authorization: missing, or its token is unknown; send 'Token ' and your credentials token in Base64",
    headers=((b"www-authenticate", b"Token"),),
)


class Headers:
    """The headers of a request that matter here."""

    __slots__ = (
        "authorization",
        "content_type",
        "correlation_id",
        "host",
        "length",
        "overlong",
        "request_id",
        "routing",
    )

    def __init__(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self.authorization = self.content_type = self.host = b""
        self.request_id = self.correlation_id = ""
        self.length: int | None = None
        self.overlong = ""
        self.routing: dict[bytes, bytes] | None = None
        for name, value in pairs:
            if name == b"authorization":
                self.authorization = value
            elif name == b"content-type":
                self.content_type = value
            elif name == b"content-length":
                self.length = int(value) if value.isdigit() else None
            elif name == b"x-request-id":
                self.request_id = value.decode("latin-1")
            elif name == b"x-correlation-id":
                self.correlation_id = value.decode("latin-1")
            elif name == b"host":
                self.host = value
            elif name.startswith(b"ocpi-"):
                self.routing = self.routing or {}
                self.routing[name] = value.strip()
        # Spec: transport_and_format "Unique message IDs". Who sent none gets one to ask about.
        self.request_id = self.request_id or str(uuid.uuid4())
        self.correlation_id = self.correlation_id or str(uuid.uuid4())
        if len(self.request_id) > _LONGEST_ID:
            self.overlong, self.request_id = "X-Request-ID", self.request_id[:_LONGEST_ID]
        if len(self.correlation_id) > _LONGEST_ID:
            self.overlong, self.correlation_id = "X-Correlation-ID", self.correlation_id[:_LONGEST_ID]

    def routes(self) -> Routing:
        """The routing headers."""
        if self.routing is None:
            return NO_ROUTING
        return Routing(*(self.routing.get(name, b"").decode("latin-1") for name in _ROUTING))


class Door:
    """The ASGI application for /ocpi, and for /pricing beside it."""

    def __init__(
        self,
        config: ApiConfig,
        registry: Registry,
        view: View,
        handlers: Mapping[str, Handler],
        pricing: Pricing,
    ) -> None:
        self._limits = config.limits
        self._party = config.party
        self._public_url = config.public_url.rstrip("/") if config.public_url else None
        self._parties = view.partitions(config.topics.parties)
        self._registry = registry
        self._view = view
        self._handlers = handlers
        self._pricing = pricing
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._table = Table(ROUTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        headers = Headers(scope["headers"])
        body = _Body(receive, self._limits.body, self._limits.body_timeout)
        module = ""
        routed: Routing | None = None
        self._in_flight += 1
        IN_FLIGHT.inc()
        try:
            if self._in_flight > self._limits.in_flight:
                raise unavailable("too many requests in flight")
            partner = await self._authenticate(headers)
            if headers.overlong:
                raise Refusal(
                    400, Status.CLIENT_ERROR, f"{headers.overlong}: longer than {_LONGEST_ID} characters"
                )
            if scope["raw_path"].startswith(b"/pricing/"):
                module = "pricing"
                answer = await self._price(scope, partner, headers, body)
            else:
                try:
                    route, ids = self._find(scope)
                except Refusal:
                    if not partner.is_through and not _opens(scope):
                        raise _UNAUTHORIZED from None
                    raise
                base_url = self._base_url(scope, headers)
                if route is None:
                    answer = self._versions(ids, partner, base_url)
                else:
                    module = route.resource.module
                    call = Call(
                        route, ids, partner, headers.request_id, headers.correlation_id,
                        scope["query_string"], base_url, b"", headers.routes(), headers.authorization,
                    )  # fmt: skip
                    if module not in _CONFIGURATION and headers.routing is not None:
                        routed = call.routing
                    answer = await self._serve(call, headers, body)
        except Refusal as refusal:
            answer = refusal.answer
        except LogUnavailableError as error:
            answer = unavailable(str(error)).answer
        except Exception:
            log.exception("request %s failed", headers.request_id)
            answer = Answer(500, Status.SERVER_ERROR, "Internal error; X-Request-ID finds it in our log")
        finally:
            self._in_flight -= 1
            IN_FLIGHT.dec()
        if routed is not None:
            answer = _routed(answer, routed, self._party)
        if answer.http >= 400 and not body.complete:
            await body.drain(self._limits.body * _DRAIN)
        await respond(
            send,
            answer,
            headers.request_id,
            headers.correlation_id,
            close=answer.http >= 400 and not body.complete,
        )
        observe(module, scope["method"], answer, time.perf_counter() - started)

    async def _serve(self, call: Call, headers: Headers, body: _Body) -> Answer:
        route = call.route
        resource, partner = route.resource, call.partner
        if resource.module != CREDENTIALS and not partner.is_through:
            # It may have registered a moment ago, and our view not know it yet.
            await self._view.catch_up(self._parties)
            now = self._registry.find(headers.authorization)
            if now is None or not now.is_through:
                raise _UNAUTHORIZED  # transport_and_format "Authorization header": CREDENTIALS_TOKEN_A
            call.partner = partner = now
        if not _may(call):
            raise self._refuse(call)
        if not self._is_known(call.routing):
            # It may have connected a moment ago.
            await self._view.catch_up(self._parties)
            if resource.handler == "objects" and not self._is_known(call.routing):
                refused(resource.module, "receiver")
                to = party_key(*(call.routing.to or ("", "")))
                raise Refusal(200, Status.UNKNOWN_RECEIVER, f"OCPI-to-party-id: {to} is not known here")
        handle = self._handlers[resource.handler]
        if not route.has_body:
            return await _answered(call, handle)

        async def with_body(content: bytes) -> Answer:
            call.body = content
            return await _answered(call, handle)

        return await self._with(headers, body, with_body, optional=resource.optional_body)

    def _is_known(self, routing: Routing) -> bool:
        """Whether a receiver that is named is us, on one of our connections, or may be behind a hub."""
        to = routing.to
        return (
            to is None
            or party_key(*to) == party_key(*self._party)
            or self._registry.has_party(party_key(*to))
            or self._registry.only_hub() is not None
        )

    def _refuse(self, call: Call) -> Refusal:
        """What somebody is told who may not call: 404, counted and logged."""
        resource, partner = call.route.resource, call.partner
        roles = " or ".join(resource.callers)
        if not partner.roles.intersection(resource.callers):
            reason, why = "role", f"{resource.module} is for the role {roles} here"
        else:
            reason, why = "party", f"you do not speak for {'*'.join(call.ids[:2])} in the role {roles}"
        refused(resource.module, reason)
        log.warning(
            "request %s: %s may not %s %s: %s",
            call.request_id, partner.connection.id, call.method, call.route.path, why,
        )  # fmt: skip
        return Refusal(404, Status.CLIENT_ERROR, f"Not found: {why}")

    async def _price(self, scope: Scope, partner: Partner, headers: Headers, body: _Body) -> Answer:
        name = scope["raw_path"].removeprefix(b"/pricing/").decode("latin-1")
        if name not in PRICES:
            raise _nowhere(scope)
        if scope["method"] != "POST":
            raise _not_allowed(scope["method"], ["POST"])
        return await self._with(headers, body, lambda content: self._pricing.handle(name, partner, content))

    async def _with(
        self,
        headers: Headers,
        body: _Body,
        handle: Callable[[bytes], Awaitable[Answer]],
        *,
        optional: bool = False,
    ) -> Answer:
        """Read the body, within limits, and hand it on. Raises Refusal."""
        media = headers.content_type.partition(b";")[0].strip().lower()
        if media not in (b"application/json", b""):
            raise Refusal(415, Status.CLIENT_ERROR, "Content-Type: must be application/json")
        held = 0
        try:
            if headers.length is not None:
                if headers.length > self._limits.body:
                    raise body.too_large()
                held = self._hold(headers.length)
            content = await body.read()
            held += self._hold(len(content) - held)
            if not content and not optional:
                raise no_json("is empty, and a JSON object is needed")
            if not content.isascii():
                try:
                    content.decode()
                except UnicodeDecodeError:
                    raise no_json("is not UTF-8") from None
            return await handle(content)
        finally:
            self._in_flight_bytes -= held

    def _hold(self, size: int) -> int:
        if self._in_flight_bytes + size > self._limits.in_flight_bytes:
            raise unavailable("too many bytes in flight")
        self._in_flight_bytes += size
        return size

    async def _authenticate(self, headers: Headers) -> Partner:
        """The partner behind the Authorization header. Raises Refusal (401, 429) and LogUnavailableError."""
        partner = self._registry.find(headers.authorization)
        if partner is None:
            if not headers.authorization:
                raise _UNAUTHORIZED
            # It may have been added a moment ago, and our view not know it yet.
            await self._view.catch_up(self._parties)
            partner = self._registry.find(headers.authorization)
            if partner is None:
                raise _UNAUTHORIZED
        if (rate := self._limits.requests_per_second) > 0:
            wait = partner.take(rate, self._limits.burst)
            if wait > 0:
                after = str(math.ceil(wait)).encode()
                raise Refusal(
                    429, Status.CLIENT_ERROR, "too many requests", headers=((b"retry-after", after),)
                )
        return partner

    def _find(self, scope: Scope) -> tuple[Route | None, tuple[str, ...]]:
        """The route of a path and method and the identifiers in it; no route: the versions endpoints."""
        method: str = scope["method"]
        try:
            segments = [
                unquote_to_bytes(segment).decode() if b"%" in segment else segment.decode("ascii")
                for segment in scope["raw_path"].split(b"/")[2:]
            ]
        except UnicodeDecodeError:
            raise _nowhere(scope) from None
        if segments and not segments[-1]:
            segments.pop()
        if len(segments) == 1 and (segments[0] == "versions" or segments[0] in VERSIONS):
            if method != "GET":
                raise _not_allowed(method, ["GET"])
            return None, (segments[0],)
        found = self._table.find(segments) if len(segments) > 1 and all(segments) else None
        if found is None:
            raise _nowhere(scope)
        methods, ids = found
        route = methods.get(method)
        if route is None:
            raise _not_allowed(method, sorted(methods))
        return route, ids

    def _base_url(self, scope: Scope, headers: Headers) -> str:
        return self._public_url or f"{scope.get('scheme', 'http')}://{headers.host.decode('latin-1')}"

    def _versions(self, ids: tuple[str, ...], partner: Partner, base_url: str) -> Answer:
        """Chapter "Versions module": the list of versions, or one version's endpoints for the caller."""
        if ids[0] == "versions":
            data: Any = [{"version": version, "url": f"{base_url}/ocpi/{version}"} for version in VERSIONS]
        else:
            # A hub speaks for parties of which it tells later, in whatever roles those have.
            roles = frozenset[str]() if partner.connection.is_hub else partner.roles
            data = {"version": ids[0], "endpoints": endpoints(ids[0], roles, base_url)}
        return Answer(200, Status.SUCCESS, "Success", encoded(data))


def endpoints(version: str, roles: frozenset[str], base_url: str) -> list[dict[str, str]]:
    """What a version's details list for a caller in these roles; for one who has none yet, everything.

    Spec: version_information_endpoint "Version details endpoint"; before 2.2 there is no `role` in it, and
    for one role each module has one endpoint.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    for route in ROUTES:
        resource = route.resource
        if route.version != version or (roles and not roles.intersection(resource.callers)):
            continue
        if resource.module == CREDENTIALS:
            endpoint = {"identifier": CREDENTIALS, "role": "SENDER", "url": f"{base_url}{route.path}"}
        else:
            url = f"{base_url}/ocpi/{version}/{resource.role}/{resource.module}"
            endpoint = {"identifier": resource.module, "role": resource.role.upper(), "url": url}
        if version == "2.1.1":
            del endpoint["role"]
        found[resource.role, resource.module] = endpoint
    return list(found.values())


class Table:
    """Routes by the segments of their URL."""

    def __init__(self, routes: Iterable[Route]) -> None:
        # By version, interface and module, then by the number of identifiers: what has to stand where, and
        # the routes by method.
        self._shapes: dict[tuple[str, ...], dict[int, list[tuple[_Fixed, dict[str, Route]]]]] = {}
        for route in routes:
            resource = route.resource
            fixed = tuple((at, name[1:]) for at, name in enumerate(route.ids) if name.startswith("="))
            key: tuple[str, ...] = (route.version, resource.role, resource.module)
            if resource.module == CREDENTIALS:
                key = (route.version, CREDENTIALS)
            shapes = self._shapes.setdefault(key, {}).setdefault(len(route.ids), [])
            methods = next((methods for there, methods in shapes if there == fixed), None)
            if methods is None:
                methods = {}
                shapes.append((fixed, methods))
                shapes.sort(key=lambda shape: -len(shape[0]))
            methods[route.method] = route

    def find(self, segments: list[str]) -> tuple[dict[str, Route], tuple[str, ...]] | None:
        """The routes by method of a path's segments (behind /ocpi), and the identifiers in them."""
        depth = 2 if segments[1] == CREDENTIALS else 3
        shapes = self._shapes.get(tuple(segments[:depth]))
        for fixed, methods in (shapes or {}).get(len(segments) - depth, ()):
            ids = segments[depth:]
            if not fixed:
                return methods, tuple(ids)
            if all(ids[at] == text for at, text in fixed):
                standing = {at for at, _ in fixed}
                return methods, tuple(name for at, name in enumerate(ids) if at not in standing)
        return None


class _Body:
    """A request's body, read once and never beyond the limit."""

    def __init__(self, receive: Receive, limit: int, seconds: float) -> None:
        self._receive = receive
        self._limit = limit
        self._seconds = seconds
        self.complete = False

    async def read(self) -> bytes:
        """All of it. Raises Refusal: 413 beyond the limit, 408 when it comes too slowly, 400 broken off."""
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self.complete = True
            body: bytes = message.get("body", b"")
            if len(body) > self._limit:
                raise self.too_large()
            return body
        try:
            async with asyncio.timeout(self._seconds):
                return await self._gather(message)
        except TimeoutError:
            raise Refusal(408, Status.CLIENT_ERROR, "body: did not arrive in time") from None

    async def _gather(self, message: Message) -> bytes:
        parts, size = [], 0
        while True:
            if message["type"] == "http.disconnect":
                raise Refusal(400, Status.CLIENT_ERROR, "body: broke off")
            part = message.get("body", b"")
            size += len(part)
            if size > self._limit:
                self.complete = not message.get("more_body", False)
                raise self.too_large()
            parts.append(part)
            if not message.get("more_body", False):
                self.complete = True
                return b"".join(parts)
            message = await self._receive()

    def too_large(self) -> Refusal:
        """413, with the limit in it."""
        return Refusal(413, Status.INVALID_PARAMETERS, f"body: larger than {self._limit} bytes")

    async def drain(self, most: int) -> None:
        """Read on and forget, so that a sender who is still sending hears the answer."""
        try:
            async with asyncio.timeout(min(5.0, self._seconds)):
                while most > 0:
                    message = await self._receive()
                    most -= len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        self.complete = True
                        return
        except TimeoutError:
            return


async def respond(
    send: Send, answer: Answer, request_id: str, correlation_id: str, *, close: bool = False
) -> None:
    """Send an answer in its envelope."""
    body = envelope(answer)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode("latin-1")),
        (b"x-correlation-id", correlation_id.encode("latin-1")),
        *answer.headers,
    ]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.http, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _answered(call: Call, handle: Handler) -> Answer:
    """What a handler answers; what it cannot read is told as OCPI wants it."""
    try:
        return await handle(call)
    except wire.InvalidObjectError as error:
        _is_json(call.body)
        raise invalid(error.path, error.message) from None


def _is_json(body: bytes) -> None:
    """Refuse what is no JSON (status_codes: "the HTTP error 400 - Bad request MUST be returned")."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except msgspec.ValidationError:
        return
    except RecursionError:
        return  # as far as one can tell
    except msgspec.DecodeError as error:
        raise no_json(str(error)) from None


def _may(call: Call) -> bool:
    """Whether the caller may call this.

    Spec: transport_and_format "Errors": for a URL whose country_code or party_id are in none of the client's
    CredentialsRoles "it is allowed to respond with an HTTP 404 status code".
    """
    resource, partner = call.route.resource, call.partner
    if resource.module == CREDENTIALS:
        return True
    if resource.owned and call.ids:
        return any(partner.may(role, call.ids[0], call.ids[1]) for role in resource.callers)
    return not partner.roles.isdisjoint(resource.callers)


def _routed(answer: Answer, routing: Routing, ours: tuple[str, str]) -> Answer:
    """The answer with the routing headers turned round; who named no receiver is answered by us.

    Spec: transport_and_format "Message Routing Headers": in any answer of a functional module, refusals too.
    """
    country_code, party_id = routing.to or ours
    names = [
        (b"OCPI-to-country-code", routing.from_country_code),
        (b"OCPI-to-party-id", routing.from_party_id),
        (b"OCPI-from-country-code", country_code),
        (b"OCPI-from-party-id", party_id),
    ]
    headers = tuple((name, value.encode("latin-1")) for name, value in names if value)
    return msgspec.structs.replace(answer, headers=(*headers, *answer.headers))


def _opens(scope: Scope) -> bool:
    """Whether a path is one that CREDENTIALS_TOKEN_A opens: versions, a version's details, credentials."""
    segments = str(scope["path"]).strip("/").split("/")[1:]
    return len(segments) < 2 or segments[1] == CREDENTIALS


def _nowhere(scope: Scope) -> Refusal:
    return Refusal(404, Status.CLIENT_ERROR, f"Not found: no endpoint at {scope['path']}")


def _not_allowed(method: str, allowed: list[str]) -> Refusal:
    return Refusal(
        405,
        Status.CLIENT_ERROR,
        f"{method} is not allowed here; {', '.join(allowed)} {'is' if len(allowed) == 1 else 'are'}",
        headers=((b"allow", ", ".join(allowed).encode()),),
    )
