"""The ledger fold: claims, policies, decisions, closings, receipts and invoices of a pair become its books.

What is kept per partition, and what is concluded from it:

    c  a claim with its credits and decision, what is posted for it   -> EntryRecord, SettledRecord
    s  the CDRs of a session
    b  a book: creditor, debtor and currency; its open periods
    w  a closed statement                                             -> StatementRecord
    n, m  the CDRs that were first posted on a statement
    y  policies; d, i  which claims depend on them                    -> PolicyRecord
    p, z  receipts                                                    -> ReceiptRecord, EntryRecord
    r, v, u  invoices, by CDR, by statement                           -> ReconciliationRecord

Each record of the log is folded by itself, and its entries follow from what is kept before it: neither their
numbers nor their ids depend on how the log was cut into batches. What ought to be posted for a claim is a
function of what is known of it (`settling`); when that changes, what was posted is taken back by an entry,
and another one is posted. So any order of the same claims, credits, decisions and policies gives the same
accounts.

Fees go to another pair, and so to another partition, as claims; what a closed statement is invoiced by comes
back as an invoice reconciliation record. Both are written to the ledger topic, from which others read them,
too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec

from schemas.codec import UnknownSchemaError, name_of
from schemas.currencies import is_known, rounded
from schemas.keys import party_key
from schemas.records import (
    ClaimRecord,
    EntryRecord,
    Event,
    QuarantineRecord,
    Record,
    TaxRecord,
    event_id,
    micros,
    moment,
    quantized,
)
from schemas.settlement import (
    ISSUES,
    MODES,
    PERIODS,
    Closing,
    Decision,
    Fee,
    FeeRecord,
    Policy,
    PolicyRecord,
    Receipt,
    ReceiptRecord,
    ReconciliationRecord,
    Reference,
    SettledRecord,
    StatementRecord,
    pair_key,
    read_references,
    reference_of,
)
from schemas.topics import Topics
from streams import index
from streams.clock import MODULE as CLOCK
from streams.folding import Fact, Folded, Get, Output
from streams.ledger import posting, reconciling, statements
from streams.ledger.periods import period_named, period_of, zone_of
from streams.ledger.settling import (
    NOTHING,
    POSTED,
    ZERO,
    Amount,
    Chain,
    Target,
    amount_of,
    billed,
    fee_of,
    settle,
    standing,
)
from streams.table import Shelf, Table
from streams.versions import Version, add_version, in_force

ISSUER = "voltfold"
"""The sender of the events that this fold writes itself."""
INVOICES = "invoicereconciliation"
_CHUNK = 64

B = TypeVar("B")


class Posted(msgspec.Struct, array_like=True):
    """What stands in the books for a claim: the entry, and its amount."""

    entry: str
    before: Decimal
    taxes: list[TaxRecord]

    @property
    def amount(self) -> Amount:
        return amount_of(self.before, self.taxes)


class KeptDecision(msgspec.Struct, array_like=True):
    """The last decision on a claim."""

    at: int
    event_id: bytes
    decision: Decision


class KeptClaim(msgspec.Struct, array_like=True):
    """A claim. It may be known by its credits or by a decision before it is here itself."""

    claim: ClaimRecord | None = None
    credits: list[str] = []
    decided: KeptDecision | None = None
    posted: Posted | None = None
    entries: int = 0
    first: str | None = None
    """The statement that its first posting is on."""
    last: str | None = None
    status: str = ""
    reason: str = ""
    emitted: bytes = b""
    fees: dict[str, bytes] = {}


class Book(msgspec.Struct, array_like=True):
    """What a debtor owes a creditor in a currency: accounts, open periods by statement, the last closing."""

    sequence: int = 0
    closed_until: int = 0
    closing: Decimal = ZERO
    accounts: dict[str, Decimal] = {}
    open: dict[str, statements.Sums] = {}


class KeptReceipt(msgspec.Struct, array_like=True):
    """A receipt, and its entry."""

    receipt: Receipt
    event_id: bytes
    entry: str | None = None
    emitted: bytes = b""
    entries: int = 0


class KeptInvoice(msgspec.Struct, array_like=True):
    """An invoice reconciliation record."""

    owner: str = ""
    other: str = ""
    id: str = ""
    invoice_id: str = ""
    cdrs: list[str] = []
    last_updated: int = 0
    received_at: int = 0
    event_id: bytes = b""
    issued: bool = False
    deleted: bool = False
    emitted: bytes = b""


Emitting = KeptClaim | KeptReceipt | KeptInvoice
"""What remembers the last record that was written of it."""


class KeptPolicies(msgspec.Struct, array_like=True):
    """Versions of the policy of a creditor and a debtor."""

    versions: list[Version[Policy]] = []


_claims = Shelf(b"c", KeptClaim, KeptClaim)
_sessions: Shelf[list[str]] = Shelf(b"s", list[str], list)
_books = Shelf(b"b", Book, Book)
_closed: Shelf[StatementRecord] = Shelf(b"w", StatementRecord, lambda: StatementRecord(**_never()))
_counts: Shelf[int] = Shelf(b"n", int, int)
_members: Shelf[list[str]] = Shelf(b"m", list[str], list)
_policies = Shelf(b"y", KeptPolicies, KeptPolicies)
_receipts: Shelf[KeptReceipt] = Shelf(b"z", KeptReceipt, lambda: KeptReceipt(**_never()))
_paying: Shelf[list[str]] = Shelf(b"p", list[str], list)
_invoices = Shelf(b"r", KeptInvoice, KeptInvoice)
_listed: Shelf[list[str]] = Shelf(b"v", list[str], list)
_matched: Shelf[list[str]] = Shelf(b"u", list[str], list)


def _never() -> Any:
    raise AssertionError("a state that is only made from what is known")


class _Invoice(msgspec.Struct):
    """mod_invoice_reconciliation, "InvoiceReconciliationRecord"."""

    country_code: str
    party_id: str
    id: str
    invoice_id: str
    cdrs: list[str]
    last_updated: datetime


class _RefusedError(Exception):
    """A record that cannot be folded, told before anything was changed: a stable code and words."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class LedgerFold:
    """Folds batches of the ledger topic; see the module."""

    def __init__(self, topics: Topics) -> None:
        self.topics = topics

    def __call__(self, facts: Sequence[Fact], get: Get) -> Folded:
        """What a batch changes: states, entries, statements, what is held, and quarantine.

        A record that fails in the middle, by a defect of ours, must leave no trace but in quarantine: the
        batch is folded again without it.
        """
        refused: dict[int, Output] = {}
        while True:
            batch = _Batch(self.topics, Table(get))
            for number, fact in enumerate(facts):
                if number in refused:
                    batch.outputs.append(refused[number])
                    continue
                try:
                    batch.fold(fact)
                except UnknownSchemaError as error:
                    batch.outputs.append(self._quarantined(fact, "unreadable", str(error)))
                except _RefusedError as error:
                    batch.outputs.append(self._quarantined(fact, error.reason, error.message))
                except Exception as error:
                    message = f"{type(error).__name__}: {error}"
                    refused[number] = self._quarantined(fact, "defect", message)
                    break
            else:
                batch.conclude()
                return Folded(batch.table.changes(), batch.outputs)

    def _quarantined(self, fact: Fact, reason: str, message: str) -> Output:
        record = QuarantineRecord(
            topic=fact.topic,
            partition=fact.partition,
            offset=fact.offset,
            reason=reason,
            message=message,
            received_at=None,
            value=fact.value or b"",
        )
        key = f"{fact.topic}-{fact.partition}-{fact.offset}"
        return Output(self.topics.quarantine.name, key.encode(), record.encode())


