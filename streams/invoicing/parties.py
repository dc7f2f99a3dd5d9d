"""Who a party is for an invoice: names, addresses, tax numbers, bank account.

Details are events of the `parties` topic (module `party-details`), so a document of a closed statement can be
made again as it was: it shows what was in force when the statement was closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from schemas.keys import party_key
from schemas.records import Event

MODULE = "party-details"

ZERO_TAX = {
    "Z": ("", ""),
    "E": ("Exempt from VAT", ""),
    "AE": ("Reverse charge", "VATEX-EU-AE"),
    "G": ("Export outside the EU", "VATEX-EU-G"),
}
"""VAT categories (EN 16931, BT-118) that a party may give supplies without tax, with reason and its code."""

_VAT_PREFIXES = "AT BE BG CY CZ DE DK EE EL ES FI FR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK XI"
_EU = frozenset(_VAT_PREFIXES.split())


class PartyDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a details event: all that is known of a party, the last event as a whole.

    `country` is an ISO 3166 alpha-2 code; `payment_days` is how long those who owe it have to pay; `zero_tax`
    is the VAT category of what it sells without tax (a key of ZERO_TAX), `zero_tax_reason` the text for it.
    """

    country_code: str
    party_id: str
    name: str = ""
    vat_id: str = ""
    tax_number: str = ""
    company_number: str = ""
    street: str = ""
    street_more: str = ""
    postal_code: str = ""
    city: str = ""
    region: str = ""
    country: str = ""
    email: str = ""
    buyer_reference: str = ""
    iban: str = ""
    bic: str = ""
    account_name: str = ""
    payment_days: int = 30
    zero_tax: str = ""
    zero_tax_reason: str = ""

    @property
    def key(self) -> str:
        """`CC*PID`."""
        return party_key(self.country_code, self.party_id)


class MissingDetailsError(ValueError):
    """A document needs details that nobody has set; `party` and `fields` say which."""

    def __init__(self, party: str, fields: Iterable[str]) -> None:
        self.party = party
        self.fields = list(fields)
        options = " ".join(f"--{field.replace('_', '-')} ..." for field in self.fields)
        super().__init__(f"{party} lacks {', '.join(self.fields)}: voltfold party set '{party}' {options}")


def checked(details: PartyDetails) -> PartyDetails:
    """The details in one spelling: codes in capitals, without blanks. Raises ValueError naming the field."""
    changes: dict[str, str] = {
        name: re.sub(r"[\s.-]", "", getattr(details, name)).upper()
        for name in ("country_code", "party_id", "country", "vat_id", "iban", "bic", "zero_tax")
    }
    for name in details.__struct_fields__:
        value = getattr(details, name)
        if isinstance(value, str) and (len(value) > 200 or not value.isprintable()):
            raise ValueError(f"{name}: up to 200 printable characters")
    found = msgspec.structs.replace(details, **changes)
    for name, pattern, what in (
        ("country_code", "[A-Z]{2}", "an ISO 3166 alpha-2 code"),
        ("party_id", "[A-Z0-9]{3}", "a party id of three letters or digits"),
        ("country", "([A-Z]{2})?", "an ISO 3166 alpha-2 code"),
        ("vat_id", "([A-Z]{2}[A-Z0-9+*]{2,13})?", "a VAT number with its country's prefix"),
        ("iban", "([A-Z]{2}[0-9]{2}[A-Z0-9]{10,30})?", "an IBAN"),
        ("bic", "([A-Z]{6}[A-Z0-9]{2}([A-Z0-9]{3})?)?", "a BIC"),
    ):
        if not re.fullmatch(pattern, getattr(found, name)):
            raise ValueError(f"{name}: {getattr(details, name)!r} is not {what}")
    if found.iban and int("".join(str(int(c, 36)) for c in found.iban[4:] + found.iban[:4])) % 97 != 1:
        raise ValueError(f"iban: the check digits of {details.iban!r} are wrong")
    if found.zero_tax and found.zero_tax not in ZERO_TAX:
        raise ValueError(f"zero_tax: {details.zero_tax!r} is none of {', '.join(ZERO_TAX)}")
    if not 0 <= found.payment_days <= 365:
        raise ValueError(f"payment_days: {found.payment_days} is not between 0 and 365")
    return found


def zero_tax_of(seller: PartyDetails, buyer: PartyDetails) -> str:
    """The VAT category of what is sold without tax: the seller's word, else reverse charge between two
    countries of the EU, else zero rated."""
    if seller.zero_tax:
        return seller.zero_tax
    countries = {seller.vat_id[:2], buyer.vat_id[:2]}
    return "AE" if len(countries) == 2 and countries <= _EU else "Z"


class Directory:
    """All details by party and time, folded from the events of the `parties` topic in their order."""

    def __init__(self) -> None:
        self._by_party: dict[str, list[tuple[int, PartyDetails]]] = {}

    def fold(self, event: Event) -> None:
        """Learn of one event; those of other modules, and bodies that cannot be read, are passed over."""
        if event.module != MODULE:
            return
        try:
            details = msgspec.json.decode(event.body, type=PartyDetails)
        except (msgspec.DecodeError, ValueError):
            return
        self._by_party.setdefault(details.key, []).append((event.received_at, details))

    def at(self, party: str, moment: int | None) -> PartyDetails:
        """Details of a party (`CC*PID`) as they were at a time in microseconds; None: as they are.

        What was first set after that time counts when nothing had been set by then, so that a statement that
        was closed before anybody was told about still gets its invoice. A party without any is empty.
        """
        known = self._by_party.get(party, [])
        past = [details for at, details in known if moment is None or at <= moment]
        if past:
            return past[-1]
        country_code, _, party_id = party.partition("*")
        return known[0][1] if known else PartyDetails(country_code=country_code, party_id=party_id)

    def all(self) -> list[PartyDetails]:
        """The newest details of every party, in order of their keys."""
        return [self._by_party[party][-1][1] for party in sorted(self._by_party)]
