"""Every knob, in one place: read from the environment as `VOLTFOLD_<NAME>`, given defaults and explained.

Only this floor reads settings; the others are handed plain values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=1, le=65_535)]


class Settings(BaseSettings):
    """What Voltfold can be told. `None` for a server or a port: take the local one, choose a free one."""

    model_config = SettingsConfigDict(
        env_prefix="VOLTFOLD_",
        env_ignore_empty=True,
        use_attribute_docstrings=True,
        extra="ignore",
        frozen=True,
    )

    kafka: str | None = None
    """Kafka's bootstrap servers, `host:port,...`. Without it, `up` starts a broker of its own."""
    clickhouse: str | None = None
    """ClickHouse's HTTP interface, `http://[user:password@]host:port`. Without it, `up` starts an engine."""
    clickhouse_database: str = "voltfold"
    """The database that migrations make and the sink fills."""
    data: Path | None = None
    """Folder for all that is kept locally: broker's log, engine's data, workers' stores, API's views."""

    topic_prefix: str = Field("voltfold", pattern=r"^[A-Za-z0-9._-]{1,100}$")
    """First part of every topic's name, of consumer groups and of transactional ids: one log, one prefix."""
    partitions: PositiveInt = 12
    """Partitions of the topics that sessions go through. Fixed once the topics exist."""
    replicas: PositiveInt = 1
    """Copies that Kafka keeps of each topic. A cluster of three wants 3."""

    api_host: str = "127.0.0.1"
    """Address that the API listens on."""
    api_port: Port | None = None
    """Port that the API listens on."""
    api_workers: PositiveInt = 1
    """API processes on that port."""
    public_url: str | None = None
    """Where partners reach the API, as version details shall say it: `https://ocpi.example.com`."""
    max_body: PositiveInt = 1 << 20
    """Largest body of a partner's request, in bytes. Kafka takes records of 4 MB."""
    max_in_flight: PositiveInt = 1024
    """Requests that one API process works on at a time; more are answered 503."""
    max_in_flight_bytes: PositiveInt = 64 << 20
    """Bytes of bodies that one API process holds at a time; more are answered 503."""
    requests_per_second: NonNegativeFloat = 5_000.0
    """Requests of one partner that one API process answers a second, on average; 0: no limit."""
    burst: PositiveFloat = 20_000.0
    """Requests of one partner that may come at once."""
    write_timeout: PositiveFloat = 10.0
    """Seconds that a request waits for Kafka's acknowledgement."""
    read_timeout: PositiveFloat = 10.0
    """Seconds that a GET waits for the view to have what was acknowledged."""
    body_timeout: PositiveFloat = 30.0
    """Seconds that a request's body may take to arrive."""

    party: str = Field("NL*VLF", pattern=r"^[A-Za-z]{2}\*[A-Za-z0-9]{3}$")
    """Our own party, as the hub that partners connect to: country code and party id."""
    party_name: str = Field("Voltfold", min_length=1, max_length=100)
    """Our name, as partners see it in our credentials."""
    secret: str | None = Field(None, repr=False)
    """Seals partners' tokens in the log: 32 bytes in URL-safe Base64. Without it, one in the data folder."""
    partner_timeout: PositiveFloat = 30.0
    """Seconds that a partner's platform has to answer what we send to it."""
    partner_requests: PositiveInt = 4
    """Deliveries to one platform that may be under way at once."""
    partner_silence: PositiveFloat = 300.0
    """Seconds of silence after which a platform is asked whether it is there."""
    partner_failures: PositiveInt = 3
    """Failures in a row after which a platform counts as offline, and is only asked whether it is there."""
    partner_pause: PositiveFloat = 60.0
    """Seconds between two attempts at a platform, at most: pauses double from one second on."""
    pull_hours: NonNegativeFloat = 6.0
    """Hours of silence after which a platform is asked for what changed; 0: by `partner sync` alone."""

    health_host: str = "127.0.0.1"
    """Address on which a worker, the sink or the courier tells how it is: /health and /metrics."""
    health_port: Port | None = None
    """Port of that. Without it, one that is started alone does not tell."""

    workers: NonNegativeInt = 1
    """Worker processes that `up` starts; partitions are shared among them."""

    clock_seconds: NonNegativeFloat = 300.0
    """Seconds between two clock events that workers write into the log; 0: none."""
    stale_hours: PositiveFloat = 48.0
    """Hours for which a running session may be silent before it is a candidate to be set to INVALID."""
    missing_hours: PositiveFloat = 72.0
    """Hours after which the capture of a payment, or its CDR, is missing when it has not come."""
    stop_percent: Annotated[int, Field(ge=0, le=100)] = 95
    """Share of the reserved amount at which an ad-hoc session is stopped; 0: never."""

    sink_member: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,100}$")
    """Name of this sink in its group, which no other has: under it, one that was killed goes on at once."""

    courier_member: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,100}$")
    """Name of this courier among those that stand by: under it, one that was killed goes on at once."""

    kafka_port: Port | None = None
    """Port of the local broker."""
    clickhouse_port: Port | None = None
    """Port of the local engine."""
    kafka_heap: PositiveInt = 320
    """Heap of the local broker, in MB."""

    unwell_seconds: PositiveFloat = 45.0
    """Seconds for which a process that was well may fail its health checks before it is started again."""
    stop_grace: PositiveFloat = 10.0
    """Seconds that a process has to stop by itself before it is killed."""
    log: Literal["text", "json"] = "text"
    """How log lines look: for people, or one JSON object each."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe message that is logged."""

    @field_validator("clickhouse")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must be a URL: http://[user:password@]host:port")
        return value.rstrip("/") if value else value

    @property
    def folder(self) -> Path:
        """The data folder, absolute: as set, or `.voltfold/data` here."""
        return (self.data or Path(".voltfold/data")).absolute()

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, so that a child process reads the same."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {f"VOLTFOLD_{name.upper()}": str(value) for name, value in values.items()}

    def but(self, **changes: object) -> Self:
        """A copy with some values changed, checked as all are; None leaves a value as it is."""
        return type(self)(**{**self.model_dump(), **{k: v for k, v in changes.items() if v is not None}})


def table() -> str:
    """Every setting as a Markdown table: its variable, its default, what it means."""
    rows = ["| variable | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        rows.append(f"| `VOLTFOLD_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"
