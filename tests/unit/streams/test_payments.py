"""Payments: from the session fold's charges and the terminals' confirmations to what is wrong with them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.payments import ChargeRecord, PaymentRecord, payment_key
from schemas.records import Event, event_id
from streams.folding import Fact
from streams.payments import PaymentFold
from streams.replay import Memory
from streams.sessions import SessionFold
from tests.unit.streams.books import Books
from tests.unit.streams.talk import TOKEN, TOPICS, Said, at, cdr, session

EXAMPLES = Path(__file__).parents[2] / "data" / "ocpi-examples" / "2.3.0"
PTP = "AT*PAY"
CARD = {
    "country_code": "AT",
    "party_id": "PAY",
    "uid": "one-time-1",
    "type": "AD_HOC_USER",
    "contract_id": "-",
}
REFERENCE = "pp-100100-1948213567"
KEY = payment_key(("AT", "PAY"), REFERENCE)


def priced(amount: float, **changes: Any) -> dict[str, Any]:
    """A price with 20% VAT, as 2.3.0 writes it, given what it is with VAT."""
    with_vat = Decimal(str(amount))
    before = (with_vat / Decimal("1.2")).quantize(Decimal("1e-6"))
    return {
        "before_taxes": float(before),
        "taxes": [{"name": "VAT", "percentage": 20, "amount": float(with_vat - before)}],
        **changes,
    }


def ad_hoc(**changes: Any) -> Said:
    """A session that a card was reserved for."""
    body = session(cdr_token=CARD, authorization_reference=REFERENCE, auth_method="COMMAND", **changes)
    return said("sessions", "PUT", body)


def bill(amount: float, identifier: str = "C1", **changes: Any) -> Said:
    """Its CDR, with an invoice of the operator's."""
    body = cdr(
        id=identifier,
        **{
            "cdr_token": CARD,
            "authorization_reference": REFERENCE,
            "auth_method": "COMMAND",
            "invoice_reference_id": "INV-1",
            "total_cost": priced(amount),
            "tariffs": [reserving()],
        }
        | changes,
    )
    return said("cdrs", "POST", body)


def reserving(amount: float | None = 60) -> dict[str, Any]:
    """A tariff that asks for an amount to be reserved."""
    found = {
        "country_code": "NL", "party_id": "TNM", "id": "T1", "currency": "EUR", "tax_included": "NO",
        "elements": [{"price_components": [{"type": "ENERGY", "price": 0.5, "vat": 20, "step_size": 1}]}],
        "last_updated": "2024-01-01T00:00:00Z",
    }  # fmt: skip
    return found if amount is None else found | {"preauthorize_amount": amount}


def said(module: str, method: str, body: dict[str, Any]) -> Said:
    """In 2.3.0."""
    found = Said(module, method, body, 1 + len(json.dumps(body)))
    found.event.version = "2.3.0"
    return found


def confirmed(amount: float, status: str = "SUCCESS", identifier: str = "F1", **changes: Any) -> Fact:
    """A Financial Advice Confirmation, as it stands in the payments topic."""
    body = json.dumps(
        {
            "id": identifier,
            "authorization_reference": REFERENCE,
            "total_costs": priced(amount),
            "currency": "EUR",
            "eft_data": ["Mastercard"],
            "capture_status_code": status,
            "last_updated": at("12:10:00"),
        }
        | changes
    ).encode()
    return told("confirmations", ["AT", "PAY", identifier], body)


def requested() -> Fact:
    """A StartSession with the reference."""
    token = {"issuer": "Pay", "valid": True, "whitelist": "NEVER", "last_updated": at("09:00:00"), **CARD}
    start = {
        "response_url": "https://ptp.example/1", "token": token, "location_id": "L1", "evse_uid": "E1",
        "authorization_reference": REFERENCE,
    }  # fmt: skip
    return told("authorizations", ["START_SESSION"], json.dumps(start).encode())


def told(module: str, path: list[str], body: bytes, key: str = KEY) -> Fact:
    """An event in the payments topic."""
    event = Event(
        id=event_id(PTP, module, "POST", path, body),
        received_at=100 + len(body),
        sender=PTP,
        version="2.3.0",
        module=module,
        method="POST",
        key=key,
        path=path,
        request_id=None,
        correlation_id=None,
        body=body,
    )
    return Fact(TOPICS.payments.name, 0, 0, key.encode(), event.encode())


