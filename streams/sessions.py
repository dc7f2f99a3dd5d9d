"""The session fold: a session's events, its CDRs and what pricing must know become its state, its price, its
bill.

What is kept per partition, and what is concluded from it:

    s  a session: as pushed, its CDRs                  -> SessionRecord, with its running or final price
    c  a CDR                                           -> BillRecord, ClaimRecord
    (either of them, with an authorization reference)  -> ChargeRecord
    t  versions of a tariff, l  of a location's facts  -> sessions priced again when one arrives late
    d, i  which sessions depend on which of those
    n  what time it is                                 -> sessions that have been silent for too long
    h, o  which running sessions to look at when

A record is a function of what is kept, and what is kept, of the set of events (of those with one
last_updated, their order in the log): neither batches nor the order of a session and its CDR, nor that of a
session and its tariff, shows in the latest record of a key.

- PUT replaces, PATCH merges and appends charging periods; an older last_updated never overwrites a newer one.
- A CDR is final (mod_cdrs): it closes its session, which from then on is what the CDR says. The same one
  again changes nothing, another one under the same id goes to quarantine.
- A session that runs and has not been heard of for as long as the log's clock allows is a candidate to be set
  to INVALID, which its record says; it is none any more when an update comes (`clock.py`, `overdue.py`).
- Tariffs apply by event time: the newest version with last_updated at or before the session's start whose
  validity covers the start; else the one embedded in the CDR; else the earliest known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec

from schemas.codec import UnknownSchemaError
from schemas.keys import object_key, owner_of, party_key
from schemas.ocpi import wire
from schemas.ocpi.objects import CDR, ChargingPeriod, Price, Session, Tariff
from schemas.payments import ChargeRecord
from schemas.records import (
    AmountRecord,
    BillRecord,
    ClaimRecord,
    PeriodRecord,
    Record,
    SessionRecord,
    TaxRecord,
    Told,
    micros,
    moment,
    quantized,
    read_told,
)
from schemas.settlement import pair_key
from schemas.topics import Topics
from streams import index, overdue, pricing
from streams.charges import charge_of_cdr, charge_of_session, limit_of, payment_of
from streams.clock import MODULE as CLOCK
from streams.clock import Tick, read_tick
from streams.folding import Fact, Folded, Get, Output
from streams.ledger.settling import evident_rate
from streams.quarantine import RefusedError, quarantined
from streams.references import MODULE as REFERENCES
from streams.references import LocationReference, TariffReference, read_reference
from streams.table import MOST_HELD, Shelf, Table
from streams.versions import Version, add_version, earliest, in_force

_ZERO = Decimal(0)
_RUNNING = frozenset({"ACTIVE", "PENDING", "RESERVATION"})
NOT_FOUND = "tariff_unknown"
NO_LOCATION = "location_unknown"


class Kept(msgspec.Struct, array_like=True):
    """A session's state. `seen`: events with its last_updated; `emitted`: digest of the last record.

    `listed`: the slot of `overdue` that it was put into last; `candidate`: whether its record says so.
    `charged`: the payments that it ever referred to, with the digests of what they were told last.
    """

    session: Session | None = None
    seen: list[bytes] = []
    received_at: int = 0
    event_id: bytes = b""
    cdrs: list[str] = []
    indexed: list[str] = []
    emitted: bytes = b""
    listed: int | None = None
    candidate: bool = False
    charged: dict[str, bytes] = {}


class _Course(msgspec.Struct):
    """Of a session: whether it runs."""

    status: str
    end_date_time: object = None


class _Glance(msgspec.Struct, array_like=True):
    """The fields of Kept that tell whether a session is overdue."""

    session: _Course | None
    seen: msgspec.Raw
    received_at: int
    event_id: msgspec.Raw
    cdrs: list[str]
    indexed: msgspec.Raw
    emitted: msgspec.Raw
    listed: int | None = None
    candidate: bool = False


class KeptClock(msgspec.Struct, array_like=True):
    """The partition's time. `swept`: the last slot of `overdue` that was looked through.

    `candidates`: how many sessions are overdue.
    """

    tick: Tick | None = None
    swept: int = -1
    candidates: int = 0

    @property
    def deadline(self) -> int | None:
        """Who was last heard of then or before, in microseconds, is overdue."""
        return None if self.tick is None else self.tick.now - self.tick.stale_after


class KeptCdr(msgspec.Struct, array_like=True):
    """A CDR's state."""

    cdr: CDR
    received_at: int
    event_id: bytes
    emitted: bytes = b""
    claimed: bytes = b""
    charged: bytes = b""


