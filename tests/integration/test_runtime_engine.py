"""The local engine, spoken to as a ClickHouse server: by clickhouse-connect, and by bare HTTP."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import clickhouse_connect
import httpx
import lz4.frame
import pytest
import zstandard
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.conftest import StartEngine


@pytest.fixture
def http(engine: str, database: str) -> Iterator[httpx.Client]:
    """Bare HTTP, on this test's database."""
    with httpx.Client(base_url=engine, params={"database": database}, timeout=60) as client:
        yield client


def test_clickhouse_connect_reads_what_it_wrote(clickhouse: Client) -> None:
    """Rows, bound parameters of many types, and data frames."""
    clickhouse.command(
        "CREATE TABLE t (a UInt64, b Nullable(String), d Decimal(18, 9), at DateTime64(6, 'UTC'),"
        " l Array(String)) ENGINE MergeTree ORDER BY a"
    )
    instant = datetime(2024, 3, 31, 1, 2, 3, 456789)  # noqa: DTZ001 - the driver's default for UTC
    text = "it's\ta\\b\n\x00ü"
    rows = [(1, text, Decimal("1.000000001"), instant, ["a'b", "c\\d"]), (2, None, Decimal(-2), instant, [])]
    clickhouse.insert("t", rows, column_names=["a", "b", "d", "at", "l"])
    assert clickhouse.query("SELECT * FROM t ORDER BY a").result_rows == rows
    found = clickhouse.query(
        "SELECT a FROM t WHERE b = {b:String} AND d = {d:Decimal(18, 9)} AND l = {l:Array(String)}",
        parameters={"b": text, "d": Decimal("1.000000001"), "l": ["a'b", "c\\d"]},
    )
    assert found.result_rows == [(1,)]
    assert clickhouse.query_df("SELECT a FROM t ORDER BY a")["a"].tolist() == [1, 2]
    assert clickhouse.command("SELECT count() FROM t") == 2
    assert clickhouse.query("SELECT a FROM t WHERE a > 5").result_rows == []
    assert clickhouse.query("SELECT a, b FROM t LIMIT 0").column_names == ("a", "b")


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_compression_both_ways(engine: str, database: str, compress: bool | str) -> None:
    """Large blocks in and out, under each encoding that the client speaks."""
    host, port = engine.removeprefix("http://").split(":")
    with clickhouse_connect.get_client(
        host=host, port=int(port), database=database, compress=compress
    ) as client:
        client.command("CREATE TABLE big (a UInt64, s String) ENGINE MergeTree ORDER BY a")
        client.insert("big", [(n, f"row {n}") for n in range(100_000)], column_names=["a", "s"])
        rows = client.query("SELECT a, s FROM big ORDER BY a").result_rows
    assert len(rows) == 100_000
    assert rows[-1] == (99_999, "row 99999")


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("zstd", zstandard.compress), ("lz4", lz4.frame.compress), ("identity", bytes)],
)
def test_raw_inserts(http: httpx.Client, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """The statement in the URL, the data in the body, packed."""
    http.post("/", content="CREATE TABLE raw (a UInt32, b String) ENGINE MergeTree ORDER BY a")
    answer = http.post(
        "/",
        params={"query": "INSERT INTO raw FORMAT JSONEachRow"},
        content=pack(b'{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n'),
        headers={"Content-Encoding": encoding},
    )
    assert answer.status_code == 200
    assert '"written_rows": "2"' in answer.headers["x-clickhouse-summary"]
    assert http.post("/", content="SELECT sum(a) FROM raw").text == "3\n"
    assert http.post("/", content="INSERT INTO raw VALUES (3, 'z')").status_code == 200
    assert http.post("/", content="SELECT sum(a) FROM raw").text == "6\n"


def test_a_body_that_is_not_what_it_says(http: httpx.Client) -> None:
    """Data that cannot be unpacked, or an unknown encoding, is refused in ClickHouse's terms."""
    for encoding in ("gzip", "zstd", "lz4", "snappy"):
        refused = http.post("/", content=b"not packed", headers={"Content-Encoding": encoding})
        assert refused.status_code == 500
        assert refused.headers["x-clickhouse-exception-code"] in ("354", "89")


def test_curl_speaks_to_it(http: httpx.Client, database: str) -> None:
    """Queries in the URL, in the body and in both; formats by clause, parameter and header."""
    assert http.get("/ping").text == "Ok.\n"
    assert http.get("/").text == "Ok.\n"
    assert http.get("/", params={"query": "SELECT 1 + 1"}).text == "2\n"
    assert http.post("/", params={"query": "SELECT 1 +"}, content="2").text == "3\n"
    assert http.post("/", content="SELECT currentDatabase()").text == f"{database}\n"
    named = http.post("/", content="SELECT 1 AS a FORMAT JSONEachRow")
    assert (named.text, named.headers["x-clickhouse-format"]) == ('{"a":1}\n', "JSONEachRow")
    assert (
        http.post("/", params={"default_format": "CSVWithNames"}, content="SELECT 1 AS a").text == '"a"\n1\n'
    )
    by_header = http.post("/", headers={"X-ClickHouse-Format": "JSONCompactEachRow"}, content="SELECT 1")
    assert by_header.text == "[1]\n"
    bound = http.get("/", params={"query": "SELECT {x:UInt8} + {y:UInt8}", "param_x": "3", "param_y": "4"})
    assert bound.text == "7\n"
    packed = http.get(
        "/",
        params={"query": "SELECT number FROM numbers(10000)", "enable_http_compression": "1"},
        headers={"Accept-Encoding": "gzip"},
    )
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text.splitlines()[-1] == "9999"
    form = http.post("/", files={"query": (None, "SELECT {x:String}"), "param_x": (None, "long")})
    assert form.text == "long\n"


@pytest.mark.parametrize(
    ("query", "status", "code", "words"),
    [
        ("SELECT * FROM missing", 404, "60", "UNKNOWN_TABLE"),
        ("SELEC 1", 400, "62", "SYNTAX_ERROR"),
        ("SELECT throwIf(number = 3) FROM numbers(5)", 500, "395", "throwIf"),
        ("SELECT 1 SETTINGS no_such = 1", 404, "115", "no_such"),
        ("INSERT INTO missing VALUES (1)", 404, "60", "missing"),
        ("", 400, "62", "Empty query"),
    ],
)
def test_errors(http: httpx.Client, query: str, status: int, code: str, words: str) -> None:
    """ClickHouse's text, its code, and its choice of HTTP status."""
    refused = http.post("/", content=query)
    assert (refused.status_code, refused.headers["x-clickhouse-exception-code"]) == (status, code)
    assert words in refused.text
    assert http.post("/", content="SELECT 1").text == "1\n"


def test_errors_through_clickhouse_connect(clickhouse: Client) -> None:
    """The driver raises its own error with the code; bad data in an insert leaves the handle usable."""
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        clickhouse.query("SELECT * FROM missing")
    clickhouse.command("CREATE TABLE n (a UInt8) ENGINE MergeTree ORDER BY a")
    for _ in range(5):
        with pytest.raises(DatabaseError):
            clickhouse.raw_insert("n", ["a"], b"not a number\n", fmt="TSV")
    assert clickhouse.command("SELECT count() FROM n") == 0


def test_settings_last_one_request(http: httpx.Client) -> None:
    """A setting in the URL reaches its statement and no other; SET leaves nothing behind."""
    asked = "SELECT value, changed FROM system.settings WHERE name = 'max_block_size'"
    assert http.post("/", params={"max_block_size": "777"}, content=asked).text == "777\t1\n"
    http.post("/", content="SET max_block_size = 778")
    answers = {http.post("/", content=asked).text for _ in range(12)}
    assert len(answers) == 1
    assert answers.pop().endswith("\t0\n")
    assert http.post("/", params={"no_such_setting": "1"}, content="SELECT 1").status_code == 404
    assert http.post("/", params={"database": "missing"}, content="SELECT 1").status_code == 404


def test_get_changes_nothing(http: httpx.Client) -> None:
    """As with a server, GET implies readonly."""
    refused = http.get("/", params={"query": "CREATE TABLE g (a UInt8) ENGINE MergeTree ORDER BY a"})
    assert refused.headers["x-clickhouse-exception-code"] == "164"
    assert http.post("/", content="EXISTS TABLE g").text == "0\n"


def test_web_pages_are_refused(engine: str) -> None:
    """A browser cannot be made to speak to it: neither from another origin, nor by a name pointed here."""
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example:8123"}, {"Origin": "null"}):
        assert httpx.post(engine, content="SELECT 1", headers=headers).status_code == 403
    port = engine.rsplit(":", 1)[1]
    assert httpx.post(f"http://localhost:{port}", content="SELECT 1").text == "1\n"


def test_repeated_inserts_count_once(clickhouse: Client) -> None:
    """Deduplication tokens hold, for the table and for what a materialized view made of it."""
    window = "SETTINGS non_replicated_deduplication_window = 1000"
    clickhouse.command(f"CREATE TABLE facts (a UInt64) ENGINE MergeTree ORDER BY a {window}")
    clickhouse.command(f"CREATE TABLE sums (k UInt8, s UInt64) ENGINE SummingMergeTree ORDER BY k {window}")
    clickhouse.command("CREATE MATERIALIZED VIEW v TO sums AS SELECT 1 AS k, a AS s FROM facts")
    for token in ("t-0-0-9", "t-0-0-9", "t-0-10-19", "t-0-0-9"):
        settings = {
            "insert_deduplicate": 1,
            "insert_deduplication_token": token,
            "deduplicate_blocks_in_dependent_materialized_views": 1,
        }
        clickhouse.insert("facts", [(1,), (2,)], column_names=["a"], settings=settings)
    assert clickhouse.query("SELECT count(), sum(a) FROM facts").first_row == (4, 6)
    assert clickhouse.command("SELECT sum(s) FROM sums") == 6


def test_slow_reads_hold_up_no_insert(http: httpx.Client) -> None:
    """Every reading handle is busy, and an insert is still answered at once; reads run side by side."""
    http.post("/", content="CREATE TABLE w (a UInt8) ENGINE MergeTree ORDER BY a")
    begun = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        slow = [pool.submit(http.post, "/", content="SELECT sleep(2)") for _ in range(4)]
        time.sleep(0.3)
        http.post("/", content="INSERT INTO w VALUES (1)")
        inserted = time.monotonic() - begun
        assert all(answer.result().status_code == 200 for answer in slow)
    assert inserted < 1.8
    assert time.monotonic() - begun < 6


def test_many_clients_at_once(engine: str, database: str, clickhouse: Client) -> None:
    """Writers, readers and makers of tables beside each other: every row once, no error."""
    clickhouse.command("CREATE TABLE many (w UInt8, n UInt32) ENGINE MergeTree ORDER BY (w, n)")
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            with httpx.Client(base_url=engine, params={"database": database}, timeout=60) as mine:
                for n in range(25):
                    body = f"INSERT INTO many VALUES ({number}, {n})"
                    assert mine.post("/", content=body).status_code == 200
                    assert int(mine.post("/", content="SELECT count() FROM many").text) > n
                ddl = f"CREATE TABLE mine_{number} (a UInt8) ENGINE MergeTree ORDER BY a"
                assert mine.post("/", content=ddl).status_code == 200
                assert mine.post("/", content=f"DROP TABLE mine_{number}").status_code == 200
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert clickhouse.query("SELECT count(), uniqExact(w, n) FROM many").first_row == (200, 200)


def test_too_much_is_refused(start_engine: StartEngine, tmp_path: Path) -> None:
    """Bodies beyond the limit, packed or not, and results beyond theirs."""
    own = start_engine(tmp_path, max_body=100_000, max_result=1_000_000)
    for body, headers in (
        (b"x" * 200_000, {}),
        (gzip.compress(b"x" * 200_000), {"Content-Encoding": "gzip"}),
    ):
        refused = httpx.post(own.url, content=body, headers=headers)
        assert (refused.status_code, refused.headers["x-clickhouse-exception-code"]) == (413, "307")
    refused = httpx.post(own.url, content="SELECT repeat(toString(number), 100) FROM numbers(100000)")
    assert refused.headers["x-clickhouse-exception-code"] in ("396", "307")
    assert httpx.post(own.url, content="SELECT 1").text == "1\n"


def test_what_was_answered_survives_sigkill(start_engine: StartEngine, tmp_path: Path) -> None:
    """Killed in the middle of inserts, three times: every acknowledged row is there, repeats count once."""
    acknowledged, number = [], 0
    own = start_engine(tmp_path)
    window = "SETTINGS non_replicated_deduplication_window = 1000"
    create = f"CREATE TABLE k (n UInt64) ENGINE MergeTree ORDER BY n {window}"
    http = httpx.Client(timeout=60)
    http.post(own.url, content=create).raise_for_status()
    for _ in range(3):
        threading.Timer(0.5, own.process.kill).start()
        unanswered = None
        while unanswered is None:
            try:
                _insert(http, own.url, number).raise_for_status()
                acknowledged.append(number)
                number += 1
            except httpx.TransportError:
                unanswered = number
        own.process.wait()
        begun = time.monotonic()
        own = start_engine(tmp_path)
        assert time.monotonic() - begun < 20
        stored = set(map(int, http.post(own.url, content="SELECT n FROM k").text.split()))
        assert stored >= set(acknowledged)
        assert stored <= {*acknowledged, unanswered}
        _insert(http, own.url, unanswered).raise_for_status()
        acknowledged.append(unanswered)
        number += 1
    found = http.post(own.url, content="SELECT count(), uniqExact(n) FROM k").text.split()
    http.close()
    assert found == [str(len(acknowledged))] * 2
    assert len(acknowledged) > 20


def _insert(http: httpx.Client, url: str, number: int) -> httpx.Response:
    settings = {"insert_deduplicate": "1", "insert_deduplication_token": f"n-{number}"}
    return http.post(url, params=settings, content=f"INSERT INTO k VALUES ({number})")


def test_a_folder_has_one_engine(start_engine: StartEngine, tmp_path: Path) -> None:
    """A second engine on the same folder does not start, and the first goes on."""
    own = start_engine(tmp_path)
    with pytest.raises(RuntimeError, match="did not start"):
        start_engine(tmp_path)
    assert httpx.post(own.url, content="SELECT 1").text == "1\n"
