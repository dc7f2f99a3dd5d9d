"""The table of OCPI routes: what the door dispatches by, what OpenAPI describes, what `docs/ocpi.md` lists.

A module, a role or a version more is a row more here. URLs are
`/ocpi/{version}/{sender|receiver}/{module}/{identifiers...}`; an identifier is one percent-encoded segment.
Identifiers that begin with `=` are no variables but stand in the URL as they are (`authorize`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from api.answers import Status

VERSIONS = ("2.1.1", "2.2.1", "2.3.0")
SINCE_221 = ("2.2.1", "2.3.0")

OWNER = ("country_code", "party_id")

PROVIDERS = ("EMSP", "OTHER", "PTP", "HUB")
"""Who is told of sessions and CDRs: those whose tokens they carry (a payment terminal provider's, too)."""
READERS = ("EMSP", "NSP", "NAP", "SCSP", "OTHER", "PTP", "HUB")
"""Who reads what operators publish for everybody."""
ANYBODY = ("CPO", "EMSP", "HUB", "NAP", "NSP", "OTHER", "PTP", "SCSP")


class Outcome(NamedTuple):
    """One way in which a request can end."""

    http: int
    ocpi: int
    when: str


@dataclass(frozen=True)
class Resource:
    """A kind of object under a module: what its URLs look like, who may call them, and what may be done.

    `kind` names the object in `schemas.ocpi.wire` ("" when none of it is there); `ids` are the URL's
    identifiers in their order; `creates` says that the URL of a write ends before them, since the
    identifiers are in the body (POST). `callers` are the roles that may call; where the URL begins with a
    country code and a party id (`owned`), the caller must be that party in one of them. `handler` names who
    answers, in the mapping of `api.server`; `outcomes` are that handler's own ways to end.
    """

    module: str
    kind: str
    title: str
    ids: tuple[str, ...]
    methods: tuple[str, ...]
    callers: tuple[str, ...]
    section: str  # anchor of the specification's chapter
    topic: str = ""
    unknown: Status = Status.CLIENT_ERROR
    role: str = "receiver"
    creates: bool = False
    query: tuple[str, ...] = ()
    versions: tuple[str, ...] = VERSIONS
    handler: str = "objects"
    optional_body: bool = False
    listed: bool = False  # answers a list, page by page
    sends: str = ""  # the kind in the body of a request, where it is not `kind`
    store: str = ""  # the module that its objects are kept under, where it is not `module`
    answers: str = ""  # the kind in an answer's data, where it is not `kind`
    outcomes: tuple[Outcome, ...] = ()

    @property
    def id_name(self) -> str:
        """The field of the body that the URL's last identifier must equal."""
        return "uid" if self.ids[-1].endswith("_uid") else "id"

    @property
    def kept(self) -> str:
        """The module that its objects are kept under."""
        return self.store or self.module

    @cached_property
    def owned(self) -> bool:
        """Whether the URL begins with the party that the object belongs to, which must be the caller."""
        return self.ids[:2] == OWNER and self.role == "receiver"


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
        names = [name[1:] if name.startswith("=") else "{" + name + "}" for name in self.ids]
        if r.module == "credentials":
            return f"/ocpi/{self.version}/credentials"
        return "/".join(["/ocpi", self.version, r.role, r.module, *names])

    @property
    def has_body(self) -> bool:
        """Whether a request has a body."""
        return self.method in ("PUT", "PATCH", "POST")


def _resource(
    module: str, kind: str, title: str, ids: tuple[str, ...], methods: str, **more: object
) -> Resource:
    return Resource(
        module=module,
        kind=kind,
        title=title,
        ids=ids,
        methods=tuple(methods.split()),
        **more,  # type: ignore[arg-type]
    )


_LOCATION = {
    "callers": ("CPO",),
    "topic": "locations",
    "unknown": Status.UNKNOWN_LOCATION,
    "section": "mod_locations",
}

_OPERATORS = ("CPO", "HUB")
_CHARGING = (*PROVIDERS, "SCSP")

_FORWARDED = (
    Outcome(200, 1000, "passed on, and answered by the operator; or it need not be asked"),
    Outcome(200, 2001, "names the field that is wrong, or a response_url that is not the caller's"),
    Outcome(200, 2002, "it cannot be told whom it is for"),
    Outcome(200, 2003, "no operator has such a location"),
    Outcome(200, 4000, "the receiver's answer is none"),
    Outcome(200, 4001, "the receiver is not known"),
    Outcome(200, 4002, "the receiver did not answer in time"),
    Outcome(200, 4003, "the receiver is not connected, or has no such module"),
)
_RESULT = (
    Outcome(200, 1000, "kept, and brought to whoever asked"),
    Outcome(200, 2001, "the body is no valid result; names the field"),
    Outcome(404, 2000, "no such request was passed on to the caller"),
)

_EXCHANGED = (
    Outcome(200, 1000, "our credentials, with a new token"),
    Outcome(200, 2001, "the body is no valid credentials object, or speaks for somebody else's party"),
    Outcome(200, 3001, "your versions cannot be read; says which GET failed and how"),
    Outcome(200, 3002, "you do not have this version"),
    Outcome(200, 3003, "you have no module that we have"),
)
_PAGE = (
    Outcome(200, 1000, "a page of the list"),
    Outcome(200, 2001, "names the parameter that is wrong, or a party that the caller does not speak for"),
    Outcome(200, 4001, "the party that the list is wanted of is not known"),
)
_PAGED: dict[str, object] = {
    "role": "sender",
    "handler": "lists",
    "listed": True,
    "query": ("date_from", "date_to", "offset", "limit"),
    "outcomes": _PAGE,
}
_PART: dict[str, object] = {
    "callers": READERS,
    "section": "mod_locations",
    "role": "sender",
    "handler": "parts",
    "unknown": Status.UNKNOWN_LOCATION,
    "outcomes": (
        Outcome(200, 1000, "the object, as it was acknowledged last"),
        Outcome(200, 2001, "a party that the caller does not speak for"),
        Outcome(200, 2002, "several operators have such a location, and none is named"),
        Outcome(200, 4001, "the operator that is named is not known"),
        Outcome(404, 2003, "no such object"),
    ),
}
_AUTHORIZED = (
    Outcome(200, 1000, "whether the token may be used"),
    Outcome(200, 2001, "names the field that is wrong, or a party that the caller does not speak for"),
    Outcome(200, 2002, "several providers have such a token, and none is named"),
    Outcome(200, 4000, "the receiver's answer is none"),
    Outcome(200, 4001, "the provider that is named is not known"),
    Outcome(200, 4002, "the receiver did not answer in time"),
    Outcome(200, 4003, "the receiver is not connected, or has no such module"),
    Outcome(404, 2004, "nobody has such a token"),
)
_230 = ("2.3.0",)
_READ = (
    Outcome(200, 1000, "the object, as it was acknowledged last"),
    Outcome(404, 2000, "no such object for the caller"),
)
_MANY = Outcome(200, 2002, "several providers have such an object, and none is named")
_STATED = (
    Outcome(200, 1000, "kept; Location says where it can be read; it was known already"),
    Outcome(201, 1000, "kept; Location says where it can be read"),
    Outcome(200, 4001, "the party that is named is not known"),
)
_PTP_ASKED = (
    Outcome(200, 1000, "the provider has agreed; kept"),
    Outcome(200, 2002, "it cannot be told which provider it is for"),
    Outcome(200, 4000, "the provider's answer is none"),
    Outcome(200, 4001, "the provider is not known"),
    Outcome(200, 4002, "the provider did not answer in time"),
    Outcome(200, 4003, "the provider is not connected, or has no such module"),
)
_PAYMENTS: dict[str, object] = {"section": "mod_payments", "versions": _230}
_TERMINALS, _CONFIRMATIONS = "=terminals", "=financial-advice-confirmations"
_PARTNERS = ("CPO", "EMSP")
_RECORDS: dict[str, object] = {
    "callers": _PARTNERS,
    "section": "mod_invoice_reconciliation",
    "versions": _230,
    "topic": "ledger",
    "handler": "reconciliation",
}
_CLIENT = ("client_country_code", "client_party_id")
"""In an URL: a party that need not be the caller."""

RESOURCES = (
    _resource(
        "credentials", "credentials", "Credentials", (), "GET",
        callers=ANYBODY, section="credentials", role="sender", handler="credentials",
        outcomes=(Outcome(200, 1000, "our credentials, with the token that you use"),),
    ),
    _resource(
        "credentials", "credentials", "Credentials", (), "POST",
        callers=ANYBODY, section="credentials", role="sender", handler="credentials",
        outcomes=(*_EXCHANGED, Outcome(405, 2000, "you are registered already")),
    ),
    _resource(
        "credentials", "credentials", "Credentials", (), "PUT",
        callers=ANYBODY, section="credentials", role="sender", handler="credentials",
        outcomes=(*_EXCHANGED, Outcome(405, 2000, "you are not registered")),
    ),
    _resource(
        "credentials", "credentials", "Credentials", (), "DELETE",
        callers=ANYBODY, section="credentials", role="sender", handler="credentials",
        outcomes=(
            Outcome(200, 1000, "the connection has ended, and your token with it"),
            Outcome(405, 2000, "you are not registered"),
        ),
    ),
    _resource(
        "sessions", "session", "Session", (*OWNER, "session_id"), "GET PUT PATCH",
        callers=("CPO",), topic="sessions", section="mod_sessions",
    ),
    _resource(
        "cdrs", "cdr", "CDR", (*OWNER, "cdr_id"), "GET",
        callers=("CPO",), topic="sessions", section="mod_cdrs",
    ),
    _resource(
        "cdrs", "cdr", "CDR", (*OWNER, "cdr_id"), "POST",
        callers=("CPO",), topic="sessions", section="mod_cdrs", creates=True,
    ),
    _resource("locations", "location", "Location", (*OWNER, "location_id"), "GET PUT PATCH", **_LOCATION),
    _resource("locations", "evse", "EVSE", (*OWNER, "location_id", "evse_uid"), "GET PUT PATCH", **_LOCATION),
    _resource(
        "locations", "connector", "Connector", (*OWNER, "location_id", "evse_uid", "connector_id"),
        "GET PUT PATCH", **_LOCATION,
    ),
    _resource(
        "tariffs", "tariff", "Tariff", (*OWNER, "tariff_id"), "GET PUT DELETE",
        callers=("CPO",), topic="tariffs", section="mod_tariffs",
    ),
    _resource(
        "tokens", "token", "Token", (*OWNER, "token_uid"), "GET PUT PATCH",
        callers=("EMSP",), topic="tokens", section="mod_tokens", unknown=Status.UNKNOWN_TOKEN,
        query=("type",),
    ),
    _resource(
        "commands", "", "Command", ("command",), "POST",
        callers=PROVIDERS, section="mod_commands", handler="commands", answers="command_response",
        outcomes=_FORWARDED,
    ),
    _resource(
        "commands", "", "Result of a command", ("command", "uid"), "POST",
        callers=_OPERATORS, section="mod_commands", role="sender", handler="command_results",
        sends="command_result", outcomes=_RESULT,
    ),
    _resource(
        "chargingprofiles", "", "Charging profile", ("session_id",), "GET DELETE",
        callers=_CHARGING, section="mod_charging_profiles", versions=SINCE_221, handler="profiles",
        query=("duration", "response_url"), answers="charging_profile_response", outcomes=_FORWARDED,
    ),
    _resource(
        "chargingprofiles", "", "Charging profile", ("session_id",), "PUT",
        callers=_CHARGING, section="mod_charging_profiles", versions=SINCE_221, handler="profiles",
        sends="set_charging_profile", answers="charging_profile_response", outcomes=_FORWARDED,
    ),
    _resource(
        "chargingprofiles", "", "Result of a charging profile", ("uid",), "POST",
        callers=_OPERATORS, section="mod_charging_profiles", versions=SINCE_221, role="sender",
        handler="profile_results", outcomes=_RESULT,
    ),
    _resource(
        "chargingprofiles", "", "Active charging profile", ("session_id",), "PUT",
        callers=_OPERATORS, section="mod_charging_profiles", versions=SINCE_221, role="sender",
        handler="active_profiles", sends="active_charging_profile", outcomes=_FORWARDED,
    ),
    _resource(
        "sessions", "", "Charging preferences", ("session_id", "=charging_preferences"), "PUT",
        callers=PROVIDERS, section="mod_sessions", versions=SINCE_221, role="sender",
        handler="preferences", sends="charging_preferences", answers="charging_preferences_response",
        outcomes=(*_FORWARDED, Outcome(404, 2001, "no operator has such a session")),
    ),
    _resource(
        "sessions", "session", "Sessions", (), "GET", callers=PROVIDERS, section="mod_sessions", **_PAGED,
    ),
    _resource("cdrs", "cdr", "CDRs", (), "GET", callers=PROVIDERS, section="mod_cdrs", **_PAGED),
    _resource(
        "locations", "location", "Locations", (), "GET", callers=READERS, section="mod_locations", **_PAGED,
    ),
    _resource("locations", "location", "Location", ("location_id",), "GET", **_PART),
    _resource("locations", "evse", "EVSE", ("location_id", "evse_uid"), "GET", **_PART),
    _resource(
        "locations", "connector", "Connector", ("location_id", "evse_uid", "connector_id"), "GET", **_PART,
    ),
    _resource("tariffs", "tariff", "Tariffs", (), "GET", callers=READERS, section="mod_tariffs", **_PAGED),
    _resource("tokens", "token", "Tokens", (), "GET", callers=_OPERATORS, section="mod_tokens", **_PAGED),
    _resource(
        "tokens", "token", "Authorization", ("token_uid", "=authorize"), "POST",
        callers=_OPERATORS, section="mod_tokens", role="sender", handler="authorizations", query=("type",),
        optional_body=True, sends="location_references", answers="authorization_info", outcomes=_AUTHORIZED,
    ),
    _resource(
        "hubclientinfo", "client_info", "ClientInfos", (), "GET",
        callers=ANYBODY, section="mod_hub_client_info", versions=SINCE_221, **_PAGED,
    ),
    _resource(
        "hubclientinfo", "client_info", "ClientInfo", _CLIENT, "GET",
        callers=ANYBODY, section="mod_hub_client_info", versions=SINCE_221, handler="client_infos",
        topic="client-info",
        outcomes=(
            Outcome(200, 1000, "the object, as it was acknowledged last"),
            Outcome(404, 2000, "no such object, or the caller is no hub"),
        ),
    ),
    _resource(
        "hubclientinfo", "client_info", "ClientInfo", _CLIENT, "PUT",
        callers=ANYBODY, section="mod_hub_client_info", versions=SINCE_221, handler="client_infos",
        topic="client-info",
        outcomes=(
            Outcome(200, 1000, "kept; replaced it, or is older than what is known and did not"),
            Outcome(200, 2001, "a party that is connected to us itself"),
            Outcome(201, 1000, "kept; it is new"),
            Outcome(404, 2000, "the caller is no hub"),
        ),
    ),
    _resource(
        "payments", "terminal", "Terminals", (_TERMINALS,), "GET",
        callers=("CPO",), store="terminals", **_PAYMENTS, **_PAGED,
    ),
    _resource(
        "payments", "terminal", "Terminal", (_TERMINALS, "terminal_id"), "GET",
        callers=("CPO",), role="sender", handler="terminals", outcomes=(*_READ, _MANY), **_PAYMENTS,
    ),
    _resource(
        "payments", "terminal", "Terminal", (_TERMINALS, "terminal_id"), "PUT PATCH",
        callers=("CPO",), role="sender", handler="terminals", sends="terminal_update",
        outcomes=(
            Outcome(200, 1000, "kept, and brought to the provider; changes the fields that it names"),
            Outcome(404, 2000, "no such object for the caller"),
            _MANY,
        ),
        **_PAYMENTS,
    ),
    _resource(
        "payments", "", "Activation of a terminal", (_TERMINALS, "=activate"), "POST",
        callers=("CPO",), role="sender", handler="terminals_activated", sends="terminal_update",
        outcomes=_PTP_ASKED, **_PAYMENTS,
    ),
    _resource(
        "payments", "", "Deactivation of a terminal", (_TERMINALS, "terminal_id", "=deactivate"), "POST",
        callers=("CPO",), role="sender", handler="terminals_deactivated", optional_body=True,
        outcomes=(*_PTP_ASKED, Outcome(404, 2000, "no such object for the caller")), **_PAYMENTS,
    ),
    _resource(
        "payments", "terminal", "Terminal", (_TERMINALS,), "POST",
        callers=("PTP",), handler="terminals_created", sends="new_terminal", outcomes=_STATED, **_PAYMENTS,
    ),
    _resource(
        "payments", "terminal", "Terminal", (_TERMINALS, "terminal_id"), "GET",
        callers=("PTP",), handler="terminals_here", outcomes=_READ, **_PAYMENTS,
    ),
    _resource(
        "payments", "financial_advice_confirmation", "Financial Advice Confirmations", (_CONFIRMATIONS,),
        "GET", callers=("CPO",), store="confirmations", **_PAYMENTS, **_PAGED,
    ),
    _resource(
        "payments", "financial_advice_confirmation", "Financial Advice Confirmation",
        (_CONFIRMATIONS, "financial_advice_confirmation_id"), "GET",
        callers=("CPO",), role="sender", handler="confirmations", outcomes=(*_READ, _MANY), **_PAYMENTS,
    ),
    _resource(
        "payments", "financial_advice_confirmation", "Financial Advice Confirmation", (_CONFIRMATIONS,),
        "POST", callers=("PTP",), handler="confirmations_created", outcomes=_STATED, **_PAYMENTS,
    ),
    _resource(
        "payments", "financial_advice_confirmation", "Financial Advice Confirmation",
        (_CONFIRMATIONS, "financial_advice_confirmation_id"), "GET",
        callers=("PTP",), handler="confirmations_here", outcomes=_READ, **_PAYMENTS,
    ),
    _resource(
        "invoicereconciliation", "invoice_reconciliation", "InvoiceReconciliationRecords", (), "GET",
        callers=_PARTNERS, section="mod_invoice_reconciliation", versions=_230, **_PAGED,
    ),
    _resource(
        "invoicereconciliation", "invoice_reconciliation", "InvoiceReconciliationRecord", (*OWNER, "id"),
        "GET DELETE", **_RECORDS,
    ),
    _resource(
        "invoicereconciliation", "invoice_reconciliation", "InvoiceReconciliationRecord", (*OWNER, "id"),
        "PUT",
        outcomes=(
            Outcome(200, 1000, "kept; replaced it, or is older than what is known and did not"),
            Outcome(200, 2002, "it cannot be told whom it is for"),
            Outcome(200, 4001, "the party that is named is not known"),
            Outcome(201, 1000, "kept; it is new"),
        ),
        **_RECORDS,
    ),
    _resource(
        "invoicereconciliation", "invoice_reconciliation", "InvoiceReconciliationRecord", (*OWNER, "id"),
        "POST", creates=True,
        outcomes=(
            Outcome(200, 1000, "known already with the same content; nothing changed"),
            Outcome(200, 2002, "it cannot be told whom it is for"),
            Outcome(200, 4001, "the party that is named is not known"),
            Outcome(201, 1000, "kept; Location says where it can be read"),
            Outcome(403, 2001, "the body's party is not the sender's"),
        ),
        **_RECORDS,
    ),
)  # fmt: skip


def routes_of(resources: tuple[Resource, ...]) -> tuple[Route, ...]:
    """The routes of some resources, by version, in the order of the resources."""
    return tuple(
        Route(version, resource, method, () if resource.creates else resource.ids)
        for version in VERSIONS
        for resource in resources
        if version in resource.versions
        for method in resource.methods
    )


ROUTES = routes_of(RESOURCES)
