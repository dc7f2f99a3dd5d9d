"""Hypothesis strategies for OCPI objects of every version, made from the structs' own types and limits.

`structs(type)` is any object of a struct of `schemas.ocpi`; `canonical(kind)` any canonical object,
`spoken(kind, version)` any object as that version's struct has it.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from schemas.ocpi import objects, platforms, requests, v211, v211_requests, v221, wire
from schemas.ocpi.closed import close

PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))

_floats = st.floats(-1e5, 1e5, allow_nan=False).filter(lambda number: not 0 < abs(number) < 1e-20)
numbers = st.one_of(
    st.decimals(-(10**5), 10**5, places=4, allow_nan=False, allow_infinity=False),
    st.integers(-1000, 1000).map(Decimal),
    _floats.map(lambda number: Decimal(repr(number))),
)
"""Numbers as partners write them: with four decimals, whole, or floats printed in full."""

moments = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
ids = st.text(string.ascii_letters + string.digits + "-_*", min_size=1, max_size=36)
_PATTERNS = {
    objects.Time: st.times().map(lambda time: f"{time:%H:%M}"),
    objects.Date: st.dates(datetime(1000, 1, 1).date(), datetime(2999, 12, 31).date()).map(str),  # noqa: DTZ001
    platforms.Secret: st.text(string.ascii_letters + string.digits + "-._~+/=", min_size=1, max_size=64),
    objects.Degrees: st.decimals(-90, 90, places=6).map(lambda number: f"{number:f}"),
}
# Identifiers of 2.1.1 may have 39 characters where those of later versions, and so canonical ones, have 36.
_SHORTER = {(v211.Location, "id"), (v211.EVSE, "uid")}


def _of(type_: inspect.Type, *, ci: bool = False) -> st.SearchStrategy:
    match type_:
        case inspect.Metadata():
            return _of(type_.type, ci=ci or bool((type_.extra or {}).get("ci")))
        case inspect.UnionType():
            return st.one_of([_of(item) for item in type_.types])
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.DecimalType():
            return numbers
        case inspect.DateTimeType():
            return moments
        case inspect.IntType():
            return st.integers(type_.ge, type_.le)
        case inspect.EnumType():
            return st.sampled_from(list(type_.cls))
        case inspect.StructType():
            return structs(type_.cls)
        case inspect.ListType():
            least = type_.min_length or 0
            return st.lists(_of(type_.item_type), min_size=least, max_size=least + 1)
        case inspect.StrType() if type_.pattern:
            return next(made for known, made in _PATTERNS.items() if _pattern(known) == type_.pattern)
        case inspect.StrType():
            most = min(type_.max_length or 6, 6)
            letters = (
                st.sampled_from(PRINTABLE)
                if ci
                else st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])
            )
            return st.text(letters, min_size=type_.min_length or 0, max_size=most)
    raise AssertionError(type_)


def _pattern(annotation: Any) -> str | None:
    found = inspect.type_info(annotation)
    while isinstance(found, inspect.Metadata):
        found = found.type
    assert isinstance(found, inspect.StrType)
    return found.pattern


@cache
def structs(type_: type[msgspec.Struct]) -> st.SearchStrategy:
    """Any object of a struct."""
    fields = {field.name: _of(inspect.type_info(field.type)) for field in msgspec.structs.fields(type_)}
    fields |= {name: ids for owner, name in _SHORTER if owner is type_}
    if type_ in (v211.Session, v211.CDR):  # the EVSE and connector that were used are in it
        place = structs(v211.Location)
        evses = st.lists(structs(v211.EVSE), min_size=1, max_size=1)
        fields["location"] = st.builds(
            lambda where, used: msgspec.structs.replace(where, evses=used), place, evses
        )
    if type_ is v211.EnvironmentalImpact:  # whose category is another way to say the source
        fields |= {"source": fields["source"].filter(bool), "category": st.none()}
    found: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(fields)
    if type_ is requests.StartSession:  # whose connector is one of an EVSE
        found = found.filter(lambda values: values["evse_uid"] is not None or values["connector_id"] is None)
    return found.map(lambda values: type_(**values))


def _any(type_: type) -> st.SearchStrategy:
    if issubclass(type_, msgspec.Struct):
        return structs(type_)
    assert issubclass(type_, Enum)
    return st.sampled_from(list(type_))


CANONICAL: dict[str, type] = {kind: wire.canonical(kind) for kind in wire.KINDS}


def canonical(kind: str) -> st.SearchStrategy:
    """Any canonical object."""
    return _any(CANONICAL[kind])


def spoken(kind: str, version: str) -> tuple[st.SearchStrategy, Callable[[Any], Any]]:
    """Any object as a version has it, with words that it has, and what makes it canonical."""

    def worded(struct: Any) -> st.SearchStrategy:
        return _any(struct).map(
            lambda found: close(version, found) if isinstance(found, msgspec.Struct) else found
        )

    if version == "2.2.1":
        struct, up, _ = v221.KINDS[kind]
        return worded(struct), up
    if version == "2.1.1":
        struct, older, _ = (v211.KINDS | v211_requests.KINDS)[kind]
        return worded(struct), lambda found: older(found, ("NL", "TNM"))
    return canonical(kind), lambda found: found


sessions = canonical("session")
cdrs = canonical("cdr")
tariffs = canonical("tariff")
locations = canonical("location")
tokens = canonical("token")
