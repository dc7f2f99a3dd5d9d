"""Payment references: how a payer says which statement a payment is for.

A statement's reference, such as `NLTNM-DEEMS-EUR-202603`, travels in free text through banks that wrap lines
and change case. Without its hyphens it also fits into a structured creditor reference (ISO 11649): `RF`, two
check digits, up to 21 letters and digits, which banks check before they take the payment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from schemas.settlement import Reference, read_references

# creditor, debtor, currency, then a day (8 digits), a month (6) or an ISO week
_STRUCTURED = re.compile(
    r"(?<![A-Z0-9])RF(\d{2})([A-Z]{2})([A-Z0-9]{3})([A-Z]{2})([A-Z0-9]{3})([A-Z]{3})"
    r"(20\d{6}|20\d{4}|20\d{2}W\d{2})(?![A-Z0-9])"
)


def structured(reference: str) -> str:
    """The reference as a structured creditor reference (ISO 11649), check digits included."""
    plain = re.sub(r"[^A-Z0-9]", "", reference.upper())
    return f"RF{98 - _residue(plain + 'RF00'):02}{plain}"


def printed(code: str) -> str:
    """A creditor reference or an IBAN in groups of four, as both are written on paper."""
    return " ".join(code[at : at + 4] for at in range(0, len(code), 4))


def found_in(texts: Iterable[str]) -> list[Reference]:
    """Every statement reference in a payment's texts, each once, in the order in which they stand there.

    The texts are read one by one and, because banks cut lines wherever they are full, joined. A structured
    reference whose check digits are wrong names nothing.
    """
    lines = list(texts)
    found: dict[Reference, None] = {}
    for text in (*lines, "".join(lines)):
        for reference in (*read_references(text), *_read_structured(text.upper())):
            found.setdefault(reference)
    return list(found)


def _read_structured(text: str) -> Iterator[Reference]:
    """Structured references in a text, as they are or with the blanks of paper in them."""
    found = _STRUCTURED.findall(text) or _STRUCTURED.findall(re.sub(r"\s+", "", text))
    for check, country, party, other_country, other_party, currency, period in found:
        if _residue(f"{country}{party}{other_country}{other_party}{currency}{period}RF{check}") == 1:
            yield Reference(f"{country}*{party}", f"{other_country}*{other_party}", currency, period)


def _residue(text: str) -> int:
    """Modulo 97 of a text whose letters stand for 10 to 35 (ISO 7064, mod 97-10)."""
    return int("".join(str(int(letter, 36)) for letter in text)) % 97
