"""Whom an object concerns: who is told of it, and in whose lists it stands.

A session and a CDR concern the party whose token they carry. What operators publish concerns everybody who
reads it, a token every operator, and the state of a party everybody: there the role decides alone
(terminology "Typical OCPI implementations per Role"; transport_and_format "Broadcast Push", where OTHER
counts as a provider; payments add PTP). A terminal, a confirmation of a capture and an invoice reconciliation
record concern the party that their event names.

Pure.
"""

from __future__ import annotations

import re
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
"""Modules whose objects are for all in a role, unless the push of one names its receiver."""

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