def charged(*sayings: Said, cuts: Iterable[int] = ()) -> list[Fact]:
    """What the session fold tells the payments of these."""
    fold = Memory(SessionFold(TOPICS))
    facts = [Fact(TOPICS.sessions.name, 0, i, *one.record()) for i, one in enumerate(sayings)]
    places = sorted({0, len(facts), *(cut for cut in cuts if 0 < cut < len(facts))})
    outputs = [one for start, end in itertools.pairwise(places) for one in fold(facts[start:end])]
    name = TOPICS.payments.name
    return [Fact(name, 0, i, one.key, one.value) for i, one in enumerate(outputs) if one.topic == name]


def payments(*facts: Fact, cuts: Iterable[int] = ()) -> dict[str, PaymentRecord]:
    """The latest record of each payment."""
    fold = Memory(PaymentFold(TOPICS))
    places = sorted({0, len(facts), *(cut for cut in cuts if 0 < cut < len(facts))})
    found = {}
    for start, end in itertools.pairwise(places):
        for one in fold(list(facts[start:end])):
            if one.topic != TOPICS.ledger.name:
                assert one.topic == TOPICS.payment_states.name, one
                found[one.key.decode()] = PaymentRecord.decode(one.value or b"")
    return found


def payment(*facts: Fact) -> PaymentRecord:
    """The one payment that these make."""
    found = payments(*facts)
    assert list(found) == [KEY]
    return found[KEY]


def test_a_payment_from_its_request_to_its_capture() -> None:
    """mod_payments, "Transaction": reference, session, CDR with an invoice, capture."""
    running = charged(ad_hoc(total_cost=priced(3)))
    final = charged(ad_hoc(total_cost=priced(3)), bill(12))
    found = payment(requested())
    assert (found.kind, found.status, found.due) == ("card", "requested", None)
    assert (found.provider, found.reference, found.location_id) == (PTP, REFERENCE, "L1")
    found = payment(requested(), *running)
    assert (found.status, found.operator, found.session_id) == ("charging", "NL*TNM", "S1")
    found = payment(requested(), *running, *final)
    assert (found.status, found.due, found.captured) == ("awaiting_capture", 12, 0)
    assert (found.preauthorized, found.invoice_by, found.invoice_reference_id) == (60, "CPO", "INV-1")
    found = payment(requested(), *running, *final, confirmed(12))
    assert (found.status, found.issues, found.due, found.captured) == ("matched", [], 12, 12)
    assert found.difference == 0
    assert [(one.id, one.status, one.amount) for one in found.captures] == [("F1", "SUCCESS", 12)]


def test_a_capture_is_a_receipt_in_the_books_and_told_again_when_it_changes() -> None:
    """Whatever the batches: the last one counts."""
    facts = [
        *charged(ad_hoc(), bill(12)),
        confirmed(12, "FAILED"),
        confirmed(10, last_updated=at("12:11:00")),
    ]
    facts.append(confirmed(12, last_updated=at("12:12:00")))
    for cuts in ((), (2, 3), (1, 2, 3, 4)):
        fold, books = Memory(PaymentFold(TOPICS)), Books(TOPICS)
        places = sorted({0, len(facts), *(cut for cut in cuts if cut < len(facts))})
        for start, end in itertools.pairwise(places):
            told = [one for one in fold(facts[start:end]) if one.topic == TOPICS.ledger.name]
            books.fold([Fact(one.topic, 0, 0, one.key, one.value) for one in told])
        assert books.refused == []
        assert [(one.amount, one.source, one.outcome) for one in books.receipts.values()] == [
            (12, "card", "on_account")
        ]
        assert books.owed("NL*TNM", PTP) == -12


