"""OCPI 2.2.1, where it differs from 2.3.0, and the translation both ways.

- A price is `excl_vat` and perhaps `incl_vat`; canonically the difference is one tax named VAT. The other way
  all taxes are added up. Without taxes `incl_vat` is left out.
- A tariff's prices are without VAT, so `tax_included` is NO. A tariff with taxes included is written with the
  VAT taken out of each price (to 12 decimals); where it names no percentage, prices stay as they are, since
  2.2.1 has no way to say what they contain. A tariff without applicable taxes is written without `vat`.
- A hub is a role of its credentials; 2.3.0 names it in `hub_party_id` and lists whom it reaches as roles,
  which 2.2.1 forbids ("SHALL only report itself"). So a hub that is no role is written as the only one.
- Locations have fewer fields. Enums that 2.3.0 opened (connector standards, capabilities, facilities, token
  types, ...) are read openly here too: a value that a later version allows is no reason to refuse an object.
"""

# ruff: noqa: RUF012 - an empty default of a struct is copied for each object

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from schemas.ocpi import objects, platforms, requests
from schemas.ocpi.objects import (
    AdditionalGeoLocation,
    AuthMethod,
    BusinessDetails,
    CdrId,
    CdrLocation,
    CdrToken,
    ChargingPeriod,
    CiString36,
    CiString39,
    CiString48,
    ConnectorFormat,
    CountryCode,
    Currency,
    DateTime,
    DisplayText,
    EnergyMix,
    GeoLocation,
    Hours,
    Id,
    Image,
    Integer,
    Number,
    OpenEnum,
    Part,
    PartyId,
    PowerType,
    PriceLimit,
    PublishTokenType,
    SessionStatus,
    SignedData,
    Status,
    StatusSchedule,
    TariffElement,
    TariffType,
    TaxAmount,
    TaxIncluded,
    Token,
    Url,
    sane,
    utc,
)
from schemas.ocpi.platforms import CredentialsRole, Role, Secret

EXACT = Context(prec=120)  # holds any sum of numbers that objects may hold
_TWELFTH = Decimal("1e-12")
VAT = "VAT"

T = TypeVar("T")


class Price(Part, frozen=True, kw_only=True, gc=False):
    """types, "Price"."""

    excl_vat: Number
    incl_vat: Number | None = None

    def __post_init__(self) -> None:
        sane("excl_vat", self.excl_vat)
        sane("incl_vat", self.incl_vat)


class Credentials(Part, frozen=True, kw_only=True):
    """credentials, "Credentials object"."""

    token: Secret
    url: Url
    roles: Annotated[list[CredentialsRole], Meta(min_length=1)]


class Connector(Part, frozen=True, kw_only=True):
    """mod_locations, "Connector"."""

    id: Id
    standard: OpenEnum
    format: ConnectorFormat
    power_type: PowerType
    max_voltage: Integer
    max_amperage: Integer
    max_electric_power: Integer | None = None
    tariff_ids: list[CiString36] = []
    terms_and_conditions: Url | None = None
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
    images: list[Image] = []
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
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)


class Tariff(Part, frozen=True, kw_only=True):
    """mod_tariffs, "Tariff". Prices are without VAT."""

    country_code: CountryCode
    party_id: PartyId
    id: Id
    currency: Currency
    type: TariffType | None = None
    tariff_alt_text: list[DisplayText] = []
    tariff_alt_url: Url | None = None
    min_price: Price | None = None
    max_price: Price | None = None
    elements: Annotated[list[TariffElement], Meta(min_length=1)]
    start_date_time: DateTime | None = None
    end_date_time: DateTime | None = None
    energy_mix: EnergyMix | None = None
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "start_date_time", self.start_date_time)
        utc(self, "end_date_time", self.end_date_time)
        utc(self, "last_updated", self.last_updated)


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


# Translation

COSTS = (
    "total_cost",
    "total_fixed_cost",
    "total_energy_cost",
    "total_time_cost",
    "total_parking_cost",
    "total_reservation_cost",
)


_known_common: dict[tuple[type, type], tuple[str, ...]] = {}


