"""The canonical objects: OCPI 2.3.0's Session, CDR, Tariff, Location, Token and their parts.

Beside them are `platforms` (credentials, versions, client info), `requests` (commands, charging profiles and
preferences, authorization) and `payments` (with invoice reconciliation).

Field names, cardinalities and lengths are the specification's (2.3.0 core; `preauthorize_amount` is of 2.3.0
payments). Everything of Voltfold works on these; `schemas.ocpi.wire` reads and writes them in each version.

- A timestamp is an aware `datetime` in UTC. One without zone designator is UTC (types, "DateTime"); one with
  another offset than UTC's is refused, as "all timestamps SHALL be in UTC".
- A number is a `Decimal`, exact; beyond `LIMIT` or finer than `FINEST` it is refused.
- An enum is a `StrEnum`. An OpenEnum is a `str`, since any value is allowed.
- What is optional is None, a list of cardinality `*` is empty; both are left out when written.

Objects are immutable: change one by `msgspec.structs.replace`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

_DIGITS = 12
LIMIT = Decimal(10) ** _DIGITS
"""Every number is smaller than this: no amount or energy is so large, and products keep their places."""
FINEST = -40
"""Smallest exponent of a number: floats that partners print in full are still read exactly."""

# Printable ASCII only (types, "CiString"). The reader looks at a body as a whole before it looks at each of
# its CiStrings (`schemas.ocpi.reading`): a regular expression per string costs as much as all the rest.
_CI: dict[str, Any] = {"extra": {"ci": True}, "extra_json_schema": {"pattern": "^[ -~]*$"}}
_TIME = r"^([0-1][0-9]|2[0-3]):[0-5][0-9](?!\n)$"
_DATE = r"^[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])(?!\n)$"
_DEGREES = r"^-?[0-9]{1,3}(\.[0-9]{1,15})?(?!\n)$"

CountryCode = Annotated[str, Meta(max_length=2, **_CI)]
PartyId = Annotated[str, Meta(max_length=3, **_CI)]
Id = Annotated[str, Meta(min_length=1, max_length=36, **_CI)]
CdrId = Annotated[str, Meta(min_length=1, max_length=39, **_CI)]
CiString3 = Annotated[str, Meta(max_length=3, **_CI)]
CiString5 = Annotated[str, Meta(max_length=5, **_CI)]
CiString10 = Annotated[str, Meta(max_length=10, **_CI)]
CiString20 = Annotated[str, Meta(max_length=20, **_CI)]
CiString36 = Annotated[str, Meta(max_length=36, **_CI)]
CiString39 = Annotated[str, Meta(max_length=39, **_CI)]
CiString45 = Annotated[str, Meta(max_length=45, **_CI)]
CiString48 = Annotated[str, Meta(max_length=48, **_CI)]
CiString255 = Annotated[str, Meta(max_length=255, **_CI)]
Short = Annotated[str, Meta(min_length=1, max_length=255, **_CI)]
OpenEnum = Annotated[str, Meta(min_length=1, max_length=255, **_CI)]
Currency = Annotated[str, Meta(min_length=1, max_length=3, **_CI)]
Url = Annotated[str, Meta(max_length=255)]
Number = Decimal
Integer = Annotated[int, Meta(ge=-(2**53) + 1, le=2**53 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
DateTime = Annotated[datetime, Meta(extra_json_schema={"format": "date-time"})]
Time = Annotated[str, Meta(max_length=5, pattern=_TIME)]
Date = Annotated[str, Meta(max_length=10, pattern=_DATE)]
Degrees = Annotated[str, Meta(max_length=20, pattern=_DEGREES)]


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every object is: immutable, and written without what it has not."""


