"""Receipts: money that a creditor got, posted and matched with the statement that it is for."""

from __future__ import annotations

from schemas.currencies import is_known, rounded
from schemas.records import (
    EntryRecord,
    Event,
    quantized,
)
from schemas.settlement import (
    Receipt,
    ReceiptRecord,
)
from streams.ledger import posting
from streams.ledger.books import Books
from streams.ledger.state import (
    CLOSED,
    ISSUER,
    PAYING,
    RECEIPTS,
    KeptReceipt,
    body,
    held_to,
)
from streams.quarantine import RefusedError


class Receipts(Books):
    """Takes receipts in."""

    def _take_receipt(self, event: Event, pair: str) -> None:
        receipt = body(event, Receipt)
        ours = event.sender == ISSUER  # of a payment by card, told again when it changes
        known = self.table.find(RECEIPTS, receipt.id)
        if known is not None:
            if known.receipt == receipt:
                return
            if not ours:
                raise RefusedError("receipt_conflict", f"{receipt.id} is known with other content")
        if not is_known(receipt.currency):
            raise RefusedError("unknown_currency", f"ISO 4217 has no currency {receipt.currency}")
        if rounded(receipt.amount, receipt.currency) != receipt.amount or not (receipt.amount or ours):
            raise RefusedError("invalid_object", f"{receipt.amount} {receipt.currency} cannot be paid")
        if receipt.creditor and receipt.debtor:
            held_to(pair, receipt.creditor, receipt.debtor)
        kept = known or KeptReceipt(receipt, event.id)
        if kept.entry is not None:
            self._post_receipt(kept, kept.receipt, event.id, kept.entry)
            kept.entry = None
        kept.receipt, kept.event_id = receipt, event.id
        if receipt.creditor and receipt.debtor and receipt.amount:
            kept.entry = self._post_receipt(kept, receipt, event.id, None).id
        self.table.write(RECEIPTS, receipt.id, kept)
        if receipt.statement:
            waiting = self.table.read(PAYING, receipt.statement)
            if receipt.id not in waiting:
                waiting.append(receipt.id)
                self.table.write(PAYING, receipt.statement, waiting)
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
        kept = self.table.find(RECEIPTS, receipt_id)
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
            self.table.write(RECEIPTS, receipt_id, kept)

    def _outcome(self, receipt: Receipt) -> str:
        if not (receipt.creditor and receipt.debtor):
            return "unknown_party"
        if not receipt.statement:
            return "on_account"
        closed = self.table.find(CLOSED, receipt.statement)
        if closed is None or (closed.creditor, closed.debtor) != (receipt.creditor, receipt.debtor):
            return "unknown_statement"
        return "matched" if closed.currency == receipt.currency else "wrong_currency"
