"""Our reader against the library: the same fields, or the library's own complaint."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import HEADER, UnknownSchemaError, versions
from schemas.reader import OddError, compile_reader
from schemas.records import Event, Told, read_told
from tests.unit.schemas.test_writer import values

events = values(versions("event")[-1])


@given(events)
def test_an_event_comes_back(event: Event) -> None:
    assert Event.decode(event.encode()) == event


@given(events)
def test_a_part_of_an_event_is_that_part(event: Event) -> None:
    told = read_told(event.encode())
    assert {name: getattr(told, name) for name in Told.__struct_fields__} == {
        name: getattr(event, name) for name in Told.__struct_fields__
    }


def _by_the_library(data: bytes) -> Any:
    try:
        return Event.codec.decode(data)
    except UnknownSchemaError:
        return None


def _by_us(data: bytes) -> Any:
    try:
        event = Event.decode(data)
    except UnknownSchemaError:
        return None
    return {name: getattr(event, name) for name in Event.__struct_fields__}


@given(events, st.data())
def test_a_damaged_event_is_what_the_library_makes_of_it(event: Event, data: st.DataObject) -> None:
    whole = event.encode()
    cut = data.draw(st.integers(HEADER, len(whole)))
    at = data.draw(st.integers(HEADER, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] = data.draw(st.integers(0, 255))
    for damaged in (whole[:cut], bytes(changed)):
        assert _by_us(damaged) == _by_the_library(damaged)


def test_blocks_that_say_their_size_are_left_to_the_library() -> None:
    event = Event(
        id=b"i" * 16, received_at=1, sender="NL*TNM", version="2.3.0", module="sessions", method="PUT",
        key="NL*TNM*S1", path=["NL"], request_id=None, correlation_id=None, body=b"{}",
    )  # fmt: skip
    short = event.encode()
    block, sized = b"\x02\x04NL\x00", b"\x01\x06\x04NL\x00"  # one item; one item in three bytes
    assert short.count(block) == 1
    assert Event.decode(short.replace(block, sized)) == event


def test_a_schema_that_it_does_not_understand_is_refused_at_once() -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "double"}]}
    with pytest.raises(NotImplementedError, match="double"):
        compile_reader(schema, dict, ["a"])


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.binary(min_size=4, max_size=4) | st.none())
def test_other_shapes(numbers: list[int], mark: bytes | None) -> None:
    schema: Any = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "numbers", "type": {"type": "array", "items": "long"}},
            {"name": "mark", "type": ["null", {"type": "fixed", "name": "F", "size": 4}]},
        ],
    }
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, {"numbers": numbers, "mark": mark})
    data = out.getvalue()
    assert compile_reader(schema, dict, ["numbers", "mark"])(data, 0) == {"numbers": numbers, "mark": mark}
    assert compile_reader(schema, dict, ["mark"])(data, 0) == {"mark": mark}
    with pytest.raises(OddError):
        compile_reader(schema, dict, ["mark"])(data[:-1], 0)
