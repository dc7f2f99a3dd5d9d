"""The payments fold: what an authorised session costs, and what was captured for it, become its payment.

A payment is known by who authorised it (the party of the token, a payment terminal provider as a rule) and
that party's authorization reference, which goes from the StartSession through session and CDR to the
confirmation of the capture (mod_payments, "Transaction"). What is kept of it are the latest of

    charges        what the session (running) and its CDRs (final) cost, from the session fold
    confirmations  of captures, one by one: Financial Advice Confirmations
    requests       to start, by whoever authorised it
    stops          of sessions that came to their limit: asked for here (`limits`), and what came of it

and from these alone the record follows, so their order in the log does not show in the latest record. Of
charges of one session or CDR the last one counts (they come from one partition, in order), of confirmations
under one id the one with the newest last_updated, of requests the first.

Four kinds of payment pass through here and are told apart: `card` (an ad-hoc token, or anything that was
captured), `app` and `contract` (the provider pays the operator by contract: the ledger settles it), `free`.
What was captured by card goes to the ledger as a receipt, in the books of operator and terminal provider.

What does not come is missing when the log's clock says so (`clock`, `waiting`), until it does come.

A session that a CDR has closed, or that refers to another authorization by now, is withdrawn: what a payment
once was told of it does not count any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from hashlib import blake2b

import msgspec

from schemas.codec import UnknownSchemaError, name_of
from schemas.currencies import rounded
from schemas.ocpi import wire
from schemas.ocpi.payments import CaptureStatusCode, FinancialAdviceConfirmation
from schemas.payments import CaptureRecord, ChargeRecord, PaymentRecord
from schemas.records import Event, event_id, micros, quantized
from schemas.settlement import Receipt, pair_key
from schemas.topics import Topics
from streams import limits, overdue, waiting
from streams.charges import WITHDRAWN
from streams.clock import MODULE as CLOCK
from streams.clock import Tick, read_tick
from streams.folding import Fact, Folded, Get, Output
from streams.ledger.state import ISSUER
from streams.quarantine import RefusedError, quarantined
from streams.requests import ANSWERED, RESULTED
from streams.table import Shelf, Table

MODULE = "confirmations"
"""Of the events of Financial Advice Confirmations."""
AUTHORIZATIONS, START = "authorizations", "START_SESSION"
"""Of copies of accepted StartSessions, and the first part of their path."""
_ZERO = Decimal(0)
_BEFORE = frozenset({"PENDING", "RESERVATION", "ACTIVE"})

WORST_FIRST = (
    *("wrong_currency", "failed", "exceeds_authorization", "overcaptured", "partial", "no_cdr"),
    *("missing_capture", "missing_cdr", "not_stopped", "over_limit"),
)
"""What can be wrong with a payment."""
_BESIDE = frozenset({"not_stopped", "over_limit"})
"""Of that, what says nothing about how far the payment has come."""
_MISSING = {"awaiting_capture": "missing_capture", "awaiting_cdr": "missing_cdr"}
"""What is waited for, and what it is called when it has been for too long."""
_WAITING = {*_MISSING, *_MISSING.values()}
ASKED, AGREED, STOPPED = "asked", "agreed", "stopped"
"""A stop that is under way, one that the operator has agreed to, and one that was done."""


class KeptCapture(msgspec.Struct, array_like=True):
    """A confirmation, and what came with it."""

    confirmation: FinancialAdviceConfirmation
    received_at: int
    event_id: bytes


class KeptRequest(msgspec.Struct, array_like=True):
    """That somebody asked for the session to be started."""

    received_at: int
    event_id: bytes
    location_id: str
    evse_uid: str | None
    token_uid: str
    token_type: str
    reference: str


class KeptStop(msgspec.Struct, array_like=True):
    """A session that is to be stopped: whether we have asked for it, what was answered, what came of it."""

    asked: bool = False
    answer: str | None = None
    result: str | None = None

    @property
    def state(self) -> str:
        """What became of it; a refusal in the operator's word."""
        if self.result is not None:
            return STOPPED if self.result == "ACCEPTED" else self.result.lower()
        if self.answer is not None:
            return AGREED if self.answer == "ACCEPTED" else self.answer.lower()
        return ASKED


