"""Invoices against the books: every seeded difference is found, and no right CDR accused."""

from __future__ import annotations

import json
import random
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import ClaimRecord, Event
from schemas.settlement import ReconciliationRecord
from tests.unit.streams.books import EMSP, Books, claim, close, credit, decide, invoice, policy

MARCH, APRIL = "NLTNM-DEEMS-EUR-202603", "NLTNM-DEEMS-EUR-202604"


def differences(found: ReconciliationRecord) -> dict[str, str]:
    return {one.cdr_id: one.outcome for one in found.differences}


def month(count: int = 4) -> list[ClaimRecord]:
    return [claim(f"C{number}", str(number + 1)) for number in range(count)]


@pytest.mark.parametrize("owner", ["NL*TNM", EMSP])
def test_an_invoice_that_is_right(owner: str) -> None:
    books = Books().hear(*month(), close(MARCH), invoice(["C0", "c1", "C2", "C3"], owner=owner))
    found = books.invoices["INV-1"]
    assert (found.status, found.matched, found.statement, found.currency) == ("matched", 4, MARCH, "EUR")
    assert found.amount == Decimal("12.1")
    assert found.billing == ("direct" if owner == "NL*TNM" else "reverse")


def test_every_kind_of_difference_is_found() -> None:
    books = Books().hear(policy("within_tolerance"), *month(6), claim("LATE", on="2026-04-03T10:00"))
    books.hear(claim("HELD", "12", priced="9"), claim("FRANCS", currency="CHF"))
    books.hear(credit(claim("C5", "6")), close(MARCH), invoice(["C4"], "INV-0", on="2026-04-02"))
    books.hear(invoice(["C0", "C1", "C4", "C5", "LATE", "HELD", "FRANCS", "NOBODY", "C1"]))
    assert differences(books.invoices["INV-1"]) == {
        "C1": "already_invoiced",
        "C2": "missing",
        "C3": "missing",
        "C4": "already_invoiced",
        "C5": "credited",
        "LATE": "extra",
        "HELD": "different_amount",
        "FRANCS": "wrong_currency",
        "NOBODY": "extra",
    }
    assert books.invoices["INV-1"].matched == 1


def test_a_cdr_and_its_credit_may_both_be_on_an_invoice_or_both_be_left_out() -> None:
    one, two = claim("C1"), claim("C2")
    books = Books().hear(one, two, credit(one), close(MARCH))
    books.hear(invoice(["C2", "C1", "C1-CREDIT"], "WITH"))
    assert (books.invoices["WITH"].status, books.invoices["WITH"].amount) == ("matched", Decimal("12.1"))
    other = Books().hear(one, two, credit(one), close(MARCH), invoice(["C2"], "WITHOUT"))
    assert other.invoices["WITHOUT"].status == "matched"


def test_a_credit_of_what_an_earlier_invoice_had_is_missed() -> None:
    one, two = claim("C1"), claim("C2", on="2026-04-02T10:00")
    books = Books().hear(one, two, close(MARCH), invoice(["C1"], "I-3"), credit(one), close(APRIL))
    books.hear(invoice(["C2"], "I-4"), invoice(["C2", "C1-CREDIT"], "I-5", on="2026-04-09"))
    assert books.invoices["I-3"].status == "matched", "it was right when it was made"
    assert differences(books.invoices["I-4"]) == {"C1-CREDIT": "missing"}
    assert differences(books.invoices["I-5"]) == {"C2": "already_invoiced"}


def test_an_invoice_is_held_against_the_books_again_when_they_change() -> None:
    held = claim("C1", "12", priced="9")
    books = Books().hear(policy("within_tolerance"), invoice(["C0", "C1"], on="2026-03-20"))
    assert differences(books.invoices["INV-1"]) == {"C0": "extra", "C1": "extra"}
    books.hear(claim("C0"), held)
    assert differences(books.invoices["INV-1"]) == {"C1": "different_amount"}
    books.hear(decide(held.id, "accept", "2026-03-21"))
    assert books.invoices["INV-1"].status == "matched"
    books.hear(claim("C2"))
    assert differences(books.invoices["INV-1"]) == {"C2": "missing"}