class KeptLocation(msgspec.Struct, array_like=True):
    """A location's facts; connectors by `EVSE*CONNECTOR`, upper-cased."""

    zones: list[Version[str]] = []
    connectors: dict[str, list[Version[list[str]]]] = {}


class KeptTariff(msgspec.Struct, array_like=True):
    """A tariff's versions; None: withdrawn."""

    versions: list[Version[Tariff | None]] = []


_sessions = Shelf(b"s", Kept, Kept)
_cdrs: Shelf[KeptCdr] = Shelf(b"c", KeptCdr, lambda: KeptCdr(*_never()))
_locations = Shelf(b"l", KeptLocation, KeptLocation)
_tariffs = Shelf(b"t", KeptTariff, KeptTariff)
_clock = Shelf(b"n", KeptClock, KeptClock)
_glance = msgspec.msgpack.Decoder(_Glance).decode


def _never() -> Any:
    raise AssertionError("a CDR's state is only made from a CDR")


class SessionFold:
    """Folds batches of the sessions topic; see the module."""

    def __init__(self, topics: Topics, most_held: int = MOST_HELD) -> None:
        """`most_held`: how many states it has decoded at a time."""
        self.topics = topics
        self._most_held = most_held

    def __call__(self, facts: Sequence[Fact], get: Get) -> Folded:
        """What a batch changes: states, and records for session states, bills, claims and quarantine."""
        batch = _Batch(self.topics, Table(get, self._most_held))
        for fact in facts:
            batch.fold(fact)
        batch.conclude()
        return Folded(batch.table.changes(), batch.outputs, batch.counts)

    def gauges(self, get: Get) -> Mapping[str, int]:
        """What is known of a partition as a whole: its time (microseconds), and how many are overdue."""
        known = Table(get).read(_clock, "")
        return {"candidates": known.candidates, "now": known.tick.now if known.tick else 0}


