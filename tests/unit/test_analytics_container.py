"""Avro containers out of the log's bytes, read back by an Avro library that knows nothing of ours."""

from __future__ import annotations

import io

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.container import layouts, zigzag
from schemas.codec import HEADER, schema_names
from schemas.records import Record
from tests.analytics_helpers import bill, entry, session


@given(st.integers(-(2**63), 2**63 - 1))
def test_zigzag_is_avros_long(number: int) -> None:
    """The library writes the same bytes."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    assert zigzag(number) == out.getvalue()


@pytest.mark.parametrize("record", [session(), session(2, periods=[]), bill(), entry()])
@pytest.mark.parametrize("offsets", [[], [0], [5, 7, 2**62]])
def test_a_container_holds_the_records(record: Record, offsets: list[int]) -> None:
    """Each with its offset as `version`, then its own fields in their order."""
    value = record.encode()
    layout = layouts(record.codec.name)[value[:HEADER]]
    rows = list(fastavro.reader(io.BytesIO(layout.pack((offset, value) for offset in offsets))))
    assert [row["version"] for row in rows] == offsets
    for row in rows:
        assert tuple(row) == layout.columns
        assert row["event_id"] == record.event_id  # type: ignore[attr-defined]
        assert row["currency"] == "EUR"


@pytest.mark.parametrize("junk", [b"", b"\x00", b"\xff" * 30])
def test_a_damaged_record_stays_within_its_block(junk: bytes) -> None:
    """What is too long, or is nonsense, does not move the ones behind it."""
    value = entry().encode()
    layout = layouts("entry")[value[:HEADER]]
    rows = list(fastavro.reader(io.BytesIO(layout.pack([(1, value + junk), (2, value)]))))
    assert [row["version"] for row in rows] == [1, 2]
    assert rows[0]["legs"] == rows[1]["legs"]


def test_every_schema_has_a_layout() -> None:
    """One for each version of it, and none for a name without schemas."""
    for name in schema_names():
        assert all(layout.columns[0] == "version" for layout in layouts(name).values())
    with pytest.raises(LookupError):
        layouts("nonsense")
