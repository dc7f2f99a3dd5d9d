"""What a delivery looks like on the wire: the request that brings an object to a platform's receiver.

Each module has its own way: client-owned objects are put under their owner's country code and party id, CDRs
are posted, a tariff that is gone is deleted (transport_and_format "Client Owned Object Push", mod_cdrs "POST
Method", mod_tariffs "DELETE Method").
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from api.partners import Connection
from api.peer import Routing
from schemas.keys import party_key
from schemas.ocpi import wire
from schemas.ocpi.platforms import ClientInfo, Role
from streams import objects
from streams.concerns import ADDRESSED, OPERATORS, PROVIDERS, READERS, concerned

MODULES = ("locations", "tariffs", "tokens", "sessions", "cdrs", "hubclientinfo", *sorted(ADDRESSED))
"""What is pushed to platforms, each to its receiver interface."""


class Parcel(msgspec.Struct, frozen=True):
    """A request to be made."""

    method: str
    url: str
    body: bytes | None
    routing: Routing | None


class _Typed(msgspec.Struct):
    type: str


_read_type = msgspec.json.Decoder(_Typed).decode
"""The type of a token as its body says it, in the words of the platform's version."""


def addressee(connection: Connection, module: str, found: Any) -> tuple[str, str] | None:
    """The party on a platform that an object is for; None: it does not concern this platform.

    Whom it concerns is `streams.concerns`. What belongs to a party on the platform itself is not sent back to
    it.
    """
    if key := concerned(module, found):
        for role in connection.roles:
            if role.key == key and role.role in PROVIDERS:
                return role.country_code, role.party_id
        return None
    if any(role.key == party_key(found.country_code, found.party_id) for role in connection.roles):
        return None
    wanted = OPERATORS if module == "tokens" else READERS
    for role in connection.roles:
        if module == "hubclientinfo" or role.role in wanted:
            return role.country_code, role.party_id
    return None


def parcel(
    connection: Connection,
    module: str,
    found: Any,
    us: tuple[str, str],
    *,
    gone: bool = False,
    place: Any = None,
) -> Parcel | None:
    """The request that tells a platform of an object as it is now, or that it is `gone`.

    None: the platform has no interface for it, or its version no such object. `us`: our own party, in whose
    name is said what concerns many; `place`: the location of a session, which 2.1.1 embeds.
    """
    version = connection.version or ""
    url = connection.endpoint(module, "RECEIVER")
    kind = objects.KINDS[module]
    if module == "hubclientinfo":
        found = client_info_for(connection, version, found)
    if url is None or (gone and module != "tariffs"):
        return None
    try:
        body = None if gone else wire.encode(kind, version, found, place=place)
    except LookupError:
        return None
    if module == "cdrs":
        return Parcel("POST", url, body, _routing(connection, module, found, us))
    ids = [found.country_code, found.party_id]
    query = ""
    if module == "tokens":
        ids.append(found.uid)
        if version != "2.1.1" and body and (said := _read_type(body).type) != "RFID":
            query = f"?type={quote(said, safe='')}"
    elif module != "hubclientinfo":
        ids.append(found.id)
    url = "/".join([url, *(quote(one, safe="") for one in ids)]) + query
    return Parcel("DELETE" if gone else "PUT", url, body, _routing(connection, module, found, us))


def client_info_for(connection: Connection, version: str, info: ClientInfo) -> ClientInfo:
    """A client info with the role that a platform knows.

    types "Role" of 2.3.0 has no HUB any more, and no PTP: terminology alone names that one, so it is said to
    platforms that have to do with payments. 2.2.1 is seen to by its translation.
    """
    unknown = (Role.HUB,) if connection.takes_cards else (Role.HUB, Role.PTP)
    if version != "2.3.0" or info.role not in unknown:
        return info
    return msgspec.structs.replace(info, role=Role.OTHER)


def _routing(connection: Connection, module: str, found: Any, us: tuple[str, str]) -> Routing | None:
    """Who it is from and to (transport_and_format "Message Routing Headers" and the overview behind it).

    Configuration modules have no such headers, and neither has 2.1.1.
    """
    if module == "hubclientinfo" or connection.version == "2.1.1":
        return None
    to = addressee(connection, module, found)
    if module in ("sessions", "cdrs"):
        return Routing((found.country_code, found.party_id), to)
    return Routing(us, to)
