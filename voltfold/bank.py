"""Bank imports: payments of a file become receipts in the ledger topic, each once."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal

import msgspec
from aiokafka import AIOKafkaProducer

from schemas.records import Event, event_id
from schemas.settlement import Receipt, ReceiptRecord, Reference, StatementRecord, pair_key, read_references
from schemas.topics import Topics
from streams.banking.camt import read
from streams.banking.matching import (
    ASSIGNED,
    Outstanding,
    Received,
    Standing,
    receipt_of,
    received,
    standings,
)
from voltfold.details import OPERATOR, read_directory
from voltfold.latest import latest

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

    Raises streams.banking.camt.CamtError for a file that cannot be read, of which nothing is then taken in,
    and aiokafka's KafkaError.
    """
    payments = read(data)
    known = await latest(kafka, topics.receipts, ReceiptRecord)
    statements = (await latest(kafka, topics.statements, StatementRecord)).values()
    directory = await read_directory(kafka, topics)
    outstanding = Outstanding(standings(statements, known.values()))
    found: list[Imported] = []
    receipts: list[Receipt] = []
    for payment in payments:
        receipt: Receipt | ReceiptRecord | None = known.get(payment.id)
        new = receipt is None
        if receipt is None:
            receipt = receipt_of(payment, outstanding.left)
            receipts.append(receipt)
        account = directory.at(receipt.creditor, None).iban if receipt.creditor else ""
        elsewhere = account and account != payment.account
        found.append(
            Imported(
                id=payment.id,
                new=new,
                booked_on=payment.booked_on.isoformat(),
                amount=payment.amount,
                currency=payment.currency,
                payer=payment.payer,
                statement=receipt.statement,
                state=outstanding.take(receipt, new=new),
                warning=f"booked on {payment.account}, not on {receipt.creditor}'s account"
                if elsewhere
                else "",
            )
        )
    await _write(kafka, topics, receipts)
    return found


async def payments(kafka: str, topics: Topics) -> tuple[list[Standing], list[Received]]:
    """Where every closed statement stands, and every payment that is known."""
    receipts = list((await latest(kafka, topics.receipts, ReceiptRecord)).values())
    found = standings((await latest(kafka, topics.statements, StatementRecord)).values(), receipts)
    return found, received(receipts, found)


async def assign(kafka: str, topics: Topics, payment: str, reference: str, why: str) -> Receipt:
    """Say which statement a payment is for that named none. Raises ValueError."""
    known = await latest(kafka, topics.receipts, ReceiptRecord)
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
    receipt = Receipt(
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
    await _write(kafka, topics, [receipt])
    return receipt


async def _write(kafka: str, topics: Topics, receipts: list[Receipt]) -> None:
    """Receipts as events, in the partition of their parties; those of nobody in that of their id."""
    if not receipts:
        return
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True) as producer:
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
