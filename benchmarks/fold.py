"""How many session events one worker folds in a second, beside others that keep a state per session.

All read the same events (session PUTs as the door writes them, some 900 bytes) from the same local broker,
one after the other, each in one process of its own:

- voltfold: the worker with its session fold, running price included: RocksDB, changelog, exactly once
- light: the same worker with the fold that the others have, so the machinery alone is compared
- stock_faust, quix: that fold on a Faust table and a Quix Streams state, RocksDB and changelog, at least once
- bare_consumer: decodes each event and keeps nothing

    python benchmarks/fold.py [--events 240000] [--rounds 1] [--only voltfold,quix] [--quix-python PYTHON]

All take their turn in each round, on a new broker; what is told is each one's median round. Quix Streams is
not among Voltfold's dependencies; without `pip install quixstreams`, here or for the other interpreter, its
figure is null. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from schemas.records import Event  # noqa: E402
from schemas.topics import Topics  # noqa: E402

PREFIX, PARTITIONS, UPDATES = "bench", 12, 20
START = 1_767_600_000_000_000  # microseconds: 2026-01-05T08:00:00Z


def light(state: bytes | None, event: Event) -> bytes:
    """The fold that everybody has: how many updates, the last energy, the body."""
    count = int(state.split(b" ", 1)[0]) if state else 0
    return b"%d %r " % (count + 1, json.loads(event.body).get("kwh")) + event.body[:200]


class Meter:
    """Counts from the first event to the last."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.count = 0
        self.started = self.last = 0.0

    def add(self, number: int) -> bool:
        """Count; say whether all have been seen. The first batch only starts the clock."""
        self.last = time.perf_counter()
        if not self.started:
            self.started = time.perf_counter()
            self.total -= number
            return False
        self.count += number
        return self.count >= self.total

    def per_second(self) -> int:
        """The rate so far."""
        return round(self.count / (self.last - self.started))

    async def ended(self) -> int:
        """Wait until all have been seen, or none for five seconds: a stock agent may lose some on its way."""
        while self.count < self.total and not 0 < self.last < time.perf_counter() - 5:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return self.per_second()


async def voltfold(kafka: str, total: int, folder: Path, *, fold: Any = None) -> int:
    """The worker as it is, on the session fold or another one."""
    from streams import metrics
    from streams.worker import Folding, Worker, WorkerConfig, standard_foldings

    topics = Topics(PREFIX if fold is None else f"{PREFIX}-light", PARTITIONS)
    sessions = Topics(PREFIX, PARTITIONS).sessions
    folding = standard_foldings(topics)[0] if fold is None else Folding(sessions, topics.sessions_table, fold)
    worker = Worker(WorkerConfig(kafka, topics, folder), [folding])
    counter = metrics.RECORDS.labels(sessions.name)
    running = asyncio.create_task(worker.run())
    while not worker.health()["ready"] and not running.done():  # noqa: ASYNC110 - nothing tells us
        await asyncio.sleep(0.005)
    started = time.perf_counter()
    while (count := counter._value.get()) < total and not running.done():  # noqa: ASYNC110 - nothing tells us
        await asyncio.sleep(0.02)
    rate = round(count / (time.perf_counter() - started))
    running.cancel()
    await asyncio.wait({running})
    return rate


async def voltfold_light(kafka: str, total: int, folder: Path) -> int:
    """The worker on the fold that the others have, with one output an event."""
    from streams.folding import Fact, Folded, Get, Output

    target = Topics(f"{PREFIX}-light", PARTITIONS).session_states.name

    def fold(facts: Sequence[Fact], get: Get) -> Folded:
        changes: dict[bytes, bytes | None] = {}
        outputs = []
        for fact in facts:
            key = fact.key or b""
            state = changes[key] = light(changes.get(key) or get(key), Event.decode(fact.value or b""))
            outputs.append(Output(target, key, state))
        return Folded(changes, outputs)

    return await voltfold(kafka, total, folder, fold=fold)


async def bare_consumer(kafka: str, total: int, folder: Path) -> int:
    """A plain consumer that decodes."""
    from aiokafka import AIOKafkaConsumer

    meter = Meter(total)
    async with AIOKafkaConsumer(
        Topics(PREFIX).sessions.name, bootstrap_servers=kafka, auto_offset_reset="earliest"
    ) as consumer:
        while True:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    json.loads(Event.decode(record.value).body)
                if meter.add(len(records)):
                    return meter.per_second()


