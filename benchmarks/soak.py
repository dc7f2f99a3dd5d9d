"""Whether a family that works for long keeps its memory, its file handles and its lag.

A family of its own; a partner PUTs sessions at a steady rate, a fifth of them new. Every ten seconds each
process is looked at. What is told is the median of the second and of the last quarter of the time; and how
long ClickHouse took to have the last session (`behind_s`).

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

import aiohttp
import psutil

sys.path.insert(0, str(Path(__file__).parent))

from ingress import requests

from api.partners import add_partner
from schemas.topics import Topics
from voltfold.family import Family
from voltfold.settings import Settings

CONNECTIONS, EVERY = 16, 10.0


async def _push(family: Family, token: str, rate: float, until: float) -> int:
    """PUT at a rate; how many were acknowledged."""
    sources = [requests(number, token) for number in range(CONNECTIONS)]
    done = 0

    async def line(number: int, http: aiohttp.ClientSession) -> None:
        nonlocal done
        begun, sent = time.monotonic(), 0
        while (now := time.monotonic()) < until:
            if (wait := begun + sent * CONNECTIONS / rate - now) > 0:
                await asyncio.sleep(wait)
            head, _, body = next(sources[number]).partition(b"\r\n\r\n")
            first, *rest = head.decode().split("\r\n")
            headers = dict(one.split(": ", 1) for one in rest if not one.startswith(("Host", "Content-L")))
            async with http.put(f"{family.api}{first.split()[1]}", data=body, headers=headers) as answer:
                done += answer.status in (200, 201)
                await answer.read()
            sent += 1

    async with aiohttp.ClientSession() as http:
        await asyncio.gather(*(line(number, http) for number in range(CONNECTIONS)))
    return done


async def _watch(family: Family, samples: dict[str, list[tuple[float, int]]]) -> None:
    while True:
        await asyncio.sleep(EVERY)
        for name, pid in family.pids.items():
            process = psutil.Process(pid)
            samples[name].append((process.memory_info().rss / 1e6, process.num_fds()))


async def measure(folder: Path, seconds: float, rate: float) -> dict[str, Any]:
    """All figures."""
    samples: dict[str, list[tuple[float, int]]] = defaultdict(list)
    async with Family(Settings(data=folder)) as family:
        token = await add_partner(family.kafka, Topics(), "NL", "TNM", ["CPO"])
        watch = asyncio.create_task(_watch(family, samples))
        done = await _push(family, token, rate, time.monotonic() + seconds)
        watch.cancel()
        before = time.monotonic()
        async with aiohttp.ClientSession() as http:
            query = f"{family.clickhouse}/?database=voltfold"
            last = -1
            while True:
                async with http.post(query, data="SELECT count() FROM sessions") as answer:
                    count = int(await answer.text())
                if count == last:
                    break
                last = count
                await asyncio.sleep(1)
        behind = time.monotonic() - before
    found: dict[str, Any] = {}
    for name, seen in samples.items():
        quarter = max(1, len(seen) // 4)
        for what, index in (("mb", 0), ("files", 1)):
            early = statistics.median(one[index] for one in seen[quarter : 2 * quarter] or seen)
            late = statistics.median(one[index] for one in seen[-quarter:])
            found[f"{name}_{what}"] = [round(early), round(late)]
    return {
        "seconds": seconds, "acknowledged": done, "sessions": last, "behind_s": round(behind, 1), **found,
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--rate", type=float, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voltfold-soak-") as folder:
        print(json.dumps(asyncio.run(measure(Path(folder), options.seconds, options.rate))))


if __name__ == "__main__":
    main()
