"""Holds values to the tables of the specification: fields, types, lengths, cardinalities, enums.

`tests/data/ocpi-tables` has the object tables of each version, one field a line: name, type with its length,
cardinality. Nothing here knows how Voltfold reads or writes.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

TABLES = Path(__file__).parent / "data" / "ocpi-tables"
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?")
_FIELD = re.compile(r"(\w+) (\w+?)(?:\((\d+)\))? ([1?*+])")
_LONGEST_MOMENT, _LONGEST_URL = 25, 255


class Field(NamedTuple):
    """A line of a table."""

    name: str
    type: str
    length: int | None
    cardinality: str


@cache
def _tables(version: str) -> tuple[dict[str, list[Field]], dict[str, str | None]]:
    found = json.loads((TABLES / f"{version}.json").read_text("utf-8"))
    classes = {
        name: [
            Field(match[1], match[2], int(match[3]) if match[3] else None, match[4])
            for line in lines
            if (match := _FIELD.fullmatch(line))
        ]
        for name, lines in found["classes"].items()
    }
    assert all(len(classes[name]) == len(lines) for name, lines in found["classes"].items())
    return classes, found["enums"]


def faults(version: str, type_: str, value: Any, path: str = "") -> list[str]:
    """What a value of a class has that the version's tables do not allow. Fields must be known, too."""
    classes, _ = _tables(version)
    if not isinstance(value, dict):
        return [f"{path}: no {type_}"]
    found = [
        f"{path}.{name}: no field of {type_}" for name in value.keys() - {f.name for f in classes[type_]}
    ]
    for field in classes[type_]:
        at = f"{path}.{field.name}"
        if field.name not in value:
            found += [f"{at}: missing"] if field.cardinality in "1+" else []
        elif field.cardinality in "*+":
            items = value[field.name]
            if not isinstance(items, list) or (field.cardinality == "+" and not items):
                found.append(f"{at}: {items!r} for a list")
                continue
            for index, item in enumerate(items):
                found += _faults(version, field, item, f"{at}[{index}]")
        else:
            found += _faults(version, field, value[field.name], at)
    return found


def _faults(version: str, field: Field, value: Any, at: str) -> list[str]:
    classes, enums = _tables(version)
    if field.type in classes:
        return faults(version, field.type, value, at)
    match field.type.lower():
        case "int":
            fine = isinstance(value, int) and not isinstance(value, bool)
        case "number":
            fine = isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            fine = isinstance(value, bool)
        case "datetime":
            fine = (
                isinstance(value, str)
                and len(value) <= _LONGEST_MOMENT
                and _MOMENT.fullmatch(value) is not None
            )
        case "url":
            fine = isinstance(value, str) and len(value) <= _LONGEST_URL and value.startswith("http")
        case "string" | "cistring":
            fine = isinstance(value, str) and value.isprintable() and len(value) <= (field.length or 10**6)
        case _:
            known = enums[field.type]
            fine = isinstance(value, str) and value != "" and (known is None or value in known.split())
    return [] if fine else [f"{at}: {value!r} is no {field.type}({field.length})"]
