"""Closings: a statement's period is over, and what it comes to stands for ever."""

from __future__ import annotations

from decimal import Decimal

from schemas.records import (
    Event,
    moment,
)
from schemas.settlement import (
    Closing,
    Policy,
    Reference,
    read_references,
)
from streams.folding import Output
from streams.ledger import posting, statements
from streams.ledger.invoices import Invoices
from streams.ledger.periods import period_named
from streams.ledger.receiving import Receipts
from streams.ledger.settling import (
    ZERO,
)
from streams.ledger.state import (
    BOOKS,
    CLOSED,
    MATCHED,
    PAYING,
    POLICIES,
    body,
    held_to,
)
from streams.quarantine import RefusedError


class Closings(Receipts, Invoices):
    """Takes closings in."""

    def _take_closing(self, event: Event, pair: str) -> None:
        closing = body(event, Closing)
        found = read_references(closing.reference)
        if len(found) != 1 or str(found[0]) != closing.reference:
            raise RefusedError("invalid_object", f"{closing.reference!r} is no statement's reference")
        reference = found[0]
        held_to(pair, reference.creditor, reference.debtor)
        if self.table.find(CLOSED, closing.reference) is not None:
            return
        name, book = self._book(reference.creditor, reference.debtor, reference.currency)
        policy = self._policy_for(reference)
        sums = book.open.get(closing.reference)
        if sums is None:
            try:
                period = period_named(reference.period, policy.time_zone)
            except ValueError as error:
                raise RefusedError("invalid_object", str(error)) from None
            sums = statements.Sums(max(period.start, book.closed_until), period.end, {}, {})
        if event.received_at < sums.end:
            raise RefusedError("period_not_over", f"{closing.reference} ends at {moment(sums.end)}")
        if sums.end <= book.closed_until and closing.reference not in book.open:
            raise RefusedError("already_closed", f"closed until {moment(book.closed_until)}")
        earlier = [other for other, one in book.open.items() if one.start < sums.start and one.entries]
        if earlier:
            raise RefusedError("earlier_period_open", f"close {', '.join(sorted(earlier))} first")
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
        self.table.write(BOOKS, name, book)
        self.table.write(CLOSED, closing.reference, record)
        self.outputs.append(Output(self.topics.statements.name, closing.reference.encode(), record.encode()))
        for receipt in self.table.find(PAYING, closing.reference) or ():
            self._tell_receipt(receipt)
        for invoice in self.table.find(MATCHED, closing.reference) or ():
            self.dirty[invoice] = None
        if policy.issue != "none":
            self._issue(reference, record, policy.issue, event)

    def _policy_for(self, reference: Reference) -> Policy:
        """The policy in force in a statement's period."""
        kept = self.table.find(POLICIES, f"{reference.creditor}>{reference.debtor}")
        zones = {version.value.time_zone for version in kept.versions} if kept is not None else {"UTC"}
        at = max(_start_of(reference.period, zone) for zone in zones)
        return self._policy(reference.creditor, reference.debtor, at)


def _exact(sums: statements.Sums) -> Decimal:
    charges = sum(sums.groups.values(), ZERO) + sum(sums.taxes.values(), ZERO)
    return charges - sums.payments


def _start_of(label: str, zone: str) -> int:
    try:
        return period_named(label, zone).start
    except ValueError as error:
        raise RefusedError("invalid_object", str(error)) from None
