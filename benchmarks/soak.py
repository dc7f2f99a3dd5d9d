"""Whether a family that works for long keeps its memory, its file handles and its lag.

A family of its own; a partner PUTs sessions at a steady rate, a fifth of them new: half the peak, which is
measured first, unless a rate is given. Every ten seconds each process is looked at. What is told is the
median of the second and of the last quarter of the time; and how long ClickHouse took to have the last
session (`behind_s`).

    python benchmarks/soak.py [--seconds 3600] [--rate 500]

Prints one line of JSON; memory in MB (resident).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent))

from freshness import peak_of, settled
from ingress import pushed

from api.partners import add_partner
from schemas.topics import Topics
from voltfold.family import Family
from voltfold.settings import Settings

EVERY = 10.0


async def _watch(family: Family, samples: dict[str, list[tuple[float, int]]]) -> None:
    while True:
        await asyncio.sleep(EVERY)
        for name, pid in family.pids.items():
            process = psutil.Process(pid)
            samples[name].append((process.memory_info().rss / 1e6, process.num_fds()))


async def measure(folder: Path, seconds: float, rate: float) -> dict[str, Any]:
    """All figures."""
    samples: dict[str, list[tuple[float, int]]] = defaultdict(list)
    async with (
        Family(Settings(data=folder, requests_per_second=0)) as family,
        httpx.AsyncClient(timeout=60, trust_env=False) as http,
    ):
        token = await add_partner(family.kafka, Topics(), "NL", "TNM", ["CPO"])
        port, query = int(family.api.rsplit(":", 1)[1]), f"{family.clickhouse}/?database=voltfold"
        rate = rate or await peak_of(http, port, token, query) / 2
        watch = asyncio.create_task(_watch(family, samples))
        done = await pushed(port, token, rate, seconds)
        watch.cancel()
        ended = time.monotonic()
        behind = await settled(http, query) - ended
        sessions = int((await http.post(query, content="SELECT count() FROM sessions")).text)
    found: dict[str, Any] = {}
    for name, seen in samples.items():
        quarter = max(1, len(seen) // 4)
        for what, index in (("mb", 0), ("files", 1)):
            early = statistics.median(one[index] for one in seen[quarter : 2 * quarter] or seen)
            late = statistics.median(one[index] for one in seen[-quarter:])
            found[f"{name}_{what}"] = [round(early), round(late)]
    return {
        "seconds": seconds, "rate": round(rate), "acknowledged": done, "sessions": sessions,
        "behind_s": round(max(0, behind), 1), **found,
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--rate", type=float, default=0, help="half the measured peak unless given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voltfold-soak-") as folder:
        print(json.dumps(asyncio.run(measure(Path(folder), options.seconds, options.rate))))


if __name__ == "__main__":
    main()