class Kept(msgspec.Struct, array_like=True):
    """A payment's state. `charges` by session or CDR, `captures` by id; `emitted`: digest of the record.

    `stops` by session; `since`: when it began to wait for a CDR or capture, and `listed`: the slot of
    `overdue` that it was put into last. `timed`: news of it came when the partition knew the time.
    """

    charges: dict[str, ChargeRecord] = {}
    captures: dict[str, KeptCapture] = {}
    request: KeptRequest | None = None
    emitted: bytes = b""
    receipts: dict[str, bytes] = {}
    """Digests of what the ledger was told last, by the pair of parties that it was told for."""
    stops: dict[str, KeptStop] = {}
    since: int | None = None
    listed: int | None = None
    timed: bool = False


class _Said(msgspec.Struct):
    result: str


_payments = Shelf(b"p", Kept, Kept)
_read_said = msgspec.json.Decoder(_Said).decode


class PaymentFold:
    """Folds batches of the payments topic; see the module."""

    def __init__(self, topics: Topics) -> None:
        self.topics = topics

    def __call__(self, facts: Sequence[Fact], get: Get) -> Folded:
        """What a batch changes: states, records of payments, requests to stop sessions, quarantine."""
        table = Table(get)
        outputs: list[Output] = []
        counts: Counter[str] = Counter()
        dirty: dict[str, None] = {}
        for fact in facts:
            try:
                changed, stop = _take(fact, table)
            except (UnknownSchemaError, RefusedError, wire.InvalidObjectError) as error:
                outputs.append(self._quarantined(fact, error))
                counts["quarantined"] += 1
            except (
                Exception
            ) as error:  # a defect of ours must not stop the stream: it is kept, with its reason
                outputs.append(self._quarantined(fact, error))
                counts["quarantined"] += 1
            else:
                if stop is not None:
                    outputs.append(Output(self.topics.commands.name, stop.key.encode(), stop.encode()))
                    counts["stopped"] += 1
                if changed is None:
                    counts["repeated"] += 1
                else:
                    dirty |= dict.fromkeys(changed)
        clock = waiting.clock(table)
        for key in dirty:
            kept = table.read(_payments, key)
            if not (kept.charges or kept.captures or kept.request):
                continue  # known by its stop alone, whose charge is still to come
            record = record_of(key, kept, clock.deadline if kept.timed else None)
            _wait(table, key, kept, record, clock.swept)
            value = record.encode()
            digest = blake2b(value, digest_size=16).digest()
            if digest != kept.emitted:
                kept.emitted = digest
                table.write(_payments, key, kept)
                outputs.append(Output(self.topics.payment_states.name, key.encode(), value))
                outputs += self._receipts(record, kept)
        return Folded(table.changes(), outputs, counts)

    def _receipts(self, record: PaymentRecord, kept: Kept) -> list[Output]:
        """What was captured by card, as a receipt in the books of operator and terminal provider.

        It is told again as a whole when it changes; a pair that it turns out not to be of is told of nothing.
        """
        pair = pair_key(record.operator, record.provider) if record.operator and record.currency else ""
        told = []
        for one in sorted({*kept.receipts, pair} - {""}):
            captured = record.captured if one == pair and record.kind == "card" else quantized(_ZERO)
            if not captured and one not in kept.receipts:
                continue
            event = _receipt(record, one, captured)
            value = event.encode()
            digest = blake2b(value, digest_size=16).digest()
            if kept.receipts.get(one) != digest:
                kept.receipts = {**kept.receipts, one: digest}
                told.append(Output(self.topics.ledger.name, one.encode(), value))
        return told

    def _quarantined(self, fact: Fact, error: Exception) -> Output:
        match error:
            case UnknownSchemaError():
                reason, message = "unreadable", str(error)
            case RefusedError():
                reason, message = error.reason, error.message
            case wire.InvalidObjectError():
                reason, message = "invalid_object", str(error)
            case _:
                reason, message = "defect", f"{type(error).__name__}: {error}"
        return quarantined(self.topics, fact, reason, message)