def test_an_invoice_in_two_records_is_one_invoice() -> None:
    books = Books().hear(*month(), close(MARCH))
    books.hear(invoice(["C0", "C1"], record="R1"), invoice(["C2", "C3"], record="R2"))
    found = [ReconciliationRecord.decode(value) for (topic, _), value in books.latest.items()
             if topic == books.topics.reconciliations.name and value]  # fmt: skip
    assert [one.status for one in found] == ["matched", "matched"]


def test_records_are_updated_and_deleted() -> None:
    books = Books().hear(*month(), close(MARCH), invoice(["C0", "C1", "C2"]))
    assert differences(books.invoices["INV-1"]) == {"C3": "missing"}
    books.hear(invoice(["C0", "C1", "C2", "C3"], on="2026-04-06", method="PUT"))
    assert books.invoices["INV-1"].status == "matched"
    books.hear(invoice(["C0"], on="2026-04-01", method="PUT"))
    assert books.invoices["INV-1"].matched == 4, "an older one changes nothing"
    books.hear(invoice(["C0", "C1", "C2", "C3"], "INV-2", on="2026-04-07"))
    assert set(differences(books.invoices["INV-2"]).values()) == {"already_invoiced"}
    books.hear(invoice([], on="2026-04-08", method="DELETE"))
    assert books.invoices["INV-1"].status == "deleted"
    assert books.invoices["INV-2"].status == "matched"


@pytest.mark.parametrize(("issue", "owner"), [("direct", "NL*TNM"), ("reverse", "DE*EMS")])
def test_a_closed_statement_is_issued_as_a_record(issue: str, owner: str) -> None:
    books = Books().hear(policy(issue=issue), *month(), credit(claim("C3", "4")), close(MARCH), close(MARCH))
    issued = [
        Event.decode(one.value or b"") for one in books.outputs if one.topic == books.topics.ledger.name
    ]
    (event,) = issued
    body = json.loads(event.body)
    assert (event.module, event.method, event.sender) == ("invoicereconciliation", "POST", "voltfold")
    assert f"{body['country_code']}*{body['party_id']}" == owner
    assert (body["id"], body["invoice_id"]) == (MARCH, MARCH)
    assert body["cdrs"] == ["C0", "C1", "C2", "C3", "C3-CREDIT"]
    assert body["last_updated"] == "2026-05-01T00:00:00Z"
    found = books.invoices[MARCH]
    assert (found.status, found.issued, found.statement) == ("matched", True, MARCH)


def test_what_is_no_invoice_of_this_pair_goes_to_quarantine() -> None:
    books = Books().hear(invoice(["C0"], owner="BE*BEC"), invoice([], "X", method="DELETE"))
    assert [reason for reason, _ in books.refused] == ["wrong_pair", "unknown_object"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9))
def test_seeded_differences_are_all_found_and_nothing_else(seed: int) -> None:
    chance = random.Random(seed)
    told = [claim(f"C{number}", str(chance.randint(1, 500) / 10), priced=None) for number in range(40)]
    listed = [one.cdr_id for one in told]
    chance.shuffle(listed)
    names = iter(listed)
    missing, credited, rejected, before, foreign = (
        [next(names) for _ in range(chance.randint(0, 3))] for _ in range(5)
    )
    expected = (
        dict.fromkeys(missing, "missing")
        | dict.fromkeys(credited, "credited")
        | dict.fromkeys(rejected, "different_amount")
        | dict.fromkeys(before, "already_invoiced")
        | dict.fromkeys(foreign, "wrong_currency")
        | {"NOBODY": "extra"}
    )
    francs = [msgspec.structs.replace(one, currency="CHF") if one.cdr_id in foreign else one for one in told]
    books = Books().hear(*francs)
    books.hear(*(credit(one) for one in francs if one.cdr_id in credited))
    books.hear(*(decide(f"NL*TNM*{name}", "reject", "2026-03-30") for name in rejected))
    books.hear(close(MARCH))
    if before:
        books.hear(invoice(before, "INV-0", on="2026-04-01"))
    books.hear(invoice([*(one for one in listed if one not in missing), "NOBODY"]))
    found = books.invoices["INV-1"]
    assert differences(found) == expected
    assert found.matched == 40 - len(expected) + 1
