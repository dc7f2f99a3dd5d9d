"""What became of deliveries: written to the topic `outbound` before a mark goes, read after a start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from api.config import ApiConfig
from api.outbox import Known, Outbox
from api.view import View
from api.voice import Voice
from schemas.codec import UnknownSchemaError
from schemas.partitioner import key_hash
from schemas.records import DeliveryRecord
from streams.deliveries import Mark, record_key

log = logging.getLogger("voltfold.courier")

Again = Callable[[str, str, str], None]
"""Told the connection, module and key of a delivery that somebody wants again."""


class Outcomes:
    """Keeps the outbox's knowledge of what platforms have. `loaded`: all that there was at the start."""

    def __init__(self, config: ApiConfig, view: View, outbox: Outbox, voice: Voice, again: Again) -> None:
        self.loaded = asyncio.Event()
        self._config = config
        self._view = view
        self._outbox = outbox
        self._voice = voice
        self._again = again

    async def settle(self, record: DeliveryRecord) -> None:
        """Write what became of a delivery, and wait until Kafka has it."""
        topic = self._config.topics.outbound
        key = record_key(record.connection, record.module, record.key)
        partition = TopicPartition(topic.name, key_hash(key.encode()) % topic.partitions)
        await self._voice.insist_on(partition, key, record.encode())

    async def follow(self) -> None:
        """Keep what the topic `outbound` says: after a start all that is missing, then what others ask for.

        A record without value asks for another delivery (`voltfold outbound retry`).
        """
        topic = self._config.topics.outbound
        partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        while True:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._config.kafka,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=200,
            )
            try:
                await self._view.ready.wait()  # by then it is settled which log the store belongs to
                await consumer.start()
                consumer.assign(partitions)
                ends = await consumer.end_offsets(partitions)
                for partition in partitions:
                    consumer.seek(partition, self._outbox.position(_name(partition)))
                while True:
                    batch = await consumer.getmany(timeout_ms=500, max_records=2000)
                    for partition, records in batch.items():
                        for record in records:
                            self._learn(partition, record)
                    if not self.loaded.is_set():
                        there = [await consumer.position(tp) >= ends[tp] for tp in partitions]
                        if all(there):
                            self.loaded.set()
            except (KafkaError, OSError) as error:
                log.warning("reading outcomes failed, trying again: %s", error)
                await asyncio.sleep(1)
            finally:
                await consumer.stop()

    def _learn(self, partition: TopicPartition, record: Any) -> None:
        position = (_name(partition), record.offset + 1)
        try:
            connection, module, key = record.key.decode().split("|", 2)
            if record.value is not None:
                found = DeliveryRecord.decode(record.value)
                known = Known(found.outcome, found.digest)
                self._outbox.learn((connection, module, key), known, position)
                return
        except (UnknownSchemaError, ValueError) as error:
            log.warning("%s offset %d: %s", _name(partition), record.offset, error)
            return
        self._outbox.learn((connection, module, key), None, position)
        self._outbox.mark_now(Mark(connection, record.timestamp * 1000, module, key))
        self._again(connection, module, key)


def _name(partition: TopicPartition) -> str:
    return f"{partition.topic}-{partition.partition}"
