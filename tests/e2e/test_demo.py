"""`voltfold demo` as its users have it, undisturbed and under fire: the figures are the CSV's, to the Wh.

The CSV is a sample of the packaged weeks, so that the sums expected here are computed from the rows alone.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

import psutil
import pytest

from voltfold.processes import die_with_parent

ROOT = Path(__file__).parent.parent.parent
Json = dict[str, Any]


def rows() -> list[dict[str, str]]:
    packed = resources.files("voltfold.demo").joinpath("data", "four_busy_weeks.csv.gz").read_bytes()
    return list(csv.DictReader(gzip.decompress(packed).decode().splitlines()))


def write(path: Path, some: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(some[0]))
        writer.writeheader()
        writer.writerows(some)
    return path


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VOLTFOLD_")}
    return subprocess.Popen(
        [sys.executable, "-m", "voltfold", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,
    )


def ends(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=500)
    assert process.returncode == code, (out[-2000:], err[-4000:])
    return out, err


def pid_of(folder: Path, name: str) -> int | None:
    """Who runs now, as run.json says; None when there is nobody."""
    try:
        found: int | None = json.loads((folder / "run.json").read_text())["pids"].get(name)
    except FileNotFoundError:
        return None
    return found


def assert_right(found: Json, some: list[dict[str, str]]) -> None:
    kwh = sum((Decimal(row["energy_kwh"]) for row in some), Decimal(0))
    assert found["sessions"] == found["cdrs"] == found["settlement_entries"] == len(some)
    assert abs(Decimal(str(found["kwh"])) - kwh) < Decimal("0.001")
    assert abs(Decimal(str(found["billed_kwh"])) - kwh) < Decimal("0.001")
    assert set(found["postings_balance"]) == {"USD"}
    assert found["postings_balance"]["USD"] == 0
    assert found["wrong_bills_found"] == found["wrong_bills_seeded"] >= 3
    assert found["right_bills_accused"] == found["unpriced_bills"] == found["quarantined"] == 0
    assert found["problems"] == []


def assert_replays(folder: Path) -> None:
    out, _ = ends(start(folder, "replay", "--check", "--json", "--data", "demo"))
    said = json.loads(out.splitlines()[-1])
    assert said["differences"] == 0
    assert said["records"] > 0


@pytest.mark.timeout(600)
def test_every_process_dies_and_every_figure_stands(tmp_path: Path) -> None:
    some = random.Random(1).sample(rows(), 700)
    sample = write(tmp_path / "sessions.csv", some)
    demo = start(tmp_path, "demo", "--json", "--data", "demo", "--sessions", str(sample))
    assert demo.stderr is not None
    for line in demo.stderr:
        if "requests ..." in line:
            break
    seen: dict[str, int] = {}
    for name in ("worker-0", "api", "sink", "worker-0", "analytics", "api"):
        time.sleep(0.3)
        while demo.poll() is None and (pid := pid_of(tmp_path / "demo", name)) in (None, seen.get(name)):
            time.sleep(0.05)  # it is not back yet
        if demo.poll() is None and pid is not None:
            seen[name] = pid
            os.kill(pid, signal.SIGKILL)
    assert {"worker-0", "api", "sink"} <= seen.keys()
    out, _ = ends(demo)
    assert_right(json.loads(out.splitlines()[-1]), some)
    assert not [pid for pid in seen.values() if psutil.pid_exists(pid)]
    assert_replays(tmp_path)


@pytest.mark.timeout(600)
def test_the_demo_of_a_day_ends_with_a_picture(tmp_path: Path) -> None:
    some = [row for row in rows() if row["connected_at"].startswith("2019-05-15")]
    sample = write(tmp_path / "sessions.csv", some)
    picture = tmp_path / "demo.svg"
    out, err = ends(
        start(tmp_path, "demo", "--data", "demo", "--sessions", str(sample), "--picture", str(picture))
    )
    for words in ("wrong bills found", "Who owes whom", "Bills that are wrong", "Look further", "Mon", "Sun"):
        assert words in out
    assert f"{len(some)} sessions of" in err
    assert picture.read_text().startswith("<svg")
    assert_replays(tmp_path)


def test_a_csv_with_bad_rows_starts_nothing(tmp_path: Path) -> None:
    some = rows()[:5]
    some[1]["energy_kwh"] = "much"
    some[3]["disconnected_at"] = some[3]["connected_at"][:-1]
    sample = write(tmp_path / "sessions.csv", some)
    out, err = ends(start(tmp_path, "demo", "--data", "demo", "--sessions", str(sample)), code=2)
    assert not out
    assert "sessions.csv:3: energy_kwh: 'much'" in err
    assert "sessions.csv:5: disconnected_at" in err
    assert not (tmp_path / "demo").exists()
