"""OCPI 2.1.1 and its translation from and to 2.3.0.

2.1.1 says less in its objects, and what it does not say has to come from somewhere:

- Owners are in the URL only, never in an object: they are `party`, given by whoever reads.
- A token is `auth_id`, which is both `uid` and `contract_id` of the canonical CdrToken; its type is OTHER,
  its owner unknown (empty). Written back, `contract_id` is the `auth_id`.
- A session and a CDR embed the location with the one EVSE and connector that were used. Canonically a session
  names them; written back, its location is the one that is known under those names (`placed`), and where none
  is, the names of location, EVSE and connector with placeholders.
- A reservation is PENDING, a command an AUTH_REQUEST: later versions' values that 2.1.1 has not.
- A CDR names no session. Costs are numbers without VAT.
- A location without `time_zone` gets an empty one (whoever prices by local time has to refuse it), and is
  published. Connectors have at most one tariff: of several the first is written.
- The dimension FLAT of a CDR says that a flat fee applies; since 2.2.1 there is no such dimension, and it is
  left out. A period of nothing else keeps an ENERGY of 0, for a period needs a dimension.
- The address of a location has 45 characters; a longer one is cut.
- A tariff's prices are without VAT, and no percentage is known. A tariff has no limits and no validity.
"""

# ruff: noqa: RUF012 - an empty default of a struct is copied for each object

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from schemas.ocpi import objects
from schemas.ocpi.objects import (
    AdditionalGeoLocation,
    BusinessDetails,
    CdrDimensionType,
    CdrId,
    CdrLocation,
    CdrToken,
    CiString36,
    CiString48,
    ConnectorFormat,
    Count,
    Currency,
    Date,
    DateTime,
    DayOfWeek,
    DisplayText,
    EnergySource,
    ExceptionalPeriod,
    GeoLocation,
    Id,
    Image,
    Integer,
    Number,
    OpenEnum,
    Part,
    PowerType,
    RegularHours,
    Status,
    StatusSchedule,
    TariffDimensionType,
    TaxIncluded,
    Time,
    Url,
    WhitelistType,
    sane,
    utc,
)
from schemas.ocpi.v221 import elements_without_taxes, recast

NOT_AVAILABLE = "#NA"  # transport_and_format, "No Data Available" of later versions
UNKNOWN_TYPE = "OTHER"


class EnvironmentalImpact(Part, frozen=True, kw_only=True, gc=False):
    """mod_locations, "EnvironmentalImpact": `source` is later versions' `category`, which is read as well."""

    source: OpenEnum | None = None
    category: OpenEnum | None = None
    amount: Number

    def __post_init__(self) -> None:
        sane("amount", self.amount)
        if self.source is None and self.category is None:
            raise ValueError("source: is required, but missing")


class EnergyMix(Part, frozen=True, kw_only=True):
    """mod_locations, "EnergyMix"."""

    is_green_energy: bool
    energy_sources: list[EnergySource] = []
    environ_impact: list[EnvironmentalImpact] = []
    supplier_name: Annotated[str, Meta(max_length=64)] | None = None
    energy_product_name: Annotated[str, Meta(max_length=64)] | None = None


class Hours(Part, frozen=True, kw_only=True):
    """mod_locations, "Hours": `twentyfourseven` or regular hours."""

    twentyfourseven: bool = False
    regular_hours: list[RegularHours] = []
    exceptional_openings: list[ExceptionalPeriod] = []
    exceptional_closings: list[ExceptionalPeriod] = []


class Connector(Part, frozen=True, kw_only=True):
    """mod_locations, "Connector". Volt, ampere."""

    id: Id
    standard: OpenEnum
    format: ConnectorFormat
    power_type: PowerType
    voltage: Integer
    amperage: Integer
    tariff_id: CiString36 | None = None
    terms_and_conditions: Url | None = None
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)


class EVSE(Part, frozen=True, kw_only=True):
    """mod_locations, "EVSE"."""

    uid: CdrId
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
    images: list[Image] = []
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)


