"""What of a claim is settled: a function of the claim, its credits, the policy and what a person decided.

    as_billed          what the CDR says
    as_priced          what its tariffs say
    within_tolerance   what the CDR says, if that is near enough to what its tariffs say

What cannot be settled is held, with a stable reason. The order in which claims, credits, decisions and
policies arrived plays no part, so a credit CDR that overtakes the CDR it credits changes nothing in the end.

Credit CDRs (mod_cdrs, "Credit CDRs") belong to their original and are judged with it: none takes back more
than was billed; one that takes back everything leaves nothing, whatever was settled before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from schemas.currencies import is_known
from schemas.records import ClaimRecord, TaxRecord, quantized
from schemas.settlement import Decision, Fee, Policy

ZERO = quantized(Decimal(0))
_CENT = Decimal("0.01")
POSTED, HELD, REJECTED, VOID = "posted", "held", "rejected", "void"

UNKNOWN_CURRENCY = "unknown_currency"
CANNOT_BE_PRICED = "cannot_be_priced"
OUTSIDE_TOLERANCE = "outside_tolerance"
SESSION_BILLED_TWICE = "session_billed_twice"
ORIGINAL_UNKNOWN = "original_unknown"
ORIGINAL_HELD = "original_held"
ORIGINAL_DIFFERS = "original_differs"
NOT_NEGATIVE = "credit_not_negative"
ABOVE_ORIGINAL = "credit_above_original"
CREDITED = "credited"


class Amount(NamedTuple):
    """Money before taxes, and each tax apart; taxes are told by name and percentage."""

    before: Decimal = ZERO
    taxes: Mapping[tuple[str, Decimal | None], Decimal] = {}

    @property
    def tax(self) -> Decimal:
        """All taxes together."""
        return sum(self.taxes.values(), ZERO)

    @property
    def gross(self) -> Decimal:
        """Taxes included."""
        return self.before + self.tax

    def plus(self, other: Amount, sign: int = 1) -> Amount:
        """The sum; with `sign` -1 the difference."""
        taxes = dict(self.taxes)
        for key, amount in other.taxes.items():
            taxes[key] = taxes.get(key, ZERO) + sign * amount
        return Amount(self.before + sign * other.before, {key: one for key, one in taxes.items() if one})

    def is_zero(self) -> bool:
        """Whether nothing is left, of any tax either."""
        return not self.before and not any(self.taxes.values())

    def records(self) -> list[TaxRecord]:
        """The taxes as an entry has them, in a fixed order."""
        order = sorted(self.taxes.items(), key=lambda item: (item[0][0], item[0][1] or ZERO))
        return [TaxRecord(name=name, percentage=rate, amount=quantized(one)) for (name, rate), one in order]


NOTHING = Amount()


class Target(NamedTuple):
    """What ought to be posted for a claim, and why. `reason`: a stable code; `message`: the same in words."""

    status: str
    amount: Amount
    basis: str
    reason: str = ""
    message: str = ""


class Decided(NamedTuple):
    """A person's decision, and when it was taken."""

    at: int
    event_id: bytes
    decision: Decision


class Chain(NamedTuple):
    """A CDR's claim with the claims of its credit CDRs, in the order in which those were received."""

    original: ClaimRecord | None
    credits: Sequence[ClaimRecord]
    decisions: Mapping[str, Decision]
    earlier: str | None = None
    """Another CDR of the same session that stands, received before this one."""


def billed(claim: ClaimRecord) -> Amount:
    """What a claim asks for."""
    return amount_of(claim.before_taxes, claim.billed_taxes, claim.taxes)


def amount_of(before: Decimal, taxes: Iterable[TaxRecord], tax: Decimal = ZERO) -> Amount:
    """An amount from its record; `tax` counts when no tax is named."""
    found: dict[tuple[str, Decimal | None], Decimal] = {}
    for one in taxes:
        key = (one.name, one.percentage)
        found[key] = found.get(key, ZERO) + one.amount
    if not found and tax:
        found["", None] = tax
    return Amount(before, found)


def priced(claim: ClaimRecord) -> Amount | None:
    """What a claim should ask for by its tariffs; None when they cannot say."""
    before, after = claim.priced_before_taxes, claim.priced_after_taxes
    if claim.verdict == CANNOT_BE_PRICED or before is None:
        return None
    if after is None or after == before:
        return Amount(before)
    name = claim.billed_taxes[0].name if claim.billed_taxes else "VAT"
    return Amount(before, {(name, implied_rate(before, after - before)): after - before})


