"""Avro single-object encoding: two marker bytes, the writer schema's fingerprint, the datum.

Every schema ever written stays in `schemas/avro/NAME-VERSION.avsc`, so a record of any age names, by its
fingerprint, the schema that wrote it, and is resolved to the newest one on reading (Avro 1.11, "Single-object
encoding" and "Schema Resolution").
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Collection, Mapping
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas.reader import OddError, compile_reader
from schemas.writer import compile_writer

T = TypeVar("T")

MARKER = b"\xc3\x01"
HEADER = len(MARKER) + 8

Schema = dict[str, Any]


class UnknownSchemaError(ValueError):
    """Bytes that no schema of ours wrote."""


@cache
def versions(name: str) -> tuple[Schema, ...]:
    """All versions of a schema, oldest first, parsed. Raises LookupError for a name without schemas."""
    pattern = re.compile(rf"{re.escape(name)}-(\d+)\.avsc")
    found = {}
    for file in (resources.files("schemas") / "avro").iterdir():
        if match := pattern.fullmatch(file.name):
            found[int(match[1])] = json.loads(file.read_text())
    if not found:
        raise LookupError(f"no Avro schema named {name}")
    return tuple(fastavro.parse_schema(found[number], {}) for number in sorted(found))  # type: ignore[misc]


@cache
def schema_names() -> tuple[str, ...]:
    """Names of all schemas."""
    files = (resources.files("schemas") / "avro").iterdir()
    return tuple(sorted({file.name.rsplit("-", 1)[0] for file in files if file.name.endswith(".avsc")}))


def header_of(schema: Schema) -> bytes:
    """The ten bytes in front of every datum that the schema wrote."""
    canonical = to_parsing_canonical_form(schema)
    return MARKER + int(fingerprint(canonical, "CRC-64-AVRO"), 16).to_bytes(8, "big")


@cache
def _writers() -> Mapping[bytes, tuple[str, Schema]]:
    return {header_of(schema): (name, schema) for name in schema_names() for schema in versions(name)}


def name_of(data: bytes) -> str:
    """Name of the schema that wrote a record. Raises UnknownSchemaError."""
    try:
        return _writers()[bytes(data[:HEADER])][0]
    except KeyError:
        raise UnknownSchemaError(f"no schema of ours wrote these {len(data)} bytes") from None


def _physical(schema: Schema) -> Schema:
    """The schema without its logical types: the same bytes, ten times as fast in Python.

    Timestamps are then integers, decimals the big-endian bytes of their unscaled value.
    """

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            return [plain(item) for item in node]
        if isinstance(node, dict):
            if "logicalType" in node:
                return node["type"]
            return {key: plain(value) for key, value in node.items() if not key.startswith("__")}
        return node

    return fastavro.parse_schema(plain(schema), {})  # type: ignore[return-value]


class Codec:
    """Reads every version of one schema, writes the newest; read, logical types stay physical."""

    def __init__(self, name: str) -> None:
        self.name = name
        newest = versions(name)[-1]
        self._newest = _physical(newest)
        self._write = compile_writer(newest)
        self._header = header_of(newest)
        self._older = {header_of(schema): _physical(schema) for schema in versions(name)[:-1]}

    def is_newest(self, data: bytes) -> bool:
        """Whether the newest version wrote this record."""
        return data[:HEADER] == self._header

    def encode(self, record: Any) -> bytes:
        """One record as bytes: a struct with the schema's fields. One that does not fit is a defect."""
        out = bytearray(self._header)
        self._write(out, record)
        return bytes(out)

    def decode(self, data: bytes) -> dict[str, Any]:
        """One record as a dictionary of the newest version's fields. Raises UnknownSchemaError."""
        header = data[:HEADER]
        body = io.BytesIO(data)
        body.seek(HEADER)
        try:
            if header == self._header:
                return fastavro.schemaless_reader(body, self._newest, None)  # type: ignore[return-value]
            if older := self._older.get(header):
                return fastavro.schemaless_reader(body, older, self._newest)  # type: ignore[return-value]
        except (EOFError, IndexError, ValueError, KeyError, TypeError) as error:
            raise UnknownSchemaError(f"a damaged {self.name} record: {error}") from None
        raise UnknownSchemaError(f"no version of {self.name} wrote these {len(data)} bytes")

    def reader(self, make: Callable[..., T], wanted: Collection[str]) -> Callable[[bytes], T]:
        """`decode` for a flat record, twice as fast: what `make` makes of its wanted fields, by name."""
        header, read = self._header, compile_reader(self._newest, make, wanted)

        def decode(data: bytes) -> T:
            if data[:HEADER] == header:
                try:
                    found: T = read(data, HEADER)
                    return found
                except OddError:
                    pass
            whole = self.decode(data)
            return make(**{name: whole[name] for name in wanted})

        return decode
