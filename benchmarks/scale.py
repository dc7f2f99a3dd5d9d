"""How the fold scales with workers: session events a second by their number, on one machine.

For each number the workers are started on empty topics until they share the partitions; then they are held
still while the events are written, let go, and timed until all is committed. A rate is bounded by the cores
that are free beside the broker's: `cpus` says how many there are at all. Where they are not, `worker_cpu_us`
tells what a further worker would do on a core of its own: the workers' CPU time for one event, in
microseconds, by their number.

    python benchmarks/scale.py [--events 480000] [--workers 1,2,3]

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

import psutil

sys.path.insert(0, str(Path(__file__).parent))

from _workers import Progress, Worker, kafka, prepare, until, write

UPDATES = 20


def _cpu(workers: list[Worker]) -> float:
    """Seconds of CPU time that they have used."""
    pids = [worker.process.pid for worker in workers if worker.process]
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


async def _rate(address: str, folder: Path, number: int, events: int) -> tuple[int, float]:
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
        busy = _cpu(workers)
        for worker in workers:
            worker.signal(signal.SIGCONT)
        began = time.perf_counter()
        await progress.caught_up(ends, 300)
        rate = round(events / (time.perf_counter() - began))
        cost = round((_cpu(workers) - busy) / events * 1e6, 1)
    for worker in workers:
        worker.signal(signal.SIGTERM)
    return rate, cost


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=480_000)
    parser.add_argument("--workers", default="1,2,3")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voltfold-scale-") as folder:
        with kafka(Path(folder) / "kafka") as address:
            found = {
                number: asyncio.run(_rate(address, Path(folder), int(number), options.events))
                for number in options.workers.split(",")
            }
        rates = {number: rate for number, (rate, _) in found.items()}
        costs = {number: cost for number, (_, cost) in found.items()}
        print(json.dumps({**rates, "worker_cpu_us": costs, "cpus": os.cpu_count()}))


if __name__ == "__main__":
    main()
