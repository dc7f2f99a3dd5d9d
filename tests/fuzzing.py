"""Bodies for a fuzz: objects made from the specification's tables, most of them with something wrong in them.

Nothing here knows Voltfold's own structs: what is fit is what `tests.ocpi_tables` says. All is drawn from one
generator of random numbers, so a seed tells a whole run.
"""

from __future__ import annotations

import json
import string
from copy import deepcopy
from random import Random
from typing import Any

from tests.ocpi_tables import PATTERNS, Field, table, words

CLASSES = {
    "session": "Session",
    "cdr": "CDR",
    "tariff": "Tariff",
    "location": "Location",
    "evse": "EVSE",
    "connector": "Connector",
    "token": "Token",
    "credentials": "Credentials",
    "client_info": "ClientInfo",
    "start_session": "StartSession",
    "stop_session": "StopSession",
    "reserve_now": "ReserveNow",
    "cancel_reservation": "CancelReservation",
    "unlock_connector": "UnlockConnector",
    "command_result": "CommandResult",
    "charging_preferences": "ChargingPreferences",
    "location_references": "LocationReferences",
    "set_charging_profile": "SetChargingProfile",
    "active_charging_profile": "ActiveChargingProfile",
    "profile_result": "ActiveChargingProfileResult",
    "terminal": "Terminal",
    "new_terminal": "Terminal",
    "terminal_update": "Terminal",
    "financial_advice_confirmation": "FinancialAdviceConfirmation",
    "invoice_reconciliation": "InvoiceReconciliationRecord",
}
"""Kinds of bodies: the class in the tables."""
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
_PLAIN = string.ascii_letters + string.digits + "-_*"
_LETTERS = _PRINTABLE + "äßñéΩдж中日本語🔌½€"
_DEEP = 20_000


def class_of(kind: str, version: str) -> str:
    """The class of a kind of body. 2.1.1 posts a CommandResponse as result (mod_commands 2.1.1)."""
    return "CommandResponse" if (kind, version) == ("command_result", "2.1.1") else CLASSES[kind]


