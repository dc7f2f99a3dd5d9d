"""Holds values to the tables of the specification: fields, types, lengths, cardinalities, enums.

`tests/data/ocpi-tables` has the object tables of each version, one field a line: name, type with its length,
cardinality. Nothing here knows how Voltfold reads or writes.

`faults` is about what we say, and takes the tables by the letter. `unfit` is about what we are told, and
grants what docs/ocpi.md says is read kindly; all that it finds has to be refused.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from decimal import Decimal, InvalidOperation
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


# What is told


_SHORT_TIME = re.compile(r"([0-1]\d|2[0-3]):[0-5]\d", re.ASCII)
_DAY = re.compile(r"[12]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", re.ASCII)
_DEGREES = re.compile(r"-?\d{1,3}(\.\d{1,15})?", re.ASCII)
PATTERNS = {
    ("RegularHours", "period_begin"): _SHORT_TIME,
    ("RegularHours", "period_end"): _SHORT_TIME,
    ("RegularHours", "weekday"): range(1, 8),
    ("TariffRestrictions", "start_time"): _SHORT_TIME,
    ("TariffRestrictions", "end_time"): _SHORT_TIME,
    ("TariffRestrictions", "start_date"): _DAY,
    ("TariffRestrictions", "end_date"): _DAY,
    ("GeoLocation", "latitude"): _DEGREES,
    ("GeoLocation", "longitude"): _DEGREES,
    ("AdditionalGeoLocation", "latitude"): _DEGREES,
    ("AdditionalGeoLocation", "longitude"): _DEGREES,
}
"""What the descriptions of fields say beyond their types (mod_locations, mod_tariffs). Of degrees, any number
of decimals is taken."""
_TOLD_MOMENT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d+)?([Zz]|[+-]00:?00)?", re.ASCII
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


_LACKING = {
    ("Terminal", "last_updated"),  # payment_terminal_create
    ("Terminal", "terminal_id"),  # payment_terminal_put_update: it is in the URL
    ("FinancialAdviceConfirmation", "eft_data"),  # payment_financial_advice_confirmation_example_failure
}
"""What the tables require, and examples of the payments module lack."""


def optional(version: str, type_: str, field: Field) -> bool:
    """Whether a partner may leave a field out: as the table says, or as examples of the specification do."""
    return (
        field.cardinality in "?*"
        or (type_, field.name) == ("Tariff", "tax_included")  # cdr_example, 2.3.0
        or (type_, field.name) in _LACKING
        or (version == "2.1.1" and (type_, field.name) == ("EnvironmentalImpact", "source"))  # `category`
    )


def unfit(version: str, type_: str, value: Any, *, part: bool = False, path: str = "") -> list[str]:
    """What a value that a partner sends has that validation must refuse. `part`: of a PATCH.

    Fields that are not in the tables may be there. Null is a field that is not there, where it may be
    missing.
    """
    classes, _ = _tables(version)
    if not isinstance(value, dict):
        return [f"{path}: no {type_}"]
    found = []
    for field in classes[type_]:
        at = f"{path}.{field.name}"
        said = value.get(field.name)
        if said is None:
            missing = field.name not in value
            if field.name == "before_taxes" and "excl_vat" in value:  # payment_financial_advice_confirmation
                continue
            if not optional(version, type_, field) and not (
                part and missing and field.name != "last_updated"
            ):
                found.append(f"{at}: missing")
        elif field.cardinality in "*+":
            empty = field.cardinality == "+" and not said and not optional(version, type_, field)
            if not isinstance(said, list) or empty:
                found.append(f"{at}: {said!r} for a list")
                continue
            for index, item in enumerate(said):
                found += _unfit(version, type_, field, item, f"{at}[{index}]")
        else:
            found += _unfit(version, type_, field, said, at)
    return found


def _unfit(version: str, type_: str, field: Field, value: Any, at: str) -> list[str]:
    classes, _ = _tables(version)
    if field.type in classes:
        return unfit(version, field.type, value, path=at)
    fine = _is_fit(version, field, value)
    match PATTERNS.get((type_, field.name)):
        case range() as allowed:
            fine = fine and value in allowed
        case re.Pattern() as pattern:
            fine = isinstance(value, str) and pattern.fullmatch(value) is not None
    return [] if fine else [f"{at}: {str(value)[:300]!r} is no {field.type}({field.length})"]


def _is_fit(version: str, field: Field, value: Any) -> bool:
    match field.type.lower():
        case "int":
            whole = isinstance(value, Decimal) and value == value.to_integral_value()
            return whole or (isinstance(value, int) and not isinstance(value, bool))
        case "number":
            exact = isinstance(value, int | Decimal) and not isinstance(value, bool)
            return exact or _is_number(value)
        case "boolean":
            return isinstance(value, bool)
        case "datetime":
            return isinstance(value, str) and _is_moment(value)
        case "url":
            return isinstance(value, str) and len(value) <= _LONGEST_URL and not _CONTROL.search(value)
        case "string":
            return (
                isinstance(value, str)
                and not _CONTROL.search(value)
                and len(value) <= (field.length or 10**6)
            )
        case "cistring":
            fine = isinstance(value, str) and value.isascii() and value.isprintable()
            return fine and len(value) <= (field.length or 10**6)
    known = _words(version, field.type)
    return isinstance(value, str) and value != "" and (known is None or value in known)


def _is_number(value: Any) -> bool:
    """Whether a text is a number, as examples of 2.1.1 write some; white space around it does no harm."""
    try:
        return isinstance(value, str) and Decimal(value).is_finite()
    except InvalidOperation:
        return False


def _is_moment(value: str) -> bool:
    match = _TOLD_MOMENT.fullmatch(value)
    if match is None:
        return False
    try:
        datetime(*(int(part) for part in match.groups()[:6]))  # noqa: DTZ001 - whether there is such a moment
    except ValueError:
        return False
    return True


@cache
def _words(version: str, enum: str) -> frozenset[str] | None:
    """The values of an enum; None where any will do, as in those that 2.3.0 has opened."""
    newest = {"Allowed": "AllowedType", "LocationType": "ParkingType"}.get(enum, enum)
    if _tables("2.3.0")[1].get(newest, "") is None:
        return None
    known = _tables(version)[1][enum]
    assert known is not None
    return frozenset(known.split())


def table(version: str, type_: str) -> list[Field] | None:
    """The fields of a class; None for what is no class of the version."""
    return _tables(version)[0].get(type_)


def words(version: str, enum: str) -> list[str]:
    """The values that the tables name of an enum."""
    return (_tables(version)[1][enum] or "").split()
