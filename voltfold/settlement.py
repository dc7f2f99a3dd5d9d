"""Settlement from the outside: what is said goes into the ledger topic, what came of it is read in
ClickHouse.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.client import Client

from analytics.ledger import Open, closed_statements, entries_of, open_statements, policy_at
from schemas.records import Event, event_id, quantized
from schemas.settlement import (
    Closing,
    Decision,
    Policy,
    Reference,
    Statement,
    StatementRecord,
    pair_key,
    read_references,
)
from schemas.topics import Topics
from streams.ledger.periods import Period, period_named
from streams.ledger.statements import closed_statement, open_statement

OPERATOR = "operator"
_SECONDS = 60.0
T = TypeVar("T")


class RefusedError(RuntimeError):
    """What was said cannot be: the ledger put it into quarantine."""


async def tell(
    kafka: str,
    topics: Topics,
    client: Client,
    pair: str,
    module: str,
    body: Any,
    seen: Callable[[], T | None],
) -> T:
    """Write an event into the ledger topic and wait until `seen` finds what came of it.

    Raises RefusedError when the ledger refuses it, TimeoutError when nothing comes of it in a minute.
    """
    raw = msgspec.json.encode(body)
    now = time.time_ns() // 1000
    event = Event(
        id=event_id(OPERATOR, module, "PUT", [pair, str(now)], raw),
        received_at=now,
        sender=OPERATOR,
        version="2.3.0",
        module=module,
        method="PUT",
        key=pair,
        path=[],
        request_id=None,
        correlation_id=None,
        body=raw,
    )
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True) as producer:
        written = await producer.send_and_wait(topics.ledger.name, event.encode(), pair.encode())
    refused = (
        "SELECT reason, message FROM quarantine"
        " WHERE topic = {topic:String} AND partition = {partition:Int32} AND offset = {offset:Int64}"
    )
    place = {"topic": topics.ledger.name, "partition": written.partition, "offset": written.offset}
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        if (found := await asyncio.to_thread(seen)) is not None:
            return found
        rows = (await asyncio.to_thread(client.query, refused, parameters=place)).result_rows
        if rows:
            raise RefusedError(f"{rows[0][0]}: {rows[0][1]}")
        await asyncio.sleep(0.1)
    raise TimeoutError(f"it is in the log, and nothing came of it in {_SECONDS:.0f} s: is the family well?")


async def set_policy(kafka: str, topics: Topics, client: Client, policy: Policy) -> None:
    """Say what is settled between two parties. Raises RefusedError, TimeoutError."""

    def seen() -> bool | None:
        rows = client.query(
            "SELECT 1 FROM policies WHERE creditor = {c:String} AND debtor = {d:String}"
            " AND mode = {m:String} AND toUnixTimestamp64Micro(since) = {s:Int64} AND why = {w:String}",
            parameters={
                "c": policy.creditor,
                "d": policy.debtor,
                "m": policy.mode,
                "s": policy.since,
                "w": policy.why,
            },
        ).result_rows
        return True if rows else None

    pair = pair_key(policy.creditor, policy.debtor)
    await tell(kafka, topics, client, pair, "policies", policy, seen)


async def decide(
    kafka: str, topics: Topics, client: Client, claim: str, verdict: str, why: str
) -> dict[str, Any]:
    """Accept or reject a claim; where it stands then. Raises LookupError for an unknown one, RefusedError."""
    row = claim_named(client, claim)
    decision = Decision(claim=claim, creditor=row["creditor"], debtor=row["debtor"], verdict=verdict, why=why)

    def seen() -> dict[str, Any] | None:
        found = claim_named(client, claim)
        return found if (found["decision"], found["why"]) == (verdict, why) else None

    pair = pair_key(decision.creditor, decision.debtor)
    return await tell(kafka, topics, client, pair, "decisions", decision, seen)


async def close(kafka: str, topics: Topics, client: Client, reference: str, why: str = "") -> StatementRecord:
    """Close a statement; one that is closed already is left as it is. Raises RefusedError, TimeoutError."""
    named = reference_named(reference)

    def seen() -> StatementRecord | None:
        return next(iter(closed_statements(client, "reference = {it:String}", it=str(named))), None)

    if (known := await asyncio.to_thread(seen)) is not None:
        return known
    pair = pair_key(named.creditor, named.debtor)
    return await tell(kafka, topics, client, pair, "closings", Closing(reference=str(named), why=why), seen)


def reference_named(text: str) -> Reference:
    """A statement's reference. Raises ValueError."""
    found = read_references(text)
    if len(found) != 1:
        raise ValueError(f"{text!r} is no statement's reference, such as NLTNM-DEEMS-EUR-202603")
    return found[0]


def to_close(
    client: Client, period: str | None, creditor: str | None, debtor: str | None, before: int
) -> list[str]:
    """Open statements of a period, or of all that ended before a moment, in the order in which they may
    close.
    """
    ended: list[tuple[int, str]] = []
    for one in open_statements(client):
        if creditor not in (None, one.creditor) or debtor not in (None, one.debtor):
            continue
        span = _period(client, reference_named(one.reference))
        if (period or span.label) == span.label and span.end <= before:
            ended.append((span.start, one.reference))
    return [reference for _, reference in sorted(ended)]


