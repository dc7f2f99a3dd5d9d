"""Invoices: which CDRs they list, and what has to be held against the books again when these change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from schemas.keys import party_key
from schemas.records import (
    Event,
    event_id,
    micros,
    moment,
    quantized,
)
from schemas.settlement import (
    ReconciliationRecord,
    Reference,
    StatementRecord,
    pair_key,
    read_references,
)
from schemas.topics import Topics
from streams.folding import Output
from streams.ledger import reconciling
from streams.ledger.books import Books
from streams.ledger.settling import (
    ZERO,
    billed,
    standing,
)
from streams.ledger.state import (
    CHUNK,
    CLAIMS,
    COUNTS,
    INVOICES,
    ISSUER,
    LISTED,
    MATCHED,
    MEMBERS,
    MODULE,
    KeptClaim,
    KeptInvoice,
    body,
)
from streams.quarantine import RefusedError
from streams.table import Table


class _Invoice(msgspec.Struct):
    """mod_invoice_reconciliation, "InvoiceReconciliationRecord"."""

    country_code: str
    party_id: str
    id: str
    invoice_id: str
    cdrs: list[str]
    last_updated: datetime


class Invoices(Books):
    """Takes invoice reconciliation records in, and issues those of closed statements."""

    def __init__(self, topics: Topics, table: Table) -> None:
        super().__init__(topics, table)
        self.dirty: dict[str, None] = {}  # invoices to hold against the books once more

    def _take_invoice(self, event: Event, pair: str) -> None:
        kept = self.table.read(INVOICES, event.key)
        if event.method == "DELETE":
            if not kept.id:
                raise RefusedError("unknown_object", f"{event.key} was never received")
            if kept.deleted or event.received_at < kept.received_at:
                return
            self._list(event.key, kept.cdrs, [], kept)
            kept.deleted = True
        else:
            invoice = body(event, _Invoice)
            owner = party_key(invoice.country_code, invoice.party_id)
            other = _other(pair, owner)
            updated = micros(invoice.last_updated)
            if kept.id and (updated, event.id) <= (kept.last_updated, kept.event_id):
                return
            self._list(event.key, [] if kept.deleted else kept.cdrs, invoice.cdrs, kept, (owner, other))
            kept.owner, kept.other, kept.id = owner, other, invoice.id
            kept.invoice_id, kept.cdrs = invoice.invoice_id, invoice.cdrs
            kept.last_updated, kept.deleted = updated, False
            kept.issued = event.sender == ISSUER
        if not kept.received_at:
            kept.received_at = event.received_at
        kept.event_id = event.id
        self.table.write(INVOICES, event.key, kept)
        self.dirty[event.key] = None
        for statement in self._statements_of(kept):
            for invoice_key in self.table.find(MATCHED, statement) or ():
                self.dirty[invoice_key] = None

    def _list(
        self,
        key: str,
        before: Sequence[str],
        now: Sequence[str],
        kept: KeptInvoice,
        parties: tuple[str, str] | None = None,
    ) -> None:
        """Note which invoices list a CDR, for both parties as its operator."""
        owner, other = parties or (kept.owner, kept.other)
        old = {f"{party}*{one}".upper() for one in before for party in (owner, other)}
        new = {f"{party}*{one}".upper() for one in now for party in (owner, other)}
        for claim in sorted(old ^ new):
            listing = self.table.read(LISTED, claim)
            listing = [one for one in listing if one != key] if claim in old else sorted([*listing, key])
            self.table.write(LISTED, claim, listing)
        for claim in sorted(old | new):
            self._touch(claim)

    def _statements_of(self, invoice: KeptInvoice) -> list[str]:
        operator = self._operator(invoice)
        known = [self.table.find(CLAIMS, f"{operator}*{one}".upper()) for one in invoice.cdrs]
        return sorted({one.first for one in known if one is not None and one.first})

    def _touch(self, claim: str) -> None:
        for invoice in self.table.find(LISTED, claim) or ():
            self.dirty[invoice] = None

    def conclude(self) -> None:
        """Hold the invoices that something changed for against the books."""
        for key in sorted(self.dirty):
            kept = self.table.read(INVOICES, key)
            if not kept.id:
                continue
            record = self._reconciled(key, kept)
            if record.statement and not kept.deleted:
                matched = self.table.read(MATCHED, record.statement)
                if key not in matched:
                    self.table.write(MATCHED, record.statement, sorted([*matched, key]))
            if self._emit(self.topics.reconciliations.name, key, record, kept):
                self.table.write(INVOICES, key, kept)

    def _operator(self, invoice: KeptInvoice) -> str:
        """Whose CDRs an invoice lists: of the party that issued it (direct billing), or of the other one."""

        def known(party: str) -> int:
            found = (self.table.find(CLAIMS, f"{party}*{one}".upper()) for one in invoice.cdrs)
            return sum(one is not None and one.claim is not None for one in found)

        return invoice.other if known(invoice.other) > known(invoice.owner) else invoice.owner

    def _reconciled(self, key: str, kept: KeptInvoice) -> ReconciliationRecord:
        operator = self._operator(kept)
        provider = kept.other if operator == kept.owner else kept.owner
        named = next(
            (
                str(one)
                for one in read_references(kept.invoice_id)
                if (one.creditor, one.debtor) == (operator, provider)
            ),
            None,
        )
        outcome = reconciling.Outcome(None, None, ZERO, 0, [])
        if not kept.deleted:
            outcome = reconciling.match(
                kept.cdrs,
                lambda name: self._known(f"{operator}*{name}".upper(), provider, key, kept),
                named,
                lambda statement: self._unlisted(statement, provider, key, kept),
            )
        return ReconciliationRecord(
            key=key,
            owner=kept.owner,
            counterparty=kept.other,
            id=kept.id,
            invoice_id=kept.invoice_id,
            billing="direct" if operator == kept.owner else "reverse",
            issued=kept.issued,
            statement=outcome.statement,
            currency=outcome.currency,
            status="deleted" if kept.deleted else ("differs" if outcome.differences else "matched"),
            amount=outcome.amount,
            matched=outcome.matched,
            differences=outcome.differences,
            last_updated=kept.last_updated,
            received_at=kept.received_at,
            event_id=kept.event_id,
        )

    def _known(
        self, claim_id: str, provider: str, invoice_key: str, invoice: KeptInvoice
    ) -> reconciling.Known | None:
        kept = self.table.find(CLAIMS, claim_id)
        claim = kept.claim if kept is not None else None
        if kept is None or claim is None or claim.debtor != provider:
            return None
        refunds = self._gone(kept)
        if any(self.table.read(CLAIMS, one).first not in (kept.first, None) for one in refunds):
            refunds = []  # credited later: that is for the statement, and the invoice, which the credit is on
        offsets = None
        if claim.credit and claim.credit_of:
            original = self.table.find(CLAIMS, claim.credit_of)
            if original is not None and claim_id in self._gone(original):
                offsets = original.first
        return reconciling.Known(
            claim=claim_id,
            cdr_id=claim.cdr_id,
            currency=claim.currency,
            billed=quantized(billed(claim).gross),
            settled=quantized(kept.posted.amount.gross if kept.posted is not None else ZERO),
            status=kept.status,
            reason=kept.reason,
            statement=kept.first,
            credited_by=refunds,
            credit_of=claim.credit_of if claim.credit else None,
            offsets=offsets,
            invoices=self._earlier_invoices(claim_id, invoice_key, invoice),
        )

    def _gone(self, kept: KeptClaim) -> list[str]:
        """Keys of a claim's credits, when they leave nothing of it."""
        refunds = [found for one in kept.credits if (found := self.table.read(CLAIMS, one).claim)]
        refunds.sort(key=lambda one: (one.occurred_at, one.id))
        if kept.claim is None or not refunds or standing(kept.claim, refunds):
            return []
        return [one.id for one in refunds]

    def _earlier_invoices(self, claim_id: str, key: str, invoice: KeptInvoice) -> list[str]:
        """Other invoices of the same party that list a CDR and came before this one."""
        found = set()
        for other_key in self.table.find(LISTED, claim_id) or ():
            other = self.table.read(INVOICES, other_key)
            if other_key == key or other.owner != invoice.owner or other.invoice_id == invoice.invoice_id:
                continue
            if (other.received_at, other_key) < (invoice.received_at, key):
                found.add(other.invoice_id)
        return sorted(found)

    def _unlisted(
        self, statement: str, provider: str, key: str, invoice: KeptInvoice
    ) -> Iterator[reconciling.Known]:
        """What was first posted on a statement, but for what other records of this invoice list."""
        for claim_id in self._members_of(statement):
            others = (one for one in self.table.find(LISTED, claim_id) or () if one != key)
            if any(
                (found.owner, found.invoice_id) == (invoice.owner, invoice.invoice_id)
                for found in (self.table.read(INVOICES, one) for one in others)
            ):
                continue
            known = self._known(claim_id, provider, key, invoice)
            if known is not None:
                yield known

    def _members_of(self, statement: str) -> Iterator[str]:
        count = self.table.find(COUNTS, statement) or 0
        for number in range(-(-count // CHUNK)):
            yield from self.table.find(MEMBERS, f"{statement}\0{number}") or ()

    def _issue(self, reference: Reference, record: StatementRecord, issue: str, event: Event) -> None:
        """The invoice reconciliation record of a closed statement, as the party that bills would send it."""
        owner = reference.creditor if issue == "direct" else reference.debtor
        country, party = owner.split("*")
        cdrs = []
        for claim_id in self._members_of(record.reference):
            kept = self.table.find(CLAIMS, claim_id)
            if kept is not None and kept.claim is not None and kept.posted is not None:
                cdrs.append(kept.claim.cdr_id)
        if not cdrs:
            return
        body = msgspec.json.encode(
            {
                "country_code": country,
                "party_id": party,
                "id": record.reference,
                "invoice_id": record.reference,
                "cdrs": cdrs,
                "last_updated": moment(event.received_at).isoformat().replace("+00:00", "Z"),
            }
        )
        other = reference.debtor if issue == "direct" else reference.creditor
        path = [country, party, record.reference, *other.split("*")]
        issued = Event(
            id=event_id(ISSUER, MODULE, "POST", path, body),
            received_at=event.received_at,
            sender=ISSUER,
            version="2.3.0",
            module=MODULE,
            method="POST",
            key=f"{owner}*{record.reference}".upper(),
            path=path,
            request_id=None,
            correlation_id=None,
            body=body,
        )
        key = pair_key(reference.creditor, reference.debtor)
        self.outputs.append(Output(self.topics.ledger.name, key.encode(), issued.encode()))


def _other(pair: str, owner: str) -> str:
    parties = pair.split("|")
    if len(parties) != 2 or owner not in parties:
        raise RefusedError("wrong_pair", f"{owner} does not belong under {pair}")
    return parties[1] if parties[0] == owner else parties[0]
