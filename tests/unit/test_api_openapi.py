"""The OpenAPI document and docs/ocpi.md say what the door does: every route, no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.config import ApiConfig
from api.door import endpoints
from api.openapi import markdown
from api.partners import ROLES
from api.routes import ROUTES, VERSIONS
from api.server import create_app
from schemas.topics import Topics

ROOT = Path(__file__).parent.parent.parent
METHODS = {"get", "put", "patch", "post", "delete", "head", "options", "trace"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document that /openapi.json answers."""
    found: dict[str, Any] = create_app(ApiConfig("localhost:1", Topics(), Path("unused"))).openapi()
    return found


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert method in METHODS
            yield method.upper(), path, operation


def _all(value: Any, name: str) -> Iterator[Any]:
    """Every value of a field, however deep."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == name:
                yield item
            yield from _all(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _all(item, name)


def test_every_route_is_in_it_and_no_other(document: dict[str, Any]) -> None:
    """Those of the table, the versions, pricing, and the two plain ones."""
    expected = {(route.method, route.path) for route in ROUTES}
    expected |= {("GET", f"/ocpi/{name}") for name in ("versions", *VERSIONS)}
    expected |= {("GET", "/health"), ("GET", "/metrics")}
    expected |= {("POST", f"/pricing/{name}") for name in ("price", "estimate", "lint")}
    assert {(method, path) for method, path, _ in _operations(document)} == expected


def test_the_table_has_what_the_specification_has() -> None:
    """The methods of the five modules' receiver interfaces, the same in both versions."""
    found = {
        (r.version, r.resource.kind, r.method)
        for r in ROUTES
        if r.resource.handler == "objects" and r.resource.role == "receiver"
    }
    assert found == {
        (version, kind, method)
        for version in VERSIONS
        for kind, methods in {
            "session": "GET PUT PATCH",
            "cdr": "GET POST",
            "location": "GET PUT PATCH",
            "evse": "GET PUT PATCH",
            "connector": "GET PUT PATCH",
            "tariff": "GET PUT DELETE",
            "token": "GET PUT PATCH",
        }.items()
        for method in methods.split()
    }


def test_it_hangs_together(document: dict[str, Any]) -> None:
    """Every reference leads somewhere, every operation has an id of its own and declares its parameters."""
    assert document["openapi"].startswith("3.1")
    references = set(_all(document, "$ref"))
    assert references
    for reference in references:
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
    ids = [operation["operationId"] for _, _, operation in _operations(document)]
    assert len(ids) == len(set(ids))
    for _, path, operation in _operations(document):
        declared = [one["name"] for one in operation.get("parameters", []) if one["in"] == "path"]
        assert [f"{{{name}}}" for name in declared] == [part for part in path.split("/") if "{" in part]
        if path.startswith("/ocpi/"):
            assert operation["security"] == [{"token": []}]
            assert {"200", "401", "404", "429", "503"} <= operation["responses"].keys()


def test_bodies_and_answers_have_schemas(document: dict[str, Any]) -> None:
    """Of the very version: 2.2.1's prices are excl_vat, 2.3.0's before_taxes."""
    put = document["paths"]["/ocpi/2.2.1/receiver/sessions/{country_code}/{party_id}/{session_id}"]["put"]
    schema = put["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/Session-2.2.1"}
    schemas = document["components"]["schemas"]
    assert "excl_vat" in schemas["Price-2.2.1"]["properties"]
    assert "before_taxes" in schemas["Price-2.3.0"]["properties"]


def test_the_tables_of_the_documentation() -> None:
    """docs/ocpi.md ends with them."""
    text = (ROOT / "docs" / "ocpi.md").read_text("utf-8")
    assert text.partition("<!-- tables -->\n\n")[2] == markdown()


@pytest.mark.parametrize("version", VERSIONS)
def test_version_details_list_what_the_caller_may_call(version: str) -> None:
    """For each role its interfaces and no other; in 2.1.1, which names none, one endpoint a module."""
    for role in ROLES:
        found = endpoints(version, frozenset({role}), "https://us.example")
        assert found[0]["identifier"] == "credentials"
        listed = {one["url"].removeprefix("https://us.example") for one in found}
        for route in ROUTES:
            if route.version == version and route.resource.module != "credentials":
                base = f"/ocpi/{version}/{route.resource.role}/{route.resource.module}"
                if role in route.resource.callers:
                    assert base in listed
        callable_ = {
            (route.resource.role, route.resource.module)
            for route in ROUTES
            if route.version == version and role in route.resource.callers
        }
        assert len(found) == len(callable_)
        if version == "2.1.1":
            assert all("role" not in one for one in found)
            if role in ("CPO", "EMSP"):
                assert len({one["identifier"] for one in found}) == len(found)
        else:
            assert {one["role"] for one in found} <= {"SENDER", "RECEIVER"}
