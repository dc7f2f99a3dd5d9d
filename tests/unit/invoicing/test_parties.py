"""Details of parties: what is refused, and which ones a document shows."""

from __future__ import annotations

import msgspec
import pytest

from api.partners import Registry
from schemas.records import Event
from streams.invoicing.parties import MODULE, Directory, PartyDetails, checked, zero_tax_of
from tests.unit.invoicing.statements import BUYER, SELLER


def said(details: PartyDetails, at: int, module: str = MODULE) -> Event:
    """A details event."""
    return Event(
        id=at.to_bytes(16, "big"),
        received_at=at,
        sender="OPERATOR",
        version="",
        module=module,
        method="PUT",
        key=details.key,
        path=[],
        request_id=None,
        correlation_id=None,
        body=msgspec.json.encode(details),
    )


def test_a_document_shows_what_was_in_force() -> None:
    """At its time; what was set first, if nothing had been set by then; and else nothing."""
    old, new = msgspec.structs.replace(SELLER, city="Utrecht"), SELLER
    directory = Directory()
    for event in (said(old, 100), said(new, 200), said(BUYER, 300), said(BUYER, 1, "parties")):
        directory.fold(event)
    assert directory.at("NL*TNM", 199) == old
    assert directory.at("NL*TNM", 200) == new
    assert directory.at("NL*TNM", 50) == old
    assert directory.at("NL*TNM", None) == new
    assert directory.at("FR*XYZ", None) == PartyDetails(country_code="FR", party_id="XYZ")
    assert directory.all() == [BUYER, new]


def test_what_cannot_be_read_is_passed_over() -> None:
    """The topic has events of other modules, and other versions may write more."""
    directory = Directory()
    broken = said(SELLER, 1)
    broken.body = b"{"
    directory.fold(broken)
    assert directory.all() == []


def test_spelling() -> None:
    """Codes are kept in capitals and without what people put between."""
    found = checked(
        msgspec.structs.replace(
            SELLER, vat_id="nl-1234.56.789 b01", iban="nl91 abna 0417 1643 00", country="nl"
        )
    )
    assert found == SELLER


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("iban", "NL91ABNA0417164301"),
        ("iban", "91ABNA0417164300"),
        ("vat_id", "123"),
        ("country", "NLD"),
        ("bic", "ABNA"),
        ("zero_tax", "S"),
        ("payment_days", -1),
        ("name", "a\nb"),
        ("name", "x" * 201),
        ("party_id", "TN"),
    ],
)
def test_refusals(field: str, value: object) -> None:
    """The field is named."""
    with pytest.raises(ValueError, match=field):
        checked(msgspec.structs.replace(SELLER, **{field: value}))


def test_without_tax() -> None:
    """Reverse charge between two countries of the EU, else zero rated, unless the seller says otherwise."""
    assert zero_tax_of(SELLER, BUYER) == "AE"
    assert zero_tax_of(SELLER, msgspec.structs.replace(BUYER, vat_id="NL987654321B01")) == "Z"
    assert zero_tax_of(SELLER, msgspec.structs.replace(BUYER, vat_id="CHE123456789")) == "Z"
    assert zero_tax_of(SELLER, msgspec.structs.replace(BUYER, vat_id="")) == "Z"
    assert zero_tax_of(msgspec.structs.replace(SELLER, zero_tax="E"), BUYER) == "E"


def test_details_open_no_door() -> None:
    """The door's registry reads the same topic, and learns of no credential."""
    registry = Registry()
    registry.fold(said(SELLER, 1))
    assert registry.partners() == []