async def stock_faust(kafka: str, total: int, folder: Path) -> int:
    """Faust as its documentation has it: an agent, a table, one event at a time."""
    import logging

    import faust

    logging.getLogger("aiokafka").setLevel(logging.WARNING)  # its debug records alone cost an eighth
    app = faust.App(
        "bench-faust", broker=f"kafka://{kafka}", store="rocksdb://?driver=rocksdict", datadir=str(folder),
        topic_partitions=PARTITIONS, web_enabled=False, topic_disable_leader=True, table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
    )  # fmt: skip
    raw: Any = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    table = app.Table("states", key_type=bytes, value_type=bytes, partitions=PARTITIONS)
    meter = Meter(total)

    async def agent(stream: Any) -> None:
        async for event in stream.events():
            table[event.key] = light(table.get(event.key), Event.decode(event.value))
            meter.add(1)

    app.agent(app.topic(Topics(PREFIX).sessions.name, **raw), name="fold")(agent)
    starting = asyncio.create_task(app.start())
    rate = await meter.ended()
    starting.cancel()
    return rate


def quix(kafka: str, total: int, folder: Path) -> int:
    """Quix Streams as its documentation has it: a stateful function on a stream."""
    from quixstreams import Application  # type: ignore[import-not-found, unused-ignore]

    app = Application(
        broker_address=kafka, consumer_group="bench-quix", auto_offset_reset="earliest", state_dir=folder,
        loglevel="ERROR",
    )  # fmt: skip
    topic = app.topic(Topics(PREFIX).sessions.name, value_deserializer="bytes", key_deserializer="bytes")
    meter = Meter(total)

    def fold(value: bytes, state: Any) -> None:
        known = state.get("state")  # its states are JSON
        state.set("state", light(known and known.encode("latin-1"), Event.decode(value)).decode("latin-1"))
        if meter.add(1):
            app.stop()

    app.dataframe(topic).apply(fold, stateful=True)
    app.run()
    meter.last = time.perf_counter()  # as with Voltfold, the clock stops when everything is committed
    return meter.per_second()


CONTENDERS: dict[str, Callable[[str, int, Path], Any]] = {
    "voltfold": voltfold,
    "light": voltfold_light,
    "stock_faust": stock_faust,
    "quix": quix,
    "bare_consumer": bare_consumer,
}


def session_event(number: int, update: int) -> tuple[bytes, Event]:
    """One PUT of a session that charges: its key in Kafka, and the event."""
    minutes = f"{8 + update // 12:02d}:{update % 12 * 5:02d}"
    session = {
        "country_code": "NL",
        "party_id": "TNM",
        "id": f"S{number}",
        "start_date_time": "2026-01-05T08:00:00Z",
        "kwh": update * 0.5,
        "cdr_token": {
            "country_code": "DE",
            "party_id": "EMS",
            "uid": "TOKEN1",
            "type": "RFID",
            "contract_id": "DE-EMS-C12345678-X",
        },
        "auth_method": "WHITELIST",
        "location_id": "LOC1",
        "evse_uid": "EVSE1",
        "connector_id": "1",
        "currency": "EUR",
        "charging_periods": [
            {
                "start_date_time": "2026-01-05T08:00:00Z",
                "dimensions": [{"type": "ENERGY", "volume": update * 0.5}, {"type": "TIME", "volume": 0.1}],
                "tariff_id": "T1",
            }
        ],
        "status": "ACTIVE",
        "last_updated": f"2026-01-05T{minutes}:00Z",
    }
    key = f"NL*TNM*S{number}"
    event = Event(
        id=(number * UPDATES + update).to_bytes(16, "big"), received_at=START + update * 300_000_000,
        sender="NL*TNM", version="2.3.0", module="sessions", method="PUT", key=key,
        path=["NL", "TNM", f"S{number}"], request_id=None, correlation_id=None,
        body=json.dumps(session).encode(),
    )  # fmt: skip
    return key.encode(), event


TARIFF = {
    "country_code": "NL",
    "party_id": "TNM",
    "id": "T1",
    "currency": "EUR",
    "tax_included": "NO",
    "elements": [
        {"price_components": [{"type": "ENERGY", "price": 0.25, "vat": 21.0, "step_size": 1}]},
        {"price_components": [{"type": "TIME", "price": 1.5, "vat": 21.0, "step_size": 60}]},
    ],
    "last_updated": "2025-12-01T00:00:00Z",
}