class Bodies:
    """Bodies of one version."""

    def __init__(self, version: str, random: Random) -> None:
        self.version = version
        self.random = random

    # Fit

    def fit(self, type_: str, *, full: float = 0.4) -> dict[str, Any]:
        """An object of a class with all that it needs, and each of the rest with a probability of `full`."""
        fields = table(self.version, type_)
        assert fields is not None, (self.version, type_)
        return {
            field.name: self._value(type_, field, full)
            for field in fields
            if field.cardinality in "1+" or self.random.random() < full
        }

    def _value(self, type_: str, field: Field, full: float) -> Any:
        if field.cardinality in "*+":
            least = 1 if field.cardinality == "+" else 0
            return [self._one(type_, field, full * 0.7) for _ in range(self.random.randint(least, 2))]
        return self._one(type_, field, full * 0.7)

    def _one(self, type_: str, field: Field, full: float) -> Any:
        draw = self.random
        if table(self.version, field.type) is not None:
            return self.fit(field.type, full=full)
        if (type_, field.name) in PATTERNS:
            return self._patterned(field.name)
        match field.type.lower():
            case "int":
                return draw.choice((0, 1, 2, 16, 230, 3600, draw.randint(0, 10**6)))
            case "number":
                return draw.choice(
                    (0, 1, 0.25, -1.5, round(draw.uniform(-1000, 1000), 4), draw.randint(0, 10**6))
                )
            case "boolean":
                return draw.random() < 0.5
            case "datetime":
                return self._moment()
            case "url":
                return "https://example.com/" + self._text(_PLAIN, 0, 40)
            case "string":
                return self._text(_LETTERS, 1, min(field.length or 60, 60))
            case "cistring":
                return self._text(_PLAIN, 1, field.length or 36)
        return draw.choice(words(self.version, field.type) or ["OTHER"])

    def _text(self, letters: str, least: int, most: int) -> str:
        return "".join(self.random.choices(letters, k=self.random.randint(least, most)))

    def _moment(self) -> str:
        draw = self.random
        day = f"20{draw.randint(10, 40)}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"
        time = f"{draw.randint(0, 23):02}:{draw.randint(0, 59):02}:{draw.randint(0, 59):02}"
        return f"{day}T{time}{draw.choice(('', '.5', '.123'))}{draw.choice(('Z', 'Z', ''))}"

    def _patterned(self, name: str) -> Any:
        draw = self.random
        match name:
            case "weekday":
                return draw.randint(1, 7)
            case "latitude":
                return f"{draw.uniform(-89, 89):.6f}"
            case "longitude":
                return f"{draw.uniform(-179, 179):.6f}"
            case "start_date" | "end_date":
                return f"20{draw.randint(10, 40)}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"
        return f"{draw.randint(0, 23):02}:{draw.randint(0, 59):02}"

    # Unfit

    def spoil(self, value: Any, times: int) -> Any:
        """A copy with so many things changed, at whatever depth: dropped, doubled, misspelt, another."""
        value = deepcopy(value)
        for _ in range(times):
            places = list(_places(value))
            if not places:
                return self.junk()
            at, name = self.random.choice(places)
            match self.random.randrange(8):
                case 0:
                    del at[name]
                case 1 if isinstance(at, list):
                    at.append(deepcopy(at[name]))
                case 1:
                    at[f"{name}_"] = at.pop(name)
                case 2 | 3:
                    at[name] = self.junk()
                case _:
                    at[name] = self._near(at[name])
        return value

    def _near(self, value: Any) -> Any:
        """Something like a value, and perhaps no longer fit."""
        draw = self.random
        match value:
            case bool():
                return draw.choice((str(value).lower(), int(value), None))
            case int() | float() if abs(value) < 10**12:
                near = (
                    -value,
                    str(value),
                    f"{value}x",
                    value + 0.5,
                    float(value),
                    value * 10**13,
                    [value],
                    "",
                )
                return draw.choice((*near, 8, 10**400, 1e308, 1e-300, None, True))
            case str():
                return draw.choice(
                    (
                        "", None, value + " ", value * 9, value.lower(), value[:-1], value + "\n",
                        "\x00" + value, value + "\x85", value + "\u2028", "é" + value[1:],
                        value.replace("Z", "+02:00"), value.replace("Z", "+00:00"), value.replace("T", " "),
                        value + "Z", [value], {"text": value},
                        "2026-02-30T00:00:00Z", "2026-01-05", "24:00", 7, "null", "x" * 256,
                    )
                )  # fmt: skip
            case list():
                return draw.choice(([], None, {}, [*value, None], value * 3, value[:1] and value[0]))
        return draw.choice(({}, [], None, [value], "{}", 0))

    def junk(self, depth: int = 2) -> Any:
        """Anything that JSON can say."""
        draw = self.random
        kinds = 7 if depth else 5
        match draw.randrange(kinds):
            case 0:
                return draw.choice((None, True, False))
            case 1:
                return draw.choice((0, -1, 1e308, 1e-320, 10**400, 2**53, -(2**70), draw.uniform(-1e9, 1e9)))
            case 2:
                return draw.choice(
                    ("", "#NA", "null", "2026-02-30T00:00:00Z", "9999-12-31T23:59:59Z", "\ud800")
                )
            case 3 | 4:
                return self._text(_LETTERS + "\x00\n\x7f\x85/%.", 0, draw.choice((3, 40, 300)))
            case 5:
                return [self.junk(depth - 1) for _ in range(draw.randrange(3))]
        return {self._text(_PLAIN, 0, 8): self.junk(depth - 1) for _ in range(draw.randrange(3))}

    def encode(self, value: Any) -> bytes:
        """As JSON; once in a while as no JSON, or as no text at all."""
        draw = self.random
        text = json.dumps(value, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
        match draw.randrange(40):
            case 0:
                return text[: draw.randrange(len(text) + 1)]
            case 1:
                at = draw.randrange(len(text) + 1)
                return text[:at] + draw.randbytes(draw.randrange(1, 8)) + text[at:]
            case 2 if draw.random() < 0.1:
                return b"[" * draw.randrange(1, _DEEP) + text
        return text


def _places(value: Any) -> Any:
    """Everything that is in something, at any depth: in what, and under which name."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield value, name
        yield from _places(item)
