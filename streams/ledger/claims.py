"""Claims, and what is said about them: what ought to be posted for each and is not in the books yet."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.currencies import is_known
from schemas.records import (
    ClaimRecord,
    EntryRecord,
    Event,
    quantized,
)
from schemas.settlement import (
    ISSUES,
    MODES,
    PERIODS,
    Decision,
    Fee,
    FeeRecord,
    Policy,
    PolicyRecord,
    SettledRecord,
    pair_key,
)
from streams import index
from streams.folding import Output
from streams.ledger import posting
from streams.ledger.invoices import Invoices
from streams.ledger.periods import zone_of
from streams.ledger.settling import (
    NOTHING,
    POSTED,
    ZERO,
    Amount,
    Chain,
    Target,
    billed,
    fee_of,
    settle,
    standing,
)
from streams.ledger.state import (
    CHUNK,
    CLAIMS,
    COUNTS,
    MATCHED,
    MEMBERS,
    POLICIES,
    SESSIONS,
    KeptClaim,
    KeptDecision,
    Posted,
    body,
    digest_of,
    held_to,
)
from streams.quarantine import RefusedError
from streams.versions import add_version


class Claims(Invoices):
    """Takes claims, decisions and policies in."""

    def _take_claim(self, claim: ClaimRecord) -> None:
        kept = self.table.read(CLAIMS, claim.id)
        known = kept.claim
        kept.claim = claim
        self.table.write(CLAIMS, claim.id, kept)
        root = claim.id
        if claim.credit and claim.credit_of:
            root = claim.credit_of
            original = self.table.read(CLAIMS, root)
            if claim.id not in original.credits:
                original.credits = [*original.credits, claim.id]
                self.table.write(CLAIMS, root, original)
        if known is None:
            index.add(self.table, f"{claim.creditor}>{claim.debtor}", claim.ended_at, root)
            if not claim.credit and claim.session_id and claim.kind == "cdr":
                twins = self.table.read(SESSIONS, claim.session_key)
                twins.append(claim.id)
                self.table.write(SESSIONS, claim.session_key, twins)
        self._settle_all(root, None)

    def _take_decision(self, event: Event, pair: str) -> None:
        decision = body(event, Decision)
        if decision.verdict not in ("accept", "reject"):
            raise RefusedError("invalid_object", f"{decision.verdict!r} is neither accept nor reject")
        held_to(pair, decision.creditor, decision.debtor)
        kept = self.table.read(CLAIMS, decision.claim)
        if kept.claim is not None and (kept.claim.creditor, kept.claim.debtor) != (
            *(decision.creditor, decision.debtor),
        ):
            raise RefusedError("wrong_pair", f"{decision.claim} is of other parties")
        before = kept.decided
        if before is not None and (before.at, before.event_id) >= (event.received_at, event.id):
            return
        kept.decided = KeptDecision(event.received_at, event.id, decision)
        self.table.write(CLAIMS, decision.claim, kept)
        if kept.claim is not None:
            self._settle_all(kept.claim.credit_of or decision.claim, event.id)

    def _take_policy(self, event: Event, pair: str) -> None:
        policy = body(event, Policy)
        held_to(pair, policy.creditor, policy.debtor)
        _check(policy)
        direction = f"{policy.creditor}>{policy.debtor}"
        kept = self.table.read(POLICIES, direction)
        if not add_version(kept.versions, policy.since, event.received_at, policy):
            return
        self.table.write(POLICIES, direction, kept)
        record = _policy_record(policy, event)
        self.outputs.append(
            Output(self.topics.policies.name, f"{direction}>{policy.since}".encode(), record.encode())
        )
        for root in dict.fromkeys(index.dependents(self.table, direction, policy.since)):
            self._settle_all(root, event.id)

    def _settle_all(self, root: str, cause: bytes | None) -> None:
        """Bring the books in line for a chain, and for the other CDRs of its session."""
        original = self.table.read(CLAIMS, root).claim
        roots = [root]
        if original is not None and not original.credit and original.session_id and original.kind == "cdr":
            roots = self.table.read(SESSIONS, original.session_key)
        for one in roots:
            self._settle(one, cause)

    def _settle(self, root: str, cause: bytes | None) -> None:
        chain = self._chain(root)
        of = chain.original or next(iter(chain.credits), None)
        if of is None:
            return
        policy = self._policy(of.creditor, of.debtor, of.ended_at)
        targets = settle(chain, policy)
        left = sum((one.amount.gross for one in targets.values()), ZERO)
        if chain.original is not None and left < 0 <= billed(chain.original).gross:
            raise AssertionError(f"more of {root} would be credited than it was settled by")
        for claim_id, target in targets.items():
            self._apply(claim_id, target, cause, chain)
        if chain.original is not None and chain.original.kind == "cdr":
            self._claim_fees(root, chain.original, policy.fees, targets)

    def _chain(self, root: str) -> Chain:
        kept = self.table.read(CLAIMS, root)
        ids = list(kept.credits)
        original = kept.claim
        if original is not None and original.credit:
            if not original.credit_of:
                ids.insert(0, root)
            original = None
        decisions = {}
        refunds = []
        for one in ids:
            found = self.table.read(CLAIMS, one)
            if found.claim is not None:
                refunds.append(found.claim)
                if found.decided is not None:
                    decisions[one] = found.decided.decision
        if kept.decided is not None:
            decisions[root] = kept.decided.decision
        refunds.sort(key=lambda one: (one.occurred_at, one.id))
        return Chain(original, refunds, decisions, self._earlier(original))

    def _earlier(self, claim: ClaimRecord | None) -> str | None:
        """Another CDR of the same session and parties that stands, received before this one."""
        if claim is None or not claim.session_id or claim.kind != "cdr":
            return None
        twins = self.table.read(SESSIONS, claim.session_key)
        if len(twins) < 2:
            return None
        for one in sorted(twins):
            kept = self.table.read(CLAIMS, one)
            other = kept.claim
            if other is None or one == claim.id or other.debtor != claim.debtor:
                continue
            if (other.occurred_at, other.id) > (claim.occurred_at, claim.id):
                continue
            if kept.decided is not None and kept.decided.decision.verdict == "reject":
                continue
            refunds = [found for name in kept.credits if (found := self.table.read(CLAIMS, name).claim)]
            if standing(other, sorted(refunds, key=lambda found: (found.occurred_at, found.id))):
                return one
        return None

    def _apply(self, claim_id: str, target: Target, cause: bytes | None, chain: Chain) -> None:
        """Post what is missing between what stands in the books for a claim and what ought to."""
        kept = self.table.read(CLAIMS, claim_id)
        claim = kept.claim
        assert claim is not None
        posted = kept.posted
        wanted = target.amount if target.status == POSTED else None
        if posted is not None and (wanted is None or posted.amount != wanted):
            self._post(
                kept, claim, NOTHING.plus(posted.amount, -1), "correction", target, cause, posted.entry
            )
            kept.posted = None
        if wanted is not None and kept.posted is None:
            kind = "correction" if kept.entries else _kind(claim)
            entry = self._post(kept, claim, wanted, kind, target, cause, None)
            kept.posted = Posted(entry.id, entry.before_taxes, entry.taxes)
        changed = (kept.status, kept.reason) != (target.status, target.reason)
        kept.status, kept.reason = target.status, target.reason
        record = _settled_record(kept, claim, target, chain)
        if self._emit(self.topics.settled_claims.name, claim_id, record, kept) or changed:
            self._touch(claim_id)
        self.table.write(CLAIMS, claim_id, kept)

    def _post(
        self,
        kept: KeptClaim,
        claim: ClaimRecord,
        amount: Amount,
        kind: str,
        target: Target,
        cause: bytes | None,
        reverses: str | None,
    ) -> EntryRecord:
        name, book = self._book(claim.creditor, claim.debtor, claim.currency)
        statement, late = self._period(book, claim.creditor, claim.debtor, claim.currency, claim.ended_at)
        entry = posting.entry_of(
            claim,
            amount,
            kind=kind,
            basis=target.basis,
            number=kept.entries + 1,
            sequence=book.sequence + 1,
            statement=statement,
            late=late,
            event_id=cause or claim.event_id,
            reverses=reverses,
        )
        self._enter(name, book, entry)
        kept.entries += 1
        kept.last = statement
        if kept.first is None:
            kept.first = statement
            count = self.table.read(COUNTS, statement)
            chunk = self.table.read(MEMBERS, f"{statement}\0{count // CHUNK}")
            if claim.kind == "cdr":
                chunk.append(claim.id)
                self.table.write(MEMBERS, f"{statement}\0{count // CHUNK}", chunk)
                self.table.write(COUNTS, statement, count + 1)
        for invoice in self.table.find(MATCHED, statement) or ():
            self.dirty[invoice] = None
        return entry

    def _claim_fees(
        self, root: str, original: ClaimRecord, fees: Iterable[Fee], targets: dict[str, Target]
    ) -> None:
        """What the hub takes for it, as claims to the pairs of hub and payer."""
        kept = self.table.read(CLAIMS, root)
        if not fees and not kept.fees:
            return
        settled = NOTHING
        for target in targets.values():
            if target.status == POSTED:
                settled = settled.plus(target.amount)
        wanted = {}
        for fee in fees:
            if fee.currency == original.currency and fee.party != fee.payer:
                claim = fee_of(fee, original, settled)
                wanted[claim.id] = claim
        for claim_id in kept.fees.keys() - wanted.keys():
            party, payer = claim_id.split("#FEE:")[1].split(":")
            none = Fee(currency=original.currency, party=party, payer=payer)
            wanted[claim_id] = fee_of(none, original, NOTHING)
        for claim_id, claim in sorted(wanted.items()):
            value = claim.encode()
            digest = digest_of(value)
            before = kept.fees.get(claim_id)
            if digest == before or (before is None and not claim.before_taxes):
                continue
            kept.fees = {**kept.fees, claim_id: digest}
            self.table.write(CLAIMS, root, kept)
            key = pair_key(claim.creditor, claim.debtor)
            self.outputs.append(Output(self.topics.ledger.name, key.encode(), value))


def _kind(claim: ClaimRecord) -> str:
    return "credit" if claim.credit else claim.kind


def _check(policy: Policy) -> None:
    try:
        zone_of(policy.time_zone)
    except ValueError as error:
        raise RefusedError("invalid_object", str(error)) from None
    for value, known in ((policy.mode, MODES), (policy.period, PERIODS), (policy.issue, ISSUES)):
        if value not in known:
            raise RefusedError("invalid_object", f"{value!r} is none of {', '.join(known)}")
    if policy.tolerance_amount < 0 or policy.tolerance_percent < 0:
        raise RefusedError("invalid_object", "a tolerance is not negative")
    for fee in policy.fees:
        if not is_known(fee.currency):
            raise RefusedError("unknown_currency", f"ISO 4217 has no currency {fee.currency}")


def _policy_record(policy: Policy, event: Event) -> PolicyRecord:
    fees = [
        FeeRecord(
            currency=fee.currency,
            party=fee.party,
            payer=fee.payer,
            fixed=quantized(fee.fixed),
            per_kwh=quantized(fee.per_kwh),
            percent=quantized(fee.percent),
            tax_name=fee.tax_name,
            tax_percentage=quantized(fee.tax_percentage),
        )
        for fee in policy.fees
    ]
    return PolicyRecord(
        creditor=policy.creditor,
        debtor=policy.debtor,
        since=policy.since,
        mode=policy.mode,
        tolerance_amount=quantized(policy.tolerance_amount),
        tolerance_percent=quantized(policy.tolerance_percent),
        period=policy.period,
        time_zone=policy.time_zone,
        issue=policy.issue,
        fees=fees,
        why=policy.why,
        received_at=event.received_at,
        event_id=event.id,
    )


def _settled_record(kept: KeptClaim, claim: ClaimRecord, target: Target, chain: Chain) -> SettledRecord:
    credited = ZERO
    if chain.original is not None and chain.original.id == claim.id:
        credited = sum((-billed(one).gross for one in chain.credits), ZERO)
    decided = kept.decided.decision if kept.decided is not None else None
    settled = target.amount if target.status == POSTED else NOTHING
    return SettledRecord(
        id=claim.id,
        session_key=claim.session_key,
        creditor=claim.creditor,
        debtor=claim.debtor,
        currency=claim.currency,
        kind=_kind(claim),
        credit_of=claim.credit_of,
        status=target.status,
        reason=target.reason,
        message=target.message,
        basis=target.basis,
        billed_before_taxes=claim.before_taxes,
        billed_taxes=claim.taxes,
        priced_before_taxes=claim.priced_before_taxes,
        priced_after_taxes=claim.priced_after_taxes,
        settled_before_taxes=quantized(settled.before),
        settled_taxes=quantized(settled.tax),
        credited=quantized(credited),
        verdict=claim.verdict,
        decision=decided.verdict if decided else None,
        why=decided.why if decided else "",
        statement=kept.last,
        entries=kept.entries,
        ended_at=claim.ended_at,
        occurred_at=claim.occurred_at,
        event_id=claim.event_id,
    )
