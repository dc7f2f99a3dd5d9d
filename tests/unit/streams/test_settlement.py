"""Claims become balanced postings, each once."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from schemas.records import ClaimRecord, EntryRecord, QuarantineRecord, quantized
from schemas.topics import Topics
from streams.folding import Fact, Output
from streams.settlement import SettlementFold, entry_of

TOPICS = Topics("t", 3)
amounts = st.decimals("-1e9", "1e9", places=9)


def claim(name: str = "NL*TNM*C1", before: str = "10", taxes: str = "2.1") -> ClaimRecord:
    return ClaimRecord(
        id=name,
        session_key="NL*TNM*S1",
        creditor="NL*TNM",
        debtor="DE*EMS",
        currency="EUR",
        before_taxes=quantized(Decimal(before)),
        taxes=quantized(Decimal(taxes)),
        credit_of=None,
        occurred_at=1,
        event_id=bytes(16),
    )


def fold(state: dict[bytes, bytes], values: list[bytes]) -> list[Output]:
    facts = [Fact(TOPICS.ledger.name, 1, offset, b"", value) for offset, value in enumerate(values)]
    folded = SettlementFold(TOPICS)(facts, state.get)
    state |= {key: value for key, value in folded.changes.items() if value is not None}
    return folded.outputs


def test_who_owes_what() -> None:
    entry = entry_of(claim())
    assert entry.amount == Decimal("12.1")
    assert {leg.account: leg.amount for leg in entry.legs} == {
        "DE*EMS:payable:NL*TNM": Decimal("12.1"),
        "NL*TNM:revenue:DE*EMS": Decimal("-10"),
        "NL*TNM:tax:DE*EMS": Decimal("-2.1"),
    }


@given(amounts, amounts)
def test_every_entry_balances(before: Decimal, taxes: Decimal) -> None:
    entry = EntryRecord.decode(entry_of(claim(before=str(before), taxes=str(taxes))).encode())
    assert sum(leg.amount for leg in entry.legs) == 0
    assert entry.amount == before + taxes


def test_a_claim_is_posted_once_in_one_batch_or_two() -> None:
    state: dict[bytes, bytes] = {}
    one, other = claim("A").encode(), claim("B").encode()
    first = fold(state, [one, one, other])
    again = fold(state, [one, other])
    assert [(out.topic, out.key) for out in first] == [
        (TOPICS.settlement_entries.name, b"A"),
        (TOPICS.settlement_entries.name, b"B"),
    ]
    assert again == []


def test_what_is_no_claim_goes_to_quarantine_and_the_next_is_posted() -> None:
    refused, posted = fold({}, [b"\xc3\x01garbage", claim("A").encode()])
    assert refused.topic == TOPICS.quarantine.name
    record = QuarantineRecord.decode(refused.value or b"")
    assert (record.reason, record.partition, record.offset, record.value) == (
        "unreadable",
        1,
        0,
        b"\xc3\x01garbage",
    )
    assert posted.topic == TOPICS.settlement_entries.name
