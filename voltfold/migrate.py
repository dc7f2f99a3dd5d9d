"""Bring Kafka and ClickHouse to what this version needs: topics of the catalogue, tables of migrations."""

from __future__ import annotations

import asyncio
import logging

from schemas.topics import Topics
from voltfold.settings import Settings
from voltfold.topics import create_topics

log = logging.getLogger(__name__)


async def migrate(settings: Settings) -> None:
    """Create missing topics and run the migrations that have not been run. Doing it twice changes nothing."""
    if not settings.kafka or not settings.clickhouse:
        raise ValueError("migrate needs VOLTFOLD_KAFKA and VOLTFOLD_CLICKHOUSE, or a family that runs")
    topics = Topics(settings.topic_prefix, settings.partitions)
    created, applied = await asyncio.gather(
        create_topics(settings.kafka, topics.all(), settings.replicas),
        asyncio.to_thread(_migrate_clickhouse, settings.clickhouse, settings.clickhouse_database),
    )
    log.info("migrated: %d topics created, %d migrations applied", created, applied)


def _migrate_clickhouse(url: str, database: str) -> int:
    from analytics import migrations

    return len(migrations.migrate(url, database))