def implied_rate(before: Decimal, tax: Decimal, tolerance: Decimal = Decimal("1e-6")) -> Decimal | None:
    """The percentage, to a hundredth, that makes this tax of that amount; None when none does."""
    if not before:
        return None
    rate = (tax / before * 100).quantize(Decimal("0.01"))
    return quantized(rate) if abs(before * rate / 100 - tax) <= tolerance else None


def evident_rate(before: Decimal, tax: Decimal) -> Decimal | None:
    """The percentage of a tax that an operator rounded: a whole one, or one of a tenth, that alone fits.

    None when the amounts are too small to tell it from the next one.
    """
    exponent = tax.as_tuple().exponent
    unit = Decimal(1).scaleb(max(min(exponent, -2), -9)) if isinstance(exponent, int) else _CENT
    if abs(before) / 100 <= 2 * unit:
        return None
    for step in ("1", "0.1"):
        rate = (tax / before * 100).quantize(Decimal(step))
        if abs(before * rate / 100 - tax) <= unit:
            return rate
    return None


def settle(chain: Chain, policy: Policy) -> dict[str, Target]:
    """What ought to be posted for each claim of a chain, by claim id."""
    original = chain.original
    if original is None:
        return {one.id: _orphan(one, chain) for one in chain.credits}
    found: dict[str, Target] = {}
    sound: list[ClaimRecord] = []
    asked = billed(original)
    left = asked
    for credit in chain.credits:
        decision = chain.decisions.get(credit.id)
        if decision is not None and decision.verdict == "reject":
            found[credit.id] = Target(REJECTED, NOTHING, "rejected", "rejected", decision.why)
            continue
        wrong = _unsound(credit, original, left)
        if wrong:
            found[credit.id] = Target(HELD, NOTHING, policy.mode, *wrong)
            continue
        left = left.plus(billed(credit))
        sound.append(credit)
    base = _base(chain, original, policy, asked if left.is_zero() else left)
    if base.status != POSTED:
        return found | _unposted(original, sound, base, policy, gone=left.is_zero() and bool(sound))
    found[original.id] = base
    ours, theirs = base.amount, asked
    for credit in sound:
        theirs = theirs.plus(billed(credit))
        if base.amount == asked:
            found[credit.id] = Target(POSTED, billed(credit), base.basis)
            continue
        # Settled otherwise than billed: what is left is never more than what the operator still asks for.
        now = NOTHING if theirs.is_zero() else (theirs if theirs.gross < ours.gross else ours)
        change = now.plus(ours, -1)
        ours = now
        if change.is_zero():
            message = "the price already leaves out what it takes back"
            found[credit.id] = Target(VOID, NOTHING, base.basis, "covered_by_price", message)
        else:
            found[credit.id] = Target(POSTED, change, base.basis)
    return found


def standing(claim: ClaimRecord, refunds: Iterable[ClaimRecord]) -> bool:
    """Whether anything of a claim is left when its credits are taken off, as billed."""
    left = billed(claim)
    for credit in refunds:
        if _unsound(credit, claim, left) is None:
            left = left.plus(billed(credit))
    return not left.is_zero()


def _orphan(credit: ClaimRecord, chain: Chain) -> Target:
    decision = chain.decisions.get(credit.id)
    if decision is not None and decision.verdict == "reject":
        return Target(REJECTED, NOTHING, "rejected", "rejected", decision.why)
    message = f"no CDR {credit.credit_of or '(none named)'} is known between these parties"
    return Target(HELD, NOTHING, "", ORIGINAL_UNKNOWN, message)


def _unsound(credit: ClaimRecord, original: ClaimRecord, left: Amount) -> tuple[str, str] | None:
    """Why a credit cannot take back from its original, of which so much is left."""
    if (credit.currency, credit.creditor, credit.debtor) != (
        *(original.currency, original.creditor, original.debtor),
    ):
        return ORIGINAL_DIFFERS, f"{original.id} is of other parties or in {original.currency}"
    asked = billed(credit)
    if asked.before > 0 or asked.tax > 0 or not asked.gross < 0:
        return NOT_NEGATIVE, "the total cost of a credit CDR is negative"
    rest = left.plus(asked)
    if rest.before < 0 or rest.tax < 0:
        return ABOVE_ORIGINAL, f"it takes back {_shown(-asked.gross)}, and {_shown(left.gross)} is left"
    return None


