"""docs/analytics.md: its views, columns, queries and clients are what there is."""

from __future__ import annotations

import re
import shutil
import subprocess
from decimal import Decimal

import pytest
from clickhouse_connect.driver.client import Client

from analytics import queries
from analytics.migrations import migrate
from tests.analytics_helpers import bill, entry, session
from tests.conftest import ROOT
from tests.integration.test_analytics_queries import insert

PAGE = (ROOT / "docs" / "analytics.md").read_text()


def blocks(language: str) -> list[str]:
    """The page's fenced blocks of a language."""
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found


def views() -> list[tuple[str, list[str]]]:
    """Each view with the columns that the page names, in order."""
    part = PAGE.split("\n## Views\n")[1].split("\n## ")[0]
    found = []
    for section in part.split("\n### ")[1:]:
        names = [
            re.findall(r"`(\w+)`", row.split("|")[1]) for row in section.splitlines() if row.startswith("| `")
        ]
        found.append((section.split("`")[1], [name for row in names for name in row]))
    return found


@pytest.fixture
def tables(clickhouse: Client, engine: str, database: str) -> Client:
    """A client on tables with a few rows."""
    migrate(engine, database)
    insert(clickhouse, session(1), session(2), bill(1), bill(2, billed="9.68"), entry(1), entry(2))
    return clickhouse


@pytest.mark.parametrize(("view", "columns"), views())
def test_columns(tables: Client, view: str, columns: list[str]) -> None:
    """Every column of every view is on the page, in order, and no other."""
    assert [row[0] for row in tables.query(f"DESCRIBE TABLE {view}").result_rows] == columns


def test_every_view_is_on_the_page(tables: Client) -> None:
    """And what is not is internal."""
    found = {name for (name,) in tables.query("SHOW TABLES").result_rows}
    internal = {name for name in found if name.endswith("_versions")} | {"_migrations"}
    assert found - internal == {view for view, _ in views()}


def test_every_named_query_is_on_the_page() -> None:
    """With what it answers."""
    part = PAGE.split("| query | answers |")[1].split("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \| \w", part, re.MULTILINE)) == list(queries.names())


@pytest.mark.parametrize("query", blocks("sql"))
def test_questions(tables: Client, query: str) -> None:
    """Each runs, and answers with rows where there is something to find."""
    rows = tables.query(query).result_rows
    assert rows or "c.kwh != s.kwh" in query


def test_the_books_balance(tables: Client) -> None:
    """As the page says they do."""
    (query,) = (block for block in blocks("sql") if "balance" in block)
    assert tables.query(query).result_rows == [("EUR", 0, 6)]


def test_python(tables: Client, engine: str, database: str) -> None:
    """The page's Python, on this engine."""
    (code,) = blocks("python")
    names: dict[str, object] = {}
    exec(code.replace("http://127.0.0.1:8123/voltfold", f"{engine}/{database}"), names)
    frame = names["frame"]
    assert frame["sessions"].tolist() == [2]  # type: ignore[index]
    assert [row["difference"] for row in names["worst"]] == [Decimal("4.84")]  # type: ignore[attr-defined]
    assert [tables.command(f"SELECT toDecimal64({text}, 9)") for text in ("25", "25.5")] == [25, "25.5"]


def test_curl(tables: Client, engine: str, database: str) -> None:
    """The page's curl, on this engine."""
    assert tables
    if not shutil.which("curl"):
        pytest.skip("no curl here")
    (script,) = blocks("bash")
    script = script.replace("http://127.0.0.1:8123", engine).replace("voltfold", database)
    done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, check=True)
    first, *rest = done.stdout.splitlines()
    assert first == "2\t25"
    assert len(rest) == 3
    assert '"kwh"' in rest[0]
