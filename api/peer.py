"""Speaking OCPI to a partner: one request and its answer, and lists page by page.

Whatever a partner does is one of four things: a `Reply` (HTTP 2xx and an OCPI status of 1xxx), or one of
`UnreachableError` (no answer in time), `RefusedError` (it answered, and not with success) and
`MalformedError` (its answer is no OCPI envelope). A body is never read beyond a limit, and no request waits
longer than it is told to.

Spec: transport_and_format "Authorization header", "Response format", "Pagination", "Message Routing",
"Unique message IDs".
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import random
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import aiohttp
import msgspec

log = logging.getLogger("voltfold.peer")

_SUCCESS = range(1000, 2000)
_LONGEST_MESSAGE = 500


class PeerError(Exception):
    """A request to a partner that did not succeed."""


class UnreachableError(PeerError):
    """No connection, or no whole answer in time. `timed_out`: it was sent, and may have been carried out."""

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class UncallableError(UnreachableError):
    """There is nothing to connect to: the URL is none."""


class RefusedError(PeerError):
    """The partner answered, and not with success: HTTP status, OCPI status (if it said one), its words."""

    def __init__(self, http: int, ocpi: int | None, message: str, retry_after: float | None = None) -> None:
        said = f"HTTP {http}" if ocpi is None else f"HTTP {http}, OCPI {ocpi}"
        super().__init__(f"{said}: {message}" if message else said)
        self.http = http
        self.ocpi = ocpi
        self.message = message
        self.retry_after = retry_after  # seconds, as the partner asked


class MalformedError(PeerError):
    """The partner answered with success, and with a body that is no OCPI envelope, or too large a one."""

    def __init__(self, http: int, message: str) -> None:
        super().__init__(message)
        self.http = http


class Routing(msgspec.Struct, frozen=True):
    """Who a request is from and to: `(country code, party id)` each.

    Spec: transport_and_format "Message Routing".
    """

    from_party: tuple[str, str] | None = None
    to_party: tuple[str, str] | None = None

    def headers(self) -> dict[str, str]:
        """The OCPI-from and OCPI-to headers."""
        found = {}
        for name, party in (("from", self.from_party), ("to", self.to_party)):
            if party is not None:
                found[f"OCPI-{name}-country-code"], found[f"OCPI-{name}-party-id"] = party
        return found


class Reply(msgspec.Struct, frozen=True):
    """A success: HTTP and OCPI status, the envelope's `data` as JSON (None: there was none), the headers."""

    http: int
    ocpi: int
    message: str
    timestamp: str | None
    data: bytes | None
    headers: Mapping[str, str]


class Page(msgspec.Struct, frozen=True):
    """One page of a list. `items` are JSON objects, as they came; `next_url` asks for the next page."""

    url: str
    items: list[bytes]
    total: int | None
    timestamp: str | None
    next_url: str | None


class _Envelope(msgspec.Struct):
    status_code: int
    data: msgspec.Raw = msgspec.Raw(b"")
    status_message: str | None = None
    timestamp: str | None = None


_read_envelope = msgspec.json.Decoder(_Envelope, strict=False).decode  # some write "1000"
_read_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


def authorization(token: str, *, plain: bool = False) -> str:
    """The Authorization header of a credentials token: in Base64, or `plain` as 2.1.1 has it."""
    return f"Token {token if plain else base64.b64encode(token.encode()).decode()}"


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL, the default port filled in. Raises ValueError for what is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no http or https URL")
    return parts.scheme, parts.hostname.lower(), parts.port or {"http": 80, "https": 443}[parts.scheme]


