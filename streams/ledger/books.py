"""Books: what a debtor owes a creditor in a currency, period by period, and every entry in it."""

from __future__ import annotations

from functools import lru_cache

from schemas.records import (
    EntryRecord,
    Record,
)
from schemas.settlement import (
    Policy,
    reference_of,
)
from schemas.topics import Topics
from streams.folding import Output
from streams.ledger import posting, statements
from streams.ledger.periods import period_of
from streams.ledger.settling import (
    ZERO,
)
from streams.ledger.state import (
    BOOKS,
    CLOSED,
    POLICIES,
    Book,
    KeptClaim,
    KeptInvoice,
    KeptReceipt,
    digest_of,
)
from streams.table import Table
from streams.versions import in_force


class Books:
    """The books, in one batch. Others take in what is said and write into them."""

    def __init__(self, topics: Topics, table: Table) -> None:
        self.topics = topics
        self.table = table
        self.outputs: list[Output] = []

    def _policy(self, creditor: str, debtor: str, at: int) -> Policy:
        kept = self.table.find(POLICIES, f"{creditor}>{debtor}")
        found = in_force(kept.versions, at) if kept is not None else None
        return found.value if found is not None else _as_billed(creditor, debtor)

    def _book(self, creditor: str, debtor: str, currency: str) -> tuple[str, Book]:
        name = f"{creditor}>{debtor}>{currency}"
        return name, self.table.read(BOOKS, name)

    def _period(self, book: Book, creditor: str, debtor: str, currency: str, at: int) -> tuple[str, bool]:
        """The statement for a service at this moment, and whether its own period was closed before."""
        late = at < book.closed_until
        when = max(at, book.closed_until)
        while True:
            policy = self._policy(creditor, debtor, when)
            period = period_of(policy.period, policy.time_zone, when)
            name = reference_of(creditor, debtor, currency, period.label)
            if self.table.find(CLOSED, name) is None:
                break
            # By another time zone than it was closed in, its period still runs.
            late, when = True, period.end
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
        self.table.write(BOOKS, name, book)
        self.outputs.append(Output(self.topics.settlement_entries.name, entry.id.encode(), entry.encode()))

    def _emit(
        self, topic: str, key: str, record: Record, kept: KeptClaim | KeptReceipt | KeptInvoice
    ) -> bool:
        """Write a record if it is another than the last one; whether it is."""
        value = record.encode()
        digest = digest_of(value)
        if digest == kept.emitted:
            return False
        kept.emitted = digest
        self.outputs.append(Output(topic, key.encode(), value))
        return True


@lru_cache(maxsize=1_000)
def _as_billed(creditor: str, debtor: str) -> Policy:
    """What holds as long as nobody said otherwise."""
    return Policy(creditor=creditor, debtor=debtor, since=0)
