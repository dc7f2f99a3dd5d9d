"""The garage's own records: what a CSV says of each session, every row checked before anything is sent."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from importlib import resources
from pathlib import Path

COLUMNS = (
    "session",
    "connected_at",
    "disconnected_at",
    "charging_started_at",
    "charging_ended_at",
    "power_kw",
    "energy_kwh",
    "station",
    "user",
)
SHOWN = 20
_OWN = "four_busy_weeks.csv.gz"


@dataclass(frozen=True)
class Visit:
    """One vehicle's stay: plugged in, charging, idle, gone. Energy in kWh, power in kW; times in UTC."""

    session: str
    connected_at: datetime
    disconnected_at: datetime
    charging_started_at: datetime
    charging_ended_at: datetime
    power_kw: Decimal
    energy_kwh: Decimal
    station: str
    user: str


class BadRowsError(ValueError):
    """What is wrong with a file, a line each: `FILE:LINE: COLUMN: what`."""

    def __init__(self, problems: list[str]) -> None:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        super().__init__("\n".join(problems[:SHOWN] + more))
        self.problems = problems


def read_visits(path: Path | None = None) -> list[Visit]:
    """The visits of a CSV, plain or gzipped, by when they begin; None: four busy weeks, which come along.

    Raises BadRowsError when any row is bad, with all that is wrong: a file is taken whole or not at all.
    """
    name = path.name if path is not None else _OWN
    try:
        data = (
            path.read_bytes()
            if path is not None
            else (resources.files(__package__) / "data" / _OWN).read_bytes()
        )
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRowsError([f"{name}: is no UTF-8 text"]) from None
    except (OSError, EOFError) as error:
        raise BadRowsError([f"{name}: {error}"]) from None
    problems: list[str] = []
    visits = list(_rows(name, text, problems))
    if not problems and not visits:
        problems.append(f"{name}: there is no session in it")
    if problems:
        raise BadRowsError(problems)
    return sorted(visits, key=lambda one: (one.connected_at, one.session))


def _rows(name: str, text: str, problems: list[str]) -> Iterator[Visit]:
    reader = csv.DictReader(io.StringIO(text))
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        problems.append(
            f"{name}:1: {', '.join(missing)}: missing; the first line must name {', '.join(COLUMNS)}"
        )
        return
    seen: dict[str, int] = {}
    try:
        for row in reader:
            where = f"{name}:{reader.line_num}"
            found = _visit(where, row, problems)
            if found is None:
                continue
            identity = found.session.upper()  # OCPI's identifiers ignore case
            if identity in seen:
                problems.append(f"{where}: session: {found.session} is on line {seen[identity]} already")
                continue
            seen[identity] = reader.line_num
            yield found
    except csv.Error as error:
        problems.append(f"{name}:{reader.line_num}: {error}")


def _visit(where: str, row: dict[str, str | None], problems: list[str]) -> Visit | None:
    before = len(problems)
    texts = {column: (row.get(column) or "").strip() for column in COLUMNS}

    def wrong(column: str, what: str) -> None:
        problems.append(f"{where}: {column}: {what}")

    def clock(column: str) -> datetime:
        try:
            found = datetime.fromisoformat(texts[column])
        except ValueError:
            wrong(column, f"{texts[column]!r} is no time like 2019-05-13T08:30:00Z")
            return datetime.min.replace(tzinfo=UTC)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)

    def number(column: str) -> Decimal:
        try:
            found = Decimal(texts[column])
        except InvalidOperation:
            found = Decimal("NaN")
        if not found.is_finite() or not 0 <= found < 100_000:
            wrong(column, f"{texts[column]!r} is no number from 0 to 100000")
            return Decimal(0)
        return found

    for column in ("session", "station", "user"):
        text = texts[column]
        if not text or len(text) > 30 or not (text.isascii() and text.isprintable()):
            wrong(column, f"{text!r} must be 1 to 30 printable ASCII characters")
    connected, gone = clock("connected_at"), clock("disconnected_at")
    began, ended = clock("charging_started_at"), clock("charging_ended_at")
    power, energy = number("power_kw"), number("energy_kwh")
    if len(problems) > before:
        return None
    if gone <= connected:
        wrong("disconnected_at", "is not after connected_at")
    elif (gone - connected).days > 60:
        wrong("disconnected_at", "is more than 60 days after connected_at")
    if began < connected:
        wrong("charging_started_at", "is before connected_at")
    if ended < began:
        wrong("charging_ended_at", "is before charging_started_at")
    if ended > gone:
        wrong("charging_ended_at", "is after disconnected_at")
    if energy and ended == began:
        wrong("energy_kwh", "is not zero, and the vehicle never charged")
    if len(problems) > before:
        return None
    return Visit(
        texts["session"], connected, gone, began, ended, power, energy, texts["station"], texts["user"]
    )