class Location(Part, frozen=True, kw_only=True):
    """mod_locations, "Location"."""

    id: CdrId
    type: OpenEnum
    name: Annotated[str, Meta(max_length=255)] | None = None
    address: Annotated[str, Meta(max_length=45)]
    city: Annotated[str, Meta(max_length=45)]
    postal_code: Annotated[str, Meta(max_length=10)]
    country: Annotated[str, Meta(max_length=3)]
    coordinates: GeoLocation
    related_locations: list[AdditionalGeoLocation] = []
    evses: list[EVSE] = []
    directions: list[DisplayText] = []
    operator: BusinessDetails | None = None
    suboperator: BusinessDetails | None = None
    owner: BusinessDetails | None = None
    facilities: list[OpenEnum] = []
    time_zone: Annotated[str, Meta(max_length=255)] | None = None
    opening_times: Hours | None = None
    charging_when_closed: bool | None = None
    images: list[Image] = []
    energy_mix: EnergyMix | None = None
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)


class PriceComponent(Part, frozen=True, kw_only=True, gc=False):
    """mod_tariffs, "PriceComponent"."""

    type: TariffDimensionType
    price: Number
    step_size: Count

    def __post_init__(self) -> None:
        sane("price", self.price)


class TariffRestrictions(Part, frozen=True, kw_only=True):
    """mod_tariffs, "TariffRestrictions". Local times; kWh, kW, seconds."""

    start_time: Time | None = None
    end_time: Time | None = None
    start_date: Date | None = None
    end_date: Date | None = None
    min_kwh: Number | None = None
    max_kwh: Number | None = None
    min_power: Number | None = None
    max_power: Number | None = None
    min_duration: Integer | None = None
    max_duration: Integer | None = None
    day_of_week: list[DayOfWeek] = []

    def __post_init__(self) -> None:
        sane("min_kwh", self.min_kwh)
        sane("max_kwh", self.max_kwh)
        sane("min_power", self.min_power)
        sane("max_power", self.max_power)


class TariffElement(Part, frozen=True, kw_only=True):
    """mod_tariffs, "TariffElement"."""

    price_components: Annotated[list[PriceComponent], Meta(min_length=1)]
    restrictions: TariffRestrictions | None = None


class Tariff(Part, frozen=True, kw_only=True):
    """mod_tariffs, "Tariff"."""

    id: Id
    currency: Currency
    tariff_alt_text: list[DisplayText] = []
    tariff_alt_url: Url | None = None
    elements: Annotated[list[TariffElement], Meta(min_length=1)]
    energy_mix: EnergyMix | None = None
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)


class DimensionType(StrEnum):
    """mod_cdrs, "CdrDimensionType"."""

    ENERGY = "ENERGY"
    FLAT = "FLAT"
    MAX_CURRENT = "MAX_CURRENT"
    MIN_CURRENT = "MIN_CURRENT"
    PARKING_TIME = "PARKING_TIME"
    TIME = "TIME"


class SessionStatus(StrEnum):
    """mod_sessions, "SessionStatus"."""

    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    INVALID = "INVALID"
    PENDING = "PENDING"


class AuthMethod(StrEnum):
    """mod_cdrs, "AuthMethod"."""

    AUTH_REQUEST = "AUTH_REQUEST"
    WHITELIST = "WHITELIST"


class CdrDimension(Part, frozen=True, kw_only=True, gc=False):
    """mod_cdrs, "CdrDimension"."""

    type: DimensionType
    volume: Number

    def __post_init__(self) -> None:
        sane("volume", self.volume)


class ChargingPeriod(Part, frozen=True, kw_only=True):
    """mod_cdrs, "ChargingPeriod"."""

    start_date_time: DateTime
    dimensions: Annotated[list[CdrDimension], Meta(min_length=1)]

    def __post_init__(self) -> None:
        utc(self, "start_date_time", self.start_date_time)


class CDR(Part, frozen=True, kw_only=True):
    """mod_cdrs, "CDR". Energy in kWh, times in hours."""

    id: CdrId
    start_date_time: DateTime
    stop_date_time: DateTime
    auth_id: CiString36
    auth_method: AuthMethod
    location: Location
    meter_id: Annotated[str, Meta(max_length=255)] | None = None
    currency: Currency
    tariffs: list[Tariff] = []
    charging_periods: Annotated[list[ChargingPeriod], Meta(min_length=1)]
    total_cost: Number
    total_energy: Number
    total_time: Number
    total_parking_time: Number | None = None
    remark: Annotated[str, Meta(max_length=255)] | None = None
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "start_date_time", self.start_date_time)
        utc(self, "stop_date_time", self.stop_date_time)
        utc(self, "last_updated", self.last_updated)
        sane("total_cost", self.total_cost)
        sane("total_energy", self.total_energy)
        sane("total_time", self.total_time)
        sane("total_parking_time", self.total_parking_time)