class _Batch:
    deadline: int | None
    swept: int

    def __init__(self, topics: Topics, table: Table) -> None:
        self.topics = topics
        self.table = table
        self.outputs: list[Output] = []
        self.counts: Counter[str] = Counter()
        self.limits: dict[
            tuple[str, str], Decimal | None
        ] = {}  # reserved for what was priced, by kind and key
        self.dirty: dict[str, Fact] = {}  # sessions to conclude, each with the last record that touched it

    # -- folding one event ---------------------------------------------------------------------------------

    def fold(self, fact: Fact) -> None:
        """Take one event in, or put it into quarantine with the reason."""
        event = None
        self.table.relax()
        try:
            event = read_told(fact.value or b"")
            for key in self._take(event, fact):
                self.dirty[key] = fact
        except UnknownSchemaError as error:
            self._quarantine(fact, event, "unreadable", str(error))
        except RefusedError as error:
            self._quarantine(fact, event, error.reason, error.message)
        except wire.InvalidObjectError as error:
            self._quarantine(fact, event, "invalid_object", str(error))
        except Exception as error:  # a defect of ours must not stop the stream: it is kept, with its reason
            self._quarantine(fact, event, "defect", f"{type(error).__name__}: {error}")

    def _take(self, event: Told, fact: Fact) -> Iterable[str]:
        """Change what is kept; the sessions that must be concluded again by it."""
        match event.module:
            case "sessions":
                return self._take_session(event)
            case "cdrs":
                return self._take_cdr(event, (fact.key or b"").decode())
            case _ if event.module == REFERENCES:
                reference = read_reference(event.body)
                if isinstance(reference, TariffReference):
                    return self._take_tariff(event, reference)
                return self._take_location(event, reference)
            case _ if event.module == CLOCK:
                return self._take_clock(read_tick(event.body))
            case other:
                raise RefusedError("unknown_module", f"module {other!r} does not belong in this topic")

    def _take_session(self, event: Told) -> Iterable[str]:
        kept = self.table.read(_sessions, event.key)
        known = kept.session
        if event.method == "PUT":
            new = wire.decode("session", event.version, event.body, party=owner_of(event.key))
        elif event.method == "PATCH":
            if known is None:
                raise RefusedError("unknown_object", f"PATCH of session {event.key}, which was never PUT")
            new = wire.apply_patch("session", event.version, known, event.body)
        else:
            raise RefusedError("unknown_method", f"{event.method} of a session")
        if known is not None:
            if new.last_updated < known.last_updated:
                self.counts["overtaken"] += 1
                return ()
            if new.last_updated == known.last_updated:
                if event.id in kept.seen:
                    self.counts["repeated"] += 1
                    return ()
            else:
                kept.seen = []
        kept.session = new
        if (payment := payment_of(new)) is not None:
            kept.charged.setdefault(payment, b"")
        kept.seen = [*kept.seen, event.id]
        kept.received_at, kept.event_id = event.received_at, event.id
        self.table.write(_sessions, event.key, kept)
        return (event.key,)

    def _take_cdr(self, event: Told, session_key: str) -> Iterable[str]:
        if event.method != "POST":
            raise RefusedError("unknown_method", f"{event.method} of a CDR")
        cdr = wire.decode("cdr", event.version, event.body, party=owner_of(event.key))
        known = self.table.find(_cdrs, event.key)
        if known is not None:
            if known.cdr != cdr:
                raise RefusedError(
                    "cdr_conflict", f"CDR {event.key} is known with other content; a CDR is final"
                )
            self.counts["repeated"] += 1
            return ()
        self.table.write(_cdrs, event.key, KeptCdr(cdr, event.received_at, event.id))
        kept = self.table.read(_sessions, session_key)
        kept.cdrs = [*kept.cdrs, event.key]
        self.table.write(_sessions, session_key, kept)
        return (session_key,)

    def _take_tariff(self, event: Told, reference: TariffReference) -> Iterable[str]:
        kept = self.table.read(_tariffs, event.key)
        if not add_version(kept.versions, reference.since, event.received_at, reference.read()):
            return ()
        self.table.write(_tariffs, event.key, kept)
        return self._dependents(event.key, reference.since, kept.versions)

    def _take_location(self, event: Told, reference: LocationReference) -> Iterable[str]:
        kept = self.table.read(_locations, event.key)
        news: list[tuple[int, Sequence[Version[Any]]]] = []
        zone = reference.time_zone
        if zone and add_version(kept.zones, reference.since, event.received_at, zone):
            news.append((reference.since, kept.zones))
        for one in reference.connectors:
            versions = kept.connectors.setdefault(_connector(one.evse_uid, one.connector_id), [])
            if add_version(versions, one.since, event.received_at, one.tariff_ids):
                news.append((one.since, versions))
        if news:
            self.table.write(_locations, event.key, kept)
        return sorted(
            {key for since, versions in news for key in self._dependents(event.key, since, versions)}
        )

    def _take_clock(self, tick: Tick) -> Iterable[str]:
        """Sessions for which the passing of time makes a difference."""
        kept = self.table.read(_clock, "")
        if kept.tick is not None and tick <= kept.tick:
            return
        before = kept.deadline
        kept.tick = tick
        after = kept.deadline
        assert after is not None
        self.table.write(_clock, "", kept)
        if before == after:
            return
        until = overdue.hour_of(after if before is None else max(before, after))
        since = None if before is None else overdue.hour_of(min(before, after))
        kept.swept = max(kept.swept, until)
        for key in overdue.sweep(self.table, since, until, self._belongs):
            one = self.table.glance(_sessions, key, _glance)
            assert one is not None
            place = overdue.hour_of(one.received_at)
            if one.listed != place:
                moved = self.table.read(_sessions, key)
                moved.listed = place
                self.table.write(_sessions, key, moved)
            if one.candidate != (one.received_at <= after):
                yield key

    def _belongs(self, key: str) -> int | None:
        """The slot of `overdue` that a session belongs into; None for one that does not run."""
        one = self.table.glance(_sessions, key, _glance)
        if one is None or not self._runs(one):
            return None
        return overdue.hour_of(one.received_at)

    def _runs(self, kept: Kept | _Glance) -> bool:
        """Whether a session has begun and is neither ended nor billed."""
        session = kept.session
        if session is None or session.status not in _RUNNING or session.end_date_time is not None:
            return False
        return not kept.cdrs or self._final(kept.cdrs) is None

    def _watch(self, key: str, kept: Kept) -> None:
        """Have a running session looked at when the time has come."""
        place = overdue.hour_of(kept.received_at)
        listed = overdue.watch(self.table, key, place, kept.listed, self.swept)
        if listed != kept.listed:
            kept.listed = listed
            self.table.write(_sessions, key, kept)

    def _dependents(self, reference: str, since: int, versions: Sequence[Version[Any]]) -> Iterable[str]:
        """Sessions that a new version may matter to: those since then, or all when nothing older is known."""
        oldest = all(since <= one.since for one in versions)
        found = sorted(index.dependents(self.table, reference, None if oldest else since))
        self.counts["late_reference"] += bool(found)
        return found

    def _quarantine(
        self, fact: Fact, event: Told | None, reason: str, message: str, key: str | None = None
    ) -> None:
        self.counts["quarantined"] += 1
        received_at = event.received_at if event else None
        self.outputs.append(quarantined(self.topics, fact, reason, message, received_at=received_at, key=key))

    # -- concluding ----------------------------------------------------------------------------------------

    def conclude(self) -> None:
        """Price every session that changed, once, and write the records that changed by it."""
        clock = self.table.find(_clock, "") or KeptClock()
        self.deadline, self.swept = clock.deadline, clock.swept
        for key, fact in self.dirty.items():
            self.table.relax()
            try:
                self._conclude(key)
            except Exception as error:  # as in `fold`: kept with its reason, and the stream goes on
                message = f"{type(error).__name__}: {error}"
                self._quarantine(fact, None, "defect", message, key=f"session {key}")

    def _conclude(self, key: str) -> None:
        kept = self.table.read(_sessions, key)
        bills = {}
        for cdr_key in kept.cdrs:
            held = self.table.find(_cdrs, cdr_key)
            assert held is not None
            bill = bills[cdr_key] = self._bill(key, cdr_key, kept, held)
            if (digest := self._emit(self.topics.bills.name, cdr_key, bill, held.emitted)) is not None:
                held.emitted = digest
                claim = _claim(held.cdr, bill)
                pair = pair_key(claim.creditor, claim.debtor)
                held.claimed = self._emit(self.topics.ledger.name, pair, claim, held.claimed) or held.claimed
                self.table.write(_cdrs, cdr_key, held)
            charge = charge_of_cdr(held.cdr, bill, self.limits["cdr", cdr_key])
            if charge is not None and (digest := self._charge(charge, held.charged)) is not None:
                held.charged = digest
                self.table.write(_cdrs, cdr_key, held)
        record = self._session(key, kept, bills)
        if record is not None:
            if kept.candidate != record.invalid_candidate:
                self._count_candidate(key, kept, record.invalid_candidate)
            digest = self._emit(self.topics.session_states.name, key, record, kept.emitted)
            if digest is not None:
                kept.emitted = digest
                self.table.write(_sessions, key, kept)
        if kept.charged and kept.session is not None:
            self._charge_session(key, kept, kept.session, record)

    def _charge_session(self, key: str, kept: Kept, session: Session, record: SessionRecord | None) -> None:
        """Tell the payments that a session refers to, or has referred to, what it costs."""
        limit = self.limits.get(("session", key))
        running = record if self._final(kept.cdrs) is None else None
        for payment, emitted in kept.charged.items():
            charge = charge_of_session(session, payment, kept, running, limit)
            if (digest := self._charge(charge, emitted)) is not None:
                kept.charged[payment] = digest
                self.table.write(_sessions, key, kept)

    def _charge(self, charge: ChargeRecord, emitted: bytes) -> bytes | None:
        return self._emit(self.topics.payments.name, charge.payment, charge, emitted)

    def _count_candidate(self, key: str, kept: Kept, candidate: bool) -> None:
        kept.candidate = candidate
        self.table.write(_sessions, key, kept)
        clock = self.table.read(_clock, "")
        clock.candidates += 1 if candidate else -1
        self.table.write(_clock, "", clock)
        self.counts["overdue" if candidate else "revived"] += 1

    def _emit(self, topic: str, key: str, record: Record, emitted: bytes) -> bytes | None:
        """Write a record if it is another than the last one; its digest then."""
        value = record.encode()
        digest = blake2b(value, digest_size=16).digest()
        if digest == emitted:
            return None
        self.outputs.append(Output(topic, key.encode(), value))
        return digest

    def _bill(self, session_key: str, key: str, kept: Kept, held: KeptCdr) -> BillRecord:
        cdr = held.cdr
        place = cdr.cdr_location
        location = self._location(kept, session_key, cdr, place.id)
        choice = self._choose(
            kept, session_key, cdr, location, place.evse_uid, place.connector_id, cdr.tariffs
        )
        self.limits["cdr", key] = limit_of(choice.tariffs)
        priced, failure = _price(lambda: pricing.price_cdr(cdr, choice.tariffs, location.zone))
        warnings = [*choice.warnings, *location.warnings]
        amounts: list[AmountRecord] = []
        verdict, reason = "cannot_be_priced", failure
        if priced is not None:
            comparison = pricing.compare(cdr, priced)
            verdict, reason = comparison.verdict, comparison.reason
            warnings += [warning.code for warning in priced.warnings]
            amounts = [
                AmountRecord(
                    total=name,
                    billed_before_taxes=_amount(one.billed.before_taxes if one.billed else None),
                    billed_after_taxes=_amount(one.billed.after_taxes if one.billed else None),
                    priced_before_taxes=_amount(one.priced.before_taxes if one.priced else None),
                    priced_after_taxes=_amount(one.priced.after_taxes if one.priced else None),
                    verdict=one.verdict,
                )
                for name, one in comparison.totals.items()
            ]
        else:
            before, after = _money(cdr.total_cost)
            billed = AmountRecord(
                total="total_cost",
                billed_before_taxes=before,
                billed_after_taxes=after,
                priced_before_taxes=None,
                priced_after_taxes=None,
                verdict=verdict,
            )
            amounts = [billed]
        return BillRecord(
            key=key,
            session_key=session_key,
            country_code=cdr.country_code,
            party_id=cdr.party_id,
            cdr_id=cdr.id,
            session_id=cdr.session_id,
            credit=bool(cdr.credit),
            credit_reference_id=cdr.credit_reference_id,
            started_at=micros(cdr.start_date_time),
            ended_at=micros(cdr.end_date_time),
            currency=cdr.currency,
            location_id=place.id,
            evse_uid=place.evse_uid,
            connector_id=place.connector_id,
            token_country_code=cdr.cdr_token.country_code,
            token_party_id=cdr.cdr_token.party_id,
            token_uid=cdr.cdr_token.uid,
            contract_id=cdr.cdr_token.contract_id,
            total_energy=quantized(cdr.total_energy),
            total_time=quantized(cdr.total_time),
            total_parking_time=_amount(cdr.total_parking_time),
            amounts=amounts,
            verdict=verdict,
            reason=reason,
            tariffs=list(priced.tariffs) if priced else [],
            tariff_source=choice.source,
            late_tariff=choice.newest > held.received_at,
            warnings=_codes(warnings),
            last_updated=micros(cdr.last_updated),
            received_at=held.received_at,
            event_id=held.event_id,
        )

    def _session(self, key: str, kept: Kept, bills: dict[str, BillRecord]) -> SessionRecord | None:
        """The session's record: from the CDR that closed it, else as it was pushed."""
        final = self._final(kept.cdrs)
        if final is not None:
            held = self.table.find(_cdrs, final)
            assert held is not None
            return None if held.cdr.session_id is None else _closed(key, held, bills[final])
        session = kept.session
        if session is None:
            return None
        location = self._location(kept, key, session, session.location_id)
        choice = self._choose(kept, key, session, location, session.evse_uid, session.connector_id, ())
        self.limits["session", key] = limit_of(choice.tariffs)
        warnings = [*choice.warnings, *location.warnings]
        priced, failure = _price(
            lambda: pricing.price_session(session, choice.tariffs, location.zone or "UTC")
        )
        if priced is not None:
            warnings += [warning.code for warning in priced.warnings]
        elif failure and not choice.warnings:
            warnings.append("cannot_be_priced")
        total = priced.totals.get("total_cost") if priced else None
        before, after = _money(session.total_cost)
        if runs := self._runs(kept):
            self._watch(key, kept)
        return SessionRecord(
            key=key,
            country_code=session.country_code,
            party_id=session.party_id,
            session_id=session.id,
            status=str(session.status),
            started_at=micros(session.start_date_time),
            ended_at=micros(session.end_date_time) if session.end_date_time else None,
            kwh=quantized(session.kwh),
            currency=session.currency,
            location_id=session.location_id,
            evse_uid=session.evse_uid,
            connector_id=session.connector_id,
            token_country_code=session.cdr_token.country_code,
            token_party_id=session.cdr_token.party_id,
            token_uid=session.cdr_token.uid,
            contract_id=session.cdr_token.contract_id,
            auth_method=str(session.auth_method),
            cdr_id=None,
            reported_before_taxes=before,
            reported_after_taxes=after,
            price_before_taxes=_amount(total.before_taxes if total else None),
            price_after_taxes=_amount(total.after_taxes if total else None),
            tariffs=list(priced.tariffs) if priced else [],
            warnings=_codes(warnings),
            last_updated=micros(session.last_updated),
            received_at=kept.received_at,
            event_id=kept.event_id,
            periods=_periods(
                session.charging_periods or (),
                session.start_date_time,
                session.end_date_time or max(session.last_updated, session.start_date_time),
                session.kwh,
            ),
            invalid_candidate=runs and self.deadline is not None and kept.received_at <= self.deadline,
        )

    def _final(self, cdrs: Sequence[str]) -> str | None:
        """Key of the CDR that says what the session was: the last that is neither a credit nor credited."""
        held = {key: found for key in cdrs if (found := self.table.find(_cdrs, key)) is not None}
        if len(held) == 1:
            return next((key for key, one in held.items() if not one.cdr.credit), None)
        credited = {_credited(one.cdr) for one in held.values() if one.cdr.credit}
        plain = [key for key, one in held.items() if not one.cdr.credit]
        standing = [key for key in plain if key not in credited]
        return max(standing or plain, key=lambda key: (held[key].cdr.last_updated, key), default=None)

    # -- what pricing must know ----------------------------------------------------------------------------

    def _location(self, kept: Kept, key: str, of: Session | CDR, location_id: str) -> _Place:
        """What is known of the session's location at its start."""
        start = micros(of.start_date_time)
        name = object_key(of.country_code, of.party_id, location_id)
        self._depend(kept, key, name, start)
        known = self.table.find(_locations, name)
        zone = (in_force(known.zones, start) or earliest(known.zones)) if known else None
        return _Place(known, zone.value if zone else None, [] if zone else [NO_LOCATION])

    def _choose(
        self,
        kept: Kept,
        key: str,
        of: Session | CDR,
        place: _Place,
        evse_uid: str,
        connector_id: str,
        embedded: Iterable[Tariff] | None,
    ) -> _Choice:
        """The tariffs that apply, in the order in which the periods name them.

        A period names its tariff (mod_cdrs, ChargingPeriod); where none does, the CDR's own count, and last
        the connector's, of which the first regular one is taken that is known and valid.
        """
        start = micros(of.start_date_time)
        inside = {one.id.upper(): one for one in embedded or ()}
        named = list(dict.fromkeys(p.tariff_id for p in of.charging_periods or () if p.tariff_id))
        names = named or [one.id for one in inside.values()]
        several = not names
        if several and place.known is not None:
            versions = place.known.connectors.get(_connector(evse_uid, connector_id), [])
            found = in_force(versions, start) or earliest(versions)
            names = found.value if found else []
        choice = _Choice()
        for name in names:
            tariff_key = object_key(of.country_code, of.party_id, name)
            self._depend(kept, key, tariff_key, start)
            known = self.table.find(_tariffs, tariff_key)
            self._add(choice, known.versions if known else [], inside.get(name.upper()), start, name)
        if several:
            choice.keep_first_regular()
        if not names:
            choice.warnings.append(NOT_FOUND)
        return choice

    def _add(
        self,
        choice: _Choice,
        versions: list[Version[Tariff | None]],
        inside: Tariff | None,
        start: int,
        name: str,
    ) -> None:
        at = moment(start)
        version = in_force(versions, start, lambda one: one is None or _valid(one, at))
        if version is not None and version.value is not None:
            choice.add(version.value, "log", version.first)
        elif inside is not None:
            choice.add(inside, "cdr")
        else:
            first = in_force(versions, start, _is_there) or earliest(versions, _is_there)
            if first is not None and first.value is not None:
                choice.add(first.value, "log", first.first)
            else:
                choice.warnings.append(NOT_FOUND)

    def _depend(self, kept: Kept, key: str, reference: str, start: int) -> None:
        """Have the session priced again when something about the reference arrives late."""
        mark = f"{reference} {start // 86_400_000_000}"
        if mark not in kept.indexed:
            kept.indexed = [*kept.indexed, mark]
            index.add(self.table, reference, start, key)
            self.table.write(_sessions, key, kept)


