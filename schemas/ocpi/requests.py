"""What partners ask of each other, and what they answer: OCPI 2.3.0's commands, charging profiles, charging
preferences and real-time authorization.
"""

# ruff: noqa: RUF012 - an empty default of a struct is copied for each object

from __future__ import annotations

from enum import StrEnum

from schemas.ocpi.objects import (
    CiString36,
    Count,
    DateTime,
    DisplayText,
    Integer,
    Number,
    Part,
    ProfileType,
    Token,
    Url,
    sane,
    utc,
)

# Commands


class StartSession(Part, frozen=True, kw_only=True):
    """mod_commands, "StartSession". A connector is named with its EVSE only."""

    response_url: Url
    token: Token
    location_id: CiString36
    evse_uid: CiString36 | None = None
    connector_id: CiString36 | None = None
    authorization_reference: CiString36 | None = None

    def __post_init__(self) -> None:
        if self.connector_id is not None and self.evse_uid is None:
            raise ValueError("evse_uid: is required where connector_id is set")


class StopSession(Part, frozen=True, kw_only=True, gc=False):
    """mod_commands, "StopSession"."""

    response_url: Url
    session_id: CiString36


class ReserveNow(Part, frozen=True, kw_only=True):
    """mod_commands, "ReserveNow"."""

    response_url: Url
    token: Token
    expiry_date: DateTime
    reservation_id: CiString36
    location_id: CiString36
    evse_uid: CiString36 | None = None
    authorization_reference: CiString36 | None = None

    def __post_init__(self) -> None:
        utc(self, "expiry_date", self.expiry_date)


class CancelReservation(Part, frozen=True, kw_only=True, gc=False):
    """mod_commands, "CancelReservation"."""

    response_url: Url
    reservation_id: CiString36


class UnlockConnector(Part, frozen=True, kw_only=True, gc=False):
    """mod_commands, "UnlockConnector"."""

    response_url: Url
    location_id: CiString36
    evse_uid: CiString36
    connector_id: CiString36


class CommandResponseType(StrEnum):
    """mod_commands, "CommandResponseType"."""

    NOT_SUPPORTED = "NOT_SUPPORTED"
    REJECTED = "REJECTED"
    ACCEPTED = "ACCEPTED"
    UNKNOWN_SESSION = "UNKNOWN_SESSION"


class CommandResultType(StrEnum):
    """mod_commands, "CommandResultType"."""

    ACCEPTED = "ACCEPTED"
    CANCELED_RESERVATION = "CANCELED_RESERVATION"
    EVSE_OCCUPIED = "EVSE_OCCUPIED"
    EVSE_INOPERATIVE = "EVSE_INOPERATIVE"
    FAILED = "FAILED"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    REJECTED = "REJECTED"
    TIMEOUT = "TIMEOUT"
    UNKNOWN_RESERVATION = "UNKNOWN_RESERVATION"


class CommandResponse(Part, frozen=True, kw_only=True):
    """mod_commands, "CommandResponse". `timeout` in seconds."""

    result: CommandResponseType
    timeout: Count
    message: list[DisplayText] = []


class CommandResult(Part, frozen=True, kw_only=True):
    """mod_commands, "CommandResult"."""

    result: CommandResultType
    message: list[DisplayText] = []


# Charging preferences


class ChargingPreferences(Part, frozen=True, kw_only=True):
    """mod_sessions, "ChargingPreferences". Energy in kWh."""

    profile_type: ProfileType
    departure_time: DateTime | None = None
    energy_need: Number | None = None
    discharge_allowed: bool | None = None

    def __post_init__(self) -> None:
        utc(self, "departure_time", self.departure_time)
        sane("energy_need", self.energy_need)


class ChargingPreferencesResponse(StrEnum):
    """mod_sessions, "ChargingPreferencesResponse"."""

    ACCEPTED = "ACCEPTED"
    DEPARTURE_REQUIRED = "DEPARTURE_REQUIRED"
    ENERGY_NEED_REQUIRED = "ENERGY_NEED_REQUIRED"
    NOT_POSSIBLE = "NOT_POSSIBLE"
    PROFILE_TYPE_NOT_SUPPORTED = "PROFILE_TYPE_NOT_SUPPORTED"