def _receipt(record: PaymentRecord, pair: str, captured: Decimal) -> Event:
    """The event of a receipt, which has the id of the payment: the latest one counts."""
    first, second = pair.split("|")
    operator = second if first == record.provider else first
    currency = record.currency or ""
    at = max((one.at for one in record.captures if one.status != CaptureStatusCode.FAILED), default=0)
    body = msgspec.json.encode(
        Receipt(
            id=f"CARD:{record.key}",
            currency=currency,
            amount=rounded(captured, currency),
            received_on=at,
            creditor=operator,
            debtor=record.provider,
            source="card",
            text=record.reference,
        )
    )
    path = [pair, record.key]
    return Event(
        id=event_id(ISSUER, "receipts", "PUT", path, body),
        received_at=at,
        sender=ISSUER,
        version="2.3.0",
        module="receipts",
        method="PUT",
        key="|".join(path),
        path=path,
        request_id=None,
        correlation_id=None,
        body=body,
    )


def _take(fact: Fact, table: Table) -> tuple[Iterable[str] | None, Event | None]:
    """Take one record in; the payments that it changes (None: it changes nothing), and a stop to ask for."""
    value = fact.value or b""
    key = (fact.key or b"").decode()
    stop = None
    if name_of(value) == "charge":
        kept = table.read(_payments, key)
        charge = ChargeRecord.decode(value)
        name = f"{charge.kind} {charge.key}"
        changed = kept.charges.get(name) != charge
        kept.charges[name] = charge
        if changed and limits.is_reached(charge, waiting.clock(table).tick):
            stop = _stop(kept, charge)
    else:
        event = Event.decode(value)
        if event.module == CLOCK:
            return _passed(table, read_tick(event.body)), None
        kept = table.read(_payments, key)
        if event.module == MODULE:
            found = wire.decode("financial_advice_confirmation", event.version, event.body)
            changed = _capture(kept, found, event)
        elif event.module == AUTHORIZATIONS and event.path[:1] == [START]:
            changed = _request(kept, event)
        elif event.module == limits.MODULE_OF_RESULTS and len(event.path) > 1:
            changed = _heard(kept, event)
        else:
            raise RefusedError("unknown_module", f"{event.method} of {event.module} does not belong here")
    if not changed:
        return None, None
    kept.timed = waiting.clock(table).tick is not None
    table.write(_payments, key, kept)
    return (key,), stop


def _stop(kept: Kept, charge: ChargeRecord) -> Event | None:
    """The request to stop a session, unless it was made before.

    Record by record, not at a batch's end: how the log was cut must not decide what is asked for.
    """
    known = kept.stops.setdefault(charge.key, KeptStop())
    if known.asked:
        return None
    known.asked = True
    return limits.request_to_stop(charge)


def _heard(kept: Kept, event: Event) -> bool:
    """What became of a stop: the first answer counts, and so does the first result."""
    said = _read_said(event.body).result
    known = kept.stops.setdefault(event.path[0], KeptStop())
    what = event.path[1]
    if what == ANSWERED and known.answer is None:
        known.answer = said
    elif what == RESULTED and known.result is None:
        known.result = said
    else:
        return False
    return True


def _passed(table: Table, tick: Tick) -> Iterable[str]:
    """Payments for which the passing of time makes a difference."""
    found = []
    for key in waiting.advance(table, tick, lambda one: table.read(_payments, one).since):
        kept = table.read(_payments, key)
        assert kept.since is not None
        if kept.listed != (place := overdue.hour_of(kept.since)):
            kept.listed = place
            table.write(_payments, key, kept)
        found.append(key)
    return found


def _wait(table: Table, key: str, kept: Kept, record: PaymentRecord, swept: int) -> None:
    """Have a payment that waits looked at when the time has come.

    Not one of which nothing was heard since the log has a clock: logs that are older than this clock give the
    same records as they did.
    """
    since = record.waiting_since if record.status in _WAITING and kept.timed else None
    listed = kept.listed
    if since is not None:
        listed = overdue.watch(table, key, overdue.hour_of(since), listed, swept)
    if (since, listed) != (kept.since, kept.listed):
        kept.since, kept.listed = since, listed
        table.write(_payments, key, kept)


