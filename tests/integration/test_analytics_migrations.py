"""Migrations on the real engine: twice, at once, half done, changed, and before there is a server."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import OperationalError

from analytics import migrations
from analytics.connection import connect
from analytics.container import layouts
from analytics.migrations import Migration, MigrationError, migrate
from schemas.records import BillRecord, DeliveryRecord, EntryRecord, QuarantineRecord, SessionRecord
from schemas.settlement import (
    PolicyRecord,
    ReceiptRecord,
    ReconciliationRecord,
    SettledRecord,
    StatementRecord,
)
from tests.conftest import StartEngine

EXPECTED = {
    *("sessions", "charging_periods", "cdrs", "priced_cdrs", "priced_totals"),
    *("settlement_entries", "settlement_postings", "quarantine", "sink_errors", "evse_utilisation_hourly"),
    *("accounts", "claims", "statements", "statement_taxes", "receipts", "policies"),
    *("reconciliations", "reconciliation_differences"),
    "deliveries",
}


def test_run_once(engine: str, database: str, clickhouse: Client) -> None:
    """Everything is made, and the second run has nothing to do."""
    done = migrate(engine, database)
    assert done == sorted(done)
    assert len(done) == len(migrations.migrations()) > 0
    assert migrate(engine, database) == []
    tables = {name for (name,) in clickhouse.query("SHOW TABLES").result_rows}
    assert tables >= EXPECTED
    assert clickhouse.command("SELECT count() FROM _migrations") == len(done)


def test_the_database_is_made(engine: str) -> None:
    """When there is none; a name that could be anything else than a name is refused."""
    with connect(engine) as client:
        client.command("DROP DATABASE IF EXISTS made_here")
        assert migrate(engine, "made_here")
        assert client.command("SELECT count() FROM made_here.sessions") == 0
        client.command("DROP DATABASE made_here")
    with pytest.raises(ValueError, match="database"):
        migrate(engine, "a; DROP DATABASE b")


def test_by_several_processes_at_once(engine: str, database: str, clickhouse: Client) -> None:
    """Four start on an empty database; all succeed, and each migration is written down."""
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = list(pool.map(migrate, [engine] * 4, [database] * 4))
    names = [f"{m.number:03d}_{m.name}" for m in migrations.migrations()]
    assert sorted({name for run in done for name in run}) == names
    assert clickhouse.command("SELECT count() FROM _migrations FINAL") == len(names)
    assert migrate(engine, database) == []


def test_half_done(engine: str, database: str, clickhouse: Client) -> None:
    """A process that died after some statements: the next one goes on, and rows stay."""
    migrate(engine, database)
    clickhouse.insert("session_versions", [("k", 1)], column_names=["key", "version"])
    clickhouse.command("DROP VIEW evse_utilisation_hourly")
    clickhouse.command("TRUNCATE TABLE _migrations")
    assert len(migrate(engine, database)) == len(migrations.migrations())
    assert clickhouse.command("SELECT count() FROM sessions") == 1
    assert clickhouse.command("SELECT count() FROM evse_utilisation_hourly") == 0


def test_what_does_not_fit_is_refused(engine: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changed after it was run, and a database that a newer version made."""
    migrate(engine, database)
    files = migrations.migrations()
    changed = [Migration(files[0].number, files[0].name, files[0].sql + "\n"), *files[1:]]
    monkeypatch.setattr(migrations, "migrations", lambda: changed)
    with pytest.raises(MigrationError, match="changed"):
        migrate(engine, database)
    monkeypatch.setattr(migrations, "migrations", lambda: files[:-1])
    with pytest.raises(MigrationError, match=f"{files[-1].number:03d}"):
        migrate(engine, database)


async def test_waits_for_the_server(
    start_engine: StartEngine, free_port: Callable[[], int], tmp_path: Path
) -> None:
    """Started before the engine is; and gives up in the end when there is none."""
    port = free_port()
    with pytest.raises(OperationalError):
        await asyncio.to_thread(migrate, f"http://127.0.0.1:{port}", "x", patience=0.5)
    waiting = asyncio.create_task(asyncio.to_thread(migrate, f"http://127.0.0.1:{port}", "x"))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    await asyncio.to_thread(start_engine, tmp_path, port=port)
    assert await waiting


def test_every_field_has_its_column(engine: str, database: str, clickhouse: Client) -> None:
    """The tables hold every field of every version of the records that they are made for."""
    migrate(engine, database)
    for table, record in (
        ("session_versions", SessionRecord),
        ("bill_versions", BillRecord),
        ("ledger_entry_versions", EntryRecord),
        ("claim_versions", SettledRecord),
        ("statement_versions", StatementRecord),
        ("receipt_versions", ReceiptRecord),
        ("policy_versions", PolicyRecord),
        ("reconciliation_versions", ReconciliationRecord),
        ("quarantine_versions", QuarantineRecord),
        ("delivery_versions", DeliveryRecord),
    ):
        columns = {row[0] for row in clickhouse.query(f"DESCRIBE TABLE {table}").result_rows}
        for layout in layouts(record.codec.name).values():
            assert set(layout.columns) <= columns


def test_files_are_numbered() -> None:
    """001, 002, ...; no number twice, each with statements."""
    files = migrations.migrations()
    numbers = [file.number for file in files]
    assert numbers[0] == 1
    assert numbers == sorted(set(numbers))
    assert all(list(file.statements) for file in files)


def test_statements_end_with_a_semicolon_at_the_end_of_a_line() -> None:
    """Not within a line; comments alone are no statement."""
    sql = "-- one\nSELECT ';' ;  \n\n-- only; words\n\nSELECT 2 -- a; b\n  + 1;\n-- end\n"
    assert list(Migration(1, "x", sql).statements) == [
        "-- one\nSELECT ';'",
        "-- only; words\n\nSELECT 2 -- a; b\n  + 1",
    ]
