"""References in what payers write."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.settlement import reference_of
from streams.banking.references import found_in, printed, structured

REFERENCE = "NLTNM-DEEMS-EUR-202603"
STRUCTURED = structured(REFERENCE)

parties = st.from_regex(r"[A-Z]{2}\*[A-Z0-9]{3}", fullmatch=True)
periods = st.sampled_from(["202603", "20260315", "2026W11"])


def found(*texts: str) -> list[str]:
    """The references in texts."""
    return [str(one) for one in found_in(texts)]


@settings(deadline=None)
@given(parties, parties, st.from_regex("[A-Z]{3}", fullmatch=True), periods)
def test_structured_references_come_back(creditor: str, debtor: str, currency: str, period: str) -> None:
    """They fit into ISO 11649, and lead to the statement as they are and as printed."""
    reference = reference_of(creditor, debtor, currency, period)
    code = structured(reference)
    assert len(code) <= 25
    for text in (code, printed(code), f"pay {code.lower()} thanks"):
        assert reference in found(text)


@settings(deadline=None)
@given(st.integers(0, len(STRUCTURED) - 1), st.sampled_from("0123456789ABCXYZ"))
def test_a_slip_is_noticed(at: int, letter: str) -> None:
    """One wrong letter, and the check digits do not fit."""
    wrong = STRUCTURED[:at] + letter + STRUCTURED[at + 1 :]
    assert found(wrong) == ([REFERENCE] if wrong == STRUCTURED else [])


def test_the_check_digits_are_the_standard_s() -> None:
    """The example that is everywhere for ISO 11649."""
    assert structured("539007547034") == "RF18539007547034"


@pytest.mark.parametrize(
    "texts",
    [
        (REFERENCE,),
        (f"Invoice {REFERENCE}, thank you",),
        ("Invoice nltnm-deems-eur-202603",),
        ("Invoice NLTNM-DEEMS-", "EUR-202603"),
        ("NLTNM-DEEMS -EUR- 202603",),
        ("nothing", "here", REFERENCE),
        (REFERENCE, STRUCTURED),
        (STRUCTURED[:10], STRUCTURED[10:]),
    ],
)
def test_as_people_write_it(texts: tuple[str, ...]) -> None:
    """Once, wherever it stands and however lines are cut."""
    assert found(*texts) == [REFERENCE]


def test_several() -> None:
    """In their order."""
    assert found("NLTNM-DEEMS-EUR-202602 and NLTNM-DEEMS-EUR-202603") == [
        "NLTNM-DEEMS-EUR-202602",
        "NLTNM-DEEMS-EUR-202603",
    ]


@pytest.mark.parametrize("text", ["", "Invoice 202603", "XNLTNM-DEEMS-EUR-202603", "NLTNM-DEEMS-EUR-2026031"])
def test_what_is_none(text: str) -> None:
    """Is not taken for one."""
    assert found(text) == []