@pytest.mark.parametrize(
    ("cost", "captures", "status", "issues", "difference"),
    [
        (12, [(12, "SUCCESS")], "matched", [], 0),
        (12, [(12, "PARTIAL_SUCCESS")], "matched", [], 0),
        (12, [(10, "PARTIAL_SUCCESS")], "partial", ["partial"], -2),
        (12, [(10, "PARTIAL_SUCCESS"), (2, "SUCCESS")], "matched", [], 0),
        (12, [(12, "FAILED")], "failed", ["failed"], -12),
        (12, [(0, "FAILED"), (12, "SUCCESS")], "matched", [], 0),
        (12, [(13, "SUCCESS")], "overcaptured", ["overcaptured"], 1),
        (12, [(61, "SUCCESS")], "exceeds_authorization", ["exceeds_authorization", "overcaptured"], 49),
        (70, [(60, "SUCCESS")], "partial", ["partial", "over_limit"], -10),
        (70, [(70, "SUCCESS")], "exceeds_authorization", ["exceeds_authorization", "over_limit"], 0),
        (70, [], "awaiting_capture", ["over_limit"], -70),
        (0, [], "free", [], 0),
        (0, [(1, "SUCCESS")], "overcaptured", ["overcaptured"], 1),
        (12.004, [(12, "SUCCESS")], "matched", [], 0),
    ],
)
def test_what_is_wrong_with_a_payment(
    cost: float, captures: list[tuple[float, str]], status: str, issues: list[str], difference: int
) -> None:
    made = [confirmed(amount, code, f"F{i}") for i, (amount, code) in enumerate(captures)]
    found = payment(*charged(ad_hoc(), bill(cost)), *made)
    assert (found.status, found.issues, found.difference) == (status, issues, difference)


def test_nobody_confirms_what_the_terminal_provider_invoices() -> None:
    """Without invoice_reference_id the PTP makes the invoice, and owes no confirmation."""
    found = payment(*charged(bill(12, invoice_reference_id=None)))
    assert (found.status, found.invoice_by, found.due) == ("unreported", "PTP", 12)
    assert payment(*charged(bill(12, invoice_reference_id=None)), confirmed(12)).status == "matched"


def test_a_capture_without_a_cdr() -> None:
    found = payment(confirmed(12))
    assert (found.status, found.due, found.captured, found.operator) == ("no_cdr", None, 12, None)
    assert payment(confirmed(12, "FAILED")).status == "failed"
    found = payment(*charged(ad_hoc(status="COMPLETED", end_date_time=at("11:00:00"))))
    assert found.status == "awaiting_cdr"


def test_currencies_are_never_mixed() -> None:
    found = payment(*charged(bill(12)), confirmed(12, currency="CHF"))
    assert (found.status, found.captured) == ("wrong_currency", 0)
    assert "failed" in found.issues


def test_a_credit_is_taken_off() -> None:
    back = bill(-12, "C2", credit=True, credit_reference_id="C1")
    found = payment(*charged(bill(12), back))
    assert (found.kind, found.status, found.due) == ("free", "free", 0)
    assert found.cdrs == ["NL*TNM*C1", "NL*TNM*C2"]
    found = payment(*charged(bill(12), back, bill(10, "C3")), confirmed(12))
    assert (found.status, found.due, found.difference, found.cdr_id) == ("overcaptured", 10, 2, "C3")


def test_a_newer_confirmation_replaces_an_older_one() -> None:
    failed = confirmed(12, "FAILED")
    done = confirmed(12, last_updated=at("12:20:00"))
    for order in itertools.permutations([*charged(bill(12)), failed, done, failed]):
        assert payment(*order).status == "matched"


def test_kinds_of_payment_live_side_by_side() -> None:
    """A roaming contract, an app's token, a card, and nothing to pay; all with a reference."""
    app = {**TOKEN, "type": "APP_USER", "uid": "APP1"}
    said_ = [
        bill(12, "C1", session_id="S1"),
        bill(12, "C2", session_id="S2", cdr_token=TOKEN),
        bill(12, "C3", session_id="S3", cdr_token=app, authorization_reference="app-1"),
        bill(0, "C4", session_id="S4", authorization_reference="free-1"),
        bill(12, "C5", session_id="S5", authorization_reference=None),
    ]
    found = payments(*[fact for one in said_ for fact in charged(one)])
    assert {key: (one.kind, one.status) for key, one in found.items()} == {
        KEY: ("card", "awaiting_capture"),
        f"DE*EMS*{REFERENCE}".upper(): ("contract", "by_contract"),
        "DE*EMS*APP-1": ("app", "by_contract"),
        "AT*PAY*FREE-1": ("free", "free"),
    }