def utc(part: msgspec.Struct, field: str, value: datetime | None) -> None:
    """Hold a timestamp of a part to be UTC. Raises ValueError naming the field."""
    if value is None:
        return
    if value.tzinfo is None:
        msgspec.structs.force_setattr(part, field, value.replace(tzinfo=UTC))
    elif value.tzinfo is not UTC:
        if value.utcoffset() != timedelta(0):
            raise ValueError(f"{field}: a DateTime is in UTC, with Z or without zone designator")
        msgspec.structs.force_setattr(part, field, value.replace(tzinfo=UTC))


def sane(field: str, value: Decimal | None) -> None:
    """Hold a number to be one that can be reckoned with. Raises ValueError naming the field."""
    if value is None:
        return
    if len(text := str(value)) <= 12 and "E" not in text and value.is_finite():
        return  # cheap, and true of nearly all
    if not value.is_finite():
        raise ValueError(f"{field}: not a number")
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    if not FINEST <= exponent <= _DIGITS or (value and len(digits) + exponent > _DIGITS):
        raise ValueError(f"{field}: a number of at most {_DIGITS} digits and {-FINEST} decimals is expected")


# Types that modules share


class DisplayText(Part, frozen=True, kw_only=True, gc=False):
    """types, "DisplayText"."""

    language: Annotated[str, Meta(max_length=2)]
    text: Annotated[str, Meta(max_length=512)]


class TaxAmount(Part, frozen=True, kw_only=True, gc=False):
    """types, "TaxAmount"."""

    name: str
    amount: Number
    account_number: str | None = None
    percentage: Number | None = None

    def __post_init__(self) -> None:
        sane("amount", self.amount)
        sane("percentage", self.percentage)


class Price(Part, frozen=True, kw_only=True):
    """types, "Price"."""

    before_taxes: Number
    taxes: list[TaxAmount] = []

    def __post_init__(self) -> None:
        sane("before_taxes", self.before_taxes)


# Tokens


class WhitelistType(StrEnum):
    """mod_tokens, "WhitelistType"."""

    ALWAYS = "ALWAYS"
    ALLOWED = "ALLOWED"
    ALLOWED_OFFLINE = "ALLOWED_OFFLINE"
    NEVER = "NEVER"


class ProfileType(StrEnum):
    """mod_sessions, "ProfileType"."""

    CHEAP = "CHEAP"
    FAST = "FAST"
    GREEN = "GREEN"
    REGULAR = "REGULAR"


class EnergyContract(Part, frozen=True, kw_only=True, gc=False):
    """mod_tokens, "EnergyContract"."""

    supplier_name: Annotated[str, Meta(max_length=64)]
    contract_id: Annotated[str, Meta(max_length=64)] | None = None


class Token(Part, frozen=True, kw_only=True):
    """mod_tokens, "Token". `type` is an OpenEnum: RFID, APP_USER, AD_HOC_USER, EMAID, OTHER are known."""

    country_code: CountryCode
    party_id: PartyId
    uid: Id
    type: OpenEnum
    contract_id: CiString36
    visual_number: Annotated[str, Meta(max_length=64)] | None = None
    issuer: Annotated[str, Meta(max_length=64)]
    group_id: CiString36 | None = None
    valid: bool
    whitelist: WhitelistType
    language: Annotated[str, Meta(max_length=2)] | None = None
    default_profile_type: ProfileType | None = None
    energy_contract: EnergyContract | None = None
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)


# Locations


class Status(StrEnum):
    """mod_locations, "Status"."""

    AVAILABLE = "AVAILABLE"
    BLOCKED = "BLOCKED"
    CHARGING = "CHARGING"
    INOPERATIVE = "INOPERATIVE"
    OUTOFORDER = "OUTOFORDER"
    PLANNED = "PLANNED"
    REMOVED = "REMOVED"
    RESERVED = "RESERVED"
    UNKNOWN = "UNKNOWN"


class ConnectorFormat(StrEnum):
    """mod_locations, "ConnectorFormat"."""

    SOCKET = "SOCKET"
    CABLE = "CABLE"


