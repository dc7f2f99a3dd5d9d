"""Numbered migrations: plain SQL, run in order, once each.

ClickHouse has neither transactions over DDL nor locks, so there is one rule instead: every statement may be
run again (CREATE ... IF NOT EXISTS, CREATE OR REPLACE VIEW, ADD COLUMN IF NOT EXISTS). Two processes that
migrate at once, or one that died half way, then do no harm. What was run is written down with a checksum, and
a file that changed afterwards is an error: what is on the server would not be what is in the file.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_exponential

from analytics.connection import connect

log = logging.getLogger(__name__)

# ORDER BY number: one row a migration, however many processes ran it.
LEDGER = """
CREATE TABLE IF NOT EXISTS _migrations
(
    number UInt32,
    name String,
    checksum String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY number
"""


class MigrationError(RuntimeError):
    """What is on the server is not what these files make."""


@dataclass(frozen=True)
class Migration:
    """One file `NNN_name.sql`."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Of the file's text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def statements(self) -> Iterator[str]:
        """Its statements: each ends with a semicolon at the end of a line."""
        for statement in re.split(r";[ \t]*(?:\n|\Z)", self.sql):
            if any(line.strip() and not line.lstrip().startswith("--") for line in statement.splitlines()):
                yield statement.strip()


def migrations() -> list[Migration]:
    """All there are, in order."""
    found = [
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in resources.files(__name__).iterdir()
        if (match := re.fullmatch(r"(\d{3})_(\w+)\.sql", file.name))
    ]
    return sorted(found, key=lambda migration: migration.number)


def migrate(clickhouse: str, database: str, *, patience: float = 30.0) -> list[str]:
    """Bring a database to what this version needs; return the names of the migrations that were run.

    Makes the database if there is none. Waits `patience` seconds for a server that does not answer, then
    raises clickhouse_connect's OperationalError. Raises MigrationError when a file that was run has changed,
    or the server is ahead of these files; DatabaseError when the server refuses a statement.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", database):
        raise ValueError(f"not a name for a database: {database!r}")
    waiting = Retrying(
        retry=retry_if_exception_type(OperationalError),
        stop=stop_after_delay(patience),
        wait=wait_exponential(0.1, max=2),
        reraise=True,
    )
    client = waiting(connect, clickhouse)
    try:
        client.command(f"CREATE DATABASE IF NOT EXISTS {database}")
    finally:
        client.close()
    # Two processes that replace the same view at once may get in each other's way; the next try succeeds.
    again = Retrying(
        retry=retry_if_exception_type((DatabaseError, OperationalError)),
        stop=stop_after_attempt(5),
        wait=wait_exponential(0.2, max=2),
        reraise=True,
    )
    with connect(clickhouse, database) as client:
        return again(_migrate, client)


def _migrate(client: Client) -> list[str]:
    client.command(LEDGER)
    rows = client.query("SELECT number, name, checksum FROM _migrations FINAL ORDER BY number").result_rows
    done = {number: (name, checksum) for number, name, checksum in rows}
    ours = migrations()
    if unknown := sorted(done.keys() - {migration.number for migration in ours}):
        raise MigrationError(
            f"the database has migration {unknown[-1]:03d}, which this version does not know"
        )
    applied = []
    for migration in ours:
        name = f"{migration.number:03d}_{migration.name}"
        if migration.number in done:
            if done[migration.number][1] != migration.checksum:
                raise MigrationError(f"migration {name} has changed since it was run")
            continue
        for statement in migration.statements:
            client.command(statement)
        client.insert(
            "_migrations",
            [(migration.number, migration.name, migration.checksum)],
            column_names=["number", "name", "checksum"],
        )
        log.info("ran migration %s", name)
        applied.append(name)
    return applied
