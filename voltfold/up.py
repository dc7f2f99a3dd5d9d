"""`voltfold up`: the family in the foreground, until a signal."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from voltfold.family import Family, FolderHeldError, PortTakenError, remember
from voltfold.jars import JarError
from voltfold.jars import Progress as JarProgress
from voltfold.processes import ChildFailedError
from voltfold.settings import Settings

console = Console(stderr=True)


def run(settings: Settings, *, as_json: bool) -> None:
    """Start the family, say where it is, and keep it until SIGINT or SIGTERM; exit with 1 if it cannot."""
    try:
        asyncio.run(_run(settings, as_json=as_json))
    except (FolderHeldError, PortTakenError, ChildFailedError, JarError) as error:
        console.print(f"voltfold: {error}", style="red", markup=False, highlight=False)
        sys.exit(1)


async def _run(settings: Settings, *, as_json: bool) -> None:
    stopping = asyncio.Event()
    main = asyncio.current_task()
    assert main is not None

    def stop() -> None:
        if stopping.is_set() or not family_is_up.is_set():
            main.cancel()  # a signal while it is starting, or a second one
        stopping.set()

    family_is_up = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop)
    try:
        with jar_progress() as progress:
            async with Family(settings, progress=progress, report=_say) as family:
                family_is_up.set()
                remember(family.folder)
                if as_json:
                    sys.stdout.write(json.dumps(family.describe()) + "\n")
                    sys.stdout.flush()
                else:
                    _tell(family)
                await stopping.wait()
                _say("stopping")
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise


def _say(what: str) -> None:
    console.print(f"[dim]{what} ...[/dim]")


@contextmanager
def jar_progress() -> Iterator[JarProgress]:
    """A progress bar on standard error for Kafka's jars, shown only if some must be fetched."""
    columns = (TextColumn("fetching Kafka"), BarColumn(), TextColumn("{task.completed}/{task.total} jars"))
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
    task: TaskID | None = None

    def progress(done: int, total: int, name: str) -> None:
        nonlocal task
        if task is None and done < total:
            bar.start()
            task = bar.add_task("", total=total)
            if not console.is_terminal:
                console.print(f"fetching {total - done} jars of Kafka")
        if task is not None:
            bar.update(task, completed=done)
            if done == total:
                bar.stop()

    try:
        yield progress
    finally:
        bar.stop()


def _tell(family: Family) -> None:
    """A table of what runs where, and what to do next."""
    pids = family.pids
    table = Table(title="Voltfold is up", title_justify="left", box=None, pad_edge=False)
    table.add_column("what", style="bold")
    table.add_column("where", style="cyan")
    table.add_column("pid", justify="right")
    table.add_row("API", f"{family.api}/ocpi/versions", str(pids.get("api", "")))
    table.add_row("Kafka", family.kafka, str(pids.get("broker", "not ours")))
    table.add_row("ClickHouse", family.clickhouse, str(pids.get("analytics", "not ours")))
    for name, pid in pids.items():
        if name not in ("api", "broker", "analytics"):
            table.add_row(name, str(family.folder / "logs" / f"{name}.log"), str(pid))
    console.print(table)
    console.print(
        f"\nA partner:   voltfold partner add --country NL --party TNM --role CPO --data {family.folder}\n"
        f"A query:     curl '{family.clickhouse}/?database={family.settings.clickhouse_database}' "
        "-d 'SHOW TABLES'\n"
        "Stop:        Ctrl-C\n",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
