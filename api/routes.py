"""The table of OCPI routes: what the door dispatches by, what OpenAPI describes, what `docs/ocpi.md` lists.

A module, a role or a version more is a row more here. URLs are
`/ocpi/{version}/{role}/{module}/{identifiers...}`; an identifier is one percent-encoded segment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from api.answers import Status

VERSIONS = ("2.2.1", "2.3.0")

OWNER = ("country_code", "party_id")


@dataclass(frozen=True)
class Resource:
    """A kind of object under a module: what its URLs look like, who owns it, and what may be done with it.

    `kind` names the object in `schemas.ocpi.wire`; `ids` are the URL's identifiers in their order;
    `creates` says that the URL of a write ends before them, since the identifiers are in the body (POST).
    """

    module: str
    kind: str
    title: str
    ids: tuple[str, ...]
    methods: tuple[str, ...]
    owner: str
    topic: str
    section: str  # anchor of the specification's chapter
    unknown: Status = Status.CLIENT_ERROR
    role: str = "receiver"
    creates: bool = False
    query: tuple[str, ...] = ()

    @property
    def id_name(self) -> str:
        """The field of the body that the URL's last identifier must equal."""
        return "uid" if self.ids[-1].endswith("_uid") else "id"


@dataclass(frozen=True)
class Route:
    """One method of one resource in one version."""

    version: str
    resource: Resource
    method: str
    ids: tuple[str, ...] = field(default=())

    @cached_property
    def path(self) -> str:
        """The URL's path with its identifiers in braces."""
        r = self.resource
        return "/".join(["/ocpi", self.version, r.role, r.module, *("{" + name + "}" for name in self.ids)])


def _resource(
    module: str, kind: str, title: str, ids: tuple[str, ...], methods: str, **more: object
) -> Resource:
    return Resource(
        module=module,
        kind=kind,
        title=title,
        ids=(*OWNER, *ids),
        methods=tuple(methods.split()),
        **more,  # type: ignore[arg-type]
    )


_LOCATION = {
    "owner": "CPO",
    "topic": "locations",
    "unknown": Status.UNKNOWN_LOCATION,
    "section": "mod_locations",
}

RESOURCES = (
    _resource(
        "sessions", "session", "Session", ("session_id",), "GET PUT PATCH",
        owner="CPO", topic="sessions", section="mod_sessions",
    ),
    _resource(
        "cdrs", "cdr", "CDR", ("cdr_id",), "GET", owner="CPO", topic="sessions", section="mod_cdrs"
    ),
    _resource(
        "cdrs", "cdr", "CDR", ("cdr_id",), "POST",
        owner="CPO", topic="sessions", section="mod_cdrs", creates=True,
    ),
    _resource("locations", "location", "Location", ("location_id",), "GET PUT PATCH", **_LOCATION),
    _resource("locations", "evse", "EVSE", ("location_id", "evse_uid"), "GET PUT PATCH", **_LOCATION),
    _resource(
        "locations", "connector", "Connector", ("location_id", "evse_uid", "connector_id"), "GET PUT PATCH",
        **_LOCATION,
    ),
    _resource(
        "tariffs", "tariff", "Tariff", ("tariff_id",), "GET PUT DELETE",
        owner="CPO", topic="tariffs", section="mod_tariffs",
    ),
    _resource(
        "tokens", "token", "Token", ("token_uid",), "GET PUT PATCH",
        owner="EMSP", topic="tokens", section="mod_tokens", unknown=Status.UNKNOWN_TOKEN, query=("type",),
    ),
)  # fmt: skip

ROUTES = tuple(
    Route(version, resource, method, () if resource.creates else resource.ids)
    for version in VERSIONS
    for resource in RESOURCES
    for method in resource.methods
)
