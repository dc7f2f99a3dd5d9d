"""The local ClickHouse engine: chdb behind ClickHouse's HTTP interface.

One process owns the data directory and answers as a ClickHouse server would, so that the sink, the queries,
curl, clickhouse-connect and Grafana need not know which of the two they talk to. What a request may carry:

- the query in the URL, in the body, or begun in the URL and continued in the body; forms for long ones;
- `database`, `default_format`, bound parameters (`param_x`), any setting; headers `X-ClickHouse-Database`,
  `X-ClickHouse-Format`; user, password and session_id are accepted and mean nothing here;
- data of an INSERT in the body, under a Content-Encoding of gzip, deflate, zstd or lz4;
- `enable_http_compression=1` with Accept-Encoding.

Errors carry ClickHouse's text, its code in X-ClickHouse-Exception-Code, and its choice of HTTP status. What
differs from a server: an answer is complete before it is sent, and no state (SET, USE, temporary tables)
outlives a request.

There is no password: it listens on the loopback interface. What a web page made a browser send (a foreign
Origin, or a Host that is a name pointed at us) is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import re
import time
import uuid
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import lz4.frame
import zstandard
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from analytics.statement import EngineError, Statement, parse

log = logging.getLogger(__name__)

LIMITS = {"max_result_bytes", "result_overflow_mode"}
"""Settings that every handle begins with."""

TRANSPORT = frozenset(
    {
        *("query", "query_id", "database", "default_format", "user", "password", "quota_key", "role"),
        *("session_id", "session_check", "session_timeout", "close_session", "client_protocol_version"),
        *(
            "compress",
            "decompress",
            "enable_http_compression",
            "buffer_size",
            "wait_end_of_query",
            "stacktrace",
        ),
        *("send_progress_in_http_headers", "http_headers_progress_interval_ms", "add_http_cors_header"),
        "cancel_http_readonly_queries_on_client_close",
    }
)
"""URL parameters that speak to the HTTP interface; every other one is a setting or a bound parameter."""


@dataclass(frozen=True)
class EngineConfig:
    """Where the engine keeps its data and listens, and how much it lets in (bytes).

    `readers` and `writers` are handles to the directory; calls on one handle wait for each other.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8123
    readers: int = 4
    writers: int = 2
    max_body: int = 256 << 20
    max_result: int = 512 << 20


@dataclass
class Answer:
    """What the engine answered: bytes, their format (None when the statement has no result), statistics."""

    body: bytes
    format: str | None
    summary: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One statement with all that it is run under."""

    statement: Statement
    format: str
    database: str = "default"
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def leaves_state(self) -> bool:
        """Whether the handle would not be as it was before."""
        return (
            self.statement.stateful
            or bool(LIMITS & self.settings.keys())
            or (self.statement.data is not None and bool(self.parameters))
        )


class Handle:
    """One connection to the data directory. Used by one thread at a time."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._connection: Any = connect()
        self._database = "default"

    def run(self, request: Run) -> Answer:
        """Run one statement and leave no trace of its settings; raises EngineError."""
        clean = not request.leaves_state
        try:
            if request.database != self._database:
                self._connection.query(f"USE {_identifier(request.database)}")
                self._database = request.database
            if request.settings:
                clean = False  # until they are taken back
                assigned = ", ".join(
                    f"{name} = {_literal(value)}" for name, value in request.settings.items()
                )
                self._connection.query(f"SET {assigned}")
            try:
                return self._execute(request)
            finally:
                if request.settings:
                    self._connection.query(
                        f"SET {', '.join(f'{name} = DEFAULT' for name in request.settings)}"
                    )
                    clean = not request.leaves_state
        except Exception as error:
            raise EngineError.of(error) from error
        finally:
            if not clean:
                self._renew()

    def _execute(self, request: Run) -> Answer:
        started, statement = time.perf_counter_ns(), request.statement
        if statement.data is None:
            result = self._connection.query(statement.text, request.format, params=dict(request.parameters))
            counts = {
                "read_rows": result.storage_rows_read(),
                "read_bytes": result.storage_bytes_read(),
                "written_rows": result.rows_written(),
                "written_bytes": result.bytes_written(),
                "result_rows": result.rows_read(),
                "result_bytes": result.size(),
            }
            answer = Answer(result.bytes() or b"", request.format if statement.reads else None)
        else:
            for name, value in request.parameters.items():
                self._connection.query(f"SET param_{name} = {_literal(value)}")
            inserter = self._connection.send_insert(statement.text, statement.format or "Values")
            try:
                inserter.append(statement.data)
                written = inserter.finish()
            except BaseException:
                with contextlib.suppress(Exception):
                    inserter.cancel()
                raise
            counts = {"written_rows": written.rows_written, "written_bytes": written.bytes_written}
            answer = Answer(b"", None)
        counts["elapsed_ns"] = time.perf_counter_ns() - started
        answer.summary = {name: str(count) for name, count in counts.items()}
        return answer

    def _renew(self) -> None:
        """Replace the connection: the old one may carry settings, tables or a broken stream."""
        self.close()
        self._connection, self._database = self._connect(), "default"

    def close(self) -> None:
        """Let go of the directory."""
        with contextlib.suppress(Exception):
            self._connection.close()


