"""The garage's CSV: taken whole, or refused with what is wrong, where."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from voltfold.demo.garage import COLUMNS, BadRowsError, read_visits

HEAD = ",".join(COLUMNS)
GOOD = {
    "session": "S1",
    "connected_at": "2019-05-13T14:00:00Z",
    "disconnected_at": "2019-05-13T20:00:00Z",
    "charging_started_at": "2019-05-13T14:05:00Z",
    "charging_ended_at": "2019-05-13T18:00:00Z",
    "power_kw": "3.2",
    "energy_kwh": "12.5",
    "station": "1-1",
    "user": "U1",
}


def row(**changes: str) -> str:
    return ",".join({**GOOD, **changes}[column] for column in COLUMNS)


def write(folder: Path, *lines: str) -> Path:
    path = folder / "sessions.csv"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_the_packaged_weeks_are_whole() -> None:
    visits = read_visits()
    assert len(visits) == 1537
    assert sum(visit.energy_kwh for visit in visits) == Decimal("23364.26")
    assert {visit.connected_at.isocalendar()[:2] for visit in visits} == {
        (2019, week) for week in (18, 20, 30, 44)
    }
    assert visits == sorted(visits, key=lambda one: (one.connected_at, one.session))


def test_a_row_is_read_exactly(tmp_path: Path) -> None:
    (visit,) = read_visits(write(tmp_path, HEAD, row(connected_at="2019-05-13T07:00:00-07:00")))
    assert visit.connected_at == datetime(2019, 5, 13, 14, tzinfo=UTC)
    assert visit.energy_kwh == Decimal("12.5")
    assert (visit.session, visit.station, visit.user) == ("S1", "1-1", "U1")


def test_gzip_and_other_columns_in_another_order(tmp_path: Path) -> None:
    plain = write(tmp_path, f"extra,{HEAD}", f"x,{row()}")
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_visits(packed) == read_visits(plain)


@pytest.mark.parametrize(
    ("changes", "column", "what"),
    [
        ({"connected_at": "yesterday"}, "connected_at", "'yesterday' is no time"),
        ({"disconnected_at": ""}, "disconnected_at", "'' is no time"),
        ({"disconnected_at": "2019-05-13T13:00:00Z"}, "disconnected_at", "is not after connected_at"),
        ({"disconnected_at": "2020-05-13T13:00:00Z"}, "disconnected_at", "60 days"),
        ({"charging_started_at": "2019-05-13T13:59:59Z"}, "charging_started_at", "is before connected_at"),
        ({"charging_ended_at": "2019-05-13T14:04:59Z"}, "charging_ended_at", "before charging_started_at"),
        ({"charging_ended_at": "2019-05-13T20:00:01Z"}, "charging_ended_at", "after disconnected_at"),
        ({"charging_ended_at": "2019-05-13T14:05:00Z"}, "energy_kwh", "never charged"),
        ({"energy_kwh": "-1"}, "energy_kwh", "'-1' is no number from 0"),
        ({"energy_kwh": "NaN"}, "energy_kwh", "'NaN' is no number"),
        ({"power_kw": "fast"}, "power_kw", "'fast' is no number"),
        ({"session": ""}, "session", "1 to 30"),
        ({"station": "x" * 31}, "station", "1 to 30"),
        ({"user": "Zoë"}, "user", "ASCII"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, changes: dict[str, str], column: str, what: str) -> None:
    path = write(tmp_path, HEAD, row(session="S0"), row(**changes))
    with pytest.raises(BadRowsError) as caught:
        read_visits(path)
    problem = caught.value.problems[0]
    assert problem.startswith(f"sessions.csv:3: {column}: ")
    assert what in problem


def test_a_session_comes_once_whatever_its_case(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD, row(session="abc"), row(session="ABC"))
    with pytest.raises(BadRowsError, match=r"sessions.csv:3: session: ABC is on line 2 already"):
        read_visits(path)


def test_a_short_row_and_a_missing_column(tmp_path: Path) -> None:
    with pytest.raises(BadRowsError, match=r"sessions.csv:2: station: "):
        read_visits(write(tmp_path, HEAD, ",".join(row().split(",")[:6])))
    with pytest.raises(BadRowsError, match=r"sessions.csv:1: user: missing"):
        read_visits(write(tmp_path, HEAD.removesuffix(",user"), row()))


def test_nothing_to_read(tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.touch()
    with pytest.raises(BadRowsError, match=r"empty.csv:1: .*missing"):
        read_visits(empty)
    with pytest.raises(BadRowsError, match="there is no session in it"):
        read_visits(write(tmp_path, HEAD))
    empty.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadRowsError, match="no UTF-8"):
        read_visits(empty)


@pytest.mark.parametrize("cut", [12, -20])
def test_a_broken_gzip(tmp_path: Path, cut: int) -> None:
    broken = tmp_path / "broken.csv.gz"
    packed = gzip.compress((HEAD + "\n" + row()).encode())
    broken.write_bytes(packed[:cut])
    with pytest.raises(BadRowsError, match=r"broken.csv.gz: "):
        read_visits(broken)


def test_many_problems_are_cut_short(tmp_path: Path) -> None:
    rows = [row(session=f"S{number}", energy_kwh="-1") for number in range(30)]
    with pytest.raises(BadRowsError) as caught:
        read_visits(write(tmp_path, HEAD, *rows))
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 10 more"