def _capture(kept: Kept, found: FinancialAdviceConfirmation, event: Event) -> bool:
    known = kept.captures.get(found.id.upper())
    if known is not None and (
        known.event_id == event.id or found.last_updated < known.confirmation.last_updated
    ):
        return False
    kept.captures[found.id.upper()] = KeptCapture(found, event.received_at, event.id)
    return True


def _request(kept: Kept, event: Event) -> bool:
    party = event.sender.partition("*")
    start = wire.decode("start_session", event.version, event.body, party=(party[0], party[2]))
    if start.authorization_reference is None:
        raise RefusedError("no_reference", "a StartSession without authorization_reference is no payment")
    known = kept.request
    if known is not None and known.received_at <= event.received_at:
        return False
    kept.request = KeptRequest(
        *(event.received_at, event.id, start.location_id, start.evse_uid),
        *(start.token.uid, start.token.type, start.authorization_reference),
    )
    return True


def record_of(key: str, kept: Kept, deadline: int | None = None) -> PaymentRecord:
    """The payment, as far as it is known. What it has waited for since `deadline` or before is missing."""
    charges = sorted(
        (one for one in kept.charges.values() if one.status != WITHDRAWN),
        key=lambda one: (one.kind, one.received_at, one.key),
    )
    captures = sorted(
        kept.captures.values(), key=lambda one: (one.confirmation.last_updated, one.confirmation.id)
    )
    cdrs = [one for one in charges if one.kind == "cdr"]
    plain = [one for one in cdrs if not one.credit]
    sessions = [one for one in charges if one.kind == "session"]
    # What the session was is said by its last CDR, else by itself.
    leading = max(plain or sessions or cdrs, key=lambda one: (one.received_at, one.key), default=None)
    currency = leading.currency.upper() if leading else None
    if currency is None and captures:
        currency = captures[-1].confirmation.currency.upper()
    due = _due(cdrs, currency)
    captured = sum((_captured(one, currency) for one in captures), _ZERO)
    limits = [one.preauthorized for one in charges if one.preauthorized is not None]
    limit = max(limits, default=None)
    invoice = next((one.invoice_reference_id for one in reversed(plain) if one.invoice_reference_id), None)
    kind = _kind(charges, captures, kept.request, due)
    issues = _issues(charges, captures, currency, due, captured, limit)
    request = kept.request
    stop = kept.stops.get(leading.session_key) if leading else None
    times = [(one.received_at, one.event_id) for one in charges]
    times += [(one.received_at, one.event_id) for one in captures]
    if request is not None:
        times.append((request.received_at, request.event_id))
    times = times or [(one.received_at, one.event_id) for one in kept.charges.values()]
    first, last = min(times), max(times)
    status = _status(
        kind, issues, sessions, cdrs, captures, due, invoice, request is not None and not kept.charges
    )
    if status == "charging" and stop is not None and stop.state not in (ASKED, AGREED, STOPPED):
        issues.append("not_stopped")
    if deadline is not None and last[0] <= deadline and (missing := _MISSING.get(status)):
        status = missing
        issues.append(missing)
    issues.sort(key=WORST_FIRST.index)
    # Spelled as in what is first in the alphabet: the order in the log does not count.
    spellings = [one.reference for one in charges or kept.charges.values()]
    spellings += [one.confirmation.authorization_reference for one in captures]
    spellings += [request.reference] if request is not None else []
    return PaymentRecord(
        key=key,
        reference=min(spellings),
        provider="*".join(key.split("*")[:2]),
        operator=leading.operator if leading else None,
        kind=kind,
        status=status,
        issues=issues,
        currency=currency,
        preauthorized=limit,
        due=due,
        captured=quantized(captured),
        difference=None if due is None else quantized(captured - due),
        session_key=leading.session_key if leading else None,
        session_id=leading.session_id if leading else None,
        cdr_id=plain[-1].cdr_id if plain else None,
        cdrs=sorted(one.key for one in cdrs),
        captures=[_written(one) for one in captures],
        invoice_reference_id=invoice,
        invoice_by=("CPO" if invoice else "PTP") if plain else None,
        token_uid=leading.token_uid if leading else request.token_uid if request else None,
        token_type=leading.token_type if leading else request.token_type if request else None,
        location_id=leading.location_id if leading else request.location_id if request else None,
        evse_uid=leading.evse_uid if leading else request.evse_uid if request else None,
        started_at=leading.started_at if leading else None,
        ended_at=leading.ended_at if leading else None,
        kwh=leading.kwh if leading else None,
        waiting_since=last[0],
        received_at=first[0],
        event_id=last[1],
        stop=None if stop is None else stop.state,
    )


