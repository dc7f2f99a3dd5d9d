"""How the fold scales with workers: session events a second by their number, on one machine.

For each number the workers are started on empty topics until they share the partitions; then they are held
still while the events are written, let go, and timed until all is committed. A rate is bounded by the cores
that are free beside the broker's: `cpus` says how many there are at all.

    python benchmarks/scale.py [--events 120000] [--workers 1,2,3]

Prints one line of JSON: events a second by workers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from _workers import Progress, Worker, kafka, prepare, until, write

UPDATES = 20


async def _rate(address: str, folder: Path, number: int, events: int) -> int:
    topics = await prepare(address, f"scale-{number}")
    workers = [Worker(address, topics, folder / f"{number}", n) for n in range(number)]
    for worker in workers:
        worker.start()
    async with Progress(address, topics) as progress:
        for _ in range(2):  # each arrival deals the partitions anew
            await until(lambda: all(worker.ready() for worker in workers), 90, f"{number} workers")
            await asyncio.sleep(3)
        # Shorter than the session time-out of the group, or the partitions would be dealt anew.
        for worker in workers:
            worker.signal(signal.SIGSTOP)
        await write(address, topics, range(events // UPDATES), range(UPDATES))
        ends = await progress.ends()
        for worker in workers:
            worker.signal(signal.SIGCONT)
        began = time.perf_counter()
        await progress.caught_up(ends, 300)
        rate = round(events / (time.perf_counter() - began))
    for worker in workers:
        worker.signal(signal.SIGTERM)
    return rate


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=120_000)
    parser.add_argument("--workers", default="1,2,3")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voltfold-scale-") as folder:
        with kafka(Path(folder) / "kafka") as address:
            rates = {
                number: asyncio.run(_rate(address, Path(folder), int(number), options.events))
                for number in options.workers.split(",")
            }
        print(json.dumps({**rates, "cpus": os.cpu_count()}))


if __name__ == "__main__":
    main()
