"""How soon work goes on after `kill -9` of a worker, and how soon a worker is back.

Two workers share the partitions while sessions come in at a steady rate. One is killed and not started again:
`first_output_s` is from then to the first new record of a partition that it had, `caught_up_s` until nothing
is left to do. It is started again on its folder, with its store: `restart_ready_s`. Then one worker alone is
killed, its folder is deleted, and it must restore every state from the changelog: `restore_ready_s` for
`restored_states`. `worker_mb`: what it had resident (MB) when it had folded them, and when it had restored
them.

    python benchmarks/recovery.py [--rate 500] [--states 1000000]

Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from _workers import Progress, Worker, kafka, prepare, until, write
from aiokafka import AIOKafkaProducer
from fold import session_event

from schemas.topics import Topics


async def _steady(address: str, topics: Topics, rate: float, first: int) -> None:
    """New sessions for ever."""
    async with AIOKafkaProducer(bootstrap_servers=address, acks="all", linger_ms=5) as producer:
        number, began = first, time.perf_counter()
        while True:
            while number - first < (time.perf_counter() - began) * rate:
                key, event = session_event(number, 0)
                await producer.send(topics.sessions.name, event.encode(), key)
                number += 1
            await asyncio.sleep(0.02)


async def measure(address: str, folder: Path, rate: float, states: int) -> dict[str, object]:
    """All figures."""
    topics = await prepare(address, "recovery")
    workers = [Worker(address, topics, folder, number) for number in (0, 1)]
    for worker in workers:
        worker.start()
    async with Progress(address, topics) as progress:
        await until(lambda: all(worker.ready() for worker in workers), 60, "two workers")
        await asyncio.sleep(3)  # the second one's arrival has dealt the partitions anew
        await until(lambda: all(worker.ready() for worker in workers), 60, "two workers")
        traffic = asyncio.create_task(_steady(address, topics, rate, 10_000_000))
        await asyncio.sleep(5)
        name = f"{topics.sessions.name}-"
        lost = {
            int(one.removeprefix(name)) for one in workers[0].health()["partitions"] if one.startswith(name)
        }
        workers[0].signal(signal.SIGKILL)
        killed = time.perf_counter()
        before = await progress.committed()
        while True:
            now = await progress.committed()
            if any(now.get(one, 0) > before.get(one, 0) for one in lost):
                break
            await asyncio.sleep(0.02)
        first_output = time.perf_counter() - killed
        await progress.caught_up(await progress.ends(), 60)
        caught_up = time.perf_counter() - killed
        workers[0].start()
        restart_ready = await until(workers[0].ready, 60, "the restart")
        traffic.cancel()
        workers[0].signal(signal.SIGTERM)
        await write(address, topics, range(states))
        await progress.caught_up(await progress.ends(), 600)
        folded = workers[1].resident()
        workers[1].signal(signal.SIGKILL)
        shutil.rmtree(folder / "worker-1")
        workers[1].start()
        restore_ready = await until(workers[1].ready, 300, "the restore")
        restored = workers[1].resident()
        workers[1].signal(signal.SIGTERM)
    return {
        "first_output_s": round(first_output, 2),
        "caught_up_s": round(caught_up, 2),
        "restart_ready_s": round(restart_ready, 2),
        "restored_states": states,
        "restore_ready_s": round(restore_ready, 2),
        "worker_mb": [folded, restored],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--states", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voltfold-recovery-") as folder:
        with kafka(Path(folder) / "kafka") as address:
            figures = asyncio.run(measure(address, Path(folder), options.rate, options.states))
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
