"""What is said about money, as records of the ledger topic, and books that are kept in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any

import msgspec

from schemas.records import (
    ClaimRecord,
    EntryRecord,
    Event,
    QuarantineRecord,
    TaxRecord,
    event_id,
    micros,
    quantized,
)
from schemas.settlement import (
    Closing,
    Decision,
    Policy,
    Receipt,
    ReceiptRecord,
    ReconciliationRecord,
    SettledRecord,
    StatementRecord,
    pair_key,
    read_references,
)
from schemas.topics import Topics
from streams.folding import Fact, Output
from streams.ledger import LedgerFold

TOPICS = Topics("t", 3)
CPO, EMSP, HUB = "NL*TNM", "DE*EMS", "NL*VLF"


def at(text: str) -> int:
    """Microseconds of a time in UTC: `2026-03-15` or `2026-03-15T10:00`."""
    return micros(datetime.fromisoformat(text).replace(tzinfo=UTC))


def claim(
    cdr: str = "C1",
    before: str = "10",
    *,
    tax: str | None = None,
    priced: str | None = "",
    on: str = "2026-03-15T10:00",
    creditor: str = CPO,
    debtor: str = EMSP,
    **changes: Any,
) -> ClaimRecord:
    """The claim of a CDR, 21 % VAT unless `tax` says how much; priced as billed unless it says otherwise."""
    net = Decimal(before)
    vat = net * 21 / 100 if tax is None else Decimal(tax)
    price = net if priced == "" else None if priced is None else Decimal(priced)
    fields: dict[str, Any] = {
        "id": f"{creditor}*{cdr}",
        "session_key": f"{creditor}*S-{cdr}",
        "creditor": creditor,
        "debtor": debtor,
        "currency": "EUR",
        "before_taxes": quantized(net),
        "taxes": quantized(vat),
        "credit_of": None,
        "occurred_at": at(on) + 60_000_000,
        "event_id": event_id(creditor, "cdrs", "POST", [cdr], b""),
        "cdr_id": cdr,
        "session_id": f"S-{cdr}",
        "started_at": at(on) - 3_600_000_000,
        "ended_at": at(on),
        "kwh": quantized(Decimal(20)),
        "location_id": "L1",
        "token_uid": "U1",
        "contract_id": "DE-EMS-1",
        "billed_taxes": [TaxRecord(name="VAT", percentage=quantized(Decimal(21)), amount=quantized(vat))],
        "priced_before_taxes": None if price is None else quantized(price),
        "priced_after_taxes": None if price is None else quantized(price * 121 / 100),
        "verdict": "match" if price is not None else "cannot_be_priced",
        "tariffs": ["ab" * 16],
    }
    return ClaimRecord(**(fields | changes))


def credit(of: ClaimRecord, cdr: str = "", part: str = "1", **changes: Any) -> ClaimRecord:
    """A credit CDR's claim: the negative of another one, or a part of it."""
    share = Decimal(part)
    name = cdr or f"{of.cdr_id}-CREDIT"
    return msgspec.structs.replace(
        of,
        id=f"{of.creditor}*{name}",
        cdr_id=name,
        before_taxes=quantized(-of.before_taxes * share),
        taxes=quantized(-of.taxes * share),
        billed_taxes=[
            TaxRecord(name=one.name, percentage=one.percentage, amount=quantized(-one.amount * share))
            for one in of.billed_taxes
        ],
        credit=True,
        credit_of=of.id,
        event_id=event_id(of.creditor, "cdrs", "POST", [name], b""),
        occurred_at=of.occurred_at + 3_600_000_000,
        **changes,
    )


def said(
    module: str, body: Any, on: str | int, method: str = "PUT", key: str = "", sender: str = "operator"
) -> Event:
    """An event of the ledger topic."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Event(
        id=event_id(sender, module, method, [key, str(on)], raw),
        received_at=at(on) if isinstance(on, str) else on,
        sender=sender,
        version="2.3.0",
        module=module,
        method=method,
        key=key,
        path=[],
        request_id=None,
        correlation_id=None,
        body=raw,
    )


def policy(
    mode: str = "as_billed", since: str = "2020-01-01", on: str = "2026-01-01", **changes: Any
) -> Event:
    """What is settled of what the operator bills the provider."""
    parties = {"creditor": CPO, "debtor": EMSP} | {
        k: changes.pop(k) for k in ("creditor", "debtor") if k in changes
    }
    return said("policies", Policy(since=at(since), mode=mode, **parties, **changes), on)


def decide(claim_id: str, verdict: str, on: str = "2026-04-02", why: str = "looked into it") -> Event:
    """A person's decision on a claim between operator and provider."""
    return said(
        "decisions", Decision(claim=claim_id, creditor=CPO, debtor=EMSP, verdict=verdict, why=why), on
    )


def close(reference: str, on: str = "2026-05-01") -> Event:
    """A statement's period is over."""
    return said("closings", Closing(reference=reference), on)


def paid(
    receipt_id: str, amount: str, statement: str | None = None, on: str = "2026-04-20", **changes: Any
) -> Event:
    """Money that the operator got from the provider."""
    fields: dict[str, Any] = {"creditor": CPO, "debtor": EMSP, "currency": "EUR"} | changes
    body = Receipt(id=receipt_id, amount=Decimal(amount), received_on=at(on), statement=statement, **fields)
    return said("receipts", body, on)


