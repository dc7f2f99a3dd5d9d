"""What the door answers, said twice from one table: as OpenAPI, and as the rows of `docs/ocpi.md`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from api import pricing
from api.answers import Status
from api.ingress import TOKEN_TYPES
from api.pages import LARGEST_PAGE
from api.routes import ROUTES, VERSIONS, Outcome, Route
from schemas.ocpi import wire

_ANY = (
    Outcome(400, Status.CLIENT_ERROR, "X-Request-ID or X-Correlation-ID is longer than 255 characters"),
    Outcome(401, Status.CLIENT_ERROR, "no Authorization header, or a token that nobody holds"),
    Outcome(
        404,
        Status.CLIENT_ERROR,
        "the URL's party and role are not the sender's, or there is no such endpoint",
    ),
    Outcome(429, Status.CLIENT_ERROR, "too many requests of this partner; Retry-After says when"),
    Outcome(500, Status.SERVER_ERROR, "a defect of ours; X-Request-ID finds it in our log"),
    Outcome(
        503, Status.SERVER_ERROR, "Kafka does not answer, or too much is in flight; Retry-After says when"
    ),
)
_OTHER_METHODS = Outcome(405, Status.CLIENT_ERROR, "the URL has no such method; Allow names those it has")
_BODY = (
    Outcome(
        200,
        Status.INVALID_PARAMETERS,
        "the body is no valid object, or another than the URL's; names the field",
    ),
    Outcome(400, Status.INVALID_PARAMETERS, "the body is missing or no JSON"),
    Outcome(400, Status.CLIENT_ERROR, "the body broke off"),
    Outcome(408, Status.CLIENT_ERROR, "the body did not arrive in time"),
    Outcome(413, Status.INVALID_PARAMETERS, "the body is too large"),
    Outcome(415, Status.CLIENT_ERROR, "the Content-Type is not application/json"),
)


def outcomes(route: Route) -> list[Outcome]:
    """Every way in which a request to a route can end."""
    common = _ANY + _BODY if route.method in ("PUT", "PATCH", "POST") else _ANY
    return sorted((*_own_outcomes(route), *common))


def _own_outcomes(route: Route) -> list[Outcome]:
    """Those that not every route has."""
    resource = route.resource
    if resource.outcomes:
        return list(resource.outcomes)
    unknown = Outcome(404, resource.unknown, "no such object")
    match route.method:
        case "GET":
            own = [Outcome(200, Status.SUCCESS, "the object, as it was acknowledged last"), unknown]
        case "PUT":
            own = [
                Outcome(200, Status.SUCCESS, "kept; replaced it, or is older than what is known and did not"),
                Outcome(201, Status.SUCCESS, "kept; it is new"),
            ]
            if len(route.ids) > 3:
                own.append(Outcome(404, resource.unknown, "there is nothing above it to put it under"))
        case "PATCH":
            own = [
                Outcome(
                    200, Status.SUCCESS, "kept; merged into it, or is older than what is known and was not"
                ),
                unknown,
            ]
        case "DELETE":
            own = [Outcome(200, Status.SUCCESS, "kept; it is gone"), unknown]
        case _:
            own = [
                Outcome(201, Status.SUCCESS, "kept; Location says where it can be read"),
                Outcome(200, Status.SUCCESS, "known already with the same content; nothing changed"),
                Outcome(403, Status.INVALID_PARAMETERS, "the body's party is not the sender's"),
            ]
    own.append(Outcome(200, Status.UNKNOWN_RECEIVER, "the party that is named is not known"))
    if "type" in resource.query:
        own.append(Outcome(200, Status.INVALID_PARAMETERS, "`type` can be no TokenType"))
    return own


_PRICED = Outcome(200, Status.SUCCESS, "what docs/pricing.md says; nothing is stored")
_VERSIONS = Outcome(200, Status.SUCCESS, "the versions, or the endpoints of one")


def markdown() -> str:
    """The tables of `docs/ocpi.md`: every route, and how each can end."""
    routes: dict[tuple[str, str], tuple[list[str], str, list[Outcome]]] = {
        ("GET", f"/ocpi/{name}"): (list(VERSIONS), "any", [_VERSIONS]) for name in ("versions", "{version}")
    }
    for route in ROUTES:
        path = route.path.replace(f"/{route.version}/", "/{version}/")
        owner = ", ".join(route.resource.callers)
        routes.setdefault((route.method, path), ([], owner, _own_outcomes(route)))[0].append(route.version)
    lines = ["| Method | URL | Versions | From | Its own answers (HTTP/OCPI) |", "|---|---|---|---|---|"]
    methods: dict[Outcome, dict[str, None]] = {}
    for (method, path), (versions, owner, ways) in routes.items():
        codes = ", ".join(dict.fromkeys(f"{one.http}/{one.ocpi}" for one in sorted(ways)))
        lines.append(f"| {method} | `{path}` | {', '.join(versions)} | {owner} | {codes} |")
        for one in ways:
            methods.setdefault(one, {})[method] = None
    rows = [(one, ", ".join(found)) for one, found in methods.items()]
    rows += [(one, "PUT, PATCH, POST") for one in _BODY]
    rows += [(one, "all") for one in _ANY] + [(_OTHER_METHODS, "others")]
    lines += ["", "| HTTP | OCPI | Method | When |", "|---|---|---|---|"]
    lines += [f"| {one.http} | {one.ocpi} | {found} | {one.when} |" for one, found in sorted(rows)]
    return "\n".join(lines) + "\n"


_HEADERS = {
    name: {"schema": {"type": "string"}, "description": "As in the request; made when it had none."}
    for name in ("X-Request-ID", "X-Correlation-ID")
}
_RETRY = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
_LOCATION = {"Location": {"schema": {"type": "string", "format": "uri"}, "description": "The CDR's URL."}}
_ENVELOPE = {
    "type": "object",
    "required": ["status_code", "timestamp"],
    "properties": {
        "data": {},
        "status_code": {"type": "integer", "description": "OCPI status code."},
        "status_message": {"type": "string"},
        "timestamp": {"type": "string", "format": "date-time"},
    },
}


def _answers(found: Iterable[Outcome], data: dict[str, Any] | None) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for one in found:
        schema: dict[str, Any] = {"$ref": "#/components/schemas/Envelope"}
        if one.ocpi == Status.SUCCESS and data is not None:
            schema = {"allOf": [schema, {"type": "object", "properties": {"data": data}}]}
        answer = answers.setdefault(
            str(one.http),
            {
                "description": "",
                "headers": dict(_HEADERS),
                "content": {"application/json": {"schema": schema}},
            },
        )
        answer["description"] += f"{one.ocpi}: {one.when}. "
        if one.http in (429, 503):
            answer["headers"] |= _RETRY
        if one.http in (200, 201) and one.when.startswith(("kept; Location", "known already")):
            answer["headers"] |= _LOCATION
    for answer in answers.values():
        answer["description"] = answer["description"].strip()
    return answers


def _operation(route: Route) -> dict[str, Any]:
    resource = route.resource
    schema = _schema(route, resource.sends)
    answered: dict[str, Any] | None = _schema(route, resource.answers)
    if resource.handler in _WRITERS and route.method != "GET":
        answered = None
    if resource.listed:
        answered = {"type": "array", "items": answered}
    operation: dict[str, Any] = {
        "tags": [f"{resource.module} {route.version}"],
        "summary": f"{route.method} {resource.title}",
        "description": f"OCPI {route.version}, chapter {resource.section}, {resource.role} interface.",
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}"),
        "security": [{"token": []}],
        "parameters": [
            *(
                {
                    "name": name,
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "minLength": 1, "maxLength": _LENGTHS.get(name, 36)},
                    "description": "CiString, percent-encoded.",
                }
                for name in route.ids
                if not name.startswith("=")
            ),
            *(_QUERY[name] for name in resource.query),
            *_IDS,
        ],
        "responses": _answers(outcomes(route), answered),
    }
    if resource.listed:
        operation["responses"]["200"]["headers"] |= _PAGING
    if route.method in ("PUT", "POST"):
        required = not resource.optional_body
        operation["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": schema}},
        }
    elif route.method == "PATCH":
        patch = {
            "type": "object",
            "required": [] if resource.kind == "terminal" else ["last_updated"],
            "properties": {"last_updated": {"type": "string", "format": "date-time"}},
            "description": f"The fields of {resource.title} that change.",
        }
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": patch}}}
    return operation


def _schema(route: Route, kind: str) -> dict[str, Any]:
    """The schema of a kind, by default that of the route's objects; without one, any object."""
    kind = kind or route.resource.kind
    if not kind:
        return {"type": "object"}
    return {"$ref": f"#/components/schemas/{wire.schema_name(kind, route.version)}"}


