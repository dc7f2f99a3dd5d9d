"""The broker's jars: what enters the cache is what the lock names, whoever serves it and however many ask."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jgo.constants
import pytest

from voltfold import jars


@pytest.fixture(scope="module")
def fetched() -> dict[str, Path]:
    """The jars as this machine has them, by file name (`make install` fetched them)."""
    return {path.name: path for path in jars.ensure()}


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock that names three of the jars."""
    path = tmp_path / "broker.lock"
    named = jars.locked()[:3]
    path.write_text("".join(f"{j.group}:{j.artifact}:{j.version} sha256:{j.sha256}\n" for j in named))
    return path


@pytest.fixture
def repository(
    fetched: dict[str, Path], lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A Maven repository over HTTP with those three jars, and an empty cache."""
    root = tmp_path / "repository"
    for jar in jars.locked(lock):
        folder = root / jar.group.replace(".", "/") / jar.artifact / jar.version
        folder.mkdir(parents=True)
        shutil.copy(fetched[jar.filename], folder)
    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(jgo.constants, "MAVEN_CENTRAL_URL", url)
        monkeypatch.setenv("VOLTFOLD_CACHE", str(tmp_path / "cache"))
        Quiet.asked.clear()
        yield root
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server that remembers which jars it was asked for."""

    asked: list[str] = []  # noqa: RUF012 - shared by all requests

    def log_message(self, *_: object) -> None:
        """Not on the test's output."""

    def do_GET(self) -> None:
        """Serve a file."""
        if self.path.endswith(".jar"):
            self.asked.append(self.path)
        super().do_GET()


def test_the_lock_names_what_is_in_the_cache(fetched: dict[str, Path]) -> None:
    """Every jar of the lock is there, with the checksum it names."""
    assert len(fetched) == len(jars.locked()) > 40
    assert all(jars._sound(fetched[jar.filename], jar.sha256) for jar in jars.locked())


def test_many_ask_and_one_fetches(repository: Path, lock: Path) -> None:
    """Callers at the same time get the same jars, each downloaded once; progress is told."""
    told: list[tuple[int, int]] = []
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(jars.ensure, lambda done, total, _: told.append((done, total)), lock)
            for _ in range(4)
        ]
        answers = [future.result() for future in asked]
    assert all(answer == answers[0] and all(path.exists() for path in answer) for answer in answers)
    assert len(Quiet.asked) == 3
    assert (0, 3) in told
    assert (3, 3) in told


def test_another_file_of_that_name_is_refused(repository: Path, lock: Path) -> None:
    """A jar with the wrong bytes never enters the cache; once the right one is served, it does."""
    served = next(repository.rglob("*.jar"))
    right = served.read_bytes()
    served.write_bytes(right[:-1] + b"!")
    with pytest.raises(jars.JarError, match=served.name):
        jars.ensure(lock=lock)
    assert not (jars.cache_folder(lock) / served.name).exists()
    served.write_bytes(right)
    assert served.name in {path.name for path in jars.ensure(lock=lock)}


def test_a_damaged_cache_mends_itself(repository: Path, lock: Path) -> None:
    """A file that is missing is fetched again, and no other."""
    paths = jars.ensure(lock=lock)
    Quiet.asked.clear()
    paths[1].unlink()
    assert jars.ensure(lock=lock) == paths
    assert [path.rsplit("/", 1)[1] for path in Quiet.asked] == [paths[1].name]