class _Place:
    """A location's facts, those that hold at the session's start picked out."""

    def __init__(self, known: KeptLocation | None, zone: str | None, warnings: list[str]) -> None:
        self.known = known
        self.zone = zone
        self.warnings = warnings


class _Choice:
    """Tariffs to price with, where they are from, and when the newest of them reached us (microseconds)."""

    def __init__(self) -> None:
        self.tariffs: list[Tariff] = []
        self.sources: list[tuple[str, int]] = []
        self.warnings: list[str] = []

    def add(self, tariff: Tariff, source: str, received_at: int = 0) -> None:
        self.tariffs.append(tariff)
        self.sources.append((source, received_at))

    def keep_first_regular(self) -> None:
        """Of a connector's tariffs only one applies: the first for everybody, else the first."""
        regular = [i for i, one in enumerate(self.tariffs) if one.type in (None, "REGULAR")]
        keep = next(iter(regular), 0)
        self.tariffs, self.sources = self.tariffs[keep : keep + 1], self.sources[keep : keep + 1]
        if self.tariffs:
            self.warnings.clear()

    @property
    def source(self) -> str:
        """`log`, `cdr` (at least one of them) or `none`."""
        return min((source for source, _ in self.sources), default="none")

    @property
    def newest(self) -> int:
        return max((received_at for _, received_at in self.sources), default=0)


