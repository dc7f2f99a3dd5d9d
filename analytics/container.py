"""Records of the log as an Avro container file, which ClickHouse reads by itself (`FORMAT Avro`).

An Avro record is nothing but its fields' encodings one after another. So a record of the log becomes a row by
putting further fields in front of it, and the sink need not decode anything: it takes off the ten bytes that
name the schema, writes the offset before the rest, and ClickHouse does what remains, exactly and fast. Each
record is a block of its own, with its length, so a damaged one cannot run into the next.

Avro 1.11: "Object Container Files", "Single-object encoding", "Binary encoding".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from schemas.codec import HEADER, header_of, versions

_MAGIC = b"Obj\x01"
_SYNC = b"voltfold.records"
_RENAMED = {"version": "ocpi_version"}
_ONE = b"\x02"  # a block's count of records, 1


def zigzag(number: int) -> bytes:
    """Avro's long."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


@dataclass(frozen=True)
class Layout:
    """How records of one schema become rows: the container's head, and the columns it fills."""

    head: bytes
    columns: tuple[str, ...]

    def pack(self, records: Iterable[tuple[int, bytes]]) -> bytes:
        """A container of records, each with its offset in the log (the column `version`)."""
        parts = [self.head]
        for offset, value in records:
            version = zigzag(offset)
            size = len(version) + len(value) - HEADER
            parts += (_ONE, zigzag(size), version, value[HEADER:], _SYNC)
        return b"".join(parts)


@cache
def layouts(name: str) -> dict[bytes, Layout]:
    """The layout for each version of a schema, by the header that its records begin with."""
    return {header_of(schema): _layout(schema) for schema in versions(name)}


def _layout(schema: dict[str, Any]) -> Layout:
    # An event has an OCPI version of its own, which gives way.
    own = [{**field, "name": _RENAMED.get(field["name"], field["name"])} for field in schema["fields"]]
    fields = [{"name": "version", "type": "long"}, *own]
    row = {"type": "record", "name": "Row", "namespace": "voltfold", "fields": fields}
    meta = {"avro.schema": json.dumps(row).encode(), "avro.codec": b"null"}
    head = [_MAGIC, zigzag(len(meta))]
    for key, value in meta.items():
        head += (zigzag(len(key)), key.encode(), zigzag(len(value)), value)
    return Layout(b"".join([*head, b"\x00", _SYNC]), tuple(field["name"] for field in fields))
