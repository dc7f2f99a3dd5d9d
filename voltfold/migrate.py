"""Bring Kafka and ClickHouse to what this version needs: topics of the catalogue, tables of migrations."""

from __future__ import annotations

import asyncio
import logging

from schemas.topics import Topics
from voltfold.settings import Settings
from voltfold.topics import create_topics

log = logging.getLogger(__name__)


async def migrate(settings: Settings) -> None:
    """Create missing topics and run the migrations that have not been run. Doing it twice changes nothing.

    Of the two servers, those that the settings name.
    """
    topics = Topics(settings.topic_prefix, settings.partitions)

    async def make_topics(kafka: str) -> None:
        created = await create_topics(kafka, topics.all(), settings.replicas)
        log.info("%d topics created", created)

    async def make_tables(clickhouse: str) -> None:
        from analytics import migrations

        applied = await asyncio.to_thread(migrations.migrate, clickhouse, settings.clickhouse_database)
        log.info("%d migrations applied", len(applied))

    work = [make_topics(settings.kafka)] if settings.kafka else []
    await asyncio.gather(*work, *([make_tables(settings.clickhouse)] if settings.clickhouse else []))
