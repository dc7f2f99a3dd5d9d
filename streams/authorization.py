"""Whether a token may be used, from what its provider has told us of it (mod_tokens "Real-time
authorization").

A token that is valid is allowed, at a location that we do not know, too: it may be a private one. At one that
we know, only its own EVSEs can be meant, whatever state they are in, but for those that are gone. Whether a
token has expired or its owner has credit is not in its state, so neither is ever answered.

Pure.
"""

from __future__ import annotations

from schemas.ocpi.objects import Location, Token
from schemas.ocpi.requests import AllowedType, AuthorizationInfo, LocationReferences

_REMOVED = "REMOVED"


def authorize(token: Token, asked: LocationReferences | None, location: Location | None) -> AuthorizationInfo:
    """What is answered. `location`: the one that was asked for, as far as it is known."""
    if not token.valid:
        return AuthorizationInfo(allowed=AllowedType.BLOCKED, token=token)
    if asked is None or location is None:
        return AuthorizationInfo(allowed=AllowedType.ALLOWED, token=token, location=asked)
    there = {evse.uid.upper() for evse in location.evses if evse.status != _REMOVED}
    uids = [uid for uid in asked.evse_uids if uid.upper() in there]
    if asked.evse_uids and not uids:
        return AuthorizationInfo(allowed=AllowedType.NOT_ALLOWED, token=token)
    references = LocationReferences(location_id=asked.location_id, evse_uids=uids)
    return AuthorizationInfo(allowed=AllowedType.ALLOWED, token=token, location=references)
