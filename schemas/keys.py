"""Keys: the one spelling of an object's identity in the log.

OCPI's identifiers are CiStrings, compared without regard to case (types "CiString"), so a key is upper-cased.
"""

from __future__ import annotations


def party_key(country_code: str, party_id: str) -> str:
    """`CC*PID`."""
    return f"{country_code}*{party_id}".upper()


def party_of(key: str) -> tuple[str, str]:
    """Country code and party id of a party's key; empty ones of an empty key."""
    country_code, _, party_id = key.partition("*")
    return country_code, party_id


def object_key(country_code: str, party_id: str, *ids: str) -> str:
    """`CC*PID*ID`, further identifiers behind it."""
    return "*".join((country_code, party_id, *ids)).upper()


def owner_of(key: str) -> tuple[str, str]:
    """Country code and party id, in upper case, of an object's key; 2.1.1 has them in no object."""
    country_code, party_id, *_ = key.split("*", 2)
    return country_code, party_id
