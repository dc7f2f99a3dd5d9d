"""Our writer against the library: the same bytes, for every record there is."""

from __future__ import annotations

import io
from datetime import UTC
from decimal import Decimal
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import records, settlement
from schemas.codec import HEADER, versions
from schemas.records import Record, moment

RECORDS = [
    records.Event,
    records.SessionRecord,
    records.BillRecord,
    records.ClaimRecord,
    records.EntryRecord,
    records.QuarantineRecord,
    settlement.SettledRecord,
    settlement.StatementRecord,
    settlement.ReceiptRecord,
    settlement.PolicyRecord,
    settlement.ReconciliationRecord,
]

texts = st.text(st.characters(codec="utf-8"), max_size=80)
decimals = st.integers(-(10**30), 10**30).map(lambda number: Decimal(number).scaleb(-9))
longs = st.integers(-(2**63), 2**63 - 1)
moments = st.integers(-60_000_000_000_000_000, 250_000_000_000_000_000)


def values(schema: Any) -> st.SearchStrategy[Any]:
    """What a schema can say, as our records hold it."""
    match schema:
        case ["null", other]:
            return st.none() | values(other)
        case {"type": "record", "name": name, "fields": fields}:
            short = name.split(".")[-1]
            kind = getattr(records, short, None) or getattr(settlement, short)
            return st.builds(kind, **{field["name"]: values(field["type"]) for field in fields})
        case {"type": "array", "items": items}:
            return st.lists(values(items), max_size=70 if isinstance(items, str) else 3)
        case {"logicalType": "decimal"}:
            return decimals
        case {"logicalType": "timestamp-micros"}:
            return moments
        case {"type": "fixed", "size": size}:
            return st.binary(min_size=size, max_size=size)
        case {"type": inner}:
            return values(inner)
        case "string":
            return texts
        case "bytes":
            return st.binary(max_size=300)
        case "boolean":
            return st.booleans()
        case "int":
            return st.integers(-(2**31), 2**31 - 1)
        case "long":
            return longs
    raise AssertionError(schema)


def logical(schema: Any, value: Any) -> Any:
    """The same as the library wants it: dictionaries, and datetimes where the schema has timestamps."""
    match schema:
        case ["null", other]:
            return None if value is None else logical(other, value)
        case {"type": "record", "fields": fields}:
            return {field["name"]: logical(field["type"], getattr(value, field["name"])) for field in fields}
        case {"type": "array", "items": items}:
            return [logical(items, item) for item in value]
        case {"logicalType": "timestamp-micros"}:
            return moment(value).astimezone(UTC)
    return value


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_the_bytes_are_the_librarys(kind: type[Record], data: st.DataObject) -> None:
    schema = versions(kind.codec.name)[-1]
    record = data.draw(values(schema))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, logical(schema, record))
    written = record.encode()
    assert written[HEADER:] == out.getvalue()
    assert kind.decode(written) == record


def test_what_does_not_fit_is_a_defect() -> None:
    record = records.QuarantineRecord(
        topic="t", partition=0, offset=0, reason="r", message="m", received_at=None, value=b""
    )
    with pytest.raises((TypeError, AttributeError)):
        msgspec.structs.replace(record, topic=None).encode()
