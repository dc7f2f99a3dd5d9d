"""OCPI 2.1.1's credentials, versions, commands and authorization, and their translation from and to 2.3.0.

- Credentials are of one party without a role: OTHER canonically, since only its endpoints tell which it has.
  Of several roles the hub's is written, else the first.
- An endpoint has no role, and a platform one endpoint per module: canonically it is SENDER and RECEIVER.
- A command's answer and its result are one object, a CommandResponse, without time-out and message. Its
  result is waited for `TIMEOUT` seconds. What 2.1.1 does not know is a rejection.
- A reservation has a number; one that later versions name otherwise is written as a number made of its name.
- There is no CancelReservation, and no connector in StartSession.
- An AuthorizationInfo has no token: canonically it is a placeholder, which whoever asked replaces with the
  token that was asked for.
"""

# ruff: noqa: RUF012 - an empty default of a struct is copied for each object

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta

from schemas.ocpi import objects, platforms, requests
from schemas.ocpi.objects import (
    BusinessDetails,
    CiString36,
    CiString39,
    CountryCode,
    DateTime,
    DisplayText,
    Integer,
    OpenEnum,
    Part,
    PartyId,
    Url,
    WhitelistType,
    utc,
)
from schemas.ocpi.platforms import CredentialsRole, InterfaceRole, Role, Secret, Version
from schemas.ocpi.requests import AllowedType, CommandResponseType, CommandResultType, StopSession
from schemas.ocpi.v211 import NOT_AVAILABLE, UNKNOWN_TYPE, Party, Token, down_token, short, up_token
from schemas.ocpi.v221 import hub_of, recast

TIMEOUT = 60
"""Seconds that the result of a command is waited for: 2.1.1 does not say how long."""


class Credentials(Part, frozen=True, kw_only=True):
    """credentials, "Credentials object"."""

    token: Secret
    url: Url
    business_details: BusinessDetails
    party_id: PartyId
    country_code: CountryCode


class Endpoint(Part, frozen=True, kw_only=True, gc=False):
    """version_information_endpoint, "Endpoint"."""

    identifier: OpenEnum
    url: Url


class VersionDetails(Part, frozen=True, kw_only=True):
    """version_information_endpoint, "Version details endpoint": its data."""

    version: OpenEnum
    endpoints: Annotated[list[Endpoint], Meta(min_length=1)]


class StartSession(Part, frozen=True, kw_only=True):
    """mod_commands, "StartSession"."""

    response_url: Url
    token: Token
    location_id: CiString39
    evse_uid: CiString39 | None = None


class ReserveNow(Part, frozen=True, kw_only=True):
    """mod_commands, "ReserveNow"."""

    response_url: Url
    token: Token
    expiry_date: DateTime
    reservation_id: Integer
    location_id: CiString39
    evse_uid: CiString39 | None = None

    def __post_init__(self) -> None:
        utc(self, "expiry_date", self.expiry_date)


class UnlockConnector(Part, frozen=True, kw_only=True, gc=False):
    """mod_commands, "UnlockConnector"."""

    response_url: Url
    location_id: CiString39
    evse_uid: CiString39
    connector_id: CiString36


class ResponseType(StrEnum):
    """mod_commands, "CommandResponseType"."""

    NOT_SUPPORTED = "NOT_SUPPORTED"
    REJECTED = "REJECTED"
    ACCEPTED = "ACCEPTED"
    TIMEOUT = "TIMEOUT"
    UNKNOWN_SESSION = "UNKNOWN_SESSION"


class CommandResponse(Part, frozen=True, kw_only=True, gc=False):
    """mod_commands, "CommandResponse"."""

    result: ResponseType


class LocationReferences(Part, frozen=True, kw_only=True):
    """mod_tokens, "LocationReferences"."""

    location_id: CiString39
    evse_uids: list[CiString39] = []
    connector_ids: list[CiString36] = []


class AuthorizationInfo(Part, frozen=True, kw_only=True):
    """mod_tokens, "AuthorizationInfo"."""

    allowed: AllowedType
    location: LocationReferences | None = None
    info: DisplayText | None = None


def up_credentials(credentials: Credentials, _party: Party) -> platforms.Credentials:
    """To 2.3.0."""
    return recast(
        credentials, platforms.Credentials, roles=[recast(credentials, CredentialsRole, role=Role.OTHER)]
    )


def down_credentials(credentials: platforms.Credentials) -> Credentials:
    """From 2.3.0."""
    hubs = [item for item in credentials.roles if item.role is Role.HUB]
    first = hub_of(credentials) or (hubs or credentials.roles)[0]
    return recast(
        credentials,
        Credentials,
        business_details=first.business_details,
        party_id=first.party_id,
        country_code=first.country_code,
    )


def up_details(details: VersionDetails, _party: Party) -> platforms.VersionDetails:
    """To 2.3.0: each endpoint in either role."""
    return recast(
        details,
        platforms.VersionDetails,
        endpoints=[
            platforms.Endpoint(identifier=identifier, role=role, url=url)
            for identifier, url in dict.fromkeys((item.identifier, item.url) for item in details.endpoints)
            for role in InterfaceRole
        ],
    )