class PowerType(StrEnum):
    """mod_locations, "PowerType"."""

    AC_1_PHASE = "AC_1_PHASE"
    AC_2_PHASE = "AC_2_PHASE"
    AC_2_PHASE_SPLIT = "AC_2_PHASE_SPLIT"
    AC_3_PHASE = "AC_3_PHASE"
    DC = "DC"


class EnergySourceCategory(StrEnum):
    """mod_locations, "EnergySourceCategory"."""

    NUCLEAR = "NUCLEAR"
    GENERAL_FOSSIL = "GENERAL_FOSSIL"
    COAL = "COAL"
    GAS = "GAS"
    GENERAL_GREEN = "GENERAL_GREEN"
    SOLAR = "SOLAR"
    WIND = "WIND"
    WATER = "WATER"


class EVSEPosition(StrEnum):
    """mod_locations, "EVSEPosition"."""

    LEFT = "LEFT"
    RIGHT = "RIGHT"
    CENTER = "CENTER"


class ParkingDirection(StrEnum):
    """mod_locations, "ParkingDirection"."""

    PARALLEL = "PARALLEL"
    PERPENDICULAR = "PERPENDICULAR"
    ANGLE = "ANGLE"


class GeoLocation(Part, frozen=True, kw_only=True, gc=False):
    """mod_locations, "GeoLocation": degrees as text. The 5 to 7 decimals it asks for are not insisted on."""

    latitude: Degrees
    longitude: Degrees


class AdditionalGeoLocation(Part, frozen=True, kw_only=True):
    """mod_locations, "AdditionalGeoLocation"."""

    latitude: Degrees
    longitude: Degrees
    name: DisplayText | None = None


class Image(Part, frozen=True, kw_only=True, gc=False):
    """mod_locations, "Image"."""

    url: Url
    thumbnail: Url | None = None
    category: OpenEnum
    type: Annotated[str, Meta(max_length=4, **_CI)]
    width: Annotated[int, Meta(ge=0, le=99999)] | None = None
    height: Annotated[int, Meta(ge=0, le=99999)] | None = None


class BusinessDetails(Part, frozen=True, kw_only=True):
    """mod_locations, "BusinessDetails"."""

    name: Annotated[str, Meta(max_length=100)]
    website: Url | None = None
    logo: Image | None = None


class EnergySource(Part, frozen=True, kw_only=True, gc=False):
    """mod_locations, "EnergySource"."""

    source: EnergySourceCategory
    percentage: Number

    def __post_init__(self) -> None:
        sane("percentage", self.percentage)


class EnvironmentalImpact(Part, frozen=True, kw_only=True, gc=False):
    """mod_locations, "EnvironmentalImpact"; `amount` in g/kWh."""

    category: OpenEnum
    amount: Number

    def __post_init__(self) -> None:
        sane("amount", self.amount)


class EnergyMix(Part, frozen=True, kw_only=True):
    """mod_locations, "EnergyMix"."""

    is_green_energy: bool
    energy_sources: list[EnergySource] = []
    environ_impact: list[EnvironmentalImpact] = []
    supplier_name: Annotated[str, Meta(max_length=64)] | None = None
    energy_product_name: Annotated[str, Meta(max_length=64)] | None = None


class ExceptionalPeriod(Part, frozen=True, kw_only=True, gc=False):
    """mod_locations, "ExceptionalPeriod"."""

    period_begin: DateTime
    period_end: DateTime

    def __post_init__(self) -> None:
        utc(self, "period_begin", self.period_begin)
        utc(self, "period_end", self.period_end)


class RegularHours(Part, frozen=True, kw_only=True, gc=False):
    """mod_locations, "RegularHours"; local time, weekday 1 is Monday."""

    weekday: Annotated[int, Meta(ge=1, le=7)]
    period_begin: Time
    period_end: Time