class _Batch:
    def __init__(self, topics: Topics, table: Table) -> None:
        self.topics = topics
        self.table = table
        self.outputs: list[Output] = []
        self.dirty: dict[str, None] = {}  # invoices to hold against the books once more

    def fold(self, fact: Fact) -> None:
        """Take one record of the log in. Raises _RefusedError, UnknownSchemaError."""
        value = fact.value or b""
        if name_of(value) == "claim":
            self._take_claim(ClaimRecord.decode(value))
            return
        event = Event.decode(value)
        pair = (fact.key or b"").decode()
        match event.module:
            case "policies":
                self._take_policy(event, pair)
            case "decisions":
                self._take_decision(event, pair)
            case "closings":
                self._take_closing(event, pair)
            case "receipts":
                self._take_receipt(event, pair)
            case module if module == INVOICES:
                self._take_invoice(event, pair)
            case module if module == CLOCK:
                pass
            case other:
                raise _RefusedError("unknown_module", f"module {other!r} does not belong in this topic")

    # -- claims --------------------------------------------------------------------------------------------

    def _take_claim(self, claim: ClaimRecord) -> None:
        kept = self.table.read(_claims, claim.id)
        known = kept.claim
        kept.claim = claim
        self.table.write(_claims, claim.id, kept)
        root = claim.id
        if claim.credit and claim.credit_of:
            root = claim.credit_of
            original = self.table.read(_claims, root)
            if claim.id not in original.credits:
                original.credits = [*original.credits, claim.id]
                self.table.write(_claims, root, original)
        if known is None:
            index.add(self.table, f"{claim.creditor}>{claim.debtor}", claim.ended_at, root)
            if not claim.credit and claim.session_id and claim.kind == "cdr":
                twins = self.table.read(_sessions, claim.session_key)
                twins.append(claim.id)
                self.table.write(_sessions, claim.session_key, twins)
        self._settle_all(root, None)

    def _take_decision(self, event: Event, pair: str) -> None:
        decision = _body(event, Decision)
        if decision.verdict not in ("accept", "reject"):
            raise _RefusedError("invalid_object", f"{decision.verdict!r} is neither accept nor reject")
        _held_to(pair, decision.creditor, decision.debtor)
        kept = self.table.read(_claims, decision.claim)
        if kept.claim is not None and (kept.claim.creditor, kept.claim.debtor) != (
            *(decision.creditor, decision.debtor),
        ):
            raise _RefusedError("wrong_pair", f"{decision.claim} is of other parties")
        before = kept.decided
        if before is not None and (before.at, before.event_id) >= (event.received_at, event.id):
            return
        kept.decided = KeptDecision(event.received_at, event.id, decision)
        self.table.write(_claims, decision.claim, kept)
        if kept.claim is not None:
            self._settle_all(kept.claim.credit_of or decision.claim, event.id)

    def _take_policy(self, event: Event, pair: str) -> None:
        policy = _body(event, Policy)
        _held_to(pair, policy.creditor, policy.debtor)
        _check(policy)
        direction = f"{policy.creditor}>{policy.debtor}"
        kept = self.table.read(_policies, direction)
        if not add_version(kept.versions, policy.since, event.received_at, policy):
            return
        self.table.write(_policies, direction, kept)
        record = _policy_record(policy, event)
        self.outputs.append(
            Output(self.topics.policies.name, f"{direction}>{policy.since}".encode(), record.encode())
        )
        for root in dict.fromkeys(index.dependents(self.table, direction, policy.since)):
            self._settle_all(root, event.id)

    def _policy(self, creditor: str, debtor: str, at: int) -> Policy:
        kept = self.table.find(_policies, f"{creditor}>{debtor}")
        found = in_force(kept.versions, at) if kept is not None else None
        return found.value if found is not None else _as_billed(creditor, debtor)

    def _settle_all(self, root: str, cause: bytes | None) -> None:
        """Bring the books in line for a chain, and for the other CDRs of its session."""
        original = self.table.read(_claims, root).claim
        roots = [root]
        if original is not None and not original.credit and original.session_id and original.kind == "cdr":
            roots = self.table.read(_sessions, original.session_key)
        for one in roots:
            self._settle(one, cause)

    def _settle(self, root: str, cause: bytes | None) -> None:
        chain = self._chain(root)
        of = chain.original or next(iter(chain.credits), None)
        if of is None:
            return
        policy = self._policy(of.creditor, of.debtor, of.ended_at)
        targets = settle(chain, policy)
        left = sum((one.amount.gross for one in targets.values()), ZERO)
        if chain.original is not None and left < 0 <= billed(chain.original).gross:
            raise AssertionError(f"more of {root} would be credited than it was settled by")
        for claim_id, target in targets.items():
            self._apply(claim_id, target, cause, chain)
        if chain.original is not None and chain.original.kind == "cdr":
            self._claim_fees(root, chain.original, policy.fees, targets)

    def _chain(self, root: str) -> Chain:
        kept = self.table.read(_claims, root)
        ids = list(kept.credits)
        original = kept.claim
        if original is not None and original.credit:
            if not original.credit_of:
                ids.insert(0, root)
            original = None
        decisions = {}
        refunds = []
        for one in ids:
            found = self.table.read(_claims, one)
            if found.claim is not None:
                refunds.append(found.claim)
                if found.decided is not None:
                    decisions[one] = found.decided.decision
        if kept.decided is not None:
            decisions[root] = kept.decided.decision
        refunds.sort(key=lambda one: (one.occurred_at, one.id))
        return Chain(original, refunds, decisions, self._earlier(original))

    def _earlier(self, claim: ClaimRecord | None) -> str | None:
        """Another CDR of the same session and parties that stands, received before this one."""
        if claim is None or not claim.session_id or claim.kind != "cdr":
            return None
        twins = self.table.read(_sessions, claim.session_key)
        if len(twins) < 2:
            return None
        for one in sorted(twins):
            kept = self.table.read(_claims, one)
            other = kept.claim
            if other is None or one == claim.id or other.debtor != claim.debtor:
                continue
            if (other.occurred_at, other.id) > (claim.occurred_at, claim.id):
                continue
            if kept.decided is not None and kept.decided.decision.verdict == "reject":
                continue
            refunds = [found for name in kept.credits if (found := self.table.read(_claims, name).claim)]
            if standing(other, sorted(refunds, key=lambda found: (found.occurred_at, found.id))):
                return one
        return None

    def _apply(self, claim_id: str, target: Target, cause: bytes | None, chain: Chain) -> None:
        """Post what is missing between what stands in the books for a claim and what ought to."""
        kept = self.table.read(_claims, claim_id)
        claim = kept.claim
        assert claim is not None
        posted = kept.posted
        wanted = target.amount if target.status == POSTED else None
        if posted is not None and (wanted is None or posted.amount != wanted):
            self._post(
                kept, claim, NOTHING.plus(posted.amount, -1), "correction", target, cause, posted.entry
            )
            kept.posted = None
        if wanted is not None and kept.posted is None:
            kind = "correction" if kept.entries else _kind(claim)
            entry = self._post(kept, claim, wanted, kind, target, cause, None)
            kept.posted = Posted(entry.id, entry.before_taxes, entry.taxes)
        changed = (kept.status, kept.reason) != (target.status, target.reason)
        kept.status, kept.reason = target.status, target.reason
        record = _settled_record(kept, claim, target, chain)
        if self._emit(self.topics.settled_claims.name, claim_id, record, kept) or changed:
            self._touch(claim_id)
        self.table.write(_claims, claim_id, kept)

    def _post(
        self,
        kept: KeptClaim,
        claim: ClaimRecord,
        amount: Amount,
        kind: str,
        target: Target,
        cause: bytes | None,
        reverses: str | None,
    ) -> EntryRecord:
        name, book = self._book(claim.creditor, claim.debtor, claim.currency)
        statement, late = self._period(book, claim.creditor, claim.debtor, claim.currency, claim.ended_at)
        entry = posting.entry_of(
            claim,
            amount,
            kind=kind,
            basis=target.basis,
            number=kept.entries + 1,
            sequence=book.sequence + 1,
            statement=statement,
            late=late,
            event_id=cause or claim.event_id,
            reverses=reverses,
        )
        self._enter(name, book, entry)
        kept.entries += 1
        kept.last = statement
        if kept.first is None:
            kept.first = statement
            count = self.table.read(_counts, statement)
            chunk = self.table.read(_members, f"{statement}\0{count // _CHUNK}")
            if claim.kind == "cdr":
                chunk.append(claim.id)
                self.table.write(_members, f"{statement}\0{count // _CHUNK}", chunk)
                self.table.write(_counts, statement, count + 1)
        for invoice in self.table.find(_matched, statement) or ():
            self.dirty[invoice] = None
        return entry

    def _claim_fees(
        self, root: str, original: ClaimRecord, fees: Iterable[Fee], targets: dict[str, Target]
    ) -> None:
        """What the hub takes for it, as claims to the pairs of hub and payer."""
        kept = self.table.read(_claims, root)
        if not fees and not kept.fees:
            return
        settled = NOTHING
        for target in targets.values():
            if target.status == POSTED:
                settled = settled.plus(target.amount)
        wanted = {}
        for fee in fees:
            if fee.currency == original.currency and fee.party != fee.payer:
                claim = fee_of(fee, original, settled)
                wanted[claim.id] = claim
        for claim_id in kept.fees.keys() - wanted.keys():
            party, payer = claim_id.split("#FEE:")[1].split(":")
            none = Fee(currency=original.currency, party=party, payer=payer)
            wanted[claim_id] = fee_of(none, original, NOTHING)
        for claim_id, claim in sorted(wanted.items()):
            value = claim.encode()
            digest = _digest(value)
            before = kept.fees.get(claim_id)
            if digest == before or (before is None and not claim.before_taxes):
                continue
            kept.fees = {**kept.fees, claim_id: digest}
            self.table.write(_claims, root, kept)
            key = pair_key(claim.creditor, claim.debtor)
            self.outputs.append(Output(self.topics.ledger.name, key.encode(), value))

    # -- the books -----------------------------------------------------------------------------------------

    def _book(self, creditor: str, debtor: str, currency: str) -> tuple[str, Book]:
        name = f"{creditor}>{debtor}>{currency}"
        return name, self.table.read(_books, name)

    def _period(self, book: Book, creditor: str, debtor: str, currency: str, at: int) -> tuple[str, bool]:
        """The statement for a service at this moment, and whether its own period was closed before."""
        late = at < book.closed_until
        when = max(at, book.closed_until)
        policy = self._policy(creditor, debtor, when)
        period = period_of(policy.period, policy.time_zone, when)
        name = reference_of(creditor, debtor, currency, period.label)
        if name not in book.open:
            start = max(period.start, book.closed_until)
            book.open = {**book.open, name: statements.Sums(start, period.end, {}, {})}
        return name, late

    def _enter(self, name: str, book: Book, entry: EntryRecord) -> None:
        """Write an entry into its book. Raises UnbalancedError when the book would not balance."""
        for leg in entry.legs:
            book.accounts[leg.account] = book.accounts.get(leg.account, ZERO) + leg.amount
        if sum(book.accounts.values(), ZERO) != 0:
            raise posting.UnbalancedError(f"book {name} does not balance")
        book.sequence = entry.sequence
        if entry.kind != "rounding":
            statements.add(book.open[entry.statement], statements.line_of(entry))
        self.table.write(_books, name, book)
        self.outputs.append(Output(self.topics.settlement_entries.name, entry.id.encode(), entry.encode()))

    def _take_closing(self, event: Event, pair: str) -> None:
        closing = _body(event, Closing)
        found = read_references(closing.reference)
        if len(found) != 1 or str(found[0]) != closing.reference:
            raise _RefusedError("invalid_object", f"{closing.reference!r} is no statement's reference")
        reference = found[0]
        _held_to(pair, reference.creditor, reference.debtor)
        if self.table.find(_closed, closing.reference) is not None:
            return
        name, book = self._book(reference.creditor, reference.debtor, reference.currency)
        policy = self._policy_for(reference)
        sums = book.open.get(closing.reference)
        if sums is None:
            try:
                period = period_named(reference.period, policy.time_zone)
            except ValueError as error:
                raise _RefusedError("invalid_object", str(error)) from None
            sums = statements.Sums(max(period.start, book.closed_until), period.end, {}, {})
        if event.received_at < sums.end:
            raise _RefusedError("period_not_over", f"{closing.reference} ends at {moment(sums.end)}")
        if sums.end <= book.closed_until and closing.reference not in book.open:
            raise _RefusedError("already_closed", f"closed until {moment(book.closed_until)}")
        earlier = [other for other, one in book.open.items() if one.start < sums.start and one.entries]
        if earlier:
            raise _RefusedError("earlier_period_open", f"close {', '.join(sorted(earlier))} first")
        record = statements.record_of(
            reference, policy.time_zone, sums, book.closing, event.received_at, event.id
        )
        if record.rounding:
            entry = posting.rounding_of(
                *(reference, record.rounding, sums.end - 1), sequence=book.sequence + 1, event_id=event.id
            )
            self._enter(name, book, entry)
        book.open = {other: one for other, one in book.open.items() if other != closing.reference}
        book.closing = record.closing
        book.closed_until = max(book.closed_until, sums.end)
        owed = book.accounts.get(f"{reference.debtor}:payable:{reference.creditor}", ZERO)
        still_open = sum((_exact(one) for one in book.open.values()), ZERO)
        if owed != record.closing + still_open:
            raise AssertionError(f"{closing.reference} closes at {record.closing}, the account is at {owed}")
        self.table.write(_books, name, book)
        self.table.write(_closed, closing.reference, record)
        self.outputs.append(Output(self.topics.statements.name, closing.reference.encode(), record.encode()))
        for receipt in self.table.find(_paying, closing.reference) or ():
            self._tell_receipt(receipt)
        for invoice in self.table.find(_matched, closing.reference) or ():
            self.dirty[invoice] = None
        if policy.issue != "none":
            self._issue(reference, record, policy.issue, event)

    def _policy_for(self, reference: Reference) -> Policy:
        """The policy in force in a statement's period."""
        kept = self.table.find(_policies, f"{reference.creditor}>{reference.debtor}")
        zones = {version.value.time_zone for version in kept.versions} if kept is not None else {"UTC"}
        at = max(_start_of(reference.period, zone) for zone in zones)
        return self._policy(reference.creditor, reference.debtor, at)

    # -- receipts ------------------------------------------------------------------------------------------

    def _take_receipt(self, event: Event, pair: str) -> None:
        receipt = _body(event, Receipt)
        ours = event.sender == ISSUER  # of a payment by card, told again when it changes
        known = self.table.find(_receipts, receipt.id)
        if known is not None:
            if known.receipt == receipt:
                return
            if not ours:
                raise _RefusedError("receipt_conflict", f"{receipt.id} is known with other content")
        if not is_known(receipt.currency):
            raise _RefusedError("unknown_currency", f"ISO 4217 has no currency {receipt.currency}")
        if rounded(receipt.amount, receipt.currency) != receipt.amount or not (receipt.amount or ours):
            raise _RefusedError("invalid_object", f"{receipt.amount} {receipt.currency} cannot be paid")
        if receipt.creditor and receipt.debtor:
            _held_to(pair, receipt.creditor, receipt.debtor)
        kept = known or KeptReceipt(receipt, event.id)
        if kept.entry is not None:
            self._post_receipt(kept, kept.receipt, event.id, kept.entry)
            kept.entry = None
        kept.receipt, kept.event_id = receipt, event.id
        if receipt.creditor and receipt.debtor and receipt.amount:
            kept.entry = self._post_receipt(kept, receipt, event.id, None).id
        self.table.write(_receipts, receipt.id, kept)
        if receipt.statement:
            waiting = self.table.read(_paying, receipt.statement)
            if receipt.id not in waiting:
                waiting.append(receipt.id)
                self.table.write(_paying, receipt.statement, waiting)
        self._tell_receipt(receipt.id)

    def _post_receipt(
        self, kept: KeptReceipt, receipt: Receipt, cause: bytes, reverses: str | None
    ) -> EntryRecord:
        creditor, debtor, currency = receipt.creditor, receipt.debtor, receipt.currency
        assert creditor
        assert debtor
        name, book = self._book(creditor, debtor, currency)
        statement, late = self._period(book, creditor, debtor, currency, receipt.received_on)
        kept.entries += 1
        entry = posting.payment_of(
            receipt,
            creditor,
            debtor,
            number=kept.entries,
            sequence=book.sequence + 1,
            statement=statement,
            late=late,
            event_id=cause,
            reverses=reverses,
        )
        self._enter(name, book, entry)
        return entry

    def _tell_receipt(self, receipt_id: str) -> None:
        kept = self.table.find(_receipts, receipt_id)
        assert kept is not None
        receipt = kept.receipt
        record = ReceiptRecord(
            id=receipt.id,
            creditor=receipt.creditor,
            debtor=receipt.debtor,
            currency=receipt.currency,
            amount=quantized(receipt.amount),
            statement=receipt.statement,
            source=receipt.source,
            text=receipt.text,
            outcome=self._outcome(receipt),
            entry_id=kept.entry,
            received_on=receipt.received_on,
            event_id=kept.event_id,
        )
        if self._emit(self.topics.receipts.name, receipt.id, record, kept):
            self.table.write(_receipts, receipt_id, kept)

    def _outcome(self, receipt: Receipt) -> str:
        if not (receipt.creditor and receipt.debtor):
            return "unknown_party"
        if not receipt.statement:
            return "on_account"
        closed = self.table.find(_closed, receipt.statement)
        if closed is None or (closed.creditor, closed.debtor) != (receipt.creditor, receipt.debtor):
            return "unknown_statement"
        return "matched" if closed.currency == receipt.currency else "wrong_currency"

    # -- invoices ------------------------------------------------------------------------------------------

    def _take_invoice(self, event: Event, pair: str) -> None:
        kept = self.table.read(_invoices, event.key)
        if event.method == "DELETE":
            if not kept.id:
                raise _RefusedError("unknown_object", f"{event.key} was never received")
            if kept.deleted or event.received_at < kept.received_at:
                return
            self._list(event.key, kept.cdrs, [], kept)
            kept.deleted = True
        else:
            invoice = _body(event, _Invoice)
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
        self.table.write(_invoices, event.key, kept)
        self.dirty[event.key] = None
        for statement in self._statements_of(kept):
            for invoice_key in self.table.find(_matched, statement) or ():
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
            listing = self.table.read(_listed, claim)
            listing = [one for one in listing if one != key] if claim in old else sorted([*listing, key])
            self.table.write(_listed, claim, listing)
        for claim in sorted(old | new):
            self._touch(claim)

    def _statements_of(self, invoice: KeptInvoice) -> list[str]:
        operator = self._operator(invoice)
        known = [self.table.find(_claims, f"{operator}*{one}".upper()) for one in invoice.cdrs]
        return sorted({one.first for one in known if one is not None and one.first})

    def _touch(self, claim: str) -> None:
        for invoice in self.table.find(_listed, claim) or ():
            self.dirty[invoice] = None

    def conclude(self) -> None:
        """Hold the invoices that something changed for against the books."""
        for key in sorted(self.dirty):
            kept = self.table.read(_invoices, key)
            if not kept.id:
                continue
            record = self._reconciled(key, kept)
            if record.statement and not kept.deleted:
                matched = self.table.read(_matched, record.statement)
                if key not in matched:
                    self.table.write(_matched, record.statement, sorted([*matched, key]))
            if self._emit(self.topics.reconciliations.name, key, record, kept):
                self.table.write(_invoices, key, kept)

    def _operator(self, invoice: KeptInvoice) -> str:
        """Whose CDRs an invoice lists: of the party that issued it (direct billing), or of the other one."""

        def known(party: str) -> int:
            found = (self.table.find(_claims, f"{party}*{one}".upper()) for one in invoice.cdrs)
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
        kept = self.table.find(_claims, claim_id)
        claim = kept.claim if kept is not None else None
        if kept is None or claim is None or claim.debtor != provider:
            return None
        refunds = self._gone(kept)
        if any(self.table.read(_claims, one).first not in (kept.first, None) for one in refunds):
            refunds = []  # credited later: that is for the statement, and the invoice, which the credit is on
        offsets = None
        if claim.credit and claim.credit_of:
            original = self.table.find(_claims, claim.credit_of)
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
        refunds = [found for one in kept.credits if (found := self.table.read(_claims, one).claim)]
        refunds.sort(key=lambda one: (one.occurred_at, one.id))
        if kept.claim is None or not refunds or standing(kept.claim, refunds):
            return []
        return [one.id for one in refunds]

    def _earlier_invoices(self, claim_id: str, key: str, invoice: KeptInvoice) -> list[str]:
        """Other invoices of the same party that list a CDR and came before this one."""
        found = set()
        for other_key in self.table.find(_listed, claim_id) or ():
            other = self.table.read(_invoices, other_key)
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
            others = (one for one in self.table.find(_listed, claim_id) or () if one != key)
            if any(
                (found.owner, found.invoice_id) == (invoice.owner, invoice.invoice_id)
                for found in (self.table.read(_invoices, one) for one in others)
            ):
                continue
            known = self._known(claim_id, provider, key, invoice)
            if known is not None:
                yield known

    def _members_of(self, statement: str) -> Iterator[str]:
        count = self.table.find(_counts, statement) or 0
        for number in range(-(-count // _CHUNK)):
            yield from self.table.find(_members, f"{statement}\0{number}") or ()

    def _issue(self, reference: Reference, record: StatementRecord, issue: str, event: Event) -> None:
        """The invoice reconciliation record of a closed statement, as the party that bills would send it."""
        owner = reference.creditor if issue == "direct" else reference.debtor
        country, party = owner.split("*")
        cdrs = []
        for claim_id in self._members_of(record.reference):
            kept = self.table.find(_claims, claim_id)
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
        path = [country, party, record.reference]
        issued = Event(
            id=event_id(ISSUER, INVOICES, "POST", path, body),
            received_at=event.received_at,
            sender=ISSUER,
            version="2.3.0",
            module=INVOICES,
            method="POST",
            key=f"{owner}*{record.reference}".upper(),
            path=path,
            request_id=None,
            correlation_id=None,
            body=body,
        )
        key = pair_key(reference.creditor, reference.debtor)
        self.outputs.append(Output(self.topics.ledger.name, key.encode(), issued.encode()))

    # -- writing -------------------------------------------------------------------------------------------

    def _emit(
        self, topic: str, key: str, record: Record, kept: KeptClaim | KeptReceipt | KeptInvoice
    ) -> bool:
        """Write a record if it is another than the last one; whether it is."""
        value = record.encode()
        digest = _digest(value)
        if digest == kept.emitted:
            return False
        kept.emitted = digest
        self.outputs.append(Output(topic, key.encode(), value))
        return True


@lru_cache(maxsize=1_000)
def _as_billed(creditor: str, debtor: str) -> Policy:
    """What holds as long as nobody said otherwise."""
    return Policy(creditor=creditor, debtor=debtor, since=0)


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=16).digest()


def _kind(claim: ClaimRecord) -> str:
    return "credit" if claim.credit else claim.kind


def _exact(sums: statements.Sums) -> Decimal:
    charges = sum(sums.groups.values(), ZERO) + sum(sums.taxes.values(), ZERO)
    return charges - sums.payments


def _start_of(label: str, zone: str) -> int:
    try:
        return period_named(label, zone).start
    except ValueError as error:
        raise _RefusedError("invalid_object", str(error)) from None


def _body(event: Event, kind: type[B]) -> B:
    try:
        return msgspec.json.decode(event.body, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _RefusedError("invalid_object", f"{event.module}: {error}") from None


def _held_to(pair: str, creditor: str, debtor: str) -> None:
    if pair != pair_key(creditor, debtor):
        raise _RefusedError("wrong_pair", f"{creditor} and {debtor} do not belong under {pair}")


def _other(pair: str, owner: str) -> str:
    parties = pair.split("|")
    if len(parties) != 2 or owner not in parties:
        raise _RefusedError("wrong_pair", f"{owner} does not belong under {pair}")
    return parties[1] if parties[0] == owner else parties[0]


def _check(policy: Policy) -> None:
    try:
        zone_of(policy.time_zone)
    except ValueError as error:
        raise _RefusedError("invalid_object", str(error)) from None
    for value, known in ((policy.mode, MODES), (policy.period, PERIODS), (policy.issue, ISSUES)):
        if value not in known:
            raise _RefusedError("invalid_object", f"{value!r} is none of {', '.join(known)}")
    if policy.tolerance_amount < 0 or policy.tolerance_percent < 0:
        raise _RefusedError("invalid_object", "a tolerance is not negative")
    for fee in policy.fees:
        if not is_known(fee.currency):
            raise _RefusedError("unknown_currency", f"ISO 4217 has no currency {fee.currency}")


def _policy_record(policy: Policy, event: Event) -> PolicyRecord:
    fees = [
        FeeRecord(
            currency=fee.currency,
            party=fee.party,
            payer=fee.payer,
            fixed=quantized(fee.fixed),
            per_kwh=quantized(fee.per_kwh),
            percent=quantized(fee.percent),
            tax_name=fee.tax_name,
            tax_percentage=quantized(fee.tax_percentage),
        )
        for fee in policy.fees
    ]
    return PolicyRecord(
        creditor=policy.creditor,
        debtor=policy.debtor,
        since=policy.since,
        mode=policy.mode,
        tolerance_amount=quantized(policy.tolerance_amount),
        tolerance_percent=quantized(policy.tolerance_percent),
        period=policy.period,
        time_zone=policy.time_zone,
        issue=policy.issue,
        fees=fees,
        why=policy.why,
        received_at=event.received_at,
        event_id=event.id,
    )


def _settled_record(kept: KeptClaim, claim: ClaimRecord, target: Target, chain: Chain) -> SettledRecord:
    credited = ZERO
    if chain.original is not None and chain.original.id == claim.id:
        credited = sum((-billed(one).gross for one in chain.credits), ZERO)
    decided = kept.decided.decision if kept.decided is not None else None
    settled = target.amount if target.status == POSTED else NOTHING
    return SettledRecord(
        id=claim.id,
        session_key=claim.session_key,
        creditor=claim.creditor,
        debtor=claim.debtor,
        currency=claim.currency,
        kind=_kind(claim),
        credit_of=claim.credit_of,
        status=target.status,
        reason=target.reason,
        message=target.message,
        basis=target.basis,
        billed_before_taxes=claim.before_taxes,
        billed_taxes=claim.taxes,
        priced_before_taxes=claim.priced_before_taxes,
        priced_after_taxes=claim.priced_after_taxes,
        settled_before_taxes=quantized(settled.before),
        settled_taxes=quantized(settled.tax),
        credited=quantized(credited),
        verdict=claim.verdict,
        decision=decided.verdict if decided else None,
        why=decided.why if decided else "",
        statement=kept.last,
        entries=kept.entries,
        ended_at=claim.ended_at,
        occurred_at=claim.occurred_at,
        event_id=claim.event_id,
    )
