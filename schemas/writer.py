"""Writing Avro fast: a schema compiled to one closure a field, for the records that every fold writes.

The library validates each branch of a union and looks every field up in a dictionary; for a record of thirty
fields, most of them certain, that is most of what a fold costs. Here each schema is walked once, and a record
is written straight from its struct. The bytes are the library's (a property test holds them equal), which
also does all the reading. What does not fit its schema is a defect of ours and raises TypeError or
AttributeError.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal
from operator import attrgetter
from typing import Any

Write = Callable[[bytearray, Any], None]

_WIDE = Context(prec=60)


def compile_writer(schema: Any) -> Write:
    """A function that appends a struct with the schema's fields to a bytearray, in Avro's binary encoding.

    Understands what our schemas use: records, arrays, nullable unions (null first), the primitive types but
    float and double, fixed, and the logical type decimal, which is written from a Decimal.
    """
    match schema:
        case ["null", other]:
            return _nullable(compile_writer(other))
        case {"type": "record", "fields": fields}:
            return _record([(field["name"], compile_writer(field["type"])) for field in fields])
        case {"type": "array", "items": items}:
            return _array(compile_writer(items))
        case {"type": "bytes", "logicalType": "decimal", "scale": scale}:
            return _decimal(scale)
        case {"type": "fixed", "size": size}:
            return _fixed(size)
        case {"type": str(name)} | str(name) if name in _PRIMITIVES:
            return _PRIMITIVES[name]
        case _:
            raise NotImplementedError(f"no writer for {schema!r}")


_PAIRS = [bytes((number & 127 | 128, number >> 7 | 128)) for number in range(1 << 14)]


def _long(out: bytearray, number: int) -> None:
    """Zigzag, then seven bits a byte, the lowest first; two bytes at a time while there are more."""
    number = (number << 1) ^ (number >> 63)
    while number > 16_383:
        out += _PAIRS[number & 16_383]
        number >>= 14
    if number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)


def _bytes(out: bytearray, value: bytes) -> None:
    size = len(value)
    if size < 64:
        out.append(size << 1)
    else:
        _long(out, size)
    out += value


def _string(out: bytearray, value: str) -> None:
    _bytes(out, value.encode())


def _boolean(out: bytearray, value: bool) -> None:
    out.append(1 if value else 0)


_PRIMITIVES: dict[str, Write] = {
    "string": _string,
    "bytes": _bytes,
    "boolean": _boolean,
    "int": _long,
    "long": _long,
}


def _decimal(scale: int) -> Write:
    """The unscaled integer, big-endian in two's complement, as short as it goes."""

    def write(out: bytearray, value: Decimal) -> None:
        unscaled = int(value.scaleb(scale, _WIDE))
        size = (unscaled.bit_length() + 8) >> 3
        out.append(size << 1)  # a size of one byte: decimals have at most 38 digits
        out += unscaled.to_bytes(size, "big", signed=True)

    return write


def _fixed(size: int) -> Write:
    def write(out: bytearray, value: bytes) -> None:
        if len(value) != size:
            raise TypeError(f"{size} bytes are expected, not {len(value)}")
        out += value

    return write


def _nullable(inner: Write) -> Write:
    def write(out: bytearray, value: Any) -> None:
        if value is None:
            out.append(0)
        else:
            out.append(2)
            inner(out, value)

    return write


def _array(item: Write) -> Write:
    def write(out: bytearray, values: list[Any]) -> None:
        if values:
            _long(out, len(values))
            for value in values:
                item(out, value)
        out.append(0)

    return write


def _record(fields: list[tuple[str, Write]]) -> Write:
    writes = [write for _, write in fields]
    values = attrgetter(*(name for name, _ in fields))

    def record(out: bytearray, value: Any) -> None:
        for write, item in zip(writes, values(value), strict=True):
            write(out, item)

    return record