def _base(chain: Chain, original: ClaimRecord, policy: Policy, left: Amount) -> Target:
    """What of the original is settled, by itself; `left`: what its credits leave of what was billed."""
    asked = billed(original)
    if not is_known(original.currency):
        message = f"ISO 4217 has no currency {original.currency}"
        return Target(HELD, NOTHING, policy.mode, UNKNOWN_CURRENCY, message)
    if original.kind == "fee":
        return Target(POSTED, asked, "fee")
    decision = chain.decisions.get(original.id)
    if decision is not None:
        if decision.verdict == "accept":
            return Target(POSTED, asked, "accepted", "accepted", decision.why)
        return Target(REJECTED, NOTHING, "rejected", "rejected", decision.why)
    if policy.mode == "as_billed":
        return Target(POSTED, asked, policy.mode)
    if chain.earlier is not None:
        message = f"CDR {chain.earlier} bills the same session"
        return Target(HELD, NOTHING, policy.mode, SESSION_BILLED_TWICE, message)
    price = priced(original)
    if price is None:
        return Target(HELD, NOTHING, policy.mode, CANNOT_BE_PRICED, original.reason or "no tariff is known")
    if policy.mode == "as_priced":
        return Target(POSTED, price, policy.mode)
    off = _off(left, price, taxed=original.priced_after_taxes is not None and bool(original.billed_taxes))
    allowed = max(policy.tolerance_amount, abs(price.gross) * policy.tolerance_percent / 100)
    if off > allowed:
        message = (
            f"billed {_shown(left.gross)}, priced {_shown(price.gross)} {original.currency} with taxes: "
            f"{_shown(off)} apart, and {_shown(allowed)} is allowed"
        )
        return Target(HELD, NOTHING, policy.mode, OUTSIDE_TOLERANCE, message)
    return Target(POSTED, asked, policy.mode)


def _off(left: Amount, price: Amount, *, taxed: bool) -> Decimal:
    """How far apart two amounts are, before taxes or with them, whichever is more."""
    before = abs(left.before - price.before)
    return max(before, abs(left.gross - price.gross)) if taxed else before


def _unposted(
    original: ClaimRecord, refunds: Sequence[ClaimRecord], base: Target, policy: Policy, *, gone: bool
) -> dict[str, Target]:
    """A chain of which nothing is posted: all of it is void once it has been credited."""
    if base.status == REJECTED or gone:
        if gone and base.status == HELD:
            base = Target(VOID, NOTHING, policy.mode, CREDITED, "credited before it was posted")
        void = Target(VOID, NOTHING, policy.mode, CREDITED, f"{original.id} was never posted")
        return {original.id: base} | {credit.id: void for credit in refunds}
    held = Target(HELD, NOTHING, policy.mode, ORIGINAL_HELD, f"{original.id} is held")
    return {original.id: base} | {credit.id: held for credit in refunds}


def fee_of(fee: Fee, claim: ClaimRecord, settled: Amount) -> ClaimRecord:
    """The hub's claim for a CDR of which so much is settled; nothing settled, nothing claimed."""
    before = ZERO
    if not settled.is_zero():
        before = quantized(fee.fixed + fee.per_kwh * claim.kwh + fee.percent * settled.before / 100)
    tax = quantized(before * fee.tax_percentage / 100)
    taxes = []
    if tax:
        taxes = [TaxRecord(name=fee.tax_name, percentage=quantized(fee.tax_percentage), amount=tax)]
    return ClaimRecord(
        id=f"{claim.id}#FEE:{fee.party}:{fee.payer}",
        session_key=claim.session_key,
        creditor=fee.party,
        debtor=fee.payer,
        currency=claim.currency,
        before_taxes=before,
        taxes=tax if taxes else ZERO,
        credit_of=None,
        occurred_at=claim.occurred_at,
        event_id=claim.event_id,
        kind="fee",
        cdr_id=claim.cdr_id,
        session_id=claim.session_id,
        started_at=claim.started_at,
        ended_at=claim.ended_at,
        kwh=claim.kwh,
        location_id=claim.location_id,
        token_uid=claim.token_uid,
        contract_id=claim.contract_id,
        billed_taxes=taxes,
    )


def _shown(amount: Decimal) -> str:
    text = f"{amount:.9f}".rstrip("0")
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction:0<2}"
