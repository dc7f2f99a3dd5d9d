"""What an earlier version cannot say of an object of 2.3.0, field by field, and what it says instead.

What a field holds on the way through a version and back is either the same, or told here; a test holds the
translations to it with every example of the specification and with any object (`tests/unit/schemas`). The
table in `docs/ocpi.md` is made of this.
"""

from __future__ import annotations

from collections.abc import Mapping

_LOST = "left out"
_OWNER = "in the URL only; whoever reads says it"

_OTHER = "OTHER for a value that the version does not have"
_KNOWN = "those that the version has"
_NOT_HAD = "left out where the version does not have the value"
_PLUG = {"standard": "the nearest one that the version has"}
_PLUGS = "without connectors of standards that the version does not have, and EVSEs of nothing else"
_MIX = {"energy_mix.environ_impact": _KNOWN}
_WORDS_EVSE = {
    "capabilities": _KNOWN,
    "parking_restrictions": _KNOWN,
    "images.category": _OTHER,
}
_WORDS_LOCATION = {
    "facilities": _KNOWN,
    "images.category": _OTHER,
    "operator.logo.category": _OTHER,
    "suboperator.logo.category": _OTHER,
    "owner.logo.category": _OTHER,
    **_MIX,
}
_POWER = {"power_type": "AC_1_PHASE for AC_2_PHASE and AC_2_PHASE_SPLIT"}

_TAXES = {"taxes": "all of them as one difference, named VAT, without percentage and account number"}
_TARIFF_221 = {
    "preauthorize_amount": _LOST,
    "tax_included": "prices are without taxes: NO",
    "elements.price_components.price": "the VAT is taken out of prices that include it",
    "elements.price_components.vat": "left out where no taxes are applicable",
    **_MIX,
}
_CONNECTOR_221 = {"capabilities": _LOST}
_EVSE_221 = {"accepted_service_providers": _LOST, "parking": _LOST, **_WORDS_EVSE}
_COSTS = (
    "total_cost",
    "total_energy_cost",
    "total_fixed_cost",
    "total_parking_cost",
    "total_reservation_cost",
    "total_time_cost",
)
_TARIFF_211 = {
    "country_code": _OWNER,
    "party_id": _OWNER,
    "type": _LOST,
    "min_price": _LOST,
    "max_price": _LOST,
    "preauthorize_amount": _LOST,
    "start_date_time": _LOST,
    "end_date_time": _LOST,
    "tax_included": "prices are without taxes: NO",
    "elements": "without those that current or reservation restrict; free of charge if none is left",
    **_MIX,
}
_CONNECTOR_211 = {
    "capabilities": _LOST,
    "max_electric_power": _LOST,
    "tariff_ids": "the first one",
    **_POWER,
}
_EVSE_211 = _EVSE_221
_PERIODS_211 = {
    "charging_periods.dimensions": "those that 2.1.1 has; an ENERGY of 0 where that leaves none",
    "charging_periods.tariff_id": _LOST,
}
_TOKEN_221 = {"type": "OTHER for EMAID and what else the version does not have"}
_TOKEN_211 = {
    "type": "OTHER for all but RFID",
    "default_profile_type": _LOST,
    "energy_contract": _LOST,
    "group_id": _LOST,
}
_CDR_TOKEN_211 = {
    "cdr_token.country_code": "that of the `auth_id`, where it is a contract id of the eMI3; else empty",
    "cdr_token.party_id": "that of the `auth_id`, where it is a contract id of the eMI3; else empty",
    "cdr_token.type": "OTHER",
    "cdr_token.uid": "the `auth_id`, as `contract_id` is",
}
_COMMAND_TOKEN_211 = {f"token.{name}": what for name, what in _TOKEN_211.items()}


def _under(name: str, fields: Mapping[str, str]) -> dict[str, str]:
    return {f"{name}.{field}": what for field, what in fields.items()}


