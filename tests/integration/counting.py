"""A worker that counts, for tests: `python -m tests.integration.counting KAFKA PREFIX PARTITIONS FOLDER`.

Each session event is counted under its key and passed on as a session state and as a claim; each claim is
counted under its key and passed on as a settlement entry. So every event must be found exactly once in every
conclusion, and every count is known. Values that are no number are skipped, as a poisoned record would be.
Its health is a line of JSON in `FOLDER/health.json`, twice a second.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from schemas.topics import Topic, Topics
from streams.folding import Fact, Folded, Get, Output
from streams.worker import Folding, Worker, WorkerConfig


class CountingFold:
    """Counts events by key; a state is the count and the sum of the numbers."""

    def __init__(self, *targets: Topic, padding: int = 0) -> None:
        self.targets = targets
        self.padding = b"." * padding

    def __call__(self, facts: Sequence[Fact], get: Get) -> Folded:
        changes: dict[bytes, bytes | None] = {}
        outputs: list[Output] = []
        for fact in facts:
            number = (fact.value or b"").split(b" ", 1)[0]
            if not number.isdigit() or fact.key is None:
                continue
            count, total = number_pair(changes.get(fact.key) or get(fact.key))
            changes[fact.key] = b"%d %d " % (count + 1, total + int(number)) + self.padding
            outputs.extend(Output(target.name, fact.key, number) for target in self.targets)
        return Folded(changes, outputs)


def number_pair(state: bytes | None) -> tuple[int, int]:
    """Count and sum in a state of the counting fold."""
    count, total = (state or b"0 0").split(b" ")[:2]
    return int(count), int(total)


def counting(topics: Topics) -> list[Folding]:
    """The two folds, one after the other."""
    return [
        Folding(topics.sessions, topics.sessions_table, CountingFold(topics.session_states, topics.ledger)),
        Folding(topics.ledger, topics.ledger_table, CountingFold(topics.settlement_entries)),
    ]


async def main(kafka: str, prefix: str, partitions: str, folder: str) -> None:
    """Work until SIGTERM."""
    topics = Topics(prefix, int(partitions))
    worker = Worker(WorkerConfig(kafka, topics, Path(folder) / "data"), counting(topics))
    running = asyncio.create_task(worker.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    health = Path(folder) / "health.json"
    while not running.done():
        health.with_suffix(".new").write_text(json.dumps(worker.health()))
        health.with_suffix(".new").rename(health)
        await asyncio.wait({running}, timeout=0.1)
    if not running.cancelled():
        running.result()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    asyncio.run(main(*sys.argv[1:]))
