"""The broker's jars: which ones, with their checksums, and how they come to this machine.

`broker.lock` names every jar by Maven coordinates and SHA-256. jgo downloads what is missing; a jar enters
the cache only when its checksum is right, so what is in the cache is what the lock says. Nothing is resolved
at run time: `python -m voltfold.jars` solves the coordinates again, and is run only to change the version.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock
from tenacity import retry, stop_after_attempt, wait_exponential

LOCK = Path(__file__).with_name("broker.lock")
KAFKA_VERSION = "4.1.0"
ENDPOINTS = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.slf4j:slf4j-simple:1.7.36")
"""What the lock was solved from: the broker, and a logger that writes to standard error."""

Progress = Callable[[int, int, str], None]
"""Called with (jars at hand, jars in all, name of the latest)."""


class JarError(RuntimeError):
    """A jar could not be fetched, or is not the one the lock names."""


@dataclass(frozen=True)
class Jar:
    """One locked jar: Maven coordinates and the SHA-256 of its bytes, in hexadecimal."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        """Its name in Maven's repositories and in our cache."""
        return f"{self.artifact}-{self.version}.jar"


def locked(path: Path = LOCK) -> list[Jar]:
    """Read the lock: one `group:artifact:version sha256:hex` a line, `#` for comments."""
    jars = []
    for line in path.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            coordinates, _, digest = line.partition(" sha256:")
            group, artifact, version = coordinates.split(":")
            jars.append(Jar(group, artifact, version, digest.strip()))
    return jars


def cache_folder(path: Path = LOCK) -> Path:
    """Where the jars of this very lock are kept, in the user's cache folder (VOLTFOLD_CACHE moves it)."""
    root = os.environ.get("VOLTFOLD_CACHE")
    base = Path(root) if root else platformdirs.user_cache_path("voltfold")
    return base / f"kafka-{KAFKA_VERSION}-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def ensure(progress: Progress | None = None, lock: Path = LOCK) -> list[Path]:
    """Return the class path of the broker that `lock` names, downloading what is missing.

    Callers at the same time, in any process, wait for the one who downloads. Raises JarError when a jar
    cannot be had, or has the wrong checksum; then the cache keeps what was right.
    """
    jars, folder = locked(lock), cache_folder(lock)
    paths = [folder / jar.filename for jar in jars]
    complete = folder / "complete"
    if complete.exists() and all(path.exists() for path in paths):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        missing = [jar for jar in jars if not _sound(folder / jar.filename, jar.sha256)]
        if progress:
            progress(len(jars) - len(missing), len(jars), "")
        if missing:
            with tempfile.TemporaryDirectory(dir=folder) as scratch, ThreadPoolExecutor(8) as pool:
                fetching = {pool.submit(_fetch, jar, Path(scratch), folder): jar for jar in missing}
                for done, future in enumerate(as_completed(fetching), len(jars) - len(missing) + 1):
                    future.result()
                    if progress:
                        progress(done, len(jars), fetching[future].filename)
        complete.touch()
    return paths


@retry(stop=stop_after_attempt(3), wait=wait_exponential(max=5), reraise=True)
def _fetch(jar: Jar, scratch: Path, folder: Path) -> None:
    """Download one jar beside the cache, check it, and move it in."""
    # A folder of this attempt alone, since jgo takes half a file for a whole one.
    beside = Path(tempfile.mkdtemp(dir=scratch))
    try:
        found = _context(beside).project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    except Exception as error:  # whatever the resolver or the network raises
        raise JarError(f"could not download {jar.filename}: {error}") from error
    if not _sound(found, jar.sha256):
        raise JarError(f"{jar.filename} is not the file that the lock names: its SHA-256 differs")
    found.replace(folder / jar.filename)


def _context(repo_cache: Path | None = None) -> MavenContext:  # type: ignore[name-defined]  # noqa: F821
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    remotes = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return MavenContext(repo_cache=repo_cache, local_repos=[], remote_repos=remotes, timeout=60)


def _sound(path: Path, sha256: str) -> bool:
    """Whether the file is there, and is the right one."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _solve() -> Iterator[str]:
    """Solve ENDPOINTS through Maven's metadata and yield the lock's lines."""
    import jgo

    yield f"# Kafka {KAFKA_VERSION}: `python -m voltfold.jars` solved this from {' and '.join(ENDPOINTS)}."
    context, lines = _context(), set()
    for endpoint in ENDPOINTS:
        for artifact in jgo.resolve(endpoint):
            found = (
                context.project(artifact.groupId, artifact.artifactId)
                .at_version(artifact.version)
                .artifact()
                .resolve()
            )
            digest = hashlib.sha256(found.read_bytes()).hexdigest()
            lines.add(f"{artifact.groupId}:{artifact.artifactId}:{artifact.version} sha256:{digest}")
    yield from sorted(lines)


if __name__ == "__main__":
    LOCK.write_text("\n".join(_solve()) + "\n", "utf-8")
    sys.stderr.write(f"{LOCK.name}: {len(locked())} jars\n")
