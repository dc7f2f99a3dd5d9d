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

from collections.abc import Sequence

from schemas.codec import UnknownSchemaError, name_of
from schemas.records import (
    ClaimRecord,
    Event,
)
from schemas.topics import Topics
from streams.clock import MODULE as CLOCK
from streams.folding import Fact, Folded, Get, Output
from streams.ledger.claims import Claims
from streams.ledger.closing import Closings
from streams.ledger.state import (
    MODULE,
)
from streams.quarantine import RefusedError, quarantined
from streams.table import Table


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
                    batch.outputs.append(quarantined(self.topics, fact, "unreadable", str(error)))
                except RefusedError as error:
                    batch.outputs.append(quarantined(self.topics, fact, error.reason, error.message))
                except Exception as error:
                    message = f"{type(error).__name__}: {error}"
                    refused[number] = quarantined(self.topics, fact, "defect", message)
                    break
            else:
                batch.conclude()
                return Folded(batch.table.changes(), batch.outputs)


class _Batch(Claims, Closings):
    def fold(self, fact: Fact) -> None:
        """Take one record of the log in. Raises RefusedError, UnknownSchemaError."""
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
            case module if module == MODULE:
                self._take_invoice(event, pair)
            case module if module == CLOCK:
                pass
            case other:
                raise RefusedError("unknown_module", f"module {other!r} does not belong in this topic")
