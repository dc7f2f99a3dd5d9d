"""Deliveries of what is for one party: terminals, confirmations of captures, invoice reconciliation records.

A terminal goes to its operator by POST, which is the one way that the receiver interface has, and what the
operator changes of it back to its provider by PUT (mod_payments). A confirmation is posted. An invoice
reconciliation record is posted at first, then put, and deleted when it is gone (mod_invoice_reconciliation,
"Push model").
"""

from __future__ import annotations

from urllib.parse import quote

from api.parcels import Parcel
from api.partners import Connection
from api.peer import Routing
from schemas.ocpi import wire
from streams import objects
from streams.concerns import NOBODY

_RECEIVERS = {
    "terminals": ("CPO",),
    "confirmations": ("CPO",),
    "invoicereconciliation": ("CPO", "EMSP"),
}
"""Roles in which a party is told of these."""

Party = tuple[str, str]


def receiver(connection: Connection, module: str, key: str, concerns: str) -> Party | None:
    """The party on a platform that an object is for: whom it concerns, or a terminal's provider.

    None: nobody there, or the platform has no interface for it.
    """
    owner = "*".join(key.split("*", 2)[:2])
    for role in connection.roles:
        back = module == "terminals" and role.key == owner and role.role == "PTP"
        if (back or (role.key == concerns and role.role in _RECEIVERS[module])) and _url(
            connection, module, back=back
        ):
            return role.country_code, role.party_id
    return None


def _url(connection: Connection, module: str, *, back: bool) -> str | None:
    where = "invoicereconciliation" if module == "invoicereconciliation" else "payments"
    return connection.endpoint(where, "SENDER" if back else "RECEIVER")


def _other(connection: Connection, module: str, key: str) -> Party | None:
    """Who on a platform was told of an object that is gone: whoever could be, but its owner."""
    owner = "*".join(key.split("*", 2)[:2])
    roles = [role for role in connection.roles if role.role in _RECEIVERS[module] and role.key != owner]
    return (roles[0].country_code, roles[0].party_id) if roles else None


def parcel_of(
    connection: Connection, module: str, key: str, state: bytes | None, *, again: bool
) -> Parcel | None:
    """The request that tells a platform of an object, or that it is gone (`state` is None).

    `again`: it was told of it before. None: it has no interface for it, or its version no such object.
    """
    country, party, name = key.split("*", 2)
    owner = (country, party)
    concerns = NOBODY if state is None else objects.head(state).concerns
    to = receiver(connection, module, key, concerns) if state is not None else _other(connection, module, key)
    back = module == "terminals" and to is not None and f"{to[0]}*{to[1]}".upper() == f"{country}*{party}"
    url = _url(connection, module, back=back)
    if url is None:
        return None
    url = url.rstrip("/")
    body = None
    if state is not None:
        try:
            body = wire.encode(objects.KINDS[module], connection.version or "", objects.load(module, state))
        except LookupError:
            return None
    sender = owner
    if back and concerns != NOBODY:
        operator = concerns.split("*", 1)
        sender = (operator[0], operator[1])
    routing = Routing(sender, to)
    match module:
        case "terminals" if back:
            return Parcel(
                "PUT", f"{url}/terminals/{quote(_id(module, state) or name, safe='')}", body, routing
            )
        case "terminals":
            return Parcel("POST", f"{url}/terminals", body, routing)
        case "confirmations":
            return Parcel("POST", f"{url}/financial-advice-confirmations", body, routing)
    if state is not None and not again:
        return Parcel("POST", url, body, routing)
    ids = "/".join(quote(one, safe="") for one in (country, party, _id(module, state) or name))
    return Parcel("DELETE" if state is None else "PUT", f"{url}/{ids}", body, routing)


def _id(module: str, state: bytes | None) -> str | None:
    """An object's identifier as its owner spells it."""
    if state is None:
        return None
    found = objects.load(module, state)
    name: str = found.terminal_id if module == "terminals" else found.id
    return name
