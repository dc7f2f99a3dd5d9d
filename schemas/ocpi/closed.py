"""The enums of 2.2.1 and 2.1.1, which 2.3.0 opened or gave more values, and what is said for the others.

A platform that speaks an earlier version may refuse a whole object for one word that its version does not
have. So of a list, values that the version does not have are left out; a single one is OTHER where there is
such a value, is left out where the field is optional, and else is the nearest. A location is written without
the connectors of standards that the version does not have, and without EVSEs that have no other connector. In
a CDR, a session, and a connector or an EVSE that is asked for by itself, it is the nearest plug.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from schemas.ocpi.objects import PowerType
from schemas.ocpi.platforms import Role

_TOKENS_211 = frozenset(("OTHER", "RFID"))
_TOKENS_221 = _TOKENS_211 | {"AD_HOC_USER", "APP_USER"}
_PLUGS_211 = frozenset(
    (
        *("CHADEMO", "IEC_60309_2_single_16", "IEC_60309_2_three_16", "IEC_60309_2_three_32"),
        *("IEC_60309_2_three_64", "IEC_62196_T1", "IEC_62196_T1_COMBO", "IEC_62196_T2", "IEC_62196_T2_COMBO"),
        *("IEC_62196_T3A", "IEC_62196_T3C", "TESLA_R", "TESLA_S"),
        *(f"DOMESTIC_{letter}" for letter in "ABCDEFGHIJKL"),
    )
)
_PLUGS_221 = _PLUGS_211 | {
    *("CHAOJI", "DOMESTIC_M", "DOMESTIC_N", "DOMESTIC_O", "GBT_AC", "GBT_DC", "NEMA_5_20", "NEMA_6_30"),
    *("NEMA_6_50", "NEMA_10_30", "NEMA_10_50", "NEMA_14_30", "NEMA_14_50", "PANTOGRAPH_BOTTOM_UP"),
    "PANTOGRAPH_TOP_DOWN",
}
_NEAREST = {
    "SAE_J3400": "TESLA_S",
    "MCS": "IEC_62196_T2_COMBO",
    "PANTOGRAPH_BOTTOM_UP": "IEC_62196_T2_COMBO",
    "PANTOGRAPH_TOP_DOWN": "IEC_62196_T2_COMBO",
    "CHAOJI": "CHADEMO",
    "GBT_DC": "CHADEMO",
    "DOMESTIC_M": "DOMESTIC_D",
    "DOMESTIC_N": "DOMESTIC_J",
    "DOMESTIC_O": "DOMESTIC_C",
    **dict.fromkeys(("NEMA_5_20", "NEMA_6_30", "NEMA_6_50", "NEMA_10_30", "NEMA_10_50"), "DOMESTIC_B"),
    **dict.fromkeys(("NEMA_14_30", "NEMA_14_50"), "DOMESTIC_B"),
}
_CAPABILITIES_211 = frozenset(
    (
        *("CHARGING_PROFILE_CAPABLE", "CREDIT_CARD_PAYABLE", "REMOTE_START_STOP_CAPABLE", "RESERVABLE"),
        *("RFID_READER", "UNLOCK_CAPABLE"),
    )
)
_CAPABILITIES_221 = _CAPABILITIES_211 | {
    *("CHARGING_PREFERENCES_CAPABLE", "CHIP_CARD_SUPPORT", "CONTACTLESS_CARD_SUPPORT", "DEBIT_CARD_PAYABLE"),
    *("PED_TERMINAL", "START_SESSION_CONNECTOR_REQUIRED", "TOKEN_GROUP_CAPABLE"),
}
_RESTRICTIONS = frozenset(("EV_ONLY", "PLUGGED", "DISABLED", "CUSTOMERS", "MOTORCYCLES"))
_FACILITIES_211 = frozenset(
    (
        *("HOTEL", "RESTAURANT", "CAFE", "MALL", "SUPERMARKET", "SPORT", "RECREATION_AREA", "NATURE"),
        *("MUSEUM", "BUS_STOP", "TAXI_STAND", "TRAIN_STATION", "AIRPORT", "CARPOOL_PARKING", "FUEL_STATION"),
        "WIFI",
    )
)
_FACILITIES_221 = _FACILITIES_211 | {"BIKE_SHARING", "TRAM_STOP", "METRO_STATION", "PARKING_LOT"}
_IMAGES = frozenset(("CHARGER", "ENTRANCE", "LOCATION", "NETWORK", "OPERATOR", "OTHER", "OWNER"))
_IMPACTS = frozenset(("NUCLEAR_WASTE", "CARBON_DIOXIDE"))
_PARKING_221 = frozenset(
    (
        *("ALONG_MOTORWAY", "PARKING_GARAGE", "PARKING_LOT", "ON_DRIVEWAY", "ON_STREET"),
        "UNDERGROUND_GARAGE",
    )
)
_PARKING_211 = frozenset(
    ("ON_STREET", "PARKING_GARAGE", "UNDERGROUND_GARAGE", "PARKING_LOT", "OTHER", "UNKNOWN")
)
_POWERS_211 = {PowerType.AC_2_PHASE: PowerType.AC_1_PHASE, PowerType.AC_2_PHASE_SPLIT: PowerType.AC_1_PHASE}


class _Drop(Exception):  # noqa: N818 - says that a part of a list is left out
    pass


_Rule = Callable[[Any], Any]


def _else(known: frozenset[str], other: str | None) -> _Rule:
    return lambda value: value if value is None or value in known else other


def _only(known: frozenset[str]) -> _Rule:
    return lambda values: [value for value in values if value in known]


def _or_drop(known: frozenset[str]) -> _Rule:
    def rule(value: str | None) -> str | None:
        if value is not None and value not in known:
            raise _Drop
        return value

    return rule


def _nearest(known: frozenset[str]) -> _Rule:
    """A plug of the same family; where none is known, the one that is the most frequent."""
    return lambda value: value if value in known else _NEAREST.get(value, "IEC_62196_T2")


_PLUGS = {"2.2.1": _nearest(_PLUGS_221), "2.1.1": _nearest(_PLUGS_211)}
"""Of connectors that are not left out."""


def _role(role: Role) -> Role:
    """Payment terminal providers came with 2.3.0."""
    return Role.OTHER if role is Role.PTP else role


_RULES: Mapping[str, Mapping[tuple[str, str], _Rule]] = {
    "2.2.1": {
        ("Token", "type"): _else(_TOKENS_221, "OTHER"),
        ("CdrToken", "type"): _else(_TOKENS_221, "OTHER"),
        ("PublishTokenType", "type"): _or_drop(_TOKENS_221),
        ("Connector", "standard"): _or_drop(_PLUGS_221),
        ("CdrLocation", "connector_standard"): _PLUGS["2.2.1"],
        ("EVSE", "capabilities"): _only(_CAPABILITIES_221),
        ("EVSE", "parking_restrictions"): _only(_RESTRICTIONS),
        ("Location", "facilities"): _only(_FACILITIES_221),
        ("Location", "parking_type"): _else(_PARKING_221, None),
        ("Image", "category"): _else(_IMAGES, "OTHER"),
        ("EnvironmentalImpact", "category"): _or_drop(_IMPACTS),
        ("ClientInfo", "role"): _role,
        ("CredentialsRole", "role"): _role,
    },
    "2.1.1": {
        ("Token", "type"): _else(_TOKENS_211, "OTHER"),
        ("Connector", "standard"): _or_drop(_PLUGS_211),
        ("Connector", "power_type"): lambda value: _POWERS_211.get(value, value),
        ("EVSE", "capabilities"): _only(_CAPABILITIES_211),
        ("EVSE", "parking_restrictions"): _only(_RESTRICTIONS),
        ("Location", "facilities"): _only(_FACILITIES_211),
        ("Location", "type"): _else(_PARKING_211, "OTHER"),
        ("Image", "category"): _else(_IMAGES, "OTHER"),
        ("EnvironmentalImpact", "source"): _or_drop(_IMPACTS),
    },
}


class _Field(NamedTuple):
    """A field to look at: by a rule, or the struct or structs in it."""

    name: str
    rule: _Rule | None
    needed: bool  # a list that must hold something


def close(version: str, found: Any) -> Any:
    """An object of an earlier version with the words that the version has; the one given stays as it is."""
    return _close(version, found, keep=type(found).__name__ != "Location")


def _close(version: str, found: Any, *, keep: bool) -> Any:
    """`keep`: connectors are never left out. Raises _Drop when the object is to be left out."""
    changes: dict[str, Any] = {}
    for field in _fields(version, type(found)):
        value = getattr(found, field.name)
        if field.rule is not None:
            rule = _PLUGS[version] if keep and field.name == "standard" else field.rule
            new = rule(value)
        elif isinstance(value, list):
            new = _each(version, value, keep=keep)
            if field.needed and not new:
                raise _Drop
        elif value is None:
            continue
        else:
            new = _close(version, value, keep=keep)
        if new != value:
            changes[field.name] = new
    return msgspec.structs.replace(found, **changes) if changes else found


def _each(version: str, values: list[Any], *, keep: bool) -> list[Any]:
    news = []
    for value in values:
        try:
            news.append(_close(version, value, keep=keep))
        except _Drop:
            continue
    return news


_known_fields: dict[tuple[str, type], tuple[_Field, ...]] = {}


def _fields(version: str, struct: type) -> tuple[_Field, ...]:
    """What there is to look at in a struct."""
    if (known := _known_fields.get((version, struct))) is not None:
        return known
    fields = []
    for field in msgspec.structs.fields(struct):
        rule = _RULES[version].get((struct.__name__, field.name))
        part, needed = _part(inspect.type_info(field.type))
        if rule is not None or (part is not None and _fields(version, part)):
            fields.append(_Field(field.name, rule, needed))
    found = _known_fields[version, struct] = tuple(fields)
    return found


def _part(found: inspect.Type) -> tuple[type | None, bool]:
    """The struct that a field holds, one or a list of them, and whether that list must hold something."""
    while isinstance(found, inspect.Metadata | inspect.UnionType):
        if isinstance(found, inspect.Metadata):
            found = found.type
        else:
            found = next((t for t in found.types if not isinstance(t, inspect.NoneType)), found.types[0])
    if isinstance(found, inspect.StructType):
        return found.cls, False
    if isinstance(found, inspect.ListType):
        return _part(found.item_type)[0], bool(found.min_length)
    return None, False
