"""Answers: OCPI's status codes and the envelope around everything that is said back.

Spec: chapter "Status codes" and transport_and_format "Response format". A request that is valid JSON,
addresses an existing resource and comes from an authorised sender has reached the OCPI layer and "an HTTP
error status code MUST NOT be returned": what is wrong with its content is told by the envelope's
`status_code` under HTTP 200. Everything before that layer is told by HTTP, in the same envelope.
"""

from __future__ import annotations

import time
from enum import IntEnum
from typing import Any

import msgspec


class Status(IntEnum):
    """OCPI status codes (chapter "Status codes")."""

    SUCCESS = 1000
    CLIENT_ERROR = 2000
    INVALID_PARAMETERS = 2001
    NOT_ENOUGH_INFORMATION = 2002
    UNKNOWN_LOCATION = 2003
    UNKNOWN_TOKEN = 2004
    SERVER_ERROR = 3000
    UNUSABLE_API = 3001
    UNSUPPORTED_VERSION = 3002
    NO_MATCHING_ENDPOINTS = 3003
    HUB_ERROR = 4000
    UNKNOWN_RECEIVER = 4001
    FORWARD_TIMEOUT = 4002
    NOT_CONNECTED = 4003


class Answer(msgspec.Struct, frozen=True):
    """What goes back: HTTP status, OCPI status, the encoded `data` if there is any, further headers."""

    http: int
    status: int
    message: str
    data: bytes | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Refusal(Exception):  # noqa: N818 - not an error of ours, and named for what it is
    """A request that is refused, and how. Whoever raises it has changed nothing."""

    def __init__(
        self, http: int, status: int, message: str, *, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__(message)
        self.answer = Answer(http, status, message, headers=headers)


def invalid(path: str, message: str) -> Refusal:
    """Content that the OCPI layer cannot accept; names the field (2001 under HTTP 200)."""
    return Refusal(200, Status.INVALID_PARAMETERS, f"{path}: {message}" if path else message)


def no_json(message: str) -> Refusal:
    """A body that is no JSON at all, for which HTTP 400 is prescribed."""
    return Refusal(400, Status.INVALID_PARAMETERS, f"body: {message}")


def unavailable(message: str, retry_after: int = 1) -> Refusal:
    """The request is fine, but cannot be served now (3000 under HTTP 503, with Retry-After)."""
    return Refusal(503, Status.SERVER_ERROR, message, headers=((b"retry-after", str(retry_after).encode()),))


_json = msgspec.json.Encoder()
_stamp: tuple[int, bytes] = (0, b"")


def _timestamp() -> bytes:
    """Now, to the second, as OCPI's DateTime; formatted once a second."""
    global _stamp
    second = int(time.time())
    if _stamp[0] != second:
        _stamp = (second, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second)).encode())
    return _stamp[1]


def envelope(answer: Answer) -> bytes:
    """The body of an answer. `data` is left out when there is none, as the specification advises."""
    head = b'{"data":' + answer.data + b"," if answer.data is not None else b"{"
    return b'%s"status_code":%d,"status_message":%s,"timestamp":"%s"}' % (
        head,
        answer.status,
        _json.encode(answer.message),
        _timestamp(),
    )


def encoded(data: Any) -> bytes:
    """`data` of an answer from plain values."""
    return _json.encode(data)
