"""The ledger: who owes whom, from claims, policies, decisions, closings and receipts between two parties.

- `settling`: what of a claim is settled: policy, decisions, credits
- `posting`: entries: balanced, numbered, never changed
- `periods`: days, weeks and months in the creditor's time zone
- `statements`: sums, rounding and digests of statements; a statement with its lines
- `reconciling`: an invoice against the books, CDR by CDR
- `state`: what is kept
- `books`: policies, periods, entries
- `claims`, `receiving`, `invoices`, `closing`: each takes its kind of record in
- `fold`: all of it, record by record
"""

from streams.ledger.fold import LedgerFold

__all__ = ["LedgerFold"]
