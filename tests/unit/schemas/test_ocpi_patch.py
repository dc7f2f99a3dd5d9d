"""PATCH: what is named changes, charging periods are added, the rest stays."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.ocpi import objects, wire
from tests import strategies

EXAMPLES = Path(__file__).parents[2] / "data" / "ocpi-examples"
SESSION = wire.decode(
    "session", "2.3.0", (EXAMPLES / "2.3.0" / "session_example_2_short_finished.json").read_bytes()
)
LOCATION = wire.decode("location", "2.3.0", (EXAMPLES / "2.3.0" / "location_example.json").read_bytes())
LATER = "2026-01-01T00:00:00Z"


def patched(current: Any, kind: str = "session", version: str = "2.3.0", **fields: Any) -> Any:
    fields.setdefault("last_updated", LATER)
    return wire.apply_patch(kind, version, current, json.dumps(fields).encode())


def refused(
    path: str, current: object, kind: str = "session", version: str = "2.3.0", **fields: object
) -> str:
    with pytest.raises(wire.InvalidObjectError) as caught:
        patched(current, kind, version, **fields)
    assert caught.value.path == path
    return caught.value.message


PERIOD = {"start_date_time": "2026-01-01T00:00:00", "dimensions": [{"type": "ENERGY", "volume": 1.5}]}


def test_fields_replace_and_the_rest_stays() -> None:
    new = patched(SESSION, status="INVALID", kwh=0.1)
    assert new == msgspec.structs.replace(
        SESSION,
        status=objects.SessionStatus.INVALID,
        kwh=Decimal("0.1"),
        last_updated=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_charging_periods_are_added_in_their_order() -> None:
    new = patched(SESSION, charging_periods=[PERIOD, PERIOD])
    assert new.charging_periods[:3] == SESSION.charging_periods
    assert [p.dimensions[0].volume for p in new.charging_periods[3:]] == [Decimal("1.5"), Decimal("1.5")]
    assert len(SESSION.charging_periods) == 3, "the object that was patched is as it was"


@pytest.mark.parametrize("nothing", [[], None])
def test_no_charging_periods_change_none(nothing: object) -> None:
    assert patched(SESSION, charging_periods=nothing).charging_periods == SESSION.charging_periods


def test_last_updated_is_required() -> None:
    with pytest.raises(wire.InvalidObjectError) as caught:
        wire.apply_patch("session", "2.3.0", SESSION, b'{"kwh":1}')
    assert caught.value.path == "last_updated"
    assert "required" in refused("last_updated", SESSION, last_updated=None)


def test_null_removes_what_is_optional() -> None:
    new = patched(SESSION, end_date_time=None, total_cost=None)
    assert (new.end_date_time, new.total_cost) == (None, None)
    assert patched(LOCATION, "location", facilities=None, directions=None).facilities == []


def test_null_does_not_remove_what_is_required() -> None:
    assert "required" in refused("kwh", SESSION, kwh=None)
    assert "required" in refused("time_zone", LOCATION, "location", time_zone=None)


def test_an_error_is_told_with_its_path_in_the_body() -> None:
    bad = PERIOD | {"dimensions": [{"type": "ENERGY", "volume": 1}, {"type": "NONE", "volume": 1}]}
    message = refused("charging_periods[1].dimensions[1].type", SESSION, charging_periods=[PERIOD, bad])
    assert "'NONE' is none of CURRENT, ENERGY" in message
    refused("total_cost.before_taxes", SESSION, total_cost={"before_taxes": "NaN"})
    refused("kwh", SESSION, kwh=1e30)
    refused("last_updated", SESSION, last_updated="2026-01-01T00:00:00+01:00")
    refused("id", SESSION, id="é")
    refused("charging_periods[0].tariff_id", SESSION, charging_periods=[PERIOD | {"tariff_id": "\n"}])


def test_lists_other_than_charging_periods_are_replaced() -> None:
    new = patched(LOCATION, "location", facilities=["WIFI"])
    assert new.facilities == ["WIFI"]
    assert patched(LOCATION.evses[0].connectors[0], "connector", tariff_ids=["15"]).tariff_ids == ["15"]


def test_what_is_not_known_is_ignored() -> None:
    assert patched(SESSION, wishes=[1]) == patched(SESSION)


def test_a_patch_of_2_2_1_leaves_alone_what_that_version_cannot_say() -> None:
    taxed = msgspec.structs.replace(
        SESSION,
        total_cost=objects.Price(
            before_taxes=Decimal(10),
            taxes=[
                objects.TaxAmount(name="GST", amount=Decimal(1), percentage=Decimal(10)),
                objects.TaxAmount(name="QST", amount=Decimal(2), account_number="7"),
            ],
        ),
    )
    assert patched(taxed, version="2.2.1", kwh=50).total_cost == taxed.total_cost
    new = patched(taxed, version="2.2.1", total_cost={"excl_vat": 4, "incl_vat": 4.4})
    assert new.total_cost.taxes == [objects.TaxAmount(name="VAT", amount=Decimal("0.4"))]
    assert patched(LOCATION, "location", "2.2.1", name="X").parking_places == LOCATION.parking_places


def test_a_patch_of_2_1_1_speaks_its_own_names() -> None:
    new = patched(SESSION, version="2.1.1", end_datetime=LATER, total_cost=3, auth_id="X")
    assert new.end_date_time.isoformat() == "2026-01-01T00:00:00+00:00"
    assert new.total_cost == objects.Price(before_taxes=Decimal(3))
    assert new.cdr_token.contract_id == "X"
    assert (new.location_id, new.country_code) == (SESSION.location_id, SESSION.country_code)
    assert new.charging_periods == SESSION.charging_periods
    more = patched(SESSION, version="2.1.1", charging_periods=[PERIOD])
    assert len(more.charging_periods) == 4
    assert more.charging_periods[2].tariff_id == "12", "what 2.1.1 cannot say of earlier periods is kept"


@given(strategies.sessions, strategies.sessions)
@settings(max_examples=40, deadline=None)
def test_a_patch_of_everything_is_the_other_session_with_all_periods(
    one: objects.Session, other: objects.Session
) -> None:
    body = wire.encode("session", "2.3.0", other)
    new = wire.apply_patch("session", "2.3.0", one, body)
    said = json.loads(body)
    for field in objects.Session.__struct_fields__:
        expected = getattr(other if field in said else one, field)
        if field == "charging_periods":
            expected = one.charging_periods + other.charging_periods
        assert getattr(new, field) == expected


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_an_empty_patch_changes_nothing_in_any_version(data: st.DataObject) -> None:
    kind, version = data.draw(st.sampled_from([pair for pair in wire.SPOKEN if pair[0] in wire.PATCHED]))
    found = data.draw(strategies.canonical(kind))
    body = json.dumps({"last_updated": found.last_updated.isoformat().replace("+00:00", "Z")}).encode()
    assert wire.apply_patch(kind, version, found, body) == found
