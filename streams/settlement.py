"""The settlement fold: each claim becomes one balanced double-entry posting.

The operator of a CDR has earned what it billed, before taxes as revenue and the rest as tax that it owes on;
the provider of the token owes the whole. Debits are positive, credits negative; the legs of an entry sum to
zero, so every currency's postings do. An entry is a function of its claim alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from schemas.codec import UnknownSchemaError
from schemas.records import ClaimRecord, EntryRecord, LegRecord, QuarantineRecord, quantized
from schemas.topics import Topics
from streams.folding import Fact, Folded, Get, Output


class SettlementFold:
    """Folds batches of the claims topic. Keeps which claims were posted, so that none is posted twice."""

    def __init__(self, topics: Topics) -> None:
        self.topics = topics

    def __call__(self, facts: Sequence[Fact], get: Get) -> Folded:
        """What a batch changes: entries, one a claim."""
        changes: dict[bytes, bytes | None] = {}
        outputs: list[Output] = []
        for fact in facts:
            try:
                claim = ClaimRecord.decode(fact.value or b"")
            except UnknownSchemaError as error:
                outputs.append(self._quarantined(fact, str(error)))
                continue
            key = claim.id.encode()
            name = b"e" + key
            if name in changes or get(name) is not None:
                continue
            changes[name] = claim.event_id
            outputs.append(Output(self.topics.settlement_entries.name, key, entry_of(claim).encode()))
        return Folded(changes, outputs)

    def _quarantined(self, fact: Fact, message: str) -> Output:
        record = QuarantineRecord(
            topic=fact.topic,
            partition=fact.partition,
            offset=fact.offset,
            reason="unreadable",
            message=message,
            received_at=None,
            value=fact.value or b"",
        )
        key = f"{fact.topic}-{fact.partition}-{fact.offset}"
        return Output(self.topics.quarantine.name, key.encode(), record.encode())


def entry_of(claim: ClaimRecord) -> EntryRecord:
    """The posting of a claim: payable by the provider, revenue and tax of the operator."""
    gross = quantized(claim.before_taxes + claim.taxes)
    legs = [
        (f"{claim.debtor}:payable:{claim.creditor}", gross),
        (f"{claim.creditor}:revenue:{claim.debtor}", -claim.before_taxes),
        (f"{claim.creditor}:tax:{claim.debtor}", -claim.taxes),
    ]
    assert sum((amount for _, amount in legs), Decimal(0)) == 0
    return EntryRecord(
        id=claim.id,
        session_key=claim.session_key,
        creditor=claim.creditor,
        debtor=claim.debtor,
        currency=claim.currency,
        amount=gross,
        credit_of=claim.credit_of,
        occurred_at=claim.occurred_at,
        event_id=claim.event_id,
        legs=[LegRecord(account=account, amount=amount) for account, amount in legs if amount],
    )