def test_a_reference_that_changes_leaves_nothing_behind() -> None:
    """mod_sessions: of different references the last one counts. However batches are cut, that is all."""
    other = session(
        cdr_token=CARD, authorization_reference="other", last_updated=at("11:10:00"), status="ACTIVE"
    )
    talk = [ad_hoc(), said("sessions", "PUT", other)]
    for cuts in ([], [1]):
        found = payments(*charged(*talk, cuts=cuts))
        assert {key: one.status for key, one in found.items()} == {
            KEY: "unreferenced", "AT*PAY*OTHER": "charging",
        }  # fmt: skip
        found = payments(*charged(*talk, bill(12), cuts=cuts))
        assert {key: one.status for key, one in found.items()} == {
            KEY: "awaiting_capture", "AT*PAY*OTHER": "unreferenced",
        }  # fmt: skip


@pytest.mark.parametrize("name", ["create", "example_success", "example_failure"])
def test_the_specification_s_confirmations_are_folded(name: str) -> None:
    body = (EXAMPLES / f"payment_financial_advice_confirmation_{name}.json").read_bytes()
    path = ["AT", "PAY", json.loads(body)["id"]]
    found = payment(told("confirmations", path, body), *charged(bill(4.4)))
    if name == "example_failure":
        assert (found.status, found.captured) == ("failed", 0)
    else:
        assert (found.status, found.captured) == ("matched", Decimal("4.4"))


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (Fact("t", 0, 0, b"K", b"nonsense"), "unreadable"),
        (Fact("t", 0, 0, b"K", None), "unreadable"),
        (told("confirmations", ["AT", "PAY", "F"], b"{}"), "invalid_object"),
        (told("terminals", ["AT", "PAY", "T"], b"{}"), "unknown_module"),
        (told("sessions", ["NL", "TNM", "S"], b"{}"), "unknown_module"),
    ],
)
def test_what_cannot_be_folded_is_kept_with_its_reason(fact: Fact, reason: str) -> None:
    (output,) = Memory(PaymentFold(TOPICS))([fact])
    assert output.topic == TOPICS.quarantine.name
    assert reason.encode() in (output.value or b"")


_news = st.permutations(range(7))


@given(_news, st.lists(st.integers(0, 12), max_size=5), st.lists(st.integers(0, 4), max_size=3))
@settings(max_examples=100, deadline=None)
def test_neither_order_nor_batches_show(
    order: Sequence[int], cuts: list[int], session_cuts: list[int]
) -> None:
    """Charges of one partition come in their order, confirmations and requests at any place between."""
    talk = [
        ad_hoc(total_cost=priced(3)),
        ad_hoc(total_cost=priced(5), last_updated=at("11:30:00")),
        bill(12),
        bill(-12, "C2", credit=True, credit_reference_id="C1", last_updated=at("13:00:00")),
        bill(11, "C3", last_updated=at("13:00:01")),
    ]
    charges = charged(*talk, cuts=session_cuts)
    others = [
        requested(),
        confirmed(12, "FAILED", "F1"),
        confirmed(5, "PARTIAL_SUCCESS", "F2"),
        confirmed(6, "SUCCESS", "F3"),
        confirmed(6, "SUCCESS", "F3"),
    ]
    # Two places are for charges, which keep their order.
    half = len(charges) // 2
    groups: list[list[Fact]] = [charges[:half], charges[half:], *([one] for one in others)]
    places = list(order)
    first, second = sorted((places.index(0), places.index(1)))
    places[first], places[second] = 0, 1
    facts = [fact for place in places for fact in groups[place]]
    found = payments(*facts, cuts=cuts)
    assert found == payments(*charged(*talk), *others)
    assert (found[KEY].status, found[KEY].due, found[KEY].captured) == ("matched", 11, 11)


def test_a_charge_is_written_and_read() -> None:
    (fact,) = charged(bill(12))
    charge = ChargeRecord.decode(fact.value or b"")
    assert (charge.payment, charge.after_taxes, charge.preauthorized) == (KEY, 12, 60)
    assert (charge.operator, charge.provider, charge.token_type) == ("NL*TNM", PTP, "AD_HOC_USER")
    assert ChargeRecord.decode(charge.encode()) == charge