class Session(Part, frozen=True, kw_only=True):
    """mod_sessions, "Session". Energy in kWh."""

    id: Id
    start_datetime: DateTime
    end_datetime: DateTime | None = None
    kwh: Number
    auth_id: CiString36
    auth_method: AuthMethod
    location: Location
    meter_id: Annotated[str, Meta(max_length=255)] | None = None
    currency: Currency
    charging_periods: list[ChargingPeriod] = []
    total_cost: Number | None = None
    status: SessionStatus
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "start_datetime", self.start_datetime)
        utc(self, "end_datetime", self.end_datetime)
        utc(self, "last_updated", self.last_updated)
        sane("kwh", self.kwh)
        sane("total_cost", self.total_cost)


class Token(Part, frozen=True, kw_only=True):
    """mod_tokens, "Token"."""

    uid: Id
    type: OpenEnum
    auth_id: CiString36
    visual_number: Annotated[str, Meta(max_length=64)] | None = None
    issuer: Annotated[str, Meta(max_length=64)]
    valid: bool
    whitelist: WhitelistType
    language: Annotated[str, Meta(max_length=2)] | None = None
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)


Party = tuple[str, str]


_CONTRACT = re.compile(
    r"([A-Z]{2})([A-Z0-9]{3})C[A-Z0-9]{8}[A-Z0-9]?"  # ISO 15118, without separators
    r"|([A-Z]{2})([-*])([A-Z0-9]{3})\4[A-Z0-9]{6,9}(?:\4?[A-Z0-9])?",  # the same or DIN 91286, with them
    re.IGNORECASE,
)


def issuer_of(contract_id: str) -> Party:
    """Country code and party id of the provider that a contract id names; empty where it names none.

    2.1.1 tells of a token its `auth_id` alone, which most providers make a contract id of the eMI3 (eMAID,
    EVCO-ID): country, provider, contract. So who pays can be told from the message itself.
    """
    found = _CONTRACT.fullmatch(contract_id)
    if found is None:
        return "", ""
    return (found[1] or found[3]).upper(), (found[2] or found[5]).upper()


def _up_token(auth_id: str) -> CdrToken:
    country, party = issuer_of(auth_id)
    return CdrToken(country_code=country, party_id=party, uid=auth_id, type=UNKNOWN_TYPE, contract_id=auth_id)


def _up_period(period: ChargingPeriod) -> objects.ChargingPeriod:
    dimensions = [
        objects.CdrDimension(type=CdrDimensionType(item.type.value), volume=item.volume)
        for item in period.dimensions
        if item.type is not DimensionType.FLAT
    ]
    if not dimensions:
        dimensions = [objects.CdrDimension(type=CdrDimensionType.ENERGY, volume=Decimal(0))]
    return objects.ChargingPeriod(start_date_time=period.start_date_time, dimensions=dimensions)


def _down_period(period: objects.ChargingPeriod) -> ChargingPeriod:
    known = DimensionType.__members__
    dimensions = [
        CdrDimension(type=DimensionType(item.type.value), volume=item.volume)
        for item in period.dimensions
        if item.type.value in known
    ]
    if not dimensions:
        dimensions = [CdrDimension(type=DimensionType.ENERGY, volume=Decimal(0))]
    return ChargingPeriod(start_date_time=period.start_date_time, dimensions=dimensions)


def _used(location: Location) -> tuple[EVSE, Connector]:
    """The EVSE and connector of an embedded location. Raises ValueError when there are none."""
    if not location.evses:
        raise ValueError("location.evses: the EVSE that was used has to be there")
    return location.evses[0], location.evses[0].connectors[0]