_WRITERS = (
    *("objects", "client_infos", "terminals", "terminals_created", "terminals_activated"),
    *("terminals_deactivated", "confirmations_created", "reconciliation"),
)
"""Handlers that answer a write without data."""
_LENGTHS = {
    "country_code": 2,
    "party_id": 3,
    "client_country_code": 2,
    "client_party_id": 3,
    "cdr_id": 39,
}
_TYPE = {
    "name": "type",
    "in": "query",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "examples": list(TOKEN_TYPES)},
    "description": "TokenType; without it an RFID token, and if there is none, another of those named here.",
}
_PAGING = {
    "Link": {"schema": {"type": "string"}, "description": "Where the next page is, if there is one."},
    "X-Total-Count": {"schema": {"type": "integer"}, "description": "How many objects match in all."},
    "X-Limit": {"schema": {"type": "integer"}, "description": "How many objects a page may have."},
}
_DATE = {"in": "query", "required": False, "schema": {"type": "string", "format": "date-time"}}
_QUERY = {
    "type": _TYPE,
    "date_from": {
        **_DATE,
        "name": "date_from",
        "description": "Only objects with this last_updated or a later one.",
    },
    "date_to": {
        **_DATE,
        "name": "date_to",
        "description": "Only objects with an earlier last_updated.",
    },
    "offset": {
        "name": "offset",
        "in": "query",
        "required": False,
        "schema": {"type": "integer", "minimum": 0, "default": 0},
        "description": "How many objects come before the page.",
    },
    "limit": {
        "name": "limit",
        "in": "query",
        "required": False,
        "schema": {"type": "integer", "minimum": 1, "default": LARGEST_PAGE},
        "description": f"The most objects on a page, of which {LARGEST_PAGE} is the limit.",
    },
    "duration": {
        "name": "duration",
        "in": "query",
        "required": False,
        "schema": {"type": "integer", "minimum": 0},
        "description": "Seconds of the active profile that are wanted.",
    },
    "response_url": {
        "name": "response_url",
        "in": "query",
        "required": True,
        "schema": {"type": "string", "format": "uri"},
        "description": "Where the result is wanted: on a host that the caller has registered with.",
    },
}
_IDS = [
    {
        "name": name,
        "in": "header",
        "required": False,
        "schema": {"type": "string", "maxLength": 255},
        "description": "A GUID; echoed, and kept with what was said.",
    }
    for name in ("X-Request-ID", "X-Correlation-ID")
]