class Lane:
    """Some handles and as many threads: statements beyond them wait their turn."""

    def __init__(self, name: str, handles: list[Handle]) -> None:
        self._handles = handles
        self._idle: asyncio.Queue[Handle] = asyncio.Queue()
        for handle in handles:
            self._idle.put_nowait(handle)
        self._threads = ThreadPoolExecutor(len(handles), thread_name_prefix=name)

    async def run(self, work: Callable[[Handle], Answer]) -> Answer:
        """Do the work with a handle of this lane. Once begun it is ended, even if the caller went away."""
        handle = await self._idle.get()
        running = asyncio.get_running_loop().run_in_executor(self._threads, work, handle)
        running.add_done_callback(lambda _: self._idle.put_nowait(handle))
        return await asyncio.shield(running)

    def close(self) -> None:
        """Wait for what runs, then let go of the handles."""
        self._threads.shutdown()
        for handle in self._handles:
            handle.close()


class Engine:
    """The engine on one directory. Statements that read and that write have handles of their own."""

    def __init__(self, config: EngineConfig) -> None:
        import chdb

        config.folder.mkdir(parents=True, exist_ok=True)

        def connect() -> Any:
            connection = chdb.connect(str(config.folder))  # type: ignore[no-untyped-call]
            connection.query(f"SET max_result_bytes = {config.max_result}, result_overflow_mode = 'throw'")
            return connection

        self.config = config
        first = connect()
        answer: str = first.query("SELECT version(), timezone()", "TabSeparated").data()
        self.version, self.timezone = answer.strip().split("\t")
        first.close()
        self._reading = Lane("read", [Handle(connect) for _ in range(config.readers)])
        self._writing = Lane("write", [Handle(connect) for _ in range(config.writers)])

    async def run(
        self,
        query: bytes,
        *,
        database: str = "default",
        default_format: str = "TabSeparated",
        settings: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
        readonly: bool = False,
    ) -> Answer:
        """Run one statement; raises EngineError. With `readonly`, only statements that change nothing."""
        statement = parse(query)
        if not statement.text.strip():
            raise EngineError.made(62, "SYNTAX_ERROR", "Empty query")
        if readonly and not statement.reads:
            raise EngineError.made(
                164,
                "READONLY",
                "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. "
                "You should use method POST for modifying queries.",
            )
        lane = self._reading if statement.reads else self._writing
        chosen = statement.format or default_format
        request = Run(statement, chosen, database, settings or {}, parameters or {})
        return await lane.run(lambda handle: handle.run(request))

    def close(self) -> None:
        """Finish what runs and let go of the directory."""
        self._reading.close()
        self._writing.close()


