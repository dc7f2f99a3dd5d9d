"""The local engine, spoken to as a ClickHouse server."""

from __future__ import annotations

import httpx
from clickhouse_connect.driver.client import Client


def test_clickhouse_connect_reads_what_it_wrote(clickhouse: Client) -> None:
    """Rows, bound parameters and data frames through an unchanged clickhouse-connect."""
    clickhouse.command("CREATE TABLE t (a UInt64, b Nullable(String)) ENGINE MergeTree ORDER BY a")
    clickhouse.insert("t", [(1, "one"), (2, None), (3, "it's\ta\\b\n")], column_names=["a", "b"])
    found = clickhouse.query("SELECT b FROM t WHERE a = {a:UInt64}", parameters={"a": 3})
    assert found.result_rows == [("it's\ta\\b\n",)]
    assert clickhouse.query_df("SELECT * FROM t ORDER BY a")["a"].tolist() == [1, 2, 3]
    assert clickhouse.command("SELECT count() FROM t") == 3


def test_curl_speaks_to_it(engine: str, database: str) -> None:
    """Queries in the URL and in the body, errors with ClickHouse's code and text."""
    with httpx.Client(base_url=engine) as http:
        assert http.get("/ping").text == "Ok.\n"
        assert http.get("/", params={"query": "SELECT 1 + 1"}).text == "2\n"
        assert (
            http.post("/", params={"database": database}, content="SELECT currentDatabase()").text
            == f"{database}\n"
        )
        refused = http.post("/", content="SELECT * FROM missing")
        assert (refused.status_code, refused.headers["x-clickhouse-exception-code"]) == (404, "60")
        assert "UNKNOWN_TABLE" in refused.text
