"""The house keeps to its floors: imports only go down, and the pure folds know no clock and no server.

Imports are read from the source, wherever they stand: at the top, in a function, or for types alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FLOORS = ("schemas", "streams", "analytics", "api", "voltfold")

MAY_IMPORT = {
    "schemas": (),
    "streams": ("schemas",),
    "analytics": ("schemas",),
    "api": (
        "schemas",
        *(
            "streams.authorization",
            "streams.concerns",
            "streams.deliveries",
            "streams.objects",
            "streams.folding",
            "streams.ledger",
            "streams.payments",
            "streams.pulls",
            "streams.references",
            "streams.requests",
            "streams.sessions",
            "streams.terminals",
        ),
        *("streams.pricing", "streams.versions", "streams.index", "streams.table"),
        *("streams.clock", "streams.limits", "streams.overdue", "streams.waiting"),
        "analytics.queries",
    ),
    "voltfold": FLOORS,
}
"""What of ours each floor may import besides itself, with all that lies below such a name."""

PURE = (
    *("authorization", "banking", "charges", "clock", "concerns", "deliveries", "folding", "index"),
    *("invoicing", "ledger", "limits", "objects", "overdue", "payments", "pricing", "pulls", "quarantine"),
    *("references", "requests", "sessions", "settlement", "table", "terminals", "versions", "waiting"),
)
"""Modules and packages of `streams` that compute, and do nothing else."""

IMPURE = frozenset(
    {
        *(
            "faust",
            "mode",
            "aiokafka",
            "rocksdict",
            "chdb",
            "clickhouse_connect",
            "aiohttp",
            "prometheus_client",
        ),
        *("asyncio", "threading", "subprocess", "socket", "ssl", "urllib", "os", "logging"),
        *("time", "random", "secrets", "uuid"),
        *("pydantic_settings", "voltfold"),
    }
)
"""What a pure module never imports."""

CLOCKS = frozenset({"now", "utcnow", "today"})
"""Methods of `datetime` and `date` that look at the clock."""


@dataclass(frozen=True)
class Import:
    """One imported name, as `package.module.name`, and where it stands."""

    name: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"


def _imports(source: str, file: str = "x.py", package: str = "") -> Iterator[Import]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, file, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", file, node.lineno)


def _files(*places: str) -> list[Path]:
    found: list[Path] = []
    for place in places:
        path = ROOT / place
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return found


def _imports_of(*places: str) -> list[Import]:
    found: list[Import] = []
    for path in _files(*places):
        relative = path.relative_to(ROOT)
        found += _imports(path.read_text("utf-8"), str(relative), ".".join(relative.parent.parts))
    return found


def _is_or_lies_in(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def _pure_places() -> list[str]:
    places = [f"streams/{name}" for name in PURE]
    return [place for place in places if (ROOT / place).is_dir() or (ROOT / f"{place}.py").is_file()]


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_go_down(floor: str) -> None:
    """No floor imports what stands above it, or beside it."""
    found = _imports_of(floor)
    assert found
    ours = [each for each in found if each.name.split(".")[0] in {*FLOORS, "tests", "benchmarks"}]
    allowed = (floor, *MAY_IMPORT[floor])
    assert not [str(each) for each in ours if not _is_or_lies_in(each.name, allowed)]


def test_only_the_top_floor_reads_settings() -> None:
    """Environment and settings belong to `voltfold/`; the others are handed plain values."""
    for path in _files(*FLOORS[:-1]):
        tree = ast.parse(path.read_text("utf-8"))
        read = [
            f"{path.relative_to(ROOT)}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
        ]
        assert not read
    assert not [str(each) for each in _imports_of(*FLOORS[:-1]) if "settings" in each.name.split(".")[0]]


@pytest.mark.parametrize("place", _pure_places())
def test_pure_folds_know_no_clock_and_no_server(place: str) -> None:
    """Neither by what they import, nor by asking `datetime` for the time."""
    found = _imports_of(place)
    assert not [str(each) for each in found if each.name.split(".")[0] in IMPURE]
    for path in _files(place):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in CLOCKS, f"{path.relative_to(ROOT)}:{node.lineno}"


@pytest.mark.parametrize("place", _pure_places())
def test_pure_folds_lean_on_pure_folds(place: str) -> None:
    """What a pure module imports from `streams` is pure itself."""
    pure = tuple(f"streams.{name}" for name in PURE)
    for each in _imports_of(place):
        if each.name.startswith("streams."):
            assert _is_or_lies_in(each.name, pure), str(each)


def test_every_fold_is_held_to_purity() -> None:
    """What the worker and replay import as a fold lies in a pure module."""
    folds = {
        each.name.split(".")[1]
        for each in _imports_of("streams/worker.py", "streams/replay.py")
        if each.name.startswith("streams.") and each.name.endswith(("Fold", "references_of"))
    }
    assert {"sessions", "ledger", "references"} <= folds <= set(PURE)


def test_the_house_has_five_floors() -> None:
    """A package at the top level is one of the floors."""
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"tests", "benchmarks"} == set(FLOORS)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import a.b, c", ["a.b", "c"]),
        ("from a import b", ["a.b"]),
        ("def f():\n    from a.b import c", ["a.b.c"]),
        ("from . import b", ["p.q.b"]),
        ("from ..x import b", ["p.x.b"]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a", ["typing.TYPE_CHECKING", "a"]),
    ],
)
def test_imports_are_found(source: str, names: list[str]) -> None:
    """Wherever they stand, and relative ones too."""
    assert [each.name for each in _imports(source, package="p.q")] == names
