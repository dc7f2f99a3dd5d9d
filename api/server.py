"""The API process: FastAPI around the OCPI door, health, metrics, the OpenAPI document; how it is run."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.answers import Answer, Status, envelope
from api.authorizations import Authorizations
from api.calls import Handler
from api.client_infos import ClientInfos
from api.commands import Commands
from api.config import ApiConfig
from api.credentials import Credentials
from api.door import Door, Receive, Scope, Send
from api.forwarding import Forwarder
from api.ingress import Ingress
from api.log import Log, LogUnavailableError
from api.metrics import VIEW_LAG
from api.openapi import document
from api.pages import Pages
from api.partners import Registry
from api.payments import Payments
from api.peer import Peers
from api.pricing import Pricing
from api.profiles import Profiles
from api.reconciliation import Reconciliation
from api.view import View


class Api(FastAPI):
    """FastAPI, with the door in front of its own stack: what is under /ocpi/ and /pricing/ goes there."""

    door: Door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        if scope["type"] == "http" and scope["raw_path"].startswith((b"/ocpi/", b"/pricing/")):
            await self.door(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document: FastAPI's own of the plain routes, and the table's of the OCPI ones."""
        if self.openapi_schema is None:
            self.openapi_schema = document(super().openapi())
        return self.openapi_schema


def create_app(config: ApiConfig, log: Log | None = None) -> FastAPI:
    """The ASGI application. `log`: what takes the events, instead of Kafka (for measurements)."""
    registry = Registry()
    view = View(config, registry)
    log = log or Log(config.kafka, config.limits.write_timeout)
    peers = Peers(timeout=config.partner_timeout, per_host=64)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        view.start()
        log.start()
        peers.start()
        # What lives for ever need not be looked at again, and requests free themselves by reference count.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        try:
            yield
        finally:
            await peers.stop()
            await log.stop()
            await view.stop()

    app = Api(
        title="Voltfold",
        version="0.1.0",
        summary="OCPI 2.3.0, 2.2.1 and 2.1.1: a hub whose every word is kept in Kafka before it is answered.",
        lifespan=lifespan,
    )
    forwarder = Forwarder(config, log, view, registry, peers)
    payments = Payments(config, log, view, registry, forwarder)
    commands, profiles = Commands(forwarder, payments), Profiles(forwarder)
    pages = Pages(config, view, registry)
    # Who answers: the names are those of `Resource.handler`.
    handlers: dict[str, Handler] = {
        "credentials": Credentials(config, log, view, registry, peers).handle,
        "objects": Ingress(config, log, view).handle,
        "commands": commands.receive,
        "command_results": commands.result,
        "profiles": profiles.receive,
        "profile_results": profiles.result,
        "active_profiles": profiles.active,
        "preferences": profiles.preferences,
        "lists": pages.page,
        "parts": pages.get,
        "authorizations": Authorizations(config, view, registry, forwarder).handle,
        "terminals_created": payments.create,
        "terminals_here": payments.terminal_here,
        "terminals": payments.terminal,
        "terminals_activated": payments.activate,
        "terminals_deactivated": payments.deactivate,
        "confirmations_created": payments.confirm,
        "confirmations_here": payments.confirmation_here,
        "confirmations": payments.confirmation,
        "reconciliation": Reconciliation(config, log, view, registry, forwarder).handle,
        "client_infos": ClientInfos(config, log, view, registry).handle,
    }
    app.door = Door(config, registry, view, handlers, Pricing(config, view))

    @app.get("/health", tags=["operation"], responses={503: {"description": "Not ready, or Kafka is gone."}})
    async def health() -> JSONResponse:
        """Whether the view has caught up with the log as it was at the start, and Kafka answers."""
        try:
            lag = await view.lag()
        except LogUnavailableError as error:
            return JSONResponse({"status": "unavailable", "reason": str(error)}, 503)
        if not view.ready.is_set():
            return JSONResponse({"status": "starting", "view_lag": lag}, 503)
        return JSONResponse({"status": "ok", "view_lag": lag})

    @app.get("/metrics", tags=["operation"], response_class=Response)
    async def metrics() -> Response:
        """Figures of this process for Prometheus."""
        with contextlib.suppress(LogUnavailableError):
            VIEW_LAG.set(await view.lag())
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return _plain(
            request, Answer(error.status_code, Status.CLIENT_ERROR, str(error.detail)), error.headers
        )

    @app.exception_handler(Exception)
    async def failed(request: Request, _: Exception) -> Response:
        return _plain(request, Answer(500, Status.SERVER_ERROR, "Internal error"), None)

    return app


def _plain(request: Request, answer: Answer, headers: Any) -> Response:
    """An envelope for requests that were not for the door."""
    return Response(
        envelope(answer),
        answer.http,
        {
            **(headers or {}),
            "X-Request-ID": request.headers.get("x-request-id") or str(uuid.uuid4()),
            "X-Correlation-ID": request.headers.get("x-correlation-id") or str(uuid.uuid4()),
        },
        media_type="application/json",
    )


def listening_socket(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A bound socket; with `reuse_port` others may bind beside us: the system spreads connections among them.

    Raises OSError when the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    bound.bind((host, port))
    bound.setblocking(False)
    bound.set_inheritable(True)
    return bound


class _Protocol(HttpToolsProtocol):
    """HTTP, with an envelope also around what is no HTTP."""

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that cannot be read as a request, and close the connection."""
        body = envelope(Answer(400, Status.CLIENT_ERROR, msg))
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {uuid.uuid4()}\r\n"
            f"x-correlation-id: {uuid.uuid4()}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn's server, whose process ends with 0 when it was asked to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


def run(config: ApiConfig, log: Log | None = None) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are finished first (`Limits.grace`).

    `log` as in `create_app`.
    """
    sockets = [listening_socket(config.host, config.port, reuse_port=config.reuse_port)]
    if config.own_port is not None:
        sockets.append(listening_socket(config.host, config.own_port))
    logging.getLogger("aiokafka").setLevel(logging.WARNING)  # its debug records are made even if unread
    server = _Server(
        uvicorn.Config(
            create_app(config, log),
            loop="uvloop",
            http=_Protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(config.limits.grace),
            backlog=2048,
        )
    )
    server.run(sockets=sockets)
