"""The OpenAPI components that wire makes of its structs."""

import json
import re

import pytest

from schemas.ocpi import wire


@pytest.mark.parametrize("version", wire.VERSIONS)
def test_every_reference_is_to_a_component_of_the_same_version(version: str) -> None:
    components = wire.schemas(version)
    for kind in (kind for kind, its in wire.SPOKEN if its == version):
        assert wire.schema_name(kind, version) in components
    references = set(re.findall(r'"#/components/schemas/([^"]*)"', json.dumps(components)))
    assert references <= components.keys()
    assert all(re.fullmatch(rf"[A-Za-z]+-{re.escape(version)}", name) for name in components)


def test_what_a_version_has_not_is_not_looked_for() -> None:
    for kind, version in (("terminal", "2.2.1"), ("cancel_reservation", "2.1.1"), ("client_info", "2.1.1")):
        with pytest.raises(LookupError, match=kind):
            wire.schema_name(kind, version)
        with pytest.raises(LookupError, match=kind):
            wire.decode(kind, version, b"{}")


def test_what_a_component_says() -> None:
    components = wire.schemas("2.3.0")
    session = components["Session-2.3.0"]
    assert session["properties"]["id"] == {
        "type": "string", "minLength": 1, "maxLength": 36, "pattern": "^[ -~]*$",
    }  # fmt: skip
    assert session["properties"]["kwh"]["type"] == "number"
    assert session["properties"]["last_updated"] == {"type": "string", "format": "date-time"}
    assert "charging_periods" not in session["required"]
    assert "total_cost" not in session["required"]
    assert components["TaxIncluded-2.3.0"]["enum"] == ["N/A", "NO", "YES"]


def test_versions_do_not_meet() -> None:
    assert not wire.schemas("2.3.0").keys() & wire.schemas("2.2.1").keys()
    assert "excl_vat" in wire.schemas("2.2.1")["Price-2.2.1"]["properties"]
    assert "before_taxes" in wire.schemas("2.3.0")["Price-2.3.0"]["properties"]
