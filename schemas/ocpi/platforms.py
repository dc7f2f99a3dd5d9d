"""Who speaks: OCPI 2.3.0's credentials, versions and endpoints, and the client info of hubs.

`Role` has HUB, which 2.2.1 knows and 2.3.0 replaced by `hub_party_id`, and PTP of 2.3.0 payments: partners
send either in any version, and mean the same.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from schemas.ocpi.objects import (
    BusinessDetails,
    CiString5,
    CountryCode,
    DateTime,
    OpenEnum,
    Part,
    PartyId,
    Url,
    utc,
)

Secret = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[!-~]*(?!\n)$")]
"""credentials, "Credentials object": printable ASCII without white space."""


class Role(StrEnum):
    """types, "Role"; HUB of 2.2.1, PTP of 2.3.0 payments (terminology, "Typical OCPI implementations")."""

    CPO = "CPO"
    EMSP = "EMSP"
    HUB = "HUB"
    NAP = "NAP"
    NSP = "NSP"
    OTHER = "OTHER"
    PTP = "PTP"
    SCSP = "SCSP"


class CredentialsRole(Part, frozen=True, kw_only=True):
    """credentials, "CredentialsRole"."""

    role: Role
    business_details: BusinessDetails
    party_id: PartyId
    country_code: CountryCode


class Credentials(Part, frozen=True, kw_only=True):
    """credentials, "Credentials object". `hub_party_id` is country code and party id in one."""

    token: Secret
    url: Url
    hub_party_id: CiString5 | None = None
    roles: Annotated[list[CredentialsRole], Meta(min_length=1)]


class InterfaceRole(StrEnum):
    """version_information_endpoint, "InterfaceRole"."""

    SENDER = "SENDER"
    RECEIVER = "RECEIVER"


class Version(Part, frozen=True, kw_only=True, gc=False):
    """version_information_endpoint, "Version"."""

    version: OpenEnum
    url: Url


class Endpoint(Part, frozen=True, kw_only=True, gc=False):
    """version_information_endpoint, "Endpoint"."""

    identifier: OpenEnum
    role: InterfaceRole
    url: Url


class VersionDetails(Part, frozen=True, kw_only=True):
    """version_information_endpoint, "Version details endpoint": its data."""

    version: OpenEnum
    endpoints: Annotated[list[Endpoint], Meta(min_length=1)]


class ConnectionStatus(StrEnum):
    """mod_hub_client_info, "ConnectionStatus"."""

    CONNECTED = "CONNECTED"
    OFFLINE = "OFFLINE"
    PLANNED = "PLANNED"
    SUSPENDED = "SUSPENDED"


class ClientInfo(Part, frozen=True, kw_only=True):
    """mod_hub_client_info, "ClientInfo"."""

    party_id: PartyId
    country_code: CountryCode
    role: Role
    status: ConnectionStatus
    last_updated: DateTime

    def __post_init__(self) -> None:
        utc(self, "last_updated", self.last_updated)
