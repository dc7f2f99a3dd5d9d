"""Reading Avro fast: a flat record's schema compiled to straight Python, for what every fold reads.

The library walks the schema anew for each datum and puts it into a dictionary first, which is half of what
an event costs to decode. What this reader finds odd (a long block, a length beyond the end, text that is no
UTF-8) it leaves to the library, which reads it or says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

Read = Callable[[bytes, int], Any]


class OddError(ValueError):
    """Bytes for the library to judge."""


def compile_reader(schema: Any, make: Callable[..., Any], wanted: Collection[str]) -> Read:
    """A function of a datum's bytes and where it begins, which calls `make` with the wanted fields by name.

    Understands strings, bytes, long, fixed, arrays of those, and nullable unions (null first). Raises
    OddError for what it can't read, NotImplementedError at once for a schema that it doesn't understand.
    """
    lines = ["def read(data, at):", " try:"]
    arguments = []
    for number, field in enumerate(schema["fields"]):
        into = f"f{number}" if field["name"] in wanted else None
        lines += [f"  {line}" for line in _lines(field["type"], into)]
        if into:
            arguments.append(f"{field['name']}={into}")
    lines += [
        "  if at <= len(data):",
        f"   return make({', '.join(arguments)})",
        " except (IndexError, UnicodeDecodeError):",
        "  pass",
        " raise odd",
    ]
    scope: dict[str, Any] = {"make": make, "odd": OddError}
    exec("\n".join(lines), scope)  # noqa: S102 - source made above, from a schema of ours
    read: Read = scope["read"]
    return read


def _lines(schema: Any, into: str | None) -> list[str]:
    """Statements that move `at` behind one value of `data`, and read it into a variable if one is named."""
    match schema:
        case ["null", other]:
            found = [f" {line}" for line in _lines(other, into)]
            none = ["else:", f" {into} = None"] if into else []
            return ["at += 1", "if data[at - 1] == 2:", *found, "elif data[at - 1]:", " raise odd", *none]
        case {"type": "array", "items": items}:
            found = [f"  {line}" for line in _lines(items, into and "item")]
            into_list = [f"{into} = []"] if into else []
            append = [f"  {into}.append(item)"] if into else []
            return [*into_list, *_number("left"), "while left:", " if left & 1:", "  raise odd",
                    " for _ in range(left >> 1):", *found, *append,
                    *(f" {line}" for line in _number("left"))]  # fmt: skip
        case {"type": "fixed", "size": size}:
            return [*([f"{into} = data[at:at + {size}]"] if into else []), f"at += {size}"]
        case {"type": str(name)} | str(name) if name in ("string", "bytes"):
            begin = [*_number("size"), "if size & 1:", " raise odd"]
            if not into:
                return [*begin, "at += size >> 1"]
            text = ".decode()" if name == "string" else ""
            return [*begin, "end = at + (size >> 1)", f"{into} = data[at:end]{text}", "at = end"]
        case {"type": "long"} | "long":
            number = into or "left"
            return [*_number(number), f"{number} = ({number} >> 1) ^ -({number} & 1)"]
        case _:
            raise NotImplementedError(f"no reader for {schema!r}")


def _number(into: str) -> list[str]:
    """Seven bits a byte, the lowest first; still zigzag."""
    return [f"{into} = data[at]", "at += 1", f"if {into} > 127:", f" {into} &= 127", " shift = 7",
            " while (byte := data[at]) > 127:", f"  {into} |= (byte & 127) << shift", "  shift += 7",
            "  at += 1", " at += 1", f" {into} |= byte << shift"]  # fmt: skip