def _is_there(tariff: Tariff | None) -> bool:
    return tariff is not None


def _valid(tariff: Tariff, moment: datetime) -> bool:
    """Whether a tariff's validity window holds a moment (mod_tariffs, start_date_time and end_date_time)."""
    start, end = tariff.start_date_time, tariff.end_date_time
    return (start is None or start <= moment) and (end is None or moment < end)


def _price(work: Any) -> tuple[pricing.Priced | None, str]:
    """The price, or why there is none. A defect of ours is told, and stops nothing."""
    try:
        priced: pricing.Priced = work()
    except pricing.PricingError as error:
        return None, str(error)
    except Exception as error:
        return None, f"defect: {type(error).__name__}: {error}"
    return priced, ""


def _closed(key: str, held: KeptCdr, bill: BillRecord) -> SessionRecord:
    """A session as its CDR says it was."""
    cdr = held.cdr
    total = bill.amounts[0]
    assert total.total == "total_cost"
    return SessionRecord(
        key=key,
        country_code=cdr.country_code,
        party_id=cdr.party_id,
        session_id=cdr.session_id or "",
        status="COMPLETED",
        started_at=bill.started_at,
        ended_at=bill.ended_at,
        kwh=bill.total_energy,
        currency=cdr.currency,
        location_id=bill.location_id,
        evse_uid=bill.evse_uid,
        connector_id=bill.connector_id,
        token_country_code=bill.token_country_code,
        token_party_id=bill.token_party_id,
        token_uid=bill.token_uid,
        contract_id=bill.contract_id,
        auth_method=str(cdr.auth_method),
        cdr_id=cdr.id,
        reported_before_taxes=total.billed_before_taxes,
        reported_after_taxes=total.billed_after_taxes,
        price_before_taxes=total.priced_before_taxes,
        price_after_taxes=total.priced_after_taxes,
        tariffs=bill.tariffs,
        warnings=bill.warnings,
        last_updated=bill.last_updated,
        received_at=bill.received_at,
        event_id=bill.event_id,
        periods=_periods(cdr.charging_periods, cdr.start_date_time, cdr.end_date_time, cdr.total_energy),
        invalid_candidate=False,
    )


