"""What a worker or the sink runs under: signals, and a small HTTP server that tells how it is.

`/health` answers 200 when it is ready and 503 when it is not, with what it says of itself; `/metrics` is
Prometheus's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Protocol

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Service(Protocol):
    """Something that runs until it is cancelled, and can tell how it is."""

    async def run(self) -> None: ...
    def health(self) -> dict[str, object]: ...


async def serve(service: Service, host: str, port: int | None) -> None:
    """Run a service until SIGTERM or SIGINT, then let it end cleanly; with a port, tell there how it is.

    Raises what the service raises.
    """
    running = asyncio.ensure_future(service.run())
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, running.cancel)
    async with _telling(service, host, port):
        with contextlib.suppress(asyncio.CancelledError):
            await running


@contextlib.asynccontextmanager
async def _telling(service: Service, host: str, port: int | None) -> Any:
    if port is None:
        yield
        return
    config = uvicorn.Config(
        _app(service), host=host, port=port, log_config=None, access_log=False, lifespan="off"
    )
    server = _Server(config)
    task = asyncio.ensure_future(server.serve())
    try:
        yield
    finally:
        server.should_exit = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(task, 2)


class _Server(uvicorn.Server):
    """Leaves signals to `serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _app(service: Service) -> Any:
    """The ASGI application."""

    async def app(scope: MutableMapping[str, Any], _receive: Any, send: Send) -> None:
        if scope["path"] == "/metrics":
            await _answer(send, 200, CONTENT_TYPE_LATEST, generate_latest())
        elif scope["path"] == "/health":
            found = service.health()
            body = json.dumps(found, default=str).encode()
            await _answer(send, 200 if found["ready"] else 503, "application/json", body)
        else:
            await _answer(send, 404, "text/plain", b"there are /health and /metrics\n")

    return app


async def _answer(send: Send, status: int, kind: str, body: bytes) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