UNSAID: dict[tuple[str, str], Mapping[str, str]] = {
    ("session", "2.2.1"): {**_under("total_cost", _TAXES), **_under("cdr_token", _TOKEN_221)},
    ("cdr", "2.2.1"): {
        **_under("cdr_token", _TOKEN_221),
        "cdr_location.connector_standard": _PLUG["standard"],
        **_under("tariffs", _TARIFF_221),
        **{f"{cost}.taxes": _TAXES["taxes"] for cost in _COSTS},
    },
    ("tariff", "2.2.1"): _TARIFF_221,
    ("location", "2.2.1"): {
        "publish_allowed_to": "without those of token types that the version does not have",
        "parking_type": _NOT_HAD,
        **_WORDS_LOCATION,
        "help_phone": _LOST,
        "parking_places": _LOST,
        "evses": _PLUGS,
        **_under("evses", _EVSE_221),
        **_under("evses.connectors", _CONNECTOR_221),
    },
    ("evse", "2.2.1"): {**_EVSE_221, **_under("connectors", _CONNECTOR_221 | _PLUG)},
    ("connector", "2.2.1"): {**_CONNECTOR_221, **_PLUG},
    ("token", "2.2.1"): _TOKEN_221,
    ("start_session", "2.2.1"): _under("token", _TOKEN_221),
    ("reserve_now", "2.2.1"): _under("token", _TOKEN_221),
    ("authorization_info", "2.2.1"): _under("token", _TOKEN_221),
    ("credentials", "2.2.1"): {
        "hub_party_id": "the role HUB",
        "roles": "of a hub, the role HUB alone; OTHER for PTP",
    },
    ("client_info", "2.2.1"): {"role": "OTHER for PTP"},
    ("session", "2.1.1"): {
        "country_code": _OWNER,
        "party_id": _OWNER,
        **_CDR_TOKEN_211,
        "auth_method": "AUTH_REQUEST for COMMAND",
        "authorization_reference": _LOST,
        "location_id": "#NA where it is empty",
        "evse_uid": "left out where the location has no such EVSE",
        "connector_id": "left out where the location has no such connector",
        "status": "PENDING for RESERVATION",
        "total_cost.taxes": _LOST,
        **_PERIODS_211,
    },
    ("cdr", "2.1.1"): {
        "country_code": _OWNER,
        "party_id": _OWNER,
        "session_id": _LOST,
        **_CDR_TOKEN_211,
        "auth_method": "AUTH_REQUEST for COMMAND",
        "authorization_reference": _LOST,
        "cdr_location.id": "#NA where it is empty",
        "cdr_location.evse_uid": "#NA where it is empty",
        "cdr_location.evse_id": "#NA where it is empty",
        "cdr_location.connector_id": "#NA where it is empty",
        "cdr_location.postal_code": "left out where it is empty",
        "cdr_location.state": _LOST,
        "cdr_location.connector_standard": _PLUG["standard"],
        "cdr_location.connector_power_type": _POWER["power_type"],
        **_under("tariffs", _TARIFF_211),
        **_PERIODS_211,
        "signed_data": _LOST,
        "total_cost.taxes": _LOST,
        **{cost: _LOST for cost in _COSTS if cost != "total_cost"},
        "invoice_reference_id": _LOST,
        "credit": _LOST,
        "credit_reference_id": _LOST,
        "home_charging_compensation": _LOST,
    },
    ("tariff", "2.1.1"): _TARIFF_211,
    ("location", "2.1.1"): {
        "country_code": _OWNER,
        "party_id": _OWNER,
        "publish": "true",
        "publish_allowed_to": _LOST,
        "address": "its first 45 characters",
        "postal_code": "left out where it is empty",
        "state": _LOST,
        "parking_type": "UNKNOWN where it is not known, OTHER where 2.1.1 does not have the value",
        **_WORDS_LOCATION,
        "parking_places": _LOST,
        "help_phone": _LOST,
        "evses": _PLUGS,
        **_under("evses", _EVSE_211),
        **_under("evses.connectors", _CONNECTOR_211),
    },
    ("evse", "2.1.1"): {**_EVSE_211, **_under("connectors", _CONNECTOR_211 | _PLUG)},
    ("connector", "2.1.1"): {**_CONNECTOR_211, **_PLUG},
    ("token", "2.1.1"): {"country_code": _OWNER, "party_id": _OWNER, **_TOKEN_211},
    ("credentials", "2.1.1"): {
        "hub_party_id": _LOST,
        "roles": "the hub, or the first one, without saying which role it has: OTHER",
    },
    ("version_details", "2.1.1"): {"endpoints": "without role: each is there as SENDER and as RECEIVER"},
    ("start_session", "2.1.1"): {
        **_COMMAND_TOKEN_211,
        "connector_id": _LOST,
        "authorization_reference": _LOST,
    },
    ("reserve_now", "2.1.1"): {
        **_COMMAND_TOKEN_211,
        "reservation_id": "a number made of it, where it is none",
        "authorization_reference": _LOST,
    },
    ("command_response", "2.1.1"): {"message": _LOST, "timeout": "60 seconds"},
    ("command_result", "2.1.1"): {"message": _LOST, "result": "REJECTED for what 2.1.1 does not know"},
    ("authorization_info", "2.1.1"): {
        "token": "the token that was asked for",
        "authorization_reference": _LOST,
    },
}
"""Per kind and version: the fields (with all below them), and what becomes of them."""


def excused(kind: str, version: str, path: str) -> bool:
    """Whether a field of an object may be another after a way through a version. Paths have no indices."""
    fields = UNSAID.get((kind, version), {})
    return any(path == field or path.startswith(f"{field}.") for field in fields)


def markdown() -> str:
    """The table of `docs/ocpi.md`."""
    lines = ["| Object | Version | Field | Said instead |", "|---|---|---|---|"]
    for (kind, version), fields in UNSAID.items():
        lines += [f"| {kind} | {version} | `{field}` | {what} |" for field, what in fields.items()]
    return "\n".join(lines) + "\n"