def _periods(
    periods: Iterable[ChargingPeriod], start: datetime, end: datetime, kwh: Decimal
) -> list[PeriodRecord]:
    """Charging periods in order, each to the next one's start; one for the whole session if there is none."""
    ordered = sorted(periods, key=lambda one: one.start_date_time)
    if not ordered:
        return [_period(micros(start), micros(end), kwh, kwh > 0, None)]
    ends = [micros(one.start_date_time) for one in ordered[1:]] + [micros(end)]
    found = []
    for one, until in zip(ordered, ends, strict=True):
        since = micros(one.start_date_time)
        energy, charging = _ZERO, False
        for dimension in one.dimensions:
            if dimension.type == "ENERGY":
                energy += dimension.volume
            elif dimension.type == "TIME":
                charging = True
        found.append(_period(since, max(since, until), energy, charging or energy > 0, one.tariff_id))
    return found


def _period(start: int, end: int, kwh: Decimal, charging: bool, tariff_id: str | None) -> PeriodRecord:
    return PeriodRecord(
        started_at=start, ended_at=end, kwh=quantized(kwh), charging=charging, tariff_id=tariff_id
    )


def _claim(cdr: CDR, bill: BillRecord) -> ClaimRecord:
    """As billed, and as priced; a credit CDR has negative amounts (mod_cdrs, "Credit CDRs")."""
    total = bill.amounts[0]
    before = total.billed_before_taxes or quantized(_ZERO)
    taxes = _taxes(cdr.total_cost)
    return ClaimRecord(
        id=bill.key,
        session_key=bill.session_key,
        creditor=party_key(cdr.country_code, cdr.party_id),
        debtor=party_key(cdr.cdr_token.country_code, cdr.cdr_token.party_id),
        currency=cdr.currency.upper(),
        before_taxes=before,
        taxes=sum((tax.amount for tax in taxes), quantized(_ZERO)),
        credit_of=_credited(cdr) if cdr.credit else None,
        occurred_at=bill.received_at,
        event_id=bill.event_id,
        credit=bill.credit,
        cdr_id=cdr.id,
        session_id=cdr.session_id,
        started_at=bill.started_at,
        ended_at=bill.ended_at,
        kwh=bill.total_energy,
        location_id=bill.location_id,
        token_uid=bill.token_uid,
        contract_id=bill.contract_id,
        billed_taxes=taxes,
        priced_before_taxes=total.priced_before_taxes,
        priced_after_taxes=total.priced_after_taxes,
        verdict=bill.verdict,
        reason=bill.reason,
        tariffs=bill.tariffs,
    )