def _common(source: type, target: type) -> tuple[str, ...]:
    if (known := _known_common.get((source, target))) is not None:
        return known
    there = {field.name for field in msgspec.structs.fields(target)}
    common = tuple(field.name for field in msgspec.structs.fields(source) if field.name in there)
    _known_common[source, target] = common
    return common


def recast(source: Any, target: type[T], **changes: Any) -> T:
    """An object of another version with the fields that both have, and `changes`."""
    values = {name: getattr(source, name) for name in _common(type(source), target)}
    values |= changes
    return target(**values)


def up_price(price: Price | None) -> objects.Price | None:
    """To 2.3.0: the difference is a tax."""
    if price is None:
        return None
    if price.incl_vat is None:
        return objects.Price(before_taxes=price.excl_vat)
    vat = TaxAmount(name=VAT, amount=EXACT.subtract(price.incl_vat, price.excl_vat))
    return objects.Price(before_taxes=price.excl_vat, taxes=[vat])


def after_taxes(price: objects.Price) -> Decimal:
    """What a price is with all its taxes."""
    total = price.before_taxes
    for tax in price.taxes:
        total = EXACT.add(total, tax.amount)
    return total


def down_price(price: objects.Price | None) -> Price | None:
    if price is None:
        return None
    return Price(excl_vat=price.before_taxes, incl_vat=after_taxes(price) if price.taxes else None)


def _up_limit(price: Price | None) -> PriceLimit | None:
    return None if price is None else PriceLimit(before_taxes=price.excl_vat, after_taxes=price.incl_vat)


def _down_limit(limit: PriceLimit | None) -> Price | None:
    return None if limit is None else Price(excl_vat=limit.before_taxes, incl_vat=limit.after_taxes)


def up_session(session: Session) -> objects.Session:
    """To 2.3.0."""
    return recast(session, objects.Session, total_cost=up_price(session.total_cost))


def down_session(session: objects.Session) -> Session:
    """From 2.3.0."""
    return recast(session, Session, total_cost=down_price(session.total_cost))


def up_tariff(tariff: Tariff) -> objects.Tariff:
    """To 2.3.0."""
    return recast(
        tariff,
        objects.Tariff,
        min_price=_up_limit(tariff.min_price),
        max_price=_up_limit(tariff.max_price),
        tax_included=TaxIncluded.NO,
    )


def down_tariff(tariff: objects.Tariff) -> Tariff:
    """From 2.3.0."""
    return recast(
        tariff,
        Tariff,
        min_price=_down_limit(tariff.min_price),
        max_price=_down_limit(tariff.max_price),
        elements=elements_without_taxes(tariff),
    )


def elements_without_taxes(tariff: objects.Tariff) -> list[TariffElement]:
    """A tariff's elements with prices as earlier versions have them: without taxes."""
    if tariff.tax_included is TaxIncluded.NO:
        return tariff.elements
    included = tariff.tax_included is TaxIncluded.YES
    return [
        msgspec.structs.replace(
            element,
            price_components=[
                _without_tax(part) if included else msgspec.structs.replace(part, vat=None)
                for part in element.price_components
            ],
        )
        for element in tariff.elements
    ]


def _without_tax(part: objects.PriceComponent) -> objects.PriceComponent:
    if not part.vat or part.vat <= -100:
        return part
    exact = EXACT.divide(EXACT.multiply(part.price, Decimal(100)), EXACT.add(Decimal(100), part.vat))
    price = exact.quantize(_TWELFTH, rounding=ROUND_HALF_EVEN, context=EXACT).normalize(EXACT)
    return msgspec.structs.replace(part, price=price)


def up_cdr(cdr: CDR) -> objects.CDR:
    """To 2.3.0."""
    costs = {name: up_price(getattr(cdr, name)) for name in COSTS}
    return recast(cdr, objects.CDR, tariffs=[up_tariff(item) for item in cdr.tariffs], **costs)


def down_cdr(cdr: objects.CDR) -> CDR:
    """From 2.3.0."""
    costs = {name: down_price(getattr(cdr, name)) for name in COSTS}
    return recast(cdr, CDR, tariffs=[down_tariff(item) for item in cdr.tariffs], **costs)