def create_app(config: EngineConfig) -> Starlette:
    """The ASGI application. The directory is opened when it starts and let go when it stops."""
    engine: Engine

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        nonlocal engine
        engine = Engine(config)
        log.info("ClickHouse engine %s on %s, port %d", engine.version, config.folder, config.port)
        yield
        engine.close()

    async def ping(_: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    async def query(request: Request) -> Response:
        query_id = request.query_params.get("query_id") or str(uuid.uuid4())
        headers = {
            "X-ClickHouse-Server-Display-Name": "voltfold-local",
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Timezone": engine.timezone,
        }
        try:
            _refuse_browsers(request, config.host)
            values, body = await _read(request, config.max_body)
            text = values.get("query", "").encode()
            if not text and not body and request.method != "POST":
                return PlainTextResponse("Ok.\n")
            answer = await engine.run(
                text + b"\n" + body if text and body else text or body,
                database=values.get("database") or request.headers.get("x-clickhouse-database") or "default",
                default_format=values.get("default_format")
                or request.headers.get("x-clickhouse-format")
                or "TabSeparated",
                settings=_settings(values),
                parameters={name[6:]: value for name, value in values.items() if name.startswith("param_")},
                readonly=request.method in ("GET", "HEAD"),
            )
        except EngineError as error:
            headers["X-ClickHouse-Exception-Code"] = str(error.code)
            version = "" if "(version " in error.message else f" (version {engine.version})"
            return PlainTextResponse(f"{error.message}{version}\n", error.status, headers)
        headers["X-ClickHouse-Summary"] = json.dumps(answer.summary)
        if answer.format:
            headers["X-ClickHouse-Format"] = answer.format
        body = answer.body
        if body and values.get("enable_http_compression") in ("1", "true"):
            encoding, body = await asyncio.to_thread(
                _compressed, body, request.headers.get("accept-encoding", "")
            )
            if encoding:
                headers["Content-Encoding"] = encoding
        return Response(body, 200, headers, media_type=_media_type(answer.format))

    return Starlette(
        routes=[
            Route("/ping", ping, methods=["GET", "HEAD"]),
            Route("/", query, methods=["GET", "HEAD", "POST"]),
        ],
        lifespan=lifespan,
    )


def run(config: EngineConfig) -> None:
    """Serve until SIGTERM or SIGINT."""
    import uvicorn

    uvicorn.run(
        create_app(config),
        host=config.host,
        port=config.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
        lifespan="on",
    )


def _refuse_browsers(request: Request, host: str) -> None:
    """Refuse what a web page made a browser send: nothing else stands between a page and this engine."""
    named = urlsplit(f"//{request.headers.get('host', host)}").hostname
    origin = request.headers.get("origin")
    local = {"127.0.0.1", "localhost", "::1", host}
    if named not in local or (origin is not None and urlsplit(origin).hostname not in local):
        raise EngineError.made(516, "AUTHENTICATION_FAILED", "requests from web pages are refused")


def _settings(values: Mapping[str, str]) -> dict[str, str]:
    """The settings among the URL's parameters; raises EngineError for what cannot be the name of one."""
    for name in ("compress", "decompress"):
        if values.get(name) in ("1", "true"):
            raise EngineError.made(48, "NOT_IMPLEMENTED", f"{name}=1: use HTTP's own encodings instead")
    chosen = {k: v for k, v in values.items() if k not in TRANSPORT and not k.startswith("param_")}
    for name in chosen:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise EngineError.made(115, "UNKNOWN_SETTING", f"Unknown setting {name!r}")
    return chosen


async def _read(request: Request, limit: int) -> tuple[dict[str, str], bytes]:
    """Read a request: the values of its URL and form, and its body, decompressed. Raises EngineError."""
    values = dict(request.query_params)
    too_large = EngineError.made(307, "TOO_MANY_BYTES", f"the request's body is larger than {limit} bytes")
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise too_large
    except ClientDisconnect as error:
        raise EngineError.made(210, "NETWORK_ERROR", "the client went away") from error
    body = b"".join(chunks)
    encoding = request.headers.get("content-encoding", "")
    if encoding and encoding != "identity":
        body = await asyncio.to_thread(_decompressed, body, encoding, limit)
        if len(body) > limit:
            raise too_large
    content_type = request.headers.get("content-type", "")
    if content_type.startswith("multipart/form-data"):
        form = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
        for part in form.iter_parts():
            name = part.get_param("name", header="content-disposition")
            if part.get_filename():
                raise EngineError.made(
                    48, "NOT_IMPLEMENTED", "external tables are not part of the local engine"
                )
            payload = part.get_payload(decode=True)
            values[str(name)] = payload.decode() if isinstance(payload, bytes) else ""
        body = b""
    return values, body


def _decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo a Content-Encoding, at most one byte beyond the limit. Raises EngineError."""
    try:
        if encoding == "lz4":
            return bytes(lz4.frame.LZ4FrameDecompressor().decompress(body, max_length=limit + 1))
        if encoding == "zstd":
            with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True) as reader:
                return reader.read(limit + 1)
        if encoding in ("gzip", "deflate"):
            return zlib.decompressobj(47 if encoding == "gzip" else 15).decompress(body, limit + 1)
    except (RuntimeError, zstandard.ZstdError, zlib.error) as error:
        raise EngineError.made(354, "CANNOT_DECOMPRESS", f"the body is not {encoding}: {error}") from error
    raise EngineError.made(89, "UNKNOWN_COMPRESSION_METHOD", f"Unknown Content-Encoding {encoding}")


def _compressed(body: bytes, accepted: str) -> tuple[str | None, bytes]:
    """Compress by the cheapest of the encodings accepted; nothing when none is known."""
    names = {part.split(";")[0].strip() for part in accepted.split(",")}
    if "lz4" in names:
        return "lz4", lz4.frame.compress(body)
    if "zstd" in names:
        return "zstd", zstandard.ZstdCompressor(level=1).compress(body)
    if "gzip" in names:
        return "gzip", gzip.compress(body, 1, mtime=0)
    return ("deflate", zlib.compress(body, 1)) if "deflate" in names else (None, body)


def _media_type(form: str | None) -> str:
    if form and form.startswith("JSON"):
        return "application/x-ndjson" if "EachRow" in form else "application/json; charset=UTF-8"
    if form in ("Native", "RowBinary", "Parquet", "Arrow", "ArrowStream", "ORC", "Avro"):
        return "application/octet-stream"
    if form and form.startswith("CSV"):
        return "text/csv; charset=UTF-8; header=" + ("present" if "WithNames" in form else "absent")
    return (
        "text/tab-separated-values; charset=UTF-8"
        if form and form.startswith("T")
        else "text/plain; charset=UTF-8"
    )


def _literal(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _identifier(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