class Peers:
    """The way out, for all partners: one pool of connections. An asynchronous context manager.

    `timeout`: seconds for a whole request; `connect_timeout`: for the connection alone; `largest`: bytes of
    an answer that are read at most; `per_host`: connections to one host at a time.
    """

    def __init__(
        self,
        *,
        timeout: float = 30.0,
        connect_timeout: float = 5.0,
        largest: int = 16 << 20,
        per_host: int = 8,
    ) -> None:
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._largest = largest
        self._per_host = per_host
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def start(self) -> None:
        """Be ready to send. Needs a running event loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=self._per_host),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", "User-Agent": "voltfold"},
        )

    async def stop(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self,
        method: str,
        url: str,
        token: str,
        *,
        plain: bool = False,
        body: bytes | None = None,
        routing: Routing | None = None,
        request_id: str | None = None,
        correlation_id: str | None = None,
        timeout: float | None = None,
    ) -> Reply:
        """Send one request. Raises UnreachableError, RefusedError or MalformedError.

        `token`: the credentials token that the partner gave us; `correlation_id`: that of the request which
        caused this one. Redirects are not followed: they would carry the token elsewhere.
        """
        headers = {
            "Authorization": authorization(token, plain=plain),
            "X-Request-ID": request_id or str(uuid.uuid4()),
            "X-Correlation-ID": correlation_id or str(uuid.uuid4()),
            **(routing.headers() if routing else {}),
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        http, found, answered = await self._exchange(method, url, headers, body, timeout or self._timeout)
        return _reply(http, found, answered)

    async def _exchange(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None, seconds: float
    ) -> tuple[int, bytes, Mapping[str, str]]:
        assert self._session is not None, "not started"
        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, self._connect_timeout))
        try:
            async with self._session.request(
                method, url, headers=headers, data=body, timeout=limits, allow_redirects=False
            ) as answer:
                found = bytearray()
                async for chunk in answer.content.iter_chunked(64 << 10):
                    found += chunk
                    if len(found) > self._largest:
                        answer.close()
                        raise MalformedError(answer.status, f"an answer larger than {self._largest} bytes")
                return answer.status, bytes(found), answer.headers
        except aiohttp.ConnectionTimeoutError:
            raise UnreachableError(f"no connection to {_host(url)} in time") from None
        except TimeoutError:
            raise UnreachableError(f"no answer within {seconds:g} s", timed_out=True) from None
        except aiohttp.ClientPayloadError as error:
            raise UnreachableError(f"the answer broke off: {_words(error)}", timed_out=True) from None
        except aiohttp.InvalidURL:
            raise UncallableError(f"{url!r} is no URL that can be called") from None
        except aiohttp.ClientConnectorError as error:
            raise UnreachableError(f"no connection to {_host(url)}: {_words(error)}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnreachableError(
                f"the connection to {_host(url)} broke: {_words(error)}", timed_out=True
            ) from None

    async def page(
        self,
        url: str,
        token: str,
        *,
        plain: bool = False,
        routing: Routing | None = None,
        timeout: float | None = None,
    ) -> Page:
        """One page of a list. Raises as `call` does."""
        reply = await self.call("GET", url, token, plain=plain, routing=routing, timeout=timeout)
        try:
            items = [bytes(item) for item in _read_items(reply.data or b"[]")]
        except msgspec.DecodeError:
            raise MalformedError(reply.http, "data: a list of objects is expected") from None
        total = reply.headers.get("X-Total-Count", "")
        return Page(
            url,
            items,
            int(total) if total.isdecimal() else None,
            reply.timestamp,
            following(url, reply.headers.get("Link"), len(items), int(total) if total.isdecimal() else None),
        )

    async def pages(
        self,
        url: str,
        token: str,
        *,
        plain: bool = False,
        routing: Routing | None = None,
        attempts: int = 6,
        pause: float = 0.5,
        longest_pause: float = 30.0,
    ) -> AsyncIterator[Page]:
        """All pages of a list, from the one at `url` on; to go on later, give the last page's `next_url`.

        A page that fails is asked for again: after 429 and 503 when the partner says so (`Retry-After`),
        else after a pause that doubles; after an answer that broke off, came too slowly or was too large,
        with half as many objects a page. Raises as `call` does when `attempts` in a row have failed, and at
        once for what another attempt would not change.
        """
        seen: set[str] = set()
        failed = repeated = 0
        last: list[bytes] | None = None
        following_url: str | None = url
        while following_url is not None:
            try:
                page = await self.page(following_url, token, plain=plain, routing=routing)
            except PeerError as error:
                failed += 1
                if failed >= attempts or not _may_pass(error):
                    raise
                wait = min(longest_pause, pause * 2 ** (failed - 1)) * random.uniform(0.5, 1)
                if isinstance(error, RefusedError) and error.retry_after is not None:
                    wait = min(longest_pause, max(wait, error.retry_after))
                log.info("page %s failed, again in %.1f s: %s", following_url, wait, error)
                if isinstance(error, MalformedError) or (
                    isinstance(error, UnreachableError) and error.timed_out
                ):
                    following_url = _with_smaller_limit(following_url)
                await asyncio.sleep(wait)
                continue
            failed = 0
            seen.add(following_url)
            yield page
            repeated = repeated + 1 if page.items == last else 0
            last = page.items
            if repeated >= _SAME_AGAIN and page.next_url:
                raise MalformedError(200, f"Link: leads on though {repeated + 1} pages were the same")
            following_url = page.next_url
            if following_url in seen:
                raise MalformedError(200, f"Link: leads back to {following_url}")


_SAME_AGAIN = 20
"""Pages in a row that may be the same as the one before. One may be, where an object that is new moved others
on meanwhile, or none on a page matches the filters; a chain without end is told from it by its length."""


def _reply(http: int, body: bytes, headers: Mapping[str, str]) -> Reply:
    """What an answer means. Raises RefusedError and MalformedError."""
    envelope = None
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        envelope = _read_envelope(body)
    if not 200 <= http < 300:
        said = envelope.status_message if envelope else body[:_LONGEST_MESSAGE].decode("utf-8", "replace")
        raise RefusedError(
            http,
            envelope.status_code if envelope else None,
            (said or "")[:_LONGEST_MESSAGE].strip(),
            _seconds(headers.get("Retry-After")),
        )
    if envelope is None:
        raise MalformedError(http, f"the answer is no OCPI envelope: {_start_of(body)}")
    if envelope.status_code not in _SUCCESS:
        raise RefusedError(http, envelope.status_code, (envelope.status_message or "")[:_LONGEST_MESSAGE])
    data = bytes(envelope.data)
    return Reply(
        http,
        envelope.status_code,
        envelope.status_message or "",
        envelope.timestamp,
        None if data in (b"", b"null") else data,
        headers,
    )


def _may_pass(error: PeerError) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, RefusedError):
        return error.http in (408, 425, 429) or error.http >= 500 or (error.ocpi or 0) >= 3000
    return not isinstance(error, UncallableError)


def following(url: str, link: str | None, count: int, total: int | None) -> str | None:
    """URL of the page after the one at `url`, which held `count` of `total` objects. None: it is the last.

    As the Link header says; its scheme and host are held to those of `url`, for the token must not go
    elsewhere, and servers behind a proxy often do not know their own name. Some servers send no Link at all:
    then the total decides.
    """
    for target, parameters in re.findall(r"<([^>]*)>((?:\s*;\s*[^,;]+)*)", link or ""):
        if re.search(r";\s*rel\s*=\s*\"?next\"?\s*(;|$)", parameters, re.IGNORECASE):
            parts, ours = urlsplit(urljoin(url, target)), urlsplit(url)
            joined: str = urlunsplit((ours.scheme, ours.netloc, parts.path, parts.query, ""))
            return joined
    if link is None and total is not None and count:
        query = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
        offset = (int(query["offset"]) if query.get("offset", "").isdecimal() else 0) + count
        if offset < total:
            return with_query(url, offset=str(offset))
    return None


def with_query(url: str, **parameters: str | None) -> str:
    """The URL with some query parameters set; None takes one out."""
    parts = urlsplit(url)
    query = [(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if k not in parameters]
    query += [(name, value) for name, value in parameters.items() if value is not None]
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))


def _with_smaller_limit(url: str) -> str:
    query = dict(parse_qsl(urlsplit(url).query))
    limit = int(query["limit"]) if query.get("limit", "").isdecimal() else 0
    return with_query(url, limit=str(max(1, limit // 2))) if limit else url


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds, as it says them or as a date (RFC 9110, section 10.2.3)."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return float(text)
    with contextlib.suppress(ValueError, OverflowError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return None


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2] or url


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _start_of(body: bytes) -> str:
    return repr(body[:80].decode("utf-8", "replace")) if body else "it is empty"