def _due(cdrs: Sequence[ChargeRecord], currency: str | None) -> Decimal | None:
    """What the CDRs cost with taxes, credits taken off, in whole minor units; None without any."""
    if not cdrs or currency is None:
        return None
    total = sum((one.after_taxes for one in cdrs if one.currency.upper() == currency), _ZERO)
    return quantized(rounded(total, currency))


def _captured(kept: KeptCapture, currency: str | None) -> Decimal:
    found = kept.confirmation
    if found.capture_status_code is CaptureStatusCode.FAILED or found.currency.upper() != currency:
        return _ZERO
    return _total(found)


def _total(found: FinancialAdviceConfirmation) -> Decimal:
    costs = found.total_costs
    return quantized(costs.before_taxes + sum((tax.amount for tax in costs.taxes), _ZERO))


def _written(kept: KeptCapture) -> CaptureRecord:
    found = kept.confirmation
    return CaptureRecord(
        id=found.id,
        status=str(found.capture_status_code),
        currency=found.currency.upper(),
        amount=_total(found),
        message=found.capture_status_message,
        at=micros(found.last_updated),
    )


def _kind(
    charges: Sequence[ChargeRecord],
    captures: Sequence[KeptCapture],
    request: KeptRequest | None,
    due: Decimal | None,
) -> str:
    """How it is paid. A token's type tells, until something is captured."""
    if captures:
        return "card"
    if due == 0:
        return "free"
    types = {one.token_type for one in charges} or ({request.token_type} if request else set())
    if "AD_HOC_USER" in types:
        return "card"
    return "app" if "APP_USER" in types else "contract"


def _issues(
    charges: Sequence[ChargeRecord],
    captures: Sequence[KeptCapture],
    currency: str | None,
    due: Decimal | None,
    captured: Decimal,
    limit: Decimal | None,
) -> list[str]:
    """All that is wrong, the worst first."""
    found = set()
    if len({one.currency.upper() for one in charges} | {_currency(one) for one in captures}) > 1:
        found.add("wrong_currency")
    if limit is not None and captured > limit:
        found.add("exceeds_authorization")
    so_far = max((one.after_taxes for one in charges), default=_ZERO) if due is None else due
    if limit is not None and so_far > limit:
        found.add("over_limit")
    if captures:
        if due is None:
            found.add("no_cdr" if captured else "failed")
        elif captured > due:
            found.add("overcaptured")
        elif captured < due:
            found.add("partial" if captured else "failed")
    return [one for one in WORST_FIRST if one in found]


def _currency(kept: KeptCapture) -> str:
    return kept.confirmation.currency.upper()


def _status(
    kind: str,
    issues: Sequence[str],
    sessions: Sequence[ChargeRecord],
    cdrs: Sequence[ChargeRecord],
    captures: Sequence[KeptCapture],
    due: Decimal | None,
    invoice: str | None,
    requested: bool,
) -> str:
    """Where it stands: the worst that is wrong with the money, else how far it has come."""
    wrong = next((one for one in issues if one not in _BESIDE), None)
    if wrong is not None:
        return wrong
    if captures:
        return "matched"
    if not cdrs:
        if not sessions and not requested:
            return "unreferenced"
        running = any(one.status in _BEFORE and one.ended_at is None for one in sessions)
        return "charging" if running else "awaiting_cdr" if sessions else "requested"
    if due == 0:
        return "free"
    if kind != "card":
        return "by_contract"
    return "awaiting_capture" if invoice else "unreported"