class Hours(Part, frozen=True, kw_only=True):
    """mod_locations, "Hours"."""

    twentyfourseven: bool
    regular_hours: list[RegularHours] = []
    exceptional_openings: list[ExceptionalPeriod] = []
    exceptional_closings: list[ExceptionalPeriod] = []


class PublishTokenType(Part, frozen=True, kw_only=True, gc=False):
    """mod_locations, "PublishTokenType"."""

    uid: CiString36 | None = None
    type: OpenEnum | None = None
    visual_number: Annotated[str, Meta(max_length=64)] | None = None
    issuer: Annotated[str, Meta(max_length=64)] | None = None
    group_id: CiString36 | None = None


class StatusSchedule(Part, frozen=True, kw_only=True, gc=False):
    """mod_locations, "StatusSchedule"."""

    period_begin: DateTime
    period_end: DateTime | None = None
    status: Status

    def __post_init__(self) -> None:
        utc(self, "period_begin", self.period_begin)
        utc(self, "period_end", self.period_end)


class EVSEParking(Part, frozen=True, kw_only=True, gc=False):
    """mod_locations, "EVSEParking"."""

    parking_id: CiString36
    evse_position: EVSEPosition | None = None


class Parking(Part, frozen=True, kw_only=True):
    """mod_locations, "Parking". Weight in kg, lengths in cm, time limit in minutes."""

    id: CiString36
    physical_reference: Annotated[str, Meta(max_length=12)] | None = None
    vehicle_types: Annotated[list[OpenEnum], Meta(min_length=1)]
    max_vehicle_weight: Number | None = None
    max_vehicle_height: Number | None = None
    max_vehicle_length: Number | None = None
    max_vehicle_width: Number | None = None
    parking_space_length: Number | None = None
    parking_space_width: Number | None = None
    dangerous_goods_allowed: bool | None = None
    direction: ParkingDirection | None = None
    drive_through: bool | None = None
    restricted_to_type: bool
    reservation_required: bool
    time_limit: Number | None = None
    roofed: bool | None = None
    images: list[Image] = []
    lighting: bool | None = None
    refrigeration_outlet: bool | None = None
    standards: list[CiString36] = []
    apds_reference: str | None = None

    def __post_init__(self) -> None:
        sane("max_vehicle_weight", self.max_vehicle_weight)
        sane("max_vehicle_height", self.max_vehicle_height)
        sane("max_vehicle_length", self.max_vehicle_length)
        sane("max_vehicle_width", self.max_vehicle_width)
        sane("parking_space_length", self.parking_space_length)
        sane("parking_space_width", self.parking_space_width)
        sane("time_limit", self.time_limit)


class Connector(Part, frozen=True, kw_only=True):
    """mod_locations, "Connector". Volt, ampere, watt."""

    id: Id
    standard: OpenEnum
    format: ConnectorFormat
    power_type: PowerType
    max_voltage: Integer
    max_amperage: Integer
    max_electric_power: Integer | None = None
    tariff_ids: list[CiString36] = []
    terms_and_conditions: Url | None = None
    capabilities: list[OpenEnum] = []
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)


class EVSE(Part, frozen=True, kw_only=True):
    """mod_locations, "EVSE"."""

    uid: Id
    evse_id: CiString48 | None = None
    status: Status
    status_schedule: list[StatusSchedule] = []
    capabilities: list[OpenEnum] = []
    connectors: Annotated[list[Connector], Meta(min_length=1)]
    floor_level: Annotated[str, Meta(max_length=4)] | None = None
    coordinates: GeoLocation | None = None
    physical_reference: Annotated[str, Meta(max_length=16)] | None = None
    directions: list[DisplayText] = []
    parking_restrictions: list[OpenEnum] = []
    parking: list[EVSEParking] = []
    images: list[Image] = []
    accepted_service_providers: list[Annotated[str, Meta(max_length=50)]] = []
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)


