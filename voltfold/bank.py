"""Bank imports: payments of a file become receipts in the ledger topic, each once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal

import msgspec
from aiokafka import AIOKafkaProducer

from schemas.codec import name_of
from schemas.records import Event, event_id
from schemas.settlement import Receipt, ReceiptRecord, Reference, StatementRecord, pair_key, read_references
from schemas.topics import Topics
from streams.banking.camt import read
from streams.banking.matching import (
    ASSIGNED,
    Outstanding,
    Received,
    Standing,
    payment_id,
    receipts_of,
    received,
    standings,
)
from streams.replay import committed
from voltfold.details import OPERATOR, read_directory
from voltfold.latest import latest, records_of

MODULE = "receipts"


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """A payment of an imported file. `new`: it was not known before, and is in the log now.

    `state` is what it makes of its statement, as `voltfold settlement payments` will show it.
    """

    id: str
    new: bool
    booked_on: str
    amount: Decimal
    currency: str
    payer: str | None
    statement: str | None
    state: str
    warning: str = ""


async def import_bank(kafka: str, topics: Topics, data: bytes) -> list[Imported]:
    """Take the payments of a camt.053 or camt.054 file in; what every one of them is.

    All of them come into the log, or none: whatever becomes of an import, the same file again books what is
    missing, and that once. Raises streams.banking.camt.CamtError for a file that cannot be read, of which
    nothing is then taken in, and aiokafka's KafkaError: ProducerFenced, when another import began meanwhile.
    """
    payments = read(data)
    found: list[Imported] = []
    receipts: list[Receipt] = []
    async with _writing(kafka, topics) as producer:
        known = await _known(kafka, topics)
        taken: dict[str, list[Receipt | ReceiptRecord]] = {}
        for each in sorted(known.values(), key=lambda one: (len(one.id), one.id)):
            if not each.id.endswith(ASSIGNED):
                taken.setdefault(payment_id(each.id), []).append(each)
        statements = (await latest(kafka, topics.statements, StatementRecord)).values()
        directory = await read_directory(kafka, topics)
        outstanding = Outstanding(standings(statements, known.values()))
        for payment in payments:
            new = payment.id not in taken
            if new:
                made = receipts_of(payment, outstanding.left)
                receipts += made
                taken[payment.id] = [*made]
            for receipt in taken[payment.id]:
                account = directory.at(receipt.creditor, None).iban if receipt.creditor else ""
                elsewhere = account and account != payment.account
                found.append(
                    Imported(
                        id=receipt.id,
                        new=new,
                        booked_on=payment.booked_on.isoformat(),
                        amount=receipt.amount,
                        currency=payment.currency,
                        payer=payment.payer,
                        statement=receipt.statement,
                        state=outstanding.take(receipt, new=new),
                        warning=f"booked on {payment.account}, not on {receipt.creditor}'s account"
                        if elsewhere
                        else "",
                    )
                )
        await _write(producer, topics, receipts)
    return found


async def _known(kafka: str, topics: Topics) -> dict[str, Receipt | ReceiptRecord]:
    """Every receipt that is in the log, by id: what the ledger has taken in, and what lies before it still.

    Where it stands is read first, so what it takes in meanwhile is seen twice rather than not at all.
    """
    group = await committed(kafka, f"{topics.prefix}-worker")
    ahead = {tp.partition: one.offset for tp, one in group.items() if tp.topic == topics.ledger.name}
    found: dict[str, Receipt | ReceiptRecord] = {**await latest(kafka, topics.receipts, ReceiptRecord)}
    async for record in records_of(kafka, topics.ledger, ahead):
        if record.value is not None and name_of(record.value) == "event":
            event = Event.decode(record.value)
            if event.module == MODULE:
                receipt = msgspec.json.decode(event.body, type=Receipt)
                found.setdefault(receipt.id, receipt)
    return found


@asynccontextmanager
async def _writing(kafka: str, topics: Topics) -> AsyncIterator[AIOKafkaProducer]:
    """Whoever takes payments in: one at a time, and what is written, is as a whole when the block ends.

    One that was killed in the middle leaves an open transaction, which the next one aborts; else Kafka does,
    after ten seconds in which nobody can read on in the ledger.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka,
        acks="all",
        transactional_id=f"{topics.prefix}-bank",
        transaction_timeout_ms=10_000,
    )
    async with producer, producer.transaction():
        yield producer


async def payments(kafka: str, topics: Topics) -> tuple[list[Standing], list[Received]]:
    """Where every closed statement stands, and every payment that is known."""
    receipts = list((await latest(kafka, topics.receipts, ReceiptRecord)).values())
    found = standings((await latest(kafka, topics.statements, StatementRecord)).values(), receipts)
    return found, received(receipts, found)


async def assign(kafka: str, topics: Topics, payment: str, reference: str, why: str) -> Receipt:
    """Say which statement a payment is for that named none. Raises ValueError."""
    async with _writing(kafka, topics) as producer:
        receipt = _assigned(await _known(kafka, topics), payment, reference, why)
        await _write(producer, topics, [receipt])
    return receipt


def _assigned(
    known: Mapping[str, Receipt | ReceiptRecord], payment: str, reference: str, why: str
) -> Receipt:
    matching = [one for key, one in known.items() if key.startswith(payment) and not key.endswith(ASSIGNED)]
    if len(matching) != 1:
        raise ValueError(f"{len(matching) or 'no'} payments have an id that begins with {payment!r}")
    one = matching[0]
    if one.creditor:
        raise ValueError(f"{one.id} is {one.creditor}'s already, from {one.debtor}")
    if f"{one.id}{ASSIGNED}" in known:
        raise ValueError(f"{one.id} is assigned already, to {known[f'{one.id}{ASSIGNED}'].statement}")
    named: list[Reference] = read_references(reference)
    if len(named) != 1:
        raise ValueError(f"{reference!r} is no statement's reference, such as NLTNM-DEEMS-EUR-202603")
    if named[0].currency != one.currency:
        raise ValueError(f"{named[0]} is in {named[0].currency}, the payment in {one.currency}")
    return Receipt(
        id=f"{one.id}{ASSIGNED}",
        currency=one.currency,
        amount=one.amount,
        received_on=one.received_on,
        creditor=named[0].creditor,
        debtor=named[0].debtor,
        statement=str(named[0]),
        source=one.source,
        text=f"{why} | {one.text}",
    )


async def _write(producer: AIOKafkaProducer, topics: Topics, receipts: list[Receipt]) -> None:
    """Receipts as events, in the partition of their parties; those of nobody in that of their id."""
    sent = []
    for receipt in receipts:
        body = msgspec.json.encode(receipt)
        nobody = not (receipt.creditor and receipt.debtor)
        key = receipt.id if nobody else pair_key(str(receipt.creditor), str(receipt.debtor))
        event = Event(
            id=event_id(OPERATOR, MODULE, "POST", [receipt.id], body),
            received_at=time.time_ns() // 1000,
            sender=OPERATOR,
            version="",
            module=MODULE,
            method="POST",
            key=key,
            path=[receipt.id],
            request_id=None,
            correlation_id=None,
            body=body,
        )
        sent.append(await producer.send(topics.ledger.name, event.encode(), key=key.encode()))
    await asyncio.gather(*sent)
