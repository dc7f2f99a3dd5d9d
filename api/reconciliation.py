"""The invoice reconciliation module, either way of billing: operators and providers issue records.

A record goes to the ledger of its two parties, where it is matched CDR by CDR, and the courier brings it to
the other party. Who that is says the OCPI-to header, else the first of the record's CDRs that is known here.
"""

from __future__ import annotations

from urllib.parse import quote

from api.answers import Answer, Refusal, Status, invalid
from api.calls import Call
from api.config import ApiConfig
from api.forwarding import Forwarder
from api.keeper import Keeper
from api.log import Log
from api.metrics import refused
from api.parties import Parties
from api.partners import Registry
from api.view import View
from schemas.keys import object_key, party_key
from schemas.ocpi import wire
from schemas.ocpi.payments import InvoiceReconciliationRecord
from schemas.settlement import pair_key
from streams import objects
from streams.concerns import NOBODY

MODULE = "invoicereconciliation"


class Reconciliation:
    """Handlers of the receiver interface; lists are those of `api.pages`."""

    def __init__(
        self, config: ApiConfig, log: Log, view: View, registry: Registry, forwarder: Forwarder
    ) -> None:
        self._topics = config.topics
        self._view = view
        self._forwarder = forwarder
        self._keeper = Keeper(log, view)
        self._parties = Parties(registry, config.party)

    async def handle(self, call: Call) -> Answer:
        """Receiver Interface. Raises Refusal, InvalidObjectError, LogUnavailableError."""
        if call.method == "POST":
            return await self._post(call)
        owner, key = (call.ids[0], call.ids[1]), object_key(*call.ids)
        state = await self._state(key)
        if call.method == "PUT":
            record = wire.decode("invoice_reconciliation", call.version, call.body)
            for field, url in zip(("country_code", "party_id", "id"), call.ids, strict=True):
                if (said := getattr(record, field)).upper() != url.upper():
                    raise invalid(field, f"{said!r} in the body, {url!r} in the URL")
            return await self._keep(call, record, state)
        if state is None:
            raise Refusal(404, Status.CLIENT_ERROR, f"Unknown record: {'/'.join(call.ids)}")
        if call.method == "GET":
            found = objects.load(MODULE, state)
            return Answer(
                200, Status.SUCCESS, "Success", wire.encode("invoice_reconciliation", call.version, found)
            )
        other = objects.head(state).concerns
        await self._keeper.keep(
            call, self._topics.ledger, key, [*owner, call.ids[2], *other.split("*", 1)], module=MODULE,
            sender=owner, log_key=pair_key(party_key(*owner), other),
        )  # fmt: skip
        return Answer(200, Status.SUCCESS, "Success")

    async def _post(self, call: Call) -> Answer:
        record = wire.decode("invoice_reconciliation", call.version, call.body)
        owner = party_key(record.country_code, record.party_id)
        if owner not in call.partner.parties(call.route.resource.callers):
            refused(MODULE, "party")
            raise Refusal(
                403, Status.INVALID_PARAMETERS, f"country_code, party_id: {owner} is not a party of yours"
            )
        state = await self._state(object_key(record.country_code, record.party_id, record.id))
        if state is not None:
            if objects.load(MODULE, state) == record:
                return Answer(200, Status.SUCCESS, "Success: this record was known already")
            raise invalid("id", f"record {record.id} is known with another content; PUT updates it")
        return await self._keep(call, record, None)

    async def _keep(self, call: Call, record: InvoiceReconciliationRecord, state: bytes | None) -> Answer:
        owner = (record.country_code, record.party_id)
        other = await self._other(call, record, state)
        key = object_key(*owner, record.id)
        await self._keeper.keep(
            call, self._topics.ledger, key, [*owner, record.id, *other.split("*", 1)], module=MODULE,
            sender=owner, log_key=pair_key(party_key(*owner), other),
        )  # fmt: skip
        ids = "/".join(quote(one, safe="") for one in (*owner, record.id))
        url = f"{call.base_url}/ocpi/{call.version}/receiver/{MODULE}/{ids}"
        return Answer(
            200 if state else 201, Status.SUCCESS, "Success", headers=((b"location", url.encode()),)
        )

    async def _other(self, call: Call, record: InvoiceReconciliationRecord, state: bytes | None) -> str:
        """The party that a record is for. Raises Refusal (2001, 2002, 4001)."""
        owner = party_key(record.country_code, record.party_id)
        wanted = self._parties.wanted(call)
        known = None if state is None else objects.head(state).concerns
        if known in (None, NOBODY):
            known = wanted or await self._by_cdrs(record, owner)
        elif wanted not in (None, known):
            raise invalid("OCPI-to-party-id", f"this record is for {known}")
        if known is None or known == owner:
            raise Refusal(
                200, Status.NOT_ENOUGH_INFORMATION,
                "cdrs: none of them is known here; say in OCPI-to-party-id whom the record is for",
            )  # fmt: skip
        return known

    async def _by_cdrs(self, record: InvoiceReconciliationRecord, owner: str) -> str | None:
        """The other party of the first CDR that is known: the token's, or else the operator."""
        await self._view.catch_up(self._view.partitions(self._topics.sessions))
        for name in record.cdrs:
            state = self._view.get("cdrs", object_key(record.country_code, record.party_id, name))
            if state is not None:
                other = objects.head(state).concerns
                if other not in (NOBODY, owner):
                    return other
            for operator in self._forwarder.operators():
                state = self._view.get("cdrs", f"{operator}*{name}".upper())
                if state is not None and objects.head(state).concerns == owner:
                    return operator
        return None

    async def _state(self, key: str) -> bytes | None:
        await self._view.catch_up(self._view.partitions(self._topics.ledger))
        return self._view.get(MODULE, key)