class Location(Part, frozen=True, kw_only=True):
    """mod_locations, "Location"."""

    country_code: CountryCode
    party_id: PartyId
    id: Id
    publish: bool
    publish_allowed_to: list[PublishTokenType] = []
    name: Annotated[str, Meta(max_length=255)] | None = None
    address: Annotated[str, Meta(max_length=255)]
    city: Annotated[str, Meta(max_length=45)]
    postal_code: Annotated[str, Meta(max_length=10)] | None = None
    state: Annotated[str, Meta(max_length=45)] | None = None
    country: Annotated[str, Meta(max_length=3)]
    coordinates: GeoLocation
    related_locations: list[AdditionalGeoLocation] = []
    parking_type: OpenEnum | None = None
    evses: list[EVSE] = []
    parking_places: list[Parking] = []
    directions: list[DisplayText] = []
    operator: BusinessDetails | None = None
    suboperator: BusinessDetails | None = None
    owner: BusinessDetails | None = None
    facilities: list[OpenEnum] = []
    time_zone: Annotated[str, Meta(max_length=255)]
    opening_times: Hours | None = None
    charging_when_closed: bool | None = None
    images: list[Image] = []
    energy_mix: EnergyMix | None = None
    help_phone: Annotated[str, Meta(max_length=25, **_CI)] | None = None
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)


# Tariffs


class TariffType(StrEnum):
    """mod_tariffs, "TariffType"."""

    AD_HOC_PAYMENT = "AD_HOC_PAYMENT"
    PROFILE_CHEAP = "PROFILE_CHEAP"
    PROFILE_FAST = "PROFILE_FAST"
    PROFILE_GREEN = "PROFILE_GREEN"
    REGULAR = "REGULAR"


class TariffDimensionType(StrEnum):
    """mod_tariffs, "TariffDimensionType"."""

    ENERGY = "ENERGY"
    FLAT = "FLAT"
    PARKING_TIME = "PARKING_TIME"
    TIME = "TIME"


class DayOfWeek(StrEnum):
    """mod_tariffs, "DayOfWeek"."""

    MONDAY = "MONDAY"
    TUESDAY = "TUESDAY"
    WEDNESDAY = "WEDNESDAY"
    THURSDAY = "THURSDAY"
    FRIDAY = "FRIDAY"
    SATURDAY = "SATURDAY"
    SUNDAY = "SUNDAY"


class ReservationRestrictionType(StrEnum):
    """mod_tariffs, "ReservationRestrictionType"."""

    RESERVATION = "RESERVATION"
    RESERVATION_EXPIRES = "RESERVATION_EXPIRES"


class TaxIncluded(StrEnum):
    """mod_tariffs, "TaxIncluded"."""

    YES = "YES"
    NO = "NO"
    NOT_APPLICABLE = "N/A"


class PriceComponent(Part, frozen=True, kw_only=True, gc=False):
    """mod_tariffs, "PriceComponent". `vat` is a percentage; `step_size` counts Wh or seconds."""

    type: TariffDimensionType
    price: Number
    vat: Number | None = None
    step_size: Count

    def __post_init__(self) -> None:
        sane("price", self.price)
        sane("vat", self.vat)


class TariffRestrictions(Part, frozen=True, kw_only=True):
    """mod_tariffs, "TariffRestrictions". Local times; kWh, A, kW, seconds."""

    start_time: Time | None = None
    end_time: Time | None = None
    start_date: Date | None = None
    end_date: Date | None = None
    min_kwh: Number | None = None
    max_kwh: Number | None = None
    min_current: Number | None = None
    max_current: Number | None = None
    min_power: Number | None = None
    max_power: Number | None = None
    min_duration: Integer | None = None
    max_duration: Integer | None = None
    day_of_week: list[DayOfWeek] = []
    reservation: ReservationRestrictionType | None = None

    def __post_init__(self) -> None:
        sane("min_kwh", self.min_kwh)
        sane("max_kwh", self.max_kwh)
        sane("min_current", self.min_current)
        sane("max_current", self.max_current)
        sane("min_power", self.min_power)
        sane("max_power", self.max_power)


