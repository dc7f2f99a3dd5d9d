"""`voltfold replay --check`: fold the log again, of the family that runs or on a broker of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from schemas.topics import Topics
from streams import replay
from voltfold.family import Family, last_used, servers_of
from voltfold.settings import Settings
from voltfold.up import jar_progress

_SHOWN = 20
console = Console(stderr=True)


async def check(settings: Settings, data: Path | None, *, as_json: bool) -> int:
    """Run the check and tell the outcome; the number of differences.

    The log is that of `data`, else of VOLTFOLD_KAFKA, else of the family that was used last; when that family
    does not run, its broker is started for as long as the check takes. Raises RuntimeError when there is no
    log.
    """
    try:
        report = await _check(servers_of(settings, data))
    except LookupError:
        folder = (data or settings.data or last_used() or settings.folder).absolute()
        if not (folder / "kafka").is_dir():
            raise RuntimeError(f"there is no log in {folder}: name the data folder with --data") from None
        with jar_progress() as progress:
            async with Family(settings.but(data=folder), only={"broker"}, progress=progress) as family:
                report = await _check(settings.but(kafka=family.kafka, data=folder))
    _tell(report, as_json=as_json)
    return len(report.differences)


async def _check(settings: Settings) -> replay.Report:
    topics = Topics(settings.topic_prefix, settings.partitions)
    with _bar() as progress:
        return await replay.check(str(settings.kafka), topics, f"{settings.topic_prefix}-worker", progress)


@contextmanager
def _bar() -> Iterator[replay.Progress]:
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tell(report: replay.Report, *, as_json: bool) -> None:
    for one in report.differences[:_SHOWN]:
        console.print(f"{one.what}: {one.topic} {one.key}", highlight=False, markup=False)
    if len(report.differences) > _SHOWN:
        console.print(f"and {len(report.differences) - _SHOWN} more")
    if as_json:
        line = {
            "events": report.events,
            "records": report.records,
            "differences": len(report.differences),
            "behind": report.behind,
            "seconds": round(report.seconds, 3),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        return
    if report.differences and report.behind:
        console.print(
            f"The workers have {report.behind} records before them: let them catch up, and ask again."
        )
    rate = report.events / report.seconds if report.seconds else 0
    verdict = f"{len(report.differences)} differences" if report.differences else "no difference"
    Console().print(
        f"{report.events:,} events folded again, {report.records:,} records compared in "
        f"{report.seconds:.1f} s ({rate:,.0f} events/s): {verdict}",
        highlight=False,
    )