# Real-time authorization


class AllowedType(StrEnum):
    """mod_tokens, "AllowedType"."""

    ALLOWED = "ALLOWED"
    BLOCKED = "BLOCKED"
    EXPIRED = "EXPIRED"
    NO_CREDIT = "NO_CREDIT"
    NOT_ALLOWED = "NOT_ALLOWED"


class LocationReferences(Part, frozen=True, kw_only=True):
    """mod_tokens, "LocationReferences"."""

    location_id: CiString36
    evse_uids: list[CiString36] = []


class AuthorizationInfo(Part, frozen=True, kw_only=True):
    """mod_tokens, "AuthorizationInfo"."""

    allowed: AllowedType
    token: Token
    location: LocationReferences | None = None
    authorization_reference: CiString36 | None = None
    info: DisplayText | None = None


# Charging profiles


class ChargingRateUnit(StrEnum):
    """mod_charging_profiles, "ChargingRateUnit": watt, or ampere per phase."""

    W = "W"
    A = "A"


class ChargingProfilePeriod(Part, frozen=True, kw_only=True, gc=False):
    """mod_charging_profiles, "ChargingProfilePeriod". Seconds from the profile's start; W or A."""

    start_period: Integer
    limit: Number

    def __post_init__(self) -> None:
        sane("limit", self.limit)


class ChargingProfile(Part, frozen=True, kw_only=True):
    """mod_charging_profiles, "ChargingProfile". Seconds; W or A, with any number of decimals."""

    start_date_time: DateTime | None = None
    duration: Integer | None = None
    charging_rate_unit: ChargingRateUnit
    min_charging_rate: Number | None = None
    charging_profile_period: list[ChargingProfilePeriod] = []

    def __post_init__(self) -> None:
        utc(self, "start_date_time", self.start_date_time)
        sane("min_charging_rate", self.min_charging_rate)


class SetChargingProfile(Part, frozen=True, kw_only=True):
    """mod_charging_profiles, "SetChargingProfile"."""

    charging_profile: ChargingProfile
    response_url: Url


class ActiveChargingProfile(Part, frozen=True, kw_only=True):
    """mod_charging_profiles, "ActiveChargingProfile"."""

    start_date_time: DateTime
    charging_profile: ChargingProfile

    def __post_init__(self) -> None:
        utc(self, "start_date_time", self.start_date_time)


class ChargingProfileResponseType(StrEnum):
    """mod_charging_profiles, "ChargingProfileResponseType"."""

    ACCEPTED = "ACCEPTED"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    REJECTED = "REJECTED"
    TOO_OFTEN = "TOO_OFTEN"
    UNKNOWN_SESSION = "UNKNOWN_SESSION"


class ChargingProfileResultType(StrEnum):
    """mod_charging_profiles, "ChargingProfileResultType"."""

    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    UNKNOWN = "UNKNOWN"


class ChargingProfileResponse(Part, frozen=True, kw_only=True, gc=False):
    """mod_charging_profiles, "ChargingProfileResponse". `timeout` in seconds."""

    result: ChargingProfileResponseType
    timeout: Count


class ActiveChargingProfileResult(Part, frozen=True, kw_only=True):
    """mod_charging_profiles, "ActiveChargingProfileResult"."""

    result: ChargingProfileResultType
    profile: ActiveChargingProfile | None = None


class ChargingProfileResult(Part, frozen=True, kw_only=True, gc=False):
    """mod_charging_profiles, "ChargingProfileResult"."""

    result: ChargingProfileResultType


class ClearProfileResult(Part, frozen=True, kw_only=True, gc=False):
    """mod_charging_profiles, "ClearProfileResult"."""

    result: ChargingProfileResultType


COMMANDS: dict[str, str] = {
    "CANCEL_RESERVATION": "cancel_reservation",
    "RESERVE_NOW": "reserve_now",
    "START_SESSION": "start_session",
    "STOP_SESSION": "stop_session",
    "UNLOCK_CONNECTOR": "unlock_connector",
}
"""mod_commands, "CommandType": the kind of each command's body."""