def up_session(session: Session, party: Party) -> objects.Session:
    """To 2.3.0."""
    evse, connector = _used(session.location)
    short("location.id", session.location.id)
    short("location.evses[0].uid", evse.uid)
    return objects.Session(
        country_code=party[0],
        party_id=party[1],
        id=session.id,
        start_date_time=session.start_datetime,
        end_date_time=session.end_datetime,
        kwh=session.kwh,
        cdr_token=_up_token(session.auth_id),
        auth_method=objects.AuthMethod(session.auth_method.value),
        location_id=session.location.id,
        evse_uid=evse.uid,
        connector_id=connector.id,
        meter_id=session.meter_id,
        currency=session.currency,
        charging_periods=[_up_period(item) for item in session.charging_periods],
        total_cost=None if session.total_cost is None else objects.Price(before_taxes=session.total_cost),
        status=objects.SessionStatus(session.status.value),
        last_updated=session.last_updated,
    )


def short(path: str, identifier: str) -> None:
    """2.1.1 allows 39 characters where later versions allow 36."""
    if len(identifier) > 36:
        raise ValueError(f"{path}: at most 36 characters are kept")


def _down_auth(method: objects.AuthMethod) -> AuthMethod:
    """A command is a request of the eMSP's, too."""
    return AuthMethod.WHITELIST if method is objects.AuthMethod.WHITELIST else AuthMethod.AUTH_REQUEST


def down_session(session: objects.Session) -> Session:
    """From 2.3.0."""
    connector = Connector(
        id=session.connector_id or NOT_AVAILABLE,
        standard=NOT_AVAILABLE,
        format=ConnectorFormat.SOCKET,
        power_type=PowerType.AC_1_PHASE,
        voltage=0,
        amperage=0,
        last_updated=session.last_updated,
    )
    evse = EVSE(
        uid=session.evse_uid or NOT_AVAILABLE,
        status=Status.UNKNOWN,
        connectors=[connector],
        last_updated=session.last_updated,
    )
    location = Location(
        id=session.location_id or NOT_AVAILABLE,
        type="UNKNOWN",
        address="",
        city="",
        postal_code="",
        country="",
        coordinates=GeoLocation(latitude="0.00000", longitude="0.00000"),
        evses=[evse],
        last_updated=session.last_updated,
    )
    reserved = session.status is objects.SessionStatus.RESERVATION
    return Session(
        id=session.id,
        start_datetime=session.start_date_time,
        end_datetime=session.end_date_time,
        kwh=session.kwh,
        auth_id=session.cdr_token.contract_id,
        auth_method=_down_auth(session.auth_method),
        location=location,
        meter_id=session.meter_id,
        currency=session.currency,
        charging_periods=[_down_period(item) for item in session.charging_periods],
        total_cost=None if session.total_cost is None else session.total_cost.before_taxes,
        status=SessionStatus.PENDING if reserved else SessionStatus(session.status.value),
        last_updated=session.last_updated,
    )


def placed(session: Session, place: objects.Location) -> Session:
    """A session with what is known of its location, without EVSEs and connectors that it does not use
    (mod_sessions, "Session Object"); an EVSE that is not known there keeps its name and placeholders."""
    evse_uid, connector_id = session.location.evses[0].uid, session.location.evses[0].connectors[0].id
    location = down_location(place)
    used = [
        msgspec.structs.replace(evse, connectors=connectors)
        for evse in location.evses
        if evse.uid.casefold() == evse_uid.casefold()
        and (connectors := [c for c in evse.connectors if c.id.casefold() == connector_id.casefold()])
    ]
    return msgspec.structs.replace(
        session, location=msgspec.structs.replace(location, evses=used or session.location.evses)
    )


def up_cdr(cdr: CDR, party: Party) -> objects.CDR:
    """To 2.3.0."""
    evse, connector = _used(cdr.location)
    place = cdr.location
    short("location.id", place.id)
    short("location.evses[0].uid", evse.uid)
    return objects.CDR(
        country_code=party[0],
        party_id=party[1],
        id=cdr.id,
        start_date_time=cdr.start_date_time,
        end_date_time=cdr.stop_date_time,
        cdr_token=_up_token(cdr.auth_id),
        auth_method=objects.AuthMethod(cdr.auth_method.value),
        cdr_location=CdrLocation(
            id=place.id,
            name=place.name,
            address=place.address,
            city=place.city,
            postal_code=place.postal_code or None,
            country=place.country,
            coordinates=place.coordinates,
            evse_uid=evse.uid,
            evse_id=evse.evse_id or NOT_AVAILABLE,
            connector_id=connector.id,
            connector_standard=connector.standard,
            connector_format=connector.format,
            connector_power_type=connector.power_type,
        ),
        meter_id=cdr.meter_id,
        currency=cdr.currency,
        tariffs=[up_tariff(item, party) for item in cdr.tariffs],
        charging_periods=[_up_period(item) for item in cdr.charging_periods],
        total_cost=objects.Price(before_taxes=cdr.total_cost),
        total_energy=cdr.total_energy,
        total_time=cdr.total_time,
        total_parking_time=cdr.total_parking_time,
        remark=cdr.remark,
        last_updated=cdr.last_updated,
    )