def down_details(details: platforms.VersionDetails) -> VersionDetails:
    """From 2.3.0."""
    found = dict.fromkeys((item.identifier, item.url) for item in details.endpoints)
    return recast(
        details,
        VersionDetails,
        endpoints=[Endpoint(identifier=identifier, url=url) for identifier, url in found],
    )


def _up_place(found: StartSession | ReserveNow | UnlockConnector) -> None:
    short("location_id", found.location_id)
    short("evse_uid", found.evse_uid or "")


def up_start(command: StartSession, party: Party) -> requests.StartSession:
    """To 2.3.0. `party` owns the token."""
    _up_place(command)
    return recast(command, requests.StartSession, token=up_token(command.token, party))


def down_start(command: requests.StartSession) -> StartSession:
    """From 2.3.0."""
    return recast(command, StartSession, token=down_token(command.token))


def up_reserve(command: ReserveNow, party: Party) -> requests.ReserveNow:
    """To 2.3.0. `party` owns the token."""
    _up_place(command)
    return recast(
        command,
        requests.ReserveNow,
        token=up_token(command.token, party),
        reservation_id=str(command.reservation_id),
    )


def down_reserve(command: requests.ReserveNow) -> ReserveNow:
    """From 2.3.0."""
    return recast(
        command,
        ReserveNow,
        token=down_token(command.token),
        reservation_id=reservation_number(command.reservation_id),
    )


def reservation_number(name: str) -> int:
    """The number of a reservation in 2.1.1: its name, or 31 bits of its hash where it is no number."""
    if re.fullmatch(r"0|-?[1-9][0-9]{0,15}", name) and abs(int(name)) < 2**53:
        return int(name)
    return int.from_bytes(hashlib.sha256(name.upper().encode()).digest()[:4], "big") >> 1


def up_unlock(command: UnlockConnector, _party: Party) -> requests.UnlockConnector:
    """To 2.3.0."""
    _up_place(command)
    return recast(command, requests.UnlockConnector)


def down_unlock(command: requests.UnlockConnector) -> UnlockConnector:
    """From 2.3.0."""
    return recast(command, UnlockConnector)


def up_response(response: CommandResponse, _party: Party) -> requests.CommandResponse:
    """To 2.3.0: as the answer to a command."""
    known = response.result.value in CommandResponseType.__members__
    result = CommandResponseType(response.result.value) if known else CommandResponseType.REJECTED
    return requests.CommandResponse(result=result, timeout=TIMEOUT)


def down_response(response: requests.CommandResponse) -> CommandResponse:
    """From 2.3.0."""
    return CommandResponse(result=ResponseType(response.result.value))


def up_result(response: CommandResponse, _party: Party) -> requests.CommandResult:
    """To 2.3.0: as the result of a command."""
    known = response.result.value in CommandResultType.__members__
    return requests.CommandResult(
        result=CommandResultType(response.result.value) if known else CommandResultType.REJECTED
    )


def down_result(result: requests.CommandResult) -> CommandResponse:
    """From 2.3.0."""
    known = result.result.value in ResponseType.__members__
    return CommandResponse(result=ResponseType(result.result.value) if known else ResponseType.REJECTED)


def up_references(found: LocationReferences, _party: Party) -> requests.LocationReferences:
    """To 2.3.0: without connectors."""
    short("location_id", found.location_id)
    for index, uid in enumerate(found.evse_uids):
        short(f"evse_uids[{index}]", uid)
    return recast(found, requests.LocationReferences)


def down_references(found: requests.LocationReferences) -> LocationReferences:
    """From 2.3.0."""
    return recast(found, LocationReferences)


def up_info(info: AuthorizationInfo, party: Party) -> requests.AuthorizationInfo:
    """To 2.3.0: with a placeholder for the token."""
    token = objects.Token(
        country_code=party[0],
        party_id=party[1],
        uid=NOT_AVAILABLE,
        type=UNKNOWN_TYPE,
        contract_id=NOT_AVAILABLE,
        issuer=NOT_AVAILABLE,
        valid=info.allowed is AllowedType.ALLOWED,
        whitelist=WhitelistType.NEVER,
        last_updated=datetime.fromtimestamp(0, UTC),
    )
    location = None if info.location is None else up_references(info.location, party)
    return recast(info, requests.AuthorizationInfo, token=token, location=location)


def down_info(info: requests.AuthorizationInfo) -> AuthorizationInfo:
    """From 2.3.0."""
    location = None if info.location is None else down_references(info.location)
    return recast(info, AuthorizationInfo, location=location)


KINDS: dict[str, tuple[type, Callable[[Any, Party], Any], Callable[[Any], Any]]] = {
    "credentials": (Credentials, up_credentials, down_credentials),
    "version": (Version, lambda found, _party: found, lambda found: found),
    "version_details": (VersionDetails, up_details, down_details),
    "start_session": (StartSession, up_start, down_start),
    "stop_session": (StopSession, lambda found, _party: found, lambda found: found),
    "reserve_now": (ReserveNow, up_reserve, down_reserve),
    "unlock_connector": (UnlockConnector, up_unlock, down_unlock),
    "command_response": (CommandResponse, up_response, down_response),
    "command_result": (CommandResponse, up_result, down_result),
    "location_references": (LocationReferences, up_references, down_references),
    "authorization_info": (AuthorizationInfo, up_info, down_info),
}
"""Per kind: the struct of 2.1.1, to 2.3.0, from 2.3.0."""
