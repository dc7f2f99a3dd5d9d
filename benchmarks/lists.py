"""What an API process keeps in memory when a million sessions can be listed, and how long pages take.

A read view without Kafka: events are folded into it as if they had been read from the log, a tenth of them
updates. Then the list of all sessions is asked for: a first page, which counts them; a hundred pages
anywhere; the whole list page by page where `--crawl` says so; and a list of what was updated, which is
counted anew. Last, what folding an event costs when there are lists to keep up.

    python benchmarks/lists.py [--sessions 1000000] [--crawl]

Prints one line of JSON: resident memory in MB, CPU times of the thread that serves.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition

sys.path.insert(0, str(Path(__file__).parent))

from fold import session_event

from api.config import ApiConfig
from api.lists import Wanted
from api.pages import LARGEST_PAGE
from api.partners import Registry
from api.view import View
from schemas.records import Event
from schemas.topics import Topics
from streams import objects

_PLACE = 987_654_321
_BATCH = 500


def _memory(field: str = "VmRSS") -> int:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field))
    return round(int(line.split()[1]) * 1024 / 1e6)


def _events(update: int, numbers: range) -> Iterator[bytes]:
    """PUTs of sessions, each with its number in place of another one's."""
    mould = session_event(_PLACE, update)[1]
    body = mould.body.split(str(_PLACE).encode())
    for number in numbers:
        yield Event(
            id=(number << 4 | update).to_bytes(16, "big"), received_at=number, sender=mould.sender,
            version=mould.version, module=mould.module, method="PUT", key=f"NL*TNM*S{number}",
            path=["NL", "TNM", f"S{number}"], request_id=None, correlation_id=None,
            body=str(number).encode().join(body),
        ).encode()  # fmt: skip


class _Feed:
    """Puts events into a view, as if they came from the log."""

    def __init__(self, view: View, topics: Topics) -> None:
        self.view = view
        self.partition = TopicPartition(topics.sessions.name, 0)
        self.offset = 0

    async def take(self, events: Iterator[bytes]) -> float:
        """All of them, in batches; microseconds of the thread's CPU time for each."""
        began, first = time.thread_time(), self.offset
        batch: list[Any] = []
        for value in events:
            batch.append(SimpleNamespace(value=value, offset=self.offset, timestamp=self.offset))
            self.offset += 1
            if len(batch) == _BATCH:
                self.view._take({self.partition: batch})
                batch = []
                await asyncio.sleep(0)
        if batch:
            self.view._take({self.partition: batch})
        return round((time.thread_time() - began) * 1e6 / max(1, self.offset - first), 1)


async def measure(folder: Path, sessions: int, crawl: bool) -> dict[str, Any]:
    """All figures."""
    topics = Topics()
    config = ApiConfig("localhost:1", topics, folder)
    view = View(config, Registry())
    view._db = view._open()
    feed = _Feed(view, topics)
    found: dict[str, Any] = {"sessions": sessions, "begun_mb": _memory()}
    found["fold_cpu_us"] = await feed.take(_events(0, range(sessions)))
    await feed.take(_events(1, range(0, sessions, 10)))
    found["loaded_mb"] = _memory()
    head = objects.head(view.get("sessions", "NL*TNM*S0") or b"")
    party = head.concerns
    everything = Wanted("sessions", (party,))

    async def page(wanted: Wanted, offset: int) -> tuple[float, Any]:
        began = time.thread_time()
        answer = await view.lists.page(wanted, offset, LARGEST_PAGE)
        for key in answer.keys:
            assert view.get("sessions", key) is not None
        return (time.thread_time() - began) * 1000, answer

    took, first = await page(everything, 0)
    assert first.total == sessions
    found["first_page_cpu_ms"] = round(took)
    dice = random.Random(1)
    times = sorted([(await page(everything, dice.randrange(sessions)))[0] for _ in range(100)])
    found |= {"page_cpu_ms_p50": round(times[50], 1), "page_cpu_ms_max": round(times[-1], 1)}
    if crawl:
        began, offset = time.thread_time(), 0
        while offset < sessions:
            offset += len((await page(everything, offset))[1].keys)
        found["crawl_cpu_s"] = round(time.thread_time() - began, 1)
    took, updated = await page(Wanted("sessions", (party,), head.last_updated), 0)
    assert updated.total == len(range(0, sessions, 10))
    found["filtered_cpu_ms"] = round(took)
    found["listed_mb"] = _memory()
    numbers = range(sessions, sessions + 20_000)
    found["fold_with_lists_cpu_us"] = await feed.take(_events(0, numbers))
    found["peak_mb"] = _memory("VmHWM")
    view._db.close()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--crawl", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voltfold-lists-") as folder:
        print(json.dumps(asyncio.run(measure(Path(folder), options.sessions, options.crawl))))


if __name__ == "__main__":
    main()