def invoice(
    cdrs: Sequence[str],
    invoice_id: str = "INV-1",
    owner: str = CPO,
    on: str = "2026-04-05",
    *,
    record: str = "",
    method: str = "POST",
) -> Event:
    """An invoice reconciliation record."""
    country, party = owner.split("*")
    name = record or f"R-{invoice_id}"
    body = {
        "country_code": country,
        "party_id": party,
        "id": name,
        "invoice_id": invoice_id,
        "cdrs": list(cdrs),
        "last_updated": f"{on}T00:00:00Z",
    }
    key = f"{owner}*{name}".upper()
    return said("invoicereconciliation", b"" if method == "DELETE" else body, on, method, key, owner)


def key_of(record: ClaimRecord | Event) -> bytes:
    """The Kafka key of a record of the ledger topic: its pair of parties."""
    if isinstance(record, ClaimRecord):
        return pair_key(record.creditor, record.debtor).encode()
    if record.module == "closings":
        found = read_references(msgspec.json.decode(record.body)["reference"])[0]
        return pair_key(found.creditor, found.debtor).encode()
    if record.module == "invoicereconciliation":
        return pair_key(CPO, EMSP).encode()
    body = msgspec.json.decode(record.body)
    return pair_key(body.get("creditor") or "?", body.get("debtor") or "?").encode()


class Books:
    """A ledger fold with its state, fed what is said and what it writes into its own topic itself."""

    def __init__(self, topics: Topics = TOPICS) -> None:
        self.topics = topics
        self.state: dict[bytes, bytes] = {}
        self.outputs: list[Output] = []
        self.latest: dict[tuple[str, bytes], bytes | None] = {}
        self._offsets = count()
        self._fold = LedgerFold(topics)

    def hear(self, *records: ClaimRecord | Event) -> Books:
        """Fold records as one batch, then what comes of it."""
        facts = [self._fact(key_of(one), one.encode()) for one in records]
        while facts:
            facts = [self._fact(one.key, one.value or b"") for one in self.fold(facts)]
        return self

    def _fact(self, key: bytes, value: bytes) -> Fact:
        return Fact(self.topics.ledger.name, 0, next(self._offsets), key, value)

    def fold(self, facts: Sequence[Fact]) -> list[Output]:
        """Fold a batch; what it writes into the ledger topic."""
        folded = self._fold(facts, self.state.get)
        for name, value in folded.changes.items():
            if value is None:
                self.state.pop(name, None)
            else:
                self.state[name] = value
        self.outputs += folded.outputs
        self.latest |= {(one.topic, one.key): one.value for one in folded.outputs}
        return [one for one in folded.outputs if one.topic == self.topics.ledger.name]

    def _records(self, topic: str, kind: Any) -> list[Any]:
        return [kind.decode(value) for (name, _), value in self.latest.items() if name == topic and value]

    @property
    def entries(self) -> list[EntryRecord]:
        """Every entry, in the order in which they were posted."""
        return self._records(self.topics.settlement_entries.name, EntryRecord)

    @property
    def accounts(self) -> Mapping[tuple[str, str], Decimal]:
        """What stands on each account, by currency; accounts that are level are left out."""
        found: dict[tuple[str, str], Decimal] = {}
        for entry in self.entries:
            for leg in entry.legs:
                name = (leg.account, entry.currency)
                found[name] = found.get(name, Decimal(0)) + leg.amount
        return {name: amount for name, amount in found.items() if amount}

    @property
    def claims(self) -> dict[str, SettledRecord]:
        """Where each claim stands."""
        return {one.id: one for one in self._records(self.topics.settled_claims.name, SettledRecord)}

    @property
    def statements(self) -> dict[str, StatementRecord]:
        """Closed statements."""
        return {one.reference: one for one in self._records(self.topics.statements.name, StatementRecord)}

    @property
    def receipts(self) -> dict[str, ReceiptRecord]:
        """Receipts by id."""
        return {one.id: one for one in self._records(self.topics.receipts.name, ReceiptRecord)}

    @property
    def invoices(self) -> dict[str, ReconciliationRecord]:
        """Invoices against the books, by the invoice's own id."""
        found = self._records(self.topics.reconciliations.name, ReconciliationRecord)
        return {one.invoice_id: one for one in found}

    @property
    def refused(self) -> list[tuple[str, str]]:
        """What went to quarantine: reason and words."""
        found = self._records(self.topics.quarantine.name, QuarantineRecord)
        return [(one.reason, one.message) for one in found]

    def owed(self, creditor: str = CPO, debtor: str = EMSP, currency: str = "EUR") -> Decimal:
        """What the debtor owes."""
        return self.accounts.get((f"{debtor}:payable:{creditor}", currency), Decimal(0))


def balance(entries: Iterable[EntryRecord]) -> dict[str, Decimal]:
    """The sum of all legs of each currency."""
    found: dict[str, Decimal] = {}
    for entry in entries:
        for leg in entry.legs:
            found[entry.currency] = found.get(entry.currency, Decimal(0)) + leg.amount
    return found
