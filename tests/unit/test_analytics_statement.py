"""Statements taken apart: what is text, what is data, which format is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.statement import EngineError, parse


@pytest.mark.parametrize(
    ("query", "text", "form", "data"),
    [
        (b"INSERT INTO t FORMAT TSV\n1\t2\n", "INSERT INTO t", "TSV", b"1\t2\n"),
        (b"INSERT INTO t (a, b) FORMAT Native\r\n\x00\xff", "INSERT INTO t (a, b)", "Native", b"\x00\xff"),
        (b"insert into t format JSONEachRow {}", "insert into t", "JSONEachRow", b"{}"),
        (b"INSERT INTO t VALUES (1), ('FORMAT CSV');", "INSERT INTO t", "Values", b"(1), ('FORMAT CSV')"),
        (b"INSERT INTO t FORMAT Values (1)", "INSERT INTO t", "Values", b"(1)"),
        (
            b"INSERT INTO `FORMAT x` (`VALUES`) SETTINGS a='SELECT' /* FORMAT */ FORMAT CSV\n\n1",
            "INSERT INTO `FORMAT x` (`VALUES`) SETTINGS a='SELECT' /* FORMAT */",
            "CSV",
            b"\n1",
        ),
        (b"INSERT INTO t SELECT 1 FORMAT Null", "INSERT INTO t SELECT 1 FORMAT Null", None, None),
        (b"INSERT INTO t (a) SELECT 'VALUES';", "INSERT INTO t (a) SELECT 'VALUES'", None, None),
    ],
)
def test_inserts(query: bytes, text: str, form: str | None, data: bytes | None) -> None:
    """An INSERT's data begins after FORMAT or VALUES, outside quotes, comments and brackets."""
    found = parse(query)
    assert (found.text, found.keyword, found.format, found.data) == (text, "INSERT", form, data)
    assert not found.reads


@pytest.mark.parametrize(
    ("query", "form"),
    [
        (b"SELECT 1", None),
        (b"SELECT 1 FORMAT JSON;", "JSON"),
        (b"SELECT 'FORMAT CSV'", None),
        (b"SELECT format FROM t", None),
        (b"SELECT 1 -- FORMAT CSV\n FORMAT TSV", "TSV"),
        (b"SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "CSV"),
        (b"(SELECT 1) UNION ALL (SELECT 2 ) FORMAT Native", "Native"),
        (b" /* why */ WITH 1 AS a SELECT a\nFORMAT JSONEachRow", "JSONEachRow"),
    ],
)
def test_formats_of_reads(query: bytes, form: str | None) -> None:
    """The closing FORMAT clause is found, and nothing that only looks like one."""
    found = parse(query)
    assert (found.format, found.data, found.reads, found.stateful) == (form, None, True, False)


@pytest.mark.parametrize(
    "query",
    [
        b"SET max_threads=1",
        b"USE d",
        b"CREATE TEMPORARY TABLE t (a Int8)",
        b"create or replace temporary table t",
    ],
)
def test_statements_that_leave_state(query: bytes) -> None:
    """Whoever runs these must not use the same handle for somebody else."""
    assert parse(query).stateful


@given(st.binary(max_size=200))
def test_data_is_never_touched(data: bytes) -> None:
    """Whatever the bytes after the line break are, they are the data."""
    assert parse(b"INSERT INTO t (a) FORMAT Native\n" + data).data == data


@given(st.text(max_size=60).map(str.encode))
def test_any_text_is_taken_apart(query: bytes) -> None:
    """No text makes it fail."""
    parse(query)


def test_what_is_not_text_is_refused() -> None:
    """A query that is not UTF-8 is a syntax error."""
    with pytest.raises(EngineError) as refused:
        parse(b"SELECT \xff")
    assert refused.value.status == 400
