"""The log as the API sees it: append an event and know that Kafka has it; ask how far the log goes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

log = logging.getLogger("voltfold.api")

RETRY_SECONDS = 0.5
_BATCH_BYTES = 256 << 10
_LARGEST_RECORD = 4 << 20  # as the topics' max.message.bytes
_LINGER = 0.002  # seconds for each record that had company in the last batch,
_LONGEST_LINGER = 0.01  # and for all of them


class LogUnavailableError(Exception):
    """Kafka did not answer, or not in time."""


class Log:
    """Appends events with acks=all through one idempotent producer; many may wait for their acknowledgement.

    Records of a partition that come while its last batch is under way become the next batch. When several
    shared a batch, the next one waits for more of them, the longer the more there were: the linger grows with
    the load, and is zero when nobody else is there.
    """

    def __init__(self, kafka: str, timeout: float) -> None:
        self._kafka = kafka
        self._timeout = timeout
        self._producer: AIOKafkaProducer | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._lanes: dict[TopicPartition, _Lane] = {}

    def start(self) -> None:
        """Connect, in the background and for as long as it takes."""
        self._connecting = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        while True:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._kafka,
                acks="all",
                enable_idempotence=True,
                compression_type="lz4",
                max_batch_size=_BATCH_BYTES,
                max_request_size=_LARGEST_RECORD,
                request_timeout_ms=int(self._timeout * 1000),
                retry_backoff_ms=50,
                metadata_max_age_ms=60_000,
            )
            try:
                await producer.start()
            except (KafkaError, OSError) as error:
                log.warning("no connection to Kafka at %s: %s", self._kafka, error)
                with contextlib.suppress(Exception):
                    await producer.stop()
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._producer = producer
                return

    async def append(self, partition: TopicPartition, key: bytes, value: bytes) -> int:
        """Write one record and wait for Kafka's acknowledgement; return its offset.

        Raises LogUnavailableError when that takes longer than the time-out; the record may then be in the
        log all the same, or get there. A caller who repeats the request repeats the event, with the same
        id.
        """
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = _Lane(self, partition)
        return await lane.append(key, value)

    async def send(self, partition: TopicPartition, batch: BatchBuilder) -> int:
        """Write a batch; return the offset of its first record. Raises LogUnavailableError."""
        producer = self._producer
        if producer is None:
            raise LogUnavailableError("not connected to Kafka")
        try:
            async with asyncio.timeout(self._timeout):
                sent = await producer.send_batch(batch, partition.topic, partition=partition.partition)
                written = await sent
        except TimeoutError:
            raise LogUnavailableError("Kafka did not acknowledge in time") from None
        except KafkaError as error:
            self._replace(producer)
            raise LogUnavailableError(f"Kafka did not acknowledge: {error}") from None
        offset: int = written.offset
        return offset

    def batch(self) -> BatchBuilder | None:
        """A new batch, or None while there is no connection."""
        return None if self._producer is None else self._producer.create_batch()

    def _replace(self, producer: AIOKafkaProducer) -> None:
        """Take a new producer: after a lasting error the old one's sequence numbers have a gap for ever."""
        if producer is self._producer:
            log.warning("replacing the Kafka producer")
            self._producer = None
            self._connecting = asyncio.create_task(self._change(producer))

    async def _change(self, old: AIOKafkaProducer) -> None:
        closing = asyncio.create_task(_stop(old, self._timeout))
        await self._connect()
        await closing

    async def stop(self) -> None:
        """Let what was sent arrive, and disconnect."""
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._connecting
        if self._producer is not None:
            await _stop(self._producer, self._timeout)
            self._producer = None


class _Lane:
    """The way into one partition: one batch under way, the next one filling."""

    def __init__(self, log_: Log, partition: TopicPartition) -> None:
        self._log = log_
        self._partition = partition
        self._filling: list[tuple[BatchBuilder, list[asyncio.Future[int]]]] = []
        self._running: asyncio.Task[None] | None = None

    def append(self, key: bytes, value: bytes) -> asyncio.Future[int]:
        """The future offset of a record. Raises LogUnavailableError when there is no connection."""
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if not self._filling or self._filling[-1][0].append(timestamp=None, key=key, value=value) is None:
            batch = self._log.batch()
            if batch is None or batch.append(timestamp=None, key=key, value=value) is None:
                raise LogUnavailableError("not connected to Kafka")
            self._filling.append((batch, []))
        self._filling[-1][1].append(done)
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return done

    async def _run(self) -> None:
        try:
            while self._filling:
                batch, waiting = self._filling.pop(0)
                try:
                    first = await self._log.send(self._partition, batch)
                except LogUnavailableError as error:
                    # Those behind it have waited as long, and would only wait as long again.
                    for done in (*waiting, *(later for _, others in self._filling for later in others)):
                        if not done.done():
                            done.set_exception(error)
                    self._filling.clear()
                else:
                    for number, done in enumerate(waiting):
                        if not done.done():
                            done.set_result(first + number)
                    if len(waiting) > 1:
                        await asyncio.sleep(min(_LONGEST_LINGER, _LINGER * len(waiting)))
        finally:
            self._running = None


async def _stop(producer: AIOKafkaProducer, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await producer.stop()
    except (KafkaError, TimeoutError) as error:
        log.warning("the Kafka producer did not stop cleanly: %s", error)


class Ends:
    """End offsets of partitions, asked for by many at once and from the broker once.

    Whoever asks gets an answer that the broker gave after the question was put: a question that comes while a
    call is under way waits for the next call, together with all others that came meanwhile.
    """

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer  # one that fetches nothing, lest the question queue up behind a long poll
        self._wanted: set[TopicPartition] = set()
        self._answer: asyncio.Future[dict[TopicPartition, int]] | None = None
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """End offsets, at least of the partitions asked for. Raises aiokafka's KafkaError."""
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
        self._wanted.update(partitions)
        answer = self._answer
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(answer)

    async def _ask(self) -> None:
        try:
            while self._answer is not None:
                answer, self._answer = self._answer, None
                wanted, self._wanted = self._wanted, set()
                try:
                    answer.set_result(await self._consumer.end_offsets(list(wanted)))
                except (KafkaError, OSError) as error:
                    answer.set_exception(error)
                    answer.exception()  # those who asked may have gone
        finally:
            self._asking = None
