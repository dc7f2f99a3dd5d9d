"""Whom an object concerns: who is told of it, and in whose lists it stands.

A session and a CDR concern the party whose token they carry. What operators publish concerns everybody who
reads it, a token every operator, and the state of a party everybody: there the role decides alone
(terminology "Typical OCPI implementations per Role"; transport_and_format "Broadcast Push", where OTHER
counts as a provider; payments add PTP), unless its pushes named their receivers. A terminal, a confirmation
of a capture and an invoice reconciliation record concern the party that their event names.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from schemas.keys import party_key

PROVIDERS = frozenset(("EMSP", "OTHER", "PTP", "NSP"))
"""Roles in which a party is told of the sessions and CDRs with its tokens."""
READERS = frozenset(("EMSP", "NSP", "NAP", "SCSP", "OTHER", "PTP", "HUB"))
"""Roles that are told of what operators publish."""
OPERATORS = frozenset(("CPO", "HUB"))
"""Roles that are told of tokens."""

ADDRESSED = frozenset(("terminals", "confirmations", "invoicereconciliation"))
"""Modules whose objects do not say whom they are for: their events do, behind the object's identifiers."""

BROADCAST = frozenset(("locations", "tariffs", "tokens"))
"""Modules whose objects are for all in a role, unless each push of one named its receiver."""

EVERYBODY = ""
NOBODY = "*"


def concerned(module: str, found: Any) -> str:
    """Key of the party that a canonical object concerns; EVERYBODY: all who have a role for its module.

    2.1.1 does not say whose token it is. Its `auth_id` is advised to be an eMA ID, which begins with the
    provider's country code and party id (2.1.1 mod_tokens "Token Object"); of one that is none, NOBODY is
    told.
    """
    if module not in ("sessions", "cdrs"):
        return EVERYBODY
    token = found.cdr_token
    if token.party_id:
        return party_key(token.country_code, token.party_id)
    provider = re.match(r"([A-Z]{2})-?([A-Z0-9]{3})", token.contract_id.upper())
    return party_key(*provider.groups()) if provider else NOBODY


def named(known: str | None, receiver: str | None) -> str:
    """Whom an object of BROADCAST concerns after a push that names a receiver (or nobody: None).

    `known`: whom it concerned before; None: there was none. Once it was pushed to everybody it stays
    everybody's; until then it concerns all who were ever named, their keys in order with spaces between.
    """
    if receiver is None or known == EVERYBODY:
        return EVERYBODY
    return " ".join(sorted({receiver, *(known or "").split()}))


def is_for(concerns: str, parties: Iterable[str]) -> bool:
    """Whether an object of BROADCAST is for one of these parties, as far as names decide."""
    return concerns == EVERYBODY or not set(concerns.split()).isdisjoint(parties)