def down_cdr(cdr: objects.CDR) -> CDR:
    """From 2.3.0."""
    place = cdr.cdr_location
    connector = Connector(
        id=place.connector_id or NOT_AVAILABLE,
        standard=place.connector_standard,
        format=place.connector_format,
        power_type=place.connector_power_type,
        voltage=0,
        amperage=0,
        last_updated=cdr.last_updated,
    )
    evse = EVSE(
        uid=place.evse_uid or NOT_AVAILABLE,
        evse_id=None if place.evse_id in ("", NOT_AVAILABLE) else place.evse_id,
        status=Status.UNKNOWN,
        connectors=[connector],
        last_updated=cdr.last_updated,
    )
    location = Location(
        id=place.id or NOT_AVAILABLE,
        type="UNKNOWN",
        name=place.name,
        address=place.address,
        city=place.city,
        postal_code=place.postal_code or "",
        country=place.country,
        coordinates=place.coordinates,
        evses=[evse],
        last_updated=cdr.last_updated,
    )
    return CDR(
        id=cdr.id,
        start_date_time=cdr.start_date_time,
        stop_date_time=cdr.end_date_time,
        auth_id=cdr.cdr_token.contract_id,
        auth_method=_down_auth(cdr.auth_method),
        location=location,
        meter_id=cdr.meter_id,
        currency=cdr.currency,
        tariffs=[down_tariff(item) for item in cdr.tariffs],
        charging_periods=[_down_period(item) for item in cdr.charging_periods],
        total_cost=cdr.total_cost.before_taxes,
        total_energy=cdr.total_energy,
        total_time=cdr.total_time,
        total_parking_time=cdr.total_parking_time,
        remark=cdr.remark,
        last_updated=cdr.last_updated,
    )


def _up_mix(mix: EnergyMix | None) -> objects.EnergyMix | None:
    if mix is None:
        return None
    impacts = [
        objects.EnvironmentalImpact(category=item.source or item.category or "", amount=item.amount)
        for item in mix.environ_impact
    ]
    return recast(mix, objects.EnergyMix, environ_impact=impacts)


def _down_mix(mix: objects.EnergyMix | None) -> EnergyMix | None:
    if mix is None:
        return None
    impacts = [EnvironmentalImpact(source=item.category, amount=item.amount) for item in mix.environ_impact]
    return recast(mix, EnergyMix, environ_impact=impacts)


def up_tariff(tariff: Tariff, party: Party) -> objects.Tariff:
    """To 2.3.0."""
    return recast(
        tariff,
        objects.Tariff,
        country_code=party[0],
        party_id=party[1],
        tax_included=TaxIncluded.NO,
        energy_mix=_up_mix(tariff.energy_mix),
        elements=[
            objects.TariffElement(
                price_components=[recast(part, objects.PriceComponent) for part in element.price_components],
                restrictions=None
                if element.restrictions is None
                else recast(element.restrictions, objects.TariffRestrictions),
            )
            for element in tariff.elements
        ],
    )


def down_tariff(tariff: objects.Tariff) -> Tariff:
    """From 2.3.0: without limits, validity, VAT, and elements whose restriction 2.1.1 cannot say."""
    elements = [
        TariffElement(
            price_components=[recast(part, PriceComponent) for part in element.price_components],
            restrictions=None
            if element.restrictions is None
            else recast(element.restrictions, TariffRestrictions),
        )
        for element in elements_without_taxes(tariff)
        if not _beyond(element.restrictions)
    ]
    if not elements:
        flat = PriceComponent(type=TariffDimensionType.FLAT, price=Decimal(0), step_size=1)
        elements = [TariffElement(price_components=[flat])]
    return recast(tariff, Tariff, elements=elements, energy_mix=_down_mix(tariff.energy_mix))