def document(base: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document: `base` (FastAPI's, of the plain routes) with every route of the table."""
    paths = base.setdefault("paths", {})
    for name in ("versions", *VERSIONS):
        paths[f"/ocpi/{name}"] = {
            "get": {
                "tags": ["versions"],
                "summary": "Versions" if name == "versions" else f"Endpoints of {name}",
                "operationId": f"get_{name.replace('.', '_')}",
                "security": [{"token": []}],
                "parameters": _IDS,
                "responses": _answers(sorted((_VERSIONS, *_ANY)), {}),
            }
        }
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    for path, (summary, description, schema) in pricing.operations().items():
        paths[path] = {
            "post": {
                "tags": ["pricing"],
                "summary": summary,
                "description": description,
                "operationId": path.strip("/").replace("/", "_"),
                "security": [{"token": []}],
                "parameters": _IDS,
                "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
                "responses": _answers(sorted((_PRICED, *_BODY, *_ANY)), {"type": "object"}),
            }
        }
    components = base.setdefault("components", {})
    components["securitySchemes"] = {
        "token": {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Token `, then the credentials token in Base64.",
        }
    }
    schemas = components.setdefault("schemas", {})
    schemas["Envelope"] = _ENVELOPE
    for version in VERSIONS:
        schemas |= wire.schemas(version)
    return base