async def load(kafka: str, events: int) -> None:
    """Create the topics and write a tariff and the events, the updates of all sessions interleaved."""
    from aiokafka import AIOKafkaProducer

    from streams.folding import Fact
    from streams.references import references_of
    from voltfold.topics import create_topics

    topics = Topics(PREFIX, PARTITIONS)
    await create_topics(kafka, [*topics.all(), *Topics(f"{PREFIX}-light", PARTITIONS).all()])
    tariff = Event(
        id=b"T" * 16, received_at=START, sender="NL*TNM", version="2.3.0", module="tariffs", method="PUT",
        key="NL*TNM*T1", path=["NL", "TNM", "T1"], request_id=None, correlation_id=None,
        body=json.dumps(TARIFF).encode(),
    )  # fmt: skip
    reference = references_of(Fact(topics.tariffs.name, 0, 0, b"", tariff.encode()))
    assert reference is not None
    sessions = events // UPDATES
    async with AIOKafkaProducer(
        bootstrap_servers=kafka, acks="all", linger_ms=5, max_batch_size=256 << 10, compression_type="lz4"
    ) as producer:
        for partition in range(PARTITIONS):
            await producer.send_and_wait(
                topics.sessions.name, reference.encode(), reference.key.encode(), partition
            )
        for update in range(UPDATES):
            for number in range(sessions):
                key, event = session_event(number, update)
                await producer.send(topics.sessions.name, event.encode(), key)
        await producer.flush()


def contend(name: str, python: str, kafka: str, total: int) -> int | None:
    """One contender in a process of its own; None when it is not installed there."""
    from voltfold.processes import die_with_parent

    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, __file__, "--contender", name, "--kafka", kafka, "--events", str(total), "--data",
             folder], capture_output=True, text=True, timeout=900, preexec_fn=die_with_parent,
        )  # fmt: skip
    if "No module named 'quixstreams'" in done.stderr:
        return None
    if done.returncode:
        sys.exit(f"{name}:\n{done.stderr[-4000:]}")
    rate: int = json.loads(done.stdout.splitlines()[-1])["per_s"]
    print(name, rate, file=sys.stderr)
    return rate


def measure(events: int, names: Sequence[str], quix_python: str) -> dict[str, int | None]:
    """A broker, the events, every contender in turn: events a second by contender."""
    from voltfold import broker
    from voltfold.ports import free_port
    from voltfold.processes import die_with_parent

    with tempfile.TemporaryDirectory() as folder:
        taken: set[int] = set()
        config = broker.BrokerConfig(Path(folder), free_port(None, taken), free_port(None, taken))
        with (Path(folder) / "output.log").open("wb") as log:
            process = subprocess.Popen(
                broker.prepare(config), stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        try:
            while not asyncio.run(broker.is_ready(config.address)):
                time.sleep(0.2)
            asyncio.run(load(config.address, events))
            total = events // UPDATES * UPDATES + PARTITIONS
            return {
                name: contend(name, quix_python if name == "quix" else sys.executable, config.address, total)
                for name in names
            }
        finally:
            process.kill()
            process.wait()


def main() -> None:
    """Measure all, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=240_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default=",".join(CONTENDERS))
    parser.add_argument("--quix-python", default=sys.executable)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--kafka", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.contender:
        names = options.only.split(",")
        rounds = [measure(options.events, names, options.quix_python) for _ in range(options.rounds)]
        rates = {f"{name}_per_s": _median(round_[name] for round_ in rounds) for name in names}
        print(json.dumps({"events": options.events, "rounds": options.rounds, **rates}))
        return
    found = CONTENDERS[options.contender](options.kafka, options.events, options.data)
    if asyncio.iscoroutine(found):
        asyncio.run(_tell(found))
    else:
        _leave(found)


def _median(rates: Iterable[int | None]) -> int | None:
    known = [rate for rate in rates if rate is not None]
    return round(statistics.median(known)) if known else None


async def _tell(rate: Any) -> None:
    _leave(await rate)


def _leave(rate: int) -> NoReturn:
    """Print and go: some contenders have threads or tasks that never end."""
    sys.stdout.write(json.dumps({"per_s": rate}) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