def _beyond(restrictions: objects.TariffRestrictions | None) -> bool:
    """Whether an element without this restriction would apply where it should not."""
    if restrictions is None:
        return False
    names = ("min_current", "max_current", "reservation")
    return any(getattr(restrictions, name) is not None for name in names)


def up_connector(connector: Connector, _party: Party) -> objects.Connector:
    """To 2.3.0."""
    return recast(
        connector,
        objects.Connector,
        max_voltage=connector.voltage,
        max_amperage=connector.amperage,
        tariff_ids=[] if connector.tariff_id is None else [connector.tariff_id],
    )


def down_connector(connector: objects.Connector) -> Connector:
    """From 2.3.0."""
    return recast(
        connector,
        Connector,
        voltage=connector.max_voltage,
        amperage=connector.max_amperage,
        tariff_id=connector.tariff_ids[0] if connector.tariff_ids else None,
    )


def up_evse(evse: EVSE, party: Party) -> objects.EVSE:
    """To 2.3.0."""
    short("uid", evse.uid)
    return recast(evse, objects.EVSE, connectors=[up_connector(item, party) for item in evse.connectors])


def down_evse(evse: objects.EVSE) -> EVSE:
    """From 2.3.0."""
    return recast(evse, EVSE, connectors=[down_connector(item) for item in evse.connectors])


def up_location(location: Location, party: Party) -> objects.Location:
    """To 2.3.0."""
    short("id", location.id)
    for index, evse in enumerate(location.evses):
        short(f"evses[{index}].uid", evse.uid)
    hours = location.opening_times
    return recast(
        location,
        objects.Location,
        country_code=party[0],
        party_id=party[1],
        publish=True,
        parking_type=location.type,
        postal_code=location.postal_code or None,
        evses=[up_evse(item, party) for item in location.evses],
        time_zone=location.time_zone or "",
        opening_times=None if hours is None else recast(hours, objects.Hours),
        energy_mix=_up_mix(location.energy_mix),
    )


def down_location(location: objects.Location) -> Location:
    """From 2.3.0."""
    hours = location.opening_times
    return recast(
        location,
        Location,
        type=location.parking_type or "UNKNOWN",
        address=location.address[:45],
        postal_code=location.postal_code or "",
        evses=[down_evse(item) for item in location.evses],
        time_zone=location.time_zone or None,
        opening_times=None if hours is None else recast(hours, Hours),
        energy_mix=_down_mix(location.energy_mix),
    )


def up_token(token: Token, party: Party) -> objects.Token:
    """To 2.3.0."""
    return recast(token, objects.Token, country_code=party[0], party_id=party[1], contract_id=token.auth_id)


def down_token(token: objects.Token) -> Token:
    """From 2.3.0."""
    return recast(token, Token, auth_id=token.contract_id)


KINDS: dict[str, tuple[type, Callable[[Any, Party], Any], Callable[[Any], Any]]] = {
    "session": (Session, up_session, down_session),
    "cdr": (CDR, up_cdr, down_cdr),
    "tariff": (Tariff, up_tariff, down_tariff),
    "location": (Location, up_location, down_location),
    "evse": (EVSE, up_evse, down_evse),
    "connector": (Connector, up_connector, down_connector),
    "token": (Token, up_token, down_token),
}
"""Per kind: the struct of 2.1.1, to 2.3.0, from 2.3.0."""

CANONICAL_FIELDS: dict[str, Mapping[str, tuple[str, ...]]] = {
    "session": {
        "start_datetime": ("start_date_time",),
        "end_datetime": ("end_date_time",),
        "auth_id": ("cdr_token",),
        "location": ("location_id", "evse_uid", "connector_id"),
    },
    "location": {"type": ("parking_type",)},
    "connector": {
        "voltage": ("max_voltage",),
        "amperage": ("max_amperage",),
        "tariff_id": ("tariff_ids",),
    },
    "token": {"auth_id": ("contract_id",)},
}
"""What fields of 2.1.1 are canonically, where the names differ."""
