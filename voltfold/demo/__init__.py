"""`voltfold demo`: four busy weeks of a real garage, from OCPI push to settled bill."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import typer


def main(*, sessions: Path | None, data: Path | None, as_json: bool, picture: Path | None = None) -> None:
    """Run the demo; exit with 1 when a figure is not as it must be, with 2 when it cannot begin."""
    from voltfold.cli import load
    from voltfold.demo.garage import BadRowsError, read_visits
    from voltfold.demo.run import FolderError, demo
    from voltfold.demo.traffic import RefusedError
    from voltfold.family import FolderHeldError
    from voltfold.jars import JarError
    from voltfold.processes import ChildFailedError

    settings = load(data=data or Path(".voltfold/demo"))
    try:
        visits = read_visits(sessions)
        right = asyncio.run(demo(settings, visits, as_json=as_json, picture=picture))
    except BadRowsError as error:
        typer.echo(f"voltfold: nothing was sent, since this is wrong:\n{error}", err=True)
        sys.exit(2)
    except (FolderError, FolderHeldError, ChildFailedError, JarError, RefusedError) as error:
        typer.echo(f"voltfold: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    if not right:
        sys.exit(1)
