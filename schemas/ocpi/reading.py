"""From bytes to one struct, strictly: what is wrong is told as an InvalidObjectError with the field's path.

The fast path is one typed decode. Only a body that it refuses is looked at a second time, with the nulls of
its objects taken out: for OCPI, "fields that are not specified may be considered as null values", and some
partners write what they have not as null, also where a list is expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Generic, NoReturn, TypeVar

import msgspec
from msgspec import inspect

T = TypeVar("T")


class InvalidObjectError(ValueError):
    """What was received is no valid object.

    `path`: the field, like `charging_periods[1].dimensions[0].type`; empty when it is the body as a whole.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.message)


_REFUSED = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)
_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(\w+)`$")
_OWN = re.compile(r"^([a-z_][a-z_.\[\]0-9]*): (.*)$", re.DOTALL)  # raised by an object's own checks
_STEP = re.compile(r"(\w+)|\[(\d+)\]")
_generic = msgspec.json.Decoder(float_hook=Decimal)


class Reader(Generic[T]):
    """Reads bodies into one type of struct."""

    def __init__(self, type_: type[T]) -> None:
        self._type = type_
        self._decode = msgspec.json.Decoder(type_).decode

    def read(self, body: bytes) -> T:
        """The object that a body holds. Raises InvalidObjectError, and nothing else."""
        try:
            found = self._decode(body)
        except _REFUSED as error:
            found = self._again(body, error)
        odd = (
            b"\\" in body or b"\x7f" in body or not body.isascii()
        )  # else no string can hold such a character
        if odd:
            _hold_text(body)
            if isinstance(found, msgspec.Struct):
                hold_printable(found)
        return found

    def _again(self, body: bytes, error: Exception) -> T:
        if isinstance(error, msgspec.ValidationError) and b"null" in body:
            try:
                return msgspec.convert(_without_nulls(_generic.decode(body)), self._type)
            except _REFUSED as second:
                refuse(second, self._type)
        return refuse(error, self._type)


def _hold_text(body: bytes) -> None:
    """Raises InvalidObjectError for what is no UTF-8: a decoder does not look into fields that it skips."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        refuse(error, None)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def generic(body: bytes) -> Any:
    """A body as plain values, numbers as int or Decimal. Raises InvalidObjectError."""
    try:
        return _generic.decode(body)
    except _REFUSED as error:
        refuse(error, None)


def refuse(error: Exception, type_: type | None) -> NoReturn:
    """Say an error of msgspec's, or of an object's own checks, in OCPI's terms. `type_` was expected."""
    if isinstance(error, InvalidObjectError):
        raise error
    if isinstance(error, RecursionError):
        raise InvalidObjectError("", "nested too deeply") from None
    if isinstance(error, UnicodeDecodeError):
        raise InvalidObjectError("", "the text is not valid UTF-8") from None
    if isinstance(error, ArithmeticError):
        raise InvalidObjectError("", "there is a number in it that cannot be read") from None
    match = _AT.match(str(error))
    assert match is not None
    what, path = match["what"], match["path"] or ""
    if missing := _MISSING.match(what):
        path, what = _join(path, missing[1]), "is required, but missing"
    elif own := _OWN.match(what):
        path, what = _join(path, own[1]), own[2]
    elif what.startswith("Invalid enum value"):
        allowed = _enum_at(type_, path)
        if allowed is not None:
            what = f"{what.removeprefix('Invalid enum value ')} is none of {', '.join(allowed)}"
    raise InvalidObjectError(path, what) from None


def _join(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field


def _enum_at(type_: type | None, path: str) -> list[str] | None:
    """The values that an enum at this path allows."""
    if type_ is None:
        return None
    found: inspect.Type | None = inspect.type_info(type_)
    for name, _index in _STEP.findall(path):
        if isinstance(found := _bare(found), inspect.StructType) and name:
            found = next((f.type for f in found.fields if f.encode_name == name), None)
        elif isinstance(found, inspect.ListType) and not name:
            found = found.item_type
        else:
            return None
    found = _bare(found)
    return [str(item.value) for item in found.cls] if isinstance(found, inspect.EnumType) else None


def _bare(found: inspect.Type | None) -> inspect.Type | None:
    """The type without what is written around it: metadata, and None or UNSET beside it."""
    while True:
        if isinstance(found, inspect.Metadata):
            found = found.type
        elif isinstance(found, inspect.UnionType):
            inner = [t for t in found.types if not isinstance(t, inspect.NoneType) and not _is_unset(t)]
            if len(inner) != 1:
                return None
            found = inner[0]
        else:
            return found


def _is_unset(found: inspect.Type) -> bool:
    return isinstance(found, inspect.CustomType) and found.cls is msgspec.UnsetType


# Strings

# Control characters, and the line and paragraph separators.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_Check = Callable[[Any, str], None]


def hold_printable(found: Any) -> None:
    """Raises InvalidObjectError for the first CiString that holds anything but printable ASCII, and the first
    string with a control character, such as a line break (types, "CiString" and "string")."""
    for field, check in _checks(type(found)):
        value = getattr(found, field)
        if value is not None and value is not msgspec.UNSET:
            check(value, field)


_known_checks: dict[type, list[tuple[str, _Check]]] = {}


def _checks(type_: type) -> list[tuple[str, _Check]]:
    """What to look at in a struct: its strings, and the parts that may hold some."""
    if (known := _known_checks.get(type_)) is not None:
        return known
    checks = []
    for field in msgspec.structs.fields(type_):
        check = _check_of(inspect.type_info(field.type))
        if check is not None:
            checks.append((field.name, check))
    _known_checks[type_] = checks
    return checks


def _check_of(found: inspect.Type) -> _Check | None:
    is_ci = False
    while isinstance(found, inspect.Metadata | inspect.UnionType):
        if isinstance(found, inspect.Metadata):
            is_ci = is_ci or bool((found.extra or {}).get("ci"))
            found = found.type
        else:
            inner = [t for t in found.types if not isinstance(t, inspect.NoneType) and not _is_unset(t)]
            if len(inner) != 1:
                return None
            found = inner[0]
    if isinstance(found, inspect.StrType):
        return _printable if is_ci else _uncontrolled
    if isinstance(found, inspect.StructType):
        return _part
    if isinstance(found, inspect.ListType):
        item = _check_of(found.item_type)
        return None if item is None else _each(item)
    return None


def _printable(value: str, path: str) -> None:
    if not (value.isascii() and value.isprintable()):
        raise InvalidObjectError(path, "a CiString holds printable ASCII characters only")


def _uncontrolled(value: str, path: str) -> None:
    if _CONTROL.search(value):
        raise InvalidObjectError(path, "a string holds printable characters only: no line breaks, no tabs")


def _part(value: Any, path: str) -> None:
    try:
        hold_printable(value)
    except InvalidObjectError as error:
        raise InvalidObjectError(_join(path, error.path), error.message) from None


def _each(check: _Check) -> _Check:
    def check_each(values: list[Any], path: str) -> None:
        for index, value in enumerate(values):
            check(value, f"{path}[{index}]")

    return check_each
