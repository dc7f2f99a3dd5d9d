"""Whose turn it is: of several couriers on one log, one delivers.

They are a consumer group on a topic of one partition: the member that has it has the turn. Under a name of
its own, a courier that was killed has its turn again as soon as it is back; another one takes over when it
has not been heard of for 10 seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError

from api.config import CourierConfig

log = logging.getLogger("voltfold.courier")


class Turn(ConsumerRebalanceListener):  # type: ignore[misc]
    """One member of the group. `is_ours`: whether it is this one's turn."""

    def __init__(self, config: CourierConfig) -> None:
        self._config = config
        self._changed = asyncio.Event()
        self.is_ours = False

    async def run(self) -> None:
        """Be a member until cancelled."""
        topics = self._config.api.topics
        while True:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._config.api.kafka,
                group_id=f"{topics.prefix}-courier",
                group_instance_id=self._config.member,
                enable_auto_commit=False,
                auto_offset_reset="latest",
                session_timeout_ms=10_000,
                heartbeat_interval_ms=2_000,
            )
            consumer.subscribe([topics.client_info.name], listener=self)
            try:
                await consumer.start()
                while True:
                    await consumer.getmany(timeout_ms=1_000)
            except (KafkaError, OSError) as error:
                log.warning("the couriers' group cannot be reached, trying again: %s", error)
                await asyncio.sleep(1)
            finally:
                self._set(False)
                await consumer.stop()

    async def wait(self, seconds: float) -> None:
        """Until it changes, or for so long."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """It may be another's turn."""
        self._set(False)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Whoever is given the partition has the turn."""
        self._set(bool(assigned))

    def _set(self, ours: bool) -> None:
        if ours != self.is_ours:
            self.is_ours = ours
            self._changed.set()
            log.info("this courier %s", "delivers" if ours else "stands by")