class TariffElement(Part, frozen=True, kw_only=True):
    """mod_tariffs, "TariffElement"."""

    price_components: Annotated[list[PriceComponent], Meta(min_length=1)]
    restrictions: TariffRestrictions | None = None


class PriceLimit(Part, frozen=True, kw_only=True, gc=False):
    """mod_tariffs, "PriceLimit"."""

    before_taxes: Number
    after_taxes: Number | None = None

    def __post_init__(self) -> None:
        sane("before_taxes", self.before_taxes)
        sane("after_taxes", self.after_taxes)


class Tariff(Part, frozen=True, kw_only=True):
    """mod_tariffs, "Tariff".

    `tax_included` is required, yet the specification's own example of a CDR embeds a tariff without it.
    Without it, prices are without taxes, as they are in every earlier version.
    """

    country_code: CountryCode
    party_id: PartyId
    id: Id
    currency: Currency
    type: TariffType | None = None
    tariff_alt_text: list[DisplayText] = []
    tariff_alt_url: Url | None = None
    min_price: PriceLimit | None = None
    max_price: PriceLimit | None = None
    preauthorize_amount: Number | None = None
    elements: Annotated[list[TariffElement], Meta(min_length=1)]
    tax_included: TaxIncluded = msgspec.field(default_factory=lambda: TaxIncluded.NO)  # always written
    start_date_time: DateTime | None = None
    end_date_time: DateTime | None = None
    energy_mix: EnergyMix | None = None
    last_updated: DateTime

    def __post_init__(self) -> None:
        sane("preauthorize_amount", self.preauthorize_amount)
        utc(self, "start_date_time", self.start_date_time)
        utc(self, "end_date_time", self.end_date_time)
        utc(self, "last_updated", self.last_updated)


# CDRs


class AuthMethod(StrEnum):
    """mod_cdrs, "AuthMethod"."""

    AUTH_REQUEST = "AUTH_REQUEST"
    COMMAND = "COMMAND"
    WHITELIST = "WHITELIST"


class CdrDimensionType(StrEnum):
    """mod_cdrs, "CdrDimensionType"."""

    CURRENT = "CURRENT"
    ENERGY = "ENERGY"
    ENERGY_EXPORT = "ENERGY_EXPORT"
    ENERGY_IMPORT = "ENERGY_IMPORT"
    MAX_CURRENT = "MAX_CURRENT"
    MIN_CURRENT = "MIN_CURRENT"
    MAX_POWER = "MAX_POWER"
    MIN_POWER = "MIN_POWER"
    PARKING_TIME = "PARKING_TIME"
    POWER = "POWER"
    RESERVATION_TIME = "RESERVATION_TIME"
    STATE_OF_CHARGE = "STATE_OF_CHARGE"
    TIME = "TIME"


class CdrDimension(Part, frozen=True, kw_only=True, gc=False):
    """mod_cdrs, "CdrDimension". kWh, hours, A, kW or percent, by its type."""

    type: CdrDimensionType
    volume: Number

    def __post_init__(self) -> None:
        sane("volume", self.volume)


class ChargingPeriod(Part, frozen=True, kw_only=True):
    """mod_cdrs, "ChargingPeriod": ends where the next one begins."""

    start_date_time: DateTime
    dimensions: Annotated[list[CdrDimension], Meta(min_length=1)]
    tariff_id: CiString36 | None = None

    def __post_init__(self) -> None:
        utc(self, "start_date_time", self.start_date_time)


class CdrToken(Part, frozen=True, kw_only=True, gc=False):
    """mod_cdrs, "CdrToken"."""

    country_code: CountryCode
    party_id: PartyId
    uid: CiString36
    type: OpenEnum
    contract_id: CiString36


