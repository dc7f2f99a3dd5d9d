"""What each process runs: settings turned into the plain values that the other floors take."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from schemas.topics import Topics
from voltfold.health import serve
from voltfold.ports import LOOPBACK
from voltfold.settings import Settings

if TYPE_CHECKING:
    from api.config import ApiConfig


def topics_of(settings: Settings) -> Topics:
    """The catalogue under the settings' prefix."""
    return Topics(settings.topic_prefix, settings.partitions)


def broker(settings: Settings, controller_port: int | None, *, fetch_only: bool = False) -> None:
    """Become the local broker; with `fetch_only`, only get its jars, and rehearse its start."""
    from voltfold import broker as kafka
    from voltfold.jars import JarError, ensure
    from voltfold.up import jar_progress

    try:
        with jar_progress() as progress:
            ensure(progress)
    except JarError as error:
        sys.exit(f"voltfold: {error}")
    if fetch_only:
        kafka.rehearse()
        return
    port = settings.kafka_port or 9092
    config = kafka.BrokerConfig(
        settings.folder / "kafka", port, controller_port or port + 1, heap_mb=settings.kafka_heap
    )
    try:
        kafka.run(config)
    except RuntimeError as error:
        sys.exit(f"voltfold: {error}")


def api(settings: Settings, number: int, own_port: int | None = None) -> None:
    """Run one API process; `number` tells those on one data folder and port apart.

    `own_port`: where this very process answers as well, when it shares its port.
    """
    from api.server import run

    run(_api_config(settings, f"api-{number}", own_port))


def _api_config(settings: Settings, folder: str, own_port: int | None = None) -> ApiConfig:
    """What an API process must know, or another that follows the log with a view of its own."""
    from api.config import ApiConfig, Limits
    from api.vault import Vault, key_in, key_of

    country, _, party = settings.party.upper().partition("*")
    return ApiConfig(
        kafka=_kafka(settings),
        topics=topics_of(settings),
        data=settings.folder / folder,
        host=settings.api_host,
        port=settings.api_port or 8080,
        reuse_port=settings.api_workers > 1,
        own_port=own_port,
        public_url=settings.public_url,
        party=(country, party),
        party_name=settings.party_name,
        vault=Vault(key_of(settings.secret) if settings.secret else key_in(settings.folder)),
        partner_timeout=settings.partner_timeout,
        limits=Limits(
            body=settings.max_body,
            in_flight=settings.max_in_flight,
            in_flight_bytes=settings.max_in_flight_bytes,
            requests_per_second=settings.requests_per_second,
            burst=settings.burst,
            write_timeout=settings.write_timeout,
            read_timeout=settings.read_timeout,
            body_timeout=settings.body_timeout,
            grace=0.8 * settings.stop_grace,
        ),
    )


def courier(settings: Settings, health_port: int | None) -> None:
    """Run the courier."""
    from api.config import CourierConfig
    from api.courier import Courier
    from streams.deliveries import SECOND, Pace

    service = Courier(
        CourierConfig(
            api=_api_config(settings, "courier"),
            in_flight=settings.partner_requests,
            alive=settings.partner_silence,
            pull=3600 * settings.pull_hours,
            member=settings.courier_member,
            pace=Pace(failures=settings.partner_failures, longest=int(settings.partner_pause * SECOND)),
        )
    )
    asyncio.run(serve(service, settings.health_host, health_port or settings.health_port))


def _kafka(settings: Settings) -> str:
    if not settings.kafka:
        sys.exit("voltfold: which Kafka? Set VOLTFOLD_KAFKA=host:port, or run the whole family: voltfold up")
    return settings.kafka


def analytics(settings: Settings) -> None:
    """Run the local engine."""
    from analytics.engine import EngineConfig, run

    run(EngineConfig(settings.folder / "clickhouse", LOOPBACK, settings.clickhouse_port or 8123))


def worker(settings: Settings, number: int, health_port: int | None) -> None:
    """Run one stream worker; `number` tells those on one data folder apart."""
    from streams.ticker import ClockConfig
    from streams.worker import Worker, WorkerConfig

    folder = settings.folder / f"worker-{number}"
    seconds = settings.clock_seconds
    clock = ClockConfig(
        seconds, 3600 * settings.stale_hours, 3600 * settings.missing_hours, settings.stop_percent
    )
    service = Worker(WorkerConfig(_kafka(settings), topics_of(settings), folder, clock if seconds else None))
    asyncio.run(serve(service, settings.health_host, health_port or settings.health_port))


def sink(settings: Settings, health_port: int | None) -> None:
    """Run the sink."""
    from analytics.sink import Sink, SinkConfig

    if not settings.clickhouse:
        sys.exit("voltfold: which ClickHouse? Set VOLTFOLD_CLICKHOUSE=http://host:port, or: voltfold up")
    service = Sink(
        SinkConfig(
            kafka=_kafka(settings),
            clickhouse=settings.clickhouse,
            database=settings.clickhouse_database,
            topics=topics_of(settings),
            member=settings.sink_member,
        )
    )
    asyncio.run(serve(service, settings.health_host, health_port or settings.health_port))
