"""What pricing must know beside a session: versions of tariffs, a location's time zone, its connectors'
tariffs.

Tariffs and locations have topics of their own, and sessions another. So that each partition of the sessions
has all that it prices with, in one order and in one state, the references agent distils those facts and
writes a copy to every partition of the sessions topic. It keeps nothing and may repeat itself: a reference
that comes again changes nothing, and which version of it applies is decided by event time, not by arrival
(`versions.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from schemas.codec import UnknownSchemaError
from schemas.keys import owner_of
from schemas.ocpi import wire
from schemas.ocpi.objects import Tariff
from schemas.records import Event, micros
from streams.folding import Fact

MODULE = "references"
_CANONICAL = "2.3.0"


class TariffReference(msgspec.Struct, tag="tariff"):
    """A version of a tariff, in force since `since` (microseconds); `tariff` null: withdrawn."""

    since: int
    tariff: msgspec.Raw

    def read(self) -> Tariff | None:
        """The tariff itself."""
        found: Tariff | None = None
        if bytes(self.tariff) != b"null":
            found = wire.decode("tariff", _CANONICAL, bytes(self.tariff))
        return found


class ConnectorTariffs(msgspec.Struct, array_like=True):
    """Tariffs of one connector since a moment (microseconds)."""

    evse_uid: str
    connector_id: str
    since: int
    tariff_ids: list[str]


class LocationReference(msgspec.Struct, tag="location"):
    """What a location's event says that matters for prices."""

    since: int
    time_zone: str | None
    connectors: list[ConnectorTariffs]


Reference = TariffReference | LocationReference

_decode_reference = msgspec.json.Decoder(Reference).decode
_encode = msgspec.json.Encoder().encode


class _Connector(msgspec.Struct):
    id: str | None = None
    tariff_ids: list[str] | None = None
    tariff_id: str | None = None  # 2.1.1
    last_updated: datetime | None = None


class _Evse(msgspec.Struct):
    uid: str | None = None
    connectors: list[_Connector] | None = None
    last_updated: datetime | None = None


class _Location(msgspec.Struct):
    time_zone: str | None = None
    evses: list[_Evse] | None = None
    last_updated: datetime | None = None


_location = msgspec.json.Decoder(_Location).decode
_evse = msgspec.json.Decoder(_Evse).decode
_connector = msgspec.json.Decoder(_Connector).decode


def references_of(fact: Fact) -> Event | None:
    """The reference that a record of the tariffs or locations topic implies; None when it implies none.

    It has the id and the time of the event that it comes from, so it is the same whenever it is made.
    """
    try:
        event = Event.decode(fact.value or b"")
        reference = _of_tariff(event) if event.module == "tariffs" else _of_location(event)
    except (UnknownSchemaError, wire.InvalidObjectError, msgspec.MsgspecError):
        return None  # the door lets no such body pass; its own topic keeps it all the same
    if reference is None:
        return None
    return msgspec.structs.replace(event, module=MODULE, version=_CANONICAL, body=_encode(reference))


def read_reference(body: bytes) -> Reference:
    """The reference in an event of module `references`. Raises msgspec.MsgspecError when it is none."""
    found: Reference = _decode_reference(body)
    return found


def _of_tariff(event: Event) -> TariffReference | None:
    if event.method == "DELETE":
        return TariffReference(event.received_at, msgspec.Raw(b"null"))
    if event.method != "PUT":
        return None
    tariff = wire.decode("tariff", event.version, event.body, party=owner_of(event.key))
    body = wire.encode("tariff", _CANONICAL, tariff)
    return TariffReference(micros(tariff.last_updated), msgspec.Raw(body))


def _of_location(event: Event) -> LocationReference | None:
    """PUT and PATCH of a location, an EVSE or a connector: what it says of time zone and tariffs."""
    if event.module != "locations" or event.method not in ("PUT", "PATCH"):
        return None
    ids, zone = event.path[3:], None
    if not ids:
        location = _location(event.body)
        evses, zone, last = location.evses or [], location.time_zone, location.last_updated
    elif len(ids) == 1:
        evse = _evse(event.body)
        evse.uid = ids[0]
        evses, last = [evse], evse.last_updated
    else:
        connector = _connector(event.body)
        connector.id = ids[1]
        evses, last = [_Evse(ids[0], [connector])], connector.last_updated
    since = _since(last, event.received_at)
    connectors = [
        ConnectorTariffs(evse.uid.upper(), one.id.upper(), _since(one.last_updated, since), tariffs)
        for evse in evses
        for one in evse.connectors or ()
        if evse.uid and one.id and (tariffs := one.tariff_ids or ([one.tariff_id] if one.tariff_id else None))
    ]
    return LocationReference(since, zone, connectors) if zone or connectors else None


def _since(last_updated: datetime | None, otherwise: int) -> int:
    """Microseconds; OCPI's DateTime is UTC when it names no zone (types, "DateTime Type")."""
    if last_updated is None:
        return otherwise
    return micros(last_updated if last_updated.tzinfo else last_updated.replace(tzinfo=UTC))
