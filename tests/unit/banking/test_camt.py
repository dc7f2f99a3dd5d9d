"""camt.053 and camt.054: each booked credit once, whatever the version, and nothing from a hostile file."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.banking import camt
from streams.banking.camt import CamtError, read
from tests.unit.banking.files import ACCOUNT, booked, document, transaction

MESSAGES = [f"camt.{kind}.001.{number:02}" for kind in ("053", "054") for number in range(2, 14)]


@pytest.mark.parametrize("message", MESSAGES)
def test_every_version(message: str) -> None:
    """All of them say the same."""
    old = message.endswith(".02")
    details = transaction("100.00", text="NLTNM-DEEMS-EUR-202603", end_to_end="E2E-1", old=old)
    (found,) = read(document([booked("100.00", details, old=old)], message))
    assert (found.amount, found.currency, found.message) == (Decimal("100.00"), "EUR", message)
    assert (found.account, found.servicer_reference, found.end_to_end_id) == (ACCOUNT, "BANK-1", "E2E-1")
    assert (found.booked_on, found.value_on) == (date(2026, 4, 10), date(2026, 4, 10))
    assert (found.payer, found.payer_account) == ("Provider GmbH", "DE89370400440532013000")
    assert found.remittance == ("NLTNM-DEEMS-EUR-202603",)


def test_a_notification_and_the_statement_are_one_payment() -> None:
    """The account servicer's reference makes the id; another account's is another payment."""
    entry = booked("100.00", transaction("100.00", text="one"))
    notified = read(document([entry], "camt.054.001.02"))
    stated = read(document([booked("100.00", transaction("100.00", text="other words"))]))
    assert [one.id for one in notified] == [one.id for one in stated]
    other = read(document([entry], account="DE89370400440532013000"))
    assert other[0].id != notified[0].id


def test_a_batch_is_each_of_its_transactions() -> None:
    """Told apart by their own references, else by what the payers gave."""
    batch = booked(
        "60.00",
        transaction("10.00", reference="T1"),
        transaction("20.00", end_to_end="E2"),
        transaction("30.00", end_to_end="E3"),
    )
    found = read(document([batch]))
    assert [one.amount for one in found] == [10, 20, 30]
    assert len({one.id for one in found}) == 3
    assert [one.id for one in read(document([batch]))] == [one.id for one in found]


def test_a_batch_that_does_not_say_what_is_whose_is_one() -> None:
    """With the amount of the entry."""
    (found,) = read(document([booked("60.00", transaction(None), transaction("20.00"))]))
    assert (found.amount, found.remittance) == (60, ())


def test_without_any_reference() -> None:
    """Two that are alike are two, and the same two in the next file."""
    entry = booked("5.00", transaction("5.00", text="thanks"), reference=None)
    first = read(document([entry, entry, booked("6.00", reference=None)]))
    assert len({one.id for one in first}) == 3
    assert [one.id for one in read(document([entry, entry, booked("6.00", reference=None)]))] == [
        one.id for one in first
    ]
    assert read(document([entry]))[0].id == first[0].id


def test_what_is_no_credit() -> None:
    """Debits, what is only expected, and what was taken back from others."""
    found = read(
        document(
            [
                booked(direction="DBIT"),
                booked(status="PDNG", reference="B"),
                booked(status="INFO", reference="C"),
                booked(reversal=True, reference="D"),
                booked("7.00", direction="DBIT", reversal=True, reference="E"),
                booked("8.00", transaction("8.00", direction="DBIT"), transaction("9.00"), reference="F"),
            ]
        )
    )
    assert [one.amount for one in found] == [-7, 9]


def test_a_reversal_is_not_the_payment_come_again() -> None:
    """Even if the bank gives it the same reference."""
    paid, back = read(document([booked("7.00"), booked("7.00", direction="DBIT", reversal=True)]))
    assert (paid.amount, back.amount) == (7, -7)
    assert paid.id != back.id


def test_a_date_in_any_case() -> None:
    """The booking's, else the value date, else the file's; without any it cannot be read."""
    whole = document([booked("7.00")]).decode()
    undated = re.sub("<BookgDt>.*?</BookgDt>", "", whole)
    assert read(undated.encode())[0].booked_on == date(2026, 4, 10)
    undated = re.sub("<ValDt>.*?</ValDt>", "", undated)
    with pytest.raises(CamtError, match="no date"):
        read(undated.encode())
    made = undated.replace("<MsgId>M1</MsgId>", "<CreDtTm>2026-04-12T05:00:00+02:00</CreDtTm>")
    assert read(made.encode())[0].booked_on == date(2026, 4, 12)


def test_structured_references_come_first() -> None:
    """Where payer's banks put them."""
    details = transaction("1.00", text="x" * 150, structured="RF18539007547034")
    (found,) = read(document([booked("1.00", details)]))
    assert found.remittance == ("RF18539007547034", "x" * 140, "x" * 10)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no XML"),
        (b"hello", "no XML"),
        (b"<Document/>", "neither"),
        (document([]).replace(b"camt.053", b"camt.052"), "neither"),
        (document([booked()])[:-30], "no XML"),
        (document([booked("1,00")]), "no amount"),
        (document([booked("1e3")]), "no amount"),
        (document([booked("-1.00")]), "no amount"),
        (document([booked("99999999999999.00")]), "no amount"),
        (document([booked(currency="E")]), "no currency"),
        (document([booked(on="2026-13-01")]), "no date"),
        (document([booked()], head='<!DOCTYPE Document [<!ENTITY a "b">]>'), "document type"),
        (document([booked()], head='<!DOCTYPE Document SYSTEM "file:///etc/passwd">'), "document type"),
        (
            document([booked("1.00")], head='<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>').replace(
                b"1.00", b"&x;"
            ),
            "document type",
        ),
    ],
)
def test_refusals(data: bytes, why: str) -> None:
    """In a line that says why."""
    with pytest.raises(CamtError, match=why):
        read(data)


def test_entities_do_not_multiply() -> None:
    """A declaration is refused in whatever encoding, before anything is expanded."""
    bomb = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    text = document([booked()], head=bomb).decode().replace("UTF-8", "UTF-16")
    with pytest.raises(CamtError, match="document type"):
        read(text.encode("utf-16"))


def test_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A larger file is not read at all."""
    monkeypatch.setattr(camt, "MAX_BYTES", 10)
    with pytest.raises(CamtError, match="10 are read at most"):
        read(b"x" * 11)


def test_an_empty_statement() -> None:
    """Has no payments."""
    assert read(document([])) == []


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_garbage(data: bytes) -> None:
    """Raises what it says, and nothing else."""
    with pytest.raises(CamtError):
        read(data)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damage(data: st.DataObject) -> None:
    """A file that was cut or changed is read or refused."""
    whole = bytearray(document([booked("60.00", transaction("60.00", text="A"), transaction("1.00"))]))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(whole))
    except CamtError:
        return
    assert all(abs(one.amount) < 10**13 for one in found)