def claim_named(client: Client, claim: str) -> dict[str, Any]:
    """Where a claim stands. Raises LookupError."""
    found = list(
        client.query(
            "SELECT * FROM claims WHERE id = {it:String}", parameters={"it": claim.upper()}
        ).named_results()
    )
    if not found:
        raise LookupError(f"no claim {claim}: its key is that of the CDR, such as NL*TNM*C1")
    return found[0]


def history(client: Client, claim: str) -> list[dict[str, Any]]:
    """What was posted for a claim, for its credits and for its fees, in order."""
    return list(
        client.query(
            "SELECT id, kind, creditor, debtor, amount, currency, statement, late, reverses, basis, event_id"
            " FROM settlement_entries WHERE claim = {it:String} OR credit_of = {it:String}"
            " OR startsWith(claim, concat({it:String}, '#FEE:')) ORDER BY creditor, debtor, sequence",
            parameters={"it": claim.upper()},
        ).named_results()
    )


def held(client: Client, creditor: str | None = None, debtor: str | None = None) -> list[dict[str, Any]]:
    """The queue of held claims, oldest first."""
    return list(
        client.query(
            "SELECT * FROM claims WHERE status = 'held'"
            " AND ({c:String} = '' OR creditor = {c:String}) AND ({d:String} = '' OR debtor = {d:String})"
            " ORDER BY occurred_at, id",
            parameters={"c": creditor or "", "d": debtor or ""},
        ).named_results()
    )


def statement(client: Client, reference: str) -> tuple[Statement, Statement | None]:
    """A statement, closed or as it would be if it were closed now; and the one of the other direction.

    Raises ValueError for what is no reference, or lines that are not the ones that were closed; LookupError
    for a statement that has no line and is not closed.
    """
    named = reference_named(reference)
    ours = _statement(client, named)
    if ours is None:
        raise LookupError(f"{named} is not closed, and there is nothing on it")
    opposite = Reference(named.debtor, named.creditor, named.currency, named.period)
    return ours, _statement(client, opposite)


def _statement(client: Client, named: Reference) -> Statement | None:
    entries = entries_of(client, str(named))
    paid = quantized(
        Decimal(
            client.query(
                "SELECT sum(amount) FROM receipts WHERE statement = {it:String} AND outcome = 'matched'",
                parameters={"it": str(named)},
            ).result_rows[0][0]
        )
    )
    closed = closed_statements(client, "reference = {it:String}", it=str(named))
    if closed:
        return closed_statement(closed[0], entries, paid)
    if not entries:
        return None
    before = closed_statements(
        client,
        "creditor = {c:String} AND debtor = {d:String} AND currency = {u:String}",
        c=named.creditor,
        d=named.debtor,
        u=named.currency,
    )
    last = max(before, key=lambda one: one.closed_at, default=None)
    period = _period(client, named)
    if last is not None:
        period = period._replace(start=max(period.start, last.period_end))
    opening = last.closing if last else Decimal(0)
    return open_statement(named, period, _zone(client, named), entries, opening, paid)


def _zone(client: Client, named: Reference) -> str:
    policy = policy_at(client, named.creditor, named.debtor, period_named(named.period, "UTC").end - 1)
    return policy.time_zone if policy else "UTC"


def _period(client: Client, named: Reference) -> Period:
    return period_named(named.period, _zone(client, named))


def listed(client: Client) -> tuple[list[Open], list[dict[str, Any]]]:
    """Open statements, and closed ones with what was paid for them."""
    closed = client.query("SELECT * FROM statements ORDER BY period_start, reference").named_results()
    return open_statements(client), list(closed)


def net(client: Client, one: str | None = None, other: str | None = None) -> list[dict[str, Any]]:
    """For each pair of parties and currency: what each owes the other now, and who has to pay how much.

    `one` and `other` choose pairs with these parties.
    """
    rows = client.query(
        "SELECT party AS debtor, counterparty AS creditor, currency, balance FROM accounts"
        " WHERE kind = 'payable' ORDER BY currency, debtor, creditor"
    ).named_results()
    owed: dict[tuple[str, str, str], dict[str, Decimal]] = {}
    for row in rows:
        first, second = sorted((row["debtor"], row["creditor"]))
        if any(party and party not in (first, second) for party in (one, other)):
            continue
        owed.setdefault((first, second, row["currency"]), {})[row["debtor"]] = Decimal(row["balance"])
    found = []
    for (first, second, currency), balances in sorted(owed.items()):
        difference = balances.get(first, Decimal(0)) - balances.get(second, Decimal(0))
        debtor, creditor = (first, second) if difference >= 0 else (second, first)
        found.append(
            {
                "parties": [first, second],
                "currency": currency,
                "owed": dict(sorted(balances.items())),
                "debtor": debtor,
                "creditor": creditor,
                "net": abs(difference),
            }
        )
    return found


def invoices(client: Client) -> list[dict[str, Any]]:
    """Invoice reconciliation records against the books, with their differences."""
    found = list(client.query("SELECT * FROM reconciliations ORDER BY received_at, key").named_results())
    differences = client.query(
        "SELECT key, cdr_id, outcome, detail, billed, settled FROM reconciliation_differences"
        " ORDER BY key, cdr_id"
    ).named_results()
    by_key: dict[str, list[dict[str, Any]]] = {}
    for row in differences:
        by_key.setdefault(row["key"], []).append({k: v for k, v in row.items() if k != "key"})
    return [row | {"differences": by_key.get(row["key"], [])} for row in found]
