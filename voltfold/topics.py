"""Topics as the catalogue has them: created where they are missing, never altered behind anybody's back.

But for one setting that an older version did not make them with, and the order of lists rests on: whose clock
their records have (`_give_clock`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from time import monotonic

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from schemas.topics import Topic

log = logging.getLogger(__name__)
_CLOCK = "message.timestamp.type"
_SET_ON_TOPIC = 1  # source of a setting, as Kafka's protocol has it


class TopicMismatchError(RuntimeError):
    """A topic exists with another number of partitions than the catalogue says."""


async def create_topics(kafka: str, topics: Iterable[Topic], replicas: int = 1, seconds: float = 30.0) -> int:
    """Create the topics that are missing and wait until each partition has a leader; return how many were.

    Two processes that do it at once do it once. Raises TopicMismatchError when a topic exists with another
    number of partitions (keys would move), and the broker's own error when it refuses one.
    """
    wanted = {topic.name: topic for topic in topics}
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        missing = [topic for name, topic in wanted.items() if name not in set(await admin.list_topics())]
        if missing:
            answer = await admin.create_topics(
                [NewTopic(t.name, t.partitions, replicas, topic_configs=t.config) for t in missing]
            )
            for name, code, *message in answer.topic_errors:
                error = for_code(code)
                if code and error is not TopicAlreadyExistsError:
                    raise error(f"{name}: {message[0] if message else ''}")
        deadline = monotonic() + seconds
        while True:
            described = {found["topic"]: found for found in await admin.describe_topics(list(wanted))}
            if all(_is_led(described.get(name)) for name in wanted):
                break
            if monotonic() > deadline:
                raise TimeoutError(f"topics without a leader after {seconds:.0f} s")
            await asyncio.sleep(0.05)
        for name, topic in wanted.items():
            count = len(described[name]["partitions"])
            if count != topic.partitions:
                raise TopicMismatchError(
                    f"{name} has {count} partitions, and the catalogue says {topic.partitions}"
                )
        await _give_clock(admin, [one for name, one in wanted.items() if one not in missing])
        return len(missing)
    finally:
        await admin.close()


async def _give_clock(admin: AIOKafkaAdminClient, topics: list[Topic]) -> None:
    """Give topics that lack it the clock of the broker; all that was set on them by hand stays.

    What was written before keeps the clock of its writer, so lists may show that out of order.
    """
    asked = [ConfigResource(ConfigResourceType.TOPIC, one.name) for one in topics if _CLOCK in one.config]
    if not asked:
        return
    wrong = []
    for answer in await admin.describe_configs(asked):
        for _, _, _, name, entries in answer.resources:
            values = {entry[0]: entry[1] for entry in entries}
            if values.get(_CLOCK) != "LogAppendTime":
                kept = {entry[0]: entry[1] for entry in entries if entry[3] == _SET_ON_TOPIC}
                configs = {**kept, _CLOCK: "LogAppendTime"}
                wrong.append(ConfigResource(ConfigResourceType.TOPIC, name, configs))
    if wrong:
        await admin.alter_configs(wrong)
        log.info("%d topics of an older version have the broker's clock now", len(wrong))


def _is_led(found: dict[str, object] | None) -> bool:
    partitions = found["partitions"] if found and not found["error_code"] else None
    return isinstance(partitions, list) and all(p["leader"] >= 0 and not p["error_code"] for p in partitions)