def _taxes(cost: Price) -> list[TaxRecord]:
    """The taxes of a bill. Versions before 2.3.0 name no percentage: then it is what the amounts say."""
    found = []
    for tax in cost.taxes:
        rate = tax.percentage
        if rate is None and len(cost.taxes) == 1:
            rate = evident_rate(cost.before_taxes, tax.amount)
        rate = None if rate is None else quantized(rate)
        found.append(TaxRecord(name=tax.name, percentage=rate, amount=quantized(tax.amount)))
    return found


def _credited(cdr: CDR) -> str | None:
    """Key of the CDR that a credit CDR credits."""
    reference = cdr.credit_reference_id
    return None if reference is None else object_key(cdr.country_code, cdr.party_id, reference)


def _money(price: Price | None) -> tuple[Decimal | None, Decimal | None]:
    """Before and after taxes, nine places; after is None when taxes are not known."""
    if price is None:
        return None, None
    before = quantized(price.before_taxes)
    if not price.taxes:
        return before, None
    return before, quantized(price.before_taxes + sum((tax.amount for tax in price.taxes), _ZERO))


def _amount(number: Decimal | None) -> Decimal | None:
    return None if number is None else quantized(number)


def _connector(evse_uid: str, connector_id: str) -> str:
    return f"{evse_uid}*{connector_id}".upper()


def _codes(warnings: Iterable[str]) -> list[str]:
    return sorted(set(warnings))