def up_connector(connector: Connector) -> objects.Connector:
    """To 2.3.0."""
    return recast(connector, objects.Connector)


def down_connector(connector: objects.Connector) -> Connector:
    """From 2.3.0: without `capabilities`."""
    return recast(connector, Connector)


def up_evse(evse: EVSE) -> objects.EVSE:
    """To 2.3.0."""
    return recast(evse, objects.EVSE, connectors=[up_connector(item) for item in evse.connectors])


def down_evse(evse: objects.EVSE) -> EVSE:
    """From 2.3.0: without `parking` and `accepted_service_providers`."""
    return recast(evse, EVSE, connectors=[down_connector(item) for item in evse.connectors])


def up_location(location: Location) -> objects.Location:
    """To 2.3.0."""
    return recast(location, objects.Location, evses=[up_evse(item) for item in location.evses])


def down_location(location: objects.Location) -> Location:
    """From 2.3.0: without `parking_places` and `help_phone`."""
    return recast(location, Location, evses=[down_evse(item) for item in location.evses])


def up_credentials(credentials: Credentials) -> platforms.Credentials:
    """To 2.3.0: a hub is `hub_party_id`, too."""
    hub = next((item for item in credentials.roles if item.role is Role.HUB), None)
    party = None if hub is None else hub.country_code + hub.party_id
    return recast(credentials, platforms.Credentials, hub_party_id=party)


def down_credentials(credentials: platforms.Credentials) -> Credentials:
    """From 2.3.0: a hub reports itself alone."""
    hub = hub_of(credentials)
    return recast(credentials, Credentials, roles=credentials.roles if hub is None else [hub])


def hub_of(credentials: platforms.Credentials) -> CredentialsRole | None:
    """The role of the hub that credentials name in `hub_party_id` only, if there is one."""
    party = credentials.hub_party_id
    if not party or any(item.role is Role.HUB for item in credentials.roles):
        return None
    country, name = party[:2], party[2:]
    its = (item for item in credentials.roles if (item.country_code + item.party_id).upper() == party.upper())
    details = next((item.business_details for item in its), BusinessDetails(name=party))
    return CredentialsRole(role=Role.HUB, country_code=country, party_id=name, business_details=details)


def same(found: T) -> T:
    """What is the same in both."""
    return found


KINDS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "session": (Session, up_session, down_session),
    "cdr": (CDR, up_cdr, down_cdr),
    "tariff": (Tariff, up_tariff, down_tariff),
    "location": (Location, up_location, down_location),
    "evse": (EVSE, up_evse, down_evse),
    "connector": (Connector, up_connector, down_connector),
    "token": (Token, same, same),
    "credentials": (Credentials, up_credentials, down_credentials),
    "version": (platforms.Version, same, same),
    "version_details": (platforms.VersionDetails, same, same),
    "client_info": (platforms.ClientInfo, same, same),
    "start_session": (requests.StartSession, same, same),
    "stop_session": (requests.StopSession, same, same),
    "reserve_now": (requests.ReserveNow, same, same),
    "cancel_reservation": (requests.CancelReservation, same, same),
    "unlock_connector": (requests.UnlockConnector, same, same),
    "command_response": (requests.CommandResponse, same, same),
    "command_result": (requests.CommandResult, same, same),
    "charging_preferences": (requests.ChargingPreferences, same, same),
    "charging_preferences_response": (requests.ChargingPreferencesResponse, same, same),
    "location_references": (requests.LocationReferences, same, same),
    "authorization_info": (requests.AuthorizationInfo, same, same),
    "charging_profile": (requests.ChargingProfile, same, same),
    "set_charging_profile": (requests.SetChargingProfile, same, same),
    "active_charging_profile": (requests.ActiveChargingProfile, same, same),
    "charging_profile_response": (requests.ChargingProfileResponse, same, same),
    "charging_profile_result": (requests.ChargingProfileResult, same, same),
    "active_charging_profile_result": (requests.ActiveChargingProfileResult, same, same),
    "clear_profile_result": (requests.ClearProfileResult, same, same),
}
"""Per kind: the struct of 2.2.1, to 2.3.0, from 2.3.0."""