class CdrLocation(Part, frozen=True, kw_only=True):
    """mod_cdrs, "CdrLocation"."""

    id: CiString36
    name: Annotated[str, Meta(max_length=255)] | None = None
    address: Annotated[str, Meta(max_length=45)]
    city: Annotated[str, Meta(max_length=45)]
    postal_code: Annotated[str, Meta(max_length=10)] | None = None
    state: Annotated[str, Meta(max_length=20)] | None = None
    country: Annotated[str, Meta(max_length=3)]
    coordinates: GeoLocation
    evse_uid: CiString36
    evse_id: CiString48
    connector_id: CiString36
    connector_standard: OpenEnum
    connector_format: ConnectorFormat
    connector_power_type: PowerType


class SignedValue(Part, frozen=True, kw_only=True, gc=False):
    """mod_cdrs, "SignedValue"."""

    nature: Annotated[str, Meta(max_length=32, **_CI)]
    plain_data: Annotated[str, Meta(max_length=5000)]
    signed_data: Annotated[str, Meta(max_length=5000)]


class SignedData(Part, frozen=True, kw_only=True):
    """mod_cdrs, "SignedData"."""

    encoding_method: CiString36
    encoding_method_version: Integer | None = None
    public_key: Annotated[str, Meta(max_length=512)] | None = None
    signed_values: Annotated[list[SignedValue], Meta(min_length=1)]
    url: Annotated[str, Meta(max_length=512)] | None = None


class CDR(Part, frozen=True, kw_only=True):
    """mod_cdrs, "CDR". Energy in kWh, times in hours."""

    country_code: CountryCode
    party_id: PartyId
    id: CdrId
    start_date_time: DateTime
    end_date_time: DateTime
    session_id: CiString36 | None = None
    cdr_token: CdrToken
    auth_method: AuthMethod
    authorization_reference: CiString36 | None = None
    cdr_location: CdrLocation
    meter_id: Annotated[str, Meta(max_length=255)] | None = None
    currency: Currency
    tariffs: list[Tariff] = []
    charging_periods: Annotated[list[ChargingPeriod], Meta(min_length=1)]
    signed_data: SignedData | None = None
    total_cost: Price
    total_fixed_cost: Price | None = None
    total_energy: Number
    total_energy_cost: Price | None = None
    total_time: Number
    total_time_cost: Price | None = None
    total_parking_time: Number | None = None
    total_parking_cost: Price | None = None
    total_reservation_cost: Price | None = None
    remark: Annotated[str, Meta(max_length=255)] | None = None
    invoice_reference_id: CiString39 | None = None
    credit: bool | None = None
    credit_reference_id: CiString39 | None = None
    home_charging_compensation: bool | None = None
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "start_date_time", self.start_date_time)
        utc(self, "end_date_time", self.end_date_time)
        utc(self, "last_updated", self.last_updated)
        sane("total_energy", self.total_energy)
        sane("total_time", self.total_time)
        sane("total_parking_time", self.total_parking_time)


# Sessions


class SessionStatus(StrEnum):
    """mod_sessions, "SessionStatus"."""

    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    INVALID = "INVALID"
    PENDING = "PENDING"
    RESERVATION = "RESERVATION"


class Session(Part, frozen=True, kw_only=True):
    """mod_sessions, "Session". Energy in kWh."""

    country_code: CountryCode
    party_id: PartyId
    id: Id
    start_date_time: DateTime
    end_date_time: DateTime | None = None
    kwh: Number
    cdr_token: CdrToken
    auth_method: AuthMethod
    authorization_reference: CiString36 | None = None
    location_id: CiString36
    evse_uid: CiString36
    connector_id: CiString36
    meter_id: Annotated[str, Meta(max_length=255)] | None = None
    currency: Currency
    charging_periods: list[ChargingPeriod] = []
    total_cost: Price | None = None
    status: SessionStatus
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "start_date_time", self.start_date_time)
        utc(self, "end_date_time", self.end_date_time)
        utc(self, "last_updated", self.last_updated)
        sane("kwh", self.kwh)
