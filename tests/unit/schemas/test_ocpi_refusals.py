"""Bad bodies are refused with the path of the field, and nothing else ever happens."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.ocpi import objects, wire

EXAMPLES = Path(__file__).parents[2] / "data" / "ocpi-examples"
SESSION = (EXAMPLES / "2.3.0" / "session_example_2_short_finished.json").read_bytes()
CDR = (EXAMPLES / "2.3.0" / "cdr_example.json").read_bytes()
TARIFF = (EXAMPLES / "2.3.0" / "tariff_12_025kwh_min_price.json").read_bytes()
LOCATION = (EXAMPLES / "2.3.0" / "location_example.json").read_bytes()
CDR_221 = (EXAMPLES / "2.2.1" / "cdr_example.json").read_bytes()
SESSION_211 = (EXAMPLES / "2.1.1" / "session_2_short_finished.json").read_bytes()
CREDENTIALS = (EXAMPLES / "2.3.0" / "credentials_example3.json").read_bytes()
TERMINAL = (EXAMPLES / "2.3.0" / "payment_terminal_example_assigned_locations.json").read_bytes()
CONFIRMATION = (EXAMPLES / "2.3.0" / "payment_financial_advice_confirmation_create.json").read_bytes()
TOKEN = json.loads((EXAMPLES / "2.3.0" / "token_example_2_full_rfid.json").read_bytes())
URL = "https://example.com/result/1"
START = json.dumps({"response_url": URL, "token": TOKEN, "location_id": "LOC1"}).encode()
PERIOD = {"start_period": 0, "limit": 8.1}
PROFILE = {"charging_rate_unit": "A", "charging_profile_period": [PERIOD]}
SET_PROFILE = json.dumps({"response_url": URL, "charging_profile": PROFILE}).encode()
RECORD = (
    b'{"country_code": "NL", "party_id": "TNM", "id": "R1", "invoice_id": "I-1", "cdrs": ["C1"],'
    b' "last_updated": "2026-04-01T00:00:00Z"}'
)
REMOVED = object()


def changed(body: bytes, path: list[str | int], value: Any) -> bytes:
    """A body with one field of it set to what is given (as raw JSON when it is bytes), or removed."""
    whole = json.loads(body)
    found = whole
    for step in path[:-1]:
        found = found[step]
    if value is REMOVED:
        del found[path[-1]]
        return json.dumps(whole).encode()
    found[path[-1]] = "@@" if isinstance(value, bytes) else value
    text = json.dumps(whole).encode()
    return text.replace(b'"@@"', value) if isinstance(value, bytes) else text


def refusal(kind: str, version: str, body: bytes) -> wire.InvalidObjectError:
    with pytest.raises(wire.InvalidObjectError) as caught:
        wire.decode(kind, version, body)
    return caught.value


DIMENSION: list[str | int] = ["charging_periods", 1, "dimensions", 0]
VOLUME, AT_VOLUME = [*DIMENSION, "volume"], "charging_periods[1].dimensions[0].volume"
TYPE, AT_TYPE = [*DIMENSION, "type"], "charging_periods[1].dimensions[0].type"
WRONG = [
    # enums, types, cardinalities
    ("session", SESSION, TYPE, "MAXX", AT_TYPE, "none of CURRENT"),
    ("session", SESSION, TYPE, 7, AT_TYPE, "Expected `str`"),
    ("session", SESSION, ["status"], "active", "status", "'active' is none of ACTIVE, COMPLETED"),
    ("session", SESSION, ["auth_method"], "", "auth_method", "none of"),
    ("session", SESSION, ["kwh"], REMOVED, "kwh", "required"),
    ("session", SESSION, ["kwh"], None, "kwh", "required"),
    ("session", SESSION, ["cdr_token"], None, "cdr_token", "required"),
    ("session", SESSION, ["cdr_token", "uid"], REMOVED, "cdr_token.uid", "required"),
    ("session", SESSION, ["cdr_token"], [], "cdr_token", "Expected `object`, got `array`"),
    ("session", SESSION, ["charging_periods"], {}, "charging_periods", "Expected `array`"),
    ("session", SESSION, [*DIMENSION[:2], "dimensions"], [], "charging_periods[1].dimensions", "length >= 1"),
    ("session", SESSION, [*DIMENSION], None, "charging_periods[1].dimensions[0]", "got `null`"),
    ("cdr", CDR, ["charging_periods"], [], "charging_periods", "length >= 1"),
    ("cdr", CDR, ["credit"], "true", "credit", "Expected `bool"),
    ("cdr", CDR, ["cdr_location", "connector_format"], "PLUG", "cdr_location.connector_format",
     "SOCKET, CABLE"),
    ("cdr", CDR, ["total_cost", "taxes", 0, "amount"], REMOVED, "total_cost.taxes[0].amount", "required"),
    ("cdr", CDR, ["tariffs", 0, "elements", 0, "price_components", 0, "step_size"], -1,
     "tariffs[0].elements[0].price_components[0].step_size", ">= 0"),
    ("tariff", TARIFF, ["tax_included"], "MAYBE", "tax_included", "YES, NO, N/A"),
    ("tariff", TARIFF, ["elements"], [], "elements", "length >= 1"),
    ("tariff", TARIFF, ["elements", 0, "restrictions"], {"start_time": "24:00"},
     "elements[0].restrictions.start_time", "regex"),
    ("tariff", TARIFF, ["elements", 0, "restrictions"], {"start_date": "2026-1-1"},
     "elements[0].restrictions.start_date", "regex"),
    ("tariff", TARIFF, ["elements", 0, "restrictions"], {"day_of_week": ["FRYDAY"]},
     "elements[0].restrictions.day_of_week[0]", "MONDAY"),
    ("location", LOCATION, ["evses", 0, "status"], "BROKEN", "evses[0].status", "none of AVAILABLE"),
    ("location", LOCATION, ["evses", 1, "connectors", 0, "max_voltage"], "230",
     "evses[1].connectors[0].max_voltage", "Expected `int`"),
    ("location", LOCATION, ["coordinates", "latitude"], "north", "coordinates.latitude", "regex"),
    ("location", LOCATION, ["parking_places", 2, "vehicle_types"], [], "parking_places[2].vehicle_types",
     ">= 1"),
    ("credentials", CREDENTIALS, ["token"], REMOVED, "token", "required"),
    ("credentials", CREDENTIALS, ["token"], "with space", "token", "regex"),
    ("credentials", CREDENTIALS, ["token"], "t" * 65, "token", "length <= 64"),
    ("credentials", CREDENTIALS, ["roles"], [], "roles", "length >= 1"),
    ("credentials", CREDENTIALS, ["roles", 0, "role"], "MSP", "roles[0].role", "none of CPO, EMSP"),
    ("start_session", START, ["connector_id"], "1", "evse_uid", "required where connector_id"),
    ("start_session", START, ["token", "valid"], REMOVED, "token.valid", "required"),
    ("start_session", START, ["response_url"], "u" * 256, "response_url", "length <= 255"),
    ("set_charging_profile", SET_PROFILE, ["charging_profile", "charging_rate_unit"], "kW",
     "charging_profile.charging_rate_unit", "W, A"),
    ("set_charging_profile", SET_PROFILE, ["charging_profile", "charging_profile_period", 0, "limit"],
     b"1e13", "charging_profile.charging_profile_period[0].limit", "12 digits"),
    ("terminal", TERMINAL, ["terminal_id"], REMOVED, "terminal_id", "required"),
    ("terminal", TERMINAL, ["last_updated"], REMOVED, "last_updated", "required"),
    ("terminal", TERMINAL, ["invoice_creator"], "EMSP", "invoice_creator", "CPO, PTP"),
    ("new_terminal", TERMINAL, ["terminal_id"], REMOVED, "terminal_id", "required"),
    ("terminal_update", TERMINAL, ["last_updated"], REMOVED, "last_updated", "required"),
    ("financial_advice_confirmation", CONFIRMATION, ["total_costs", "excl_vat"], REMOVED,
     "total_costs.before_taxes", "required"),
    ("financial_advice_confirmation", CONFIRMATION, ["total_costs", "before_taxes"], 4,
     "total_costs.excl_vat", "one of them"),
    ("financial_advice_confirmation", CONFIRMATION, ["capture_status_code"], "DONE", "capture_status_code",
     "SUCCESS, PARTIAL_SUCCESS, FAILED"),
    ("financial_advice_confirmation", CONFIRMATION, ["eft_data", 1], "", "eft_data[1]", "length >= 1"),
    ("invoice_reconciliation", RECORD, ["cdrs"], [], "cdrs", "length >= 1"),
    ("invoice_reconciliation", RECORD, ["cdrs"], ["1", "2" * 40], "cdrs[1]", "length <= 39"),
    ("invoice_reconciliation", RECORD, ["invoice_id"], "é", "invoice_id", "printable ASCII"),
    # lengths and characters
    ("session", SESSION, ["id"], "1" * 37, "id", "length <= 36"),
    ("session", SESSION, ["id"], "", "id", "length >= 1"),
    ("session", SESSION, ["party_id"], "FOUR", "party_id", "length <= 3"),
    ("session", SESSION, ["id"], "1\n", "id", "printable ASCII"),
    ("session", SESSION, ["id"], "é", "id", "printable ASCII"),
    ("session", SESSION, ["id"], "\x7f", "id", "printable ASCII"),
    ("session", SESSION, ["cdr_token", "contract_id"], "a\tb", "cdr_token.contract_id", "printable ASCII"),
    ("session", SESSION, ["charging_periods", 2, "tariff_id"], "\u0000", "charging_periods[2].tariff_id",
     "ASCII"),
    ("location", LOCATION, ["evses", 1, "connectors", 0, "tariff_ids"], ["1", "ü"],
     "evses[1].connectors[0].tariff_ids[1]", "printable ASCII"),
    ("cdr", CDR, ["id"], "1" * 40, "id", "length <= 39"),
    ("cdr", CDR, ["cdr_location", "address"], "x" * 46, "cdr_location.address", "length <= 45"),
    # numbers
    ("session", SESSION, VOLUME, b"1e400", AT_VOLUME, "12 digits"),
    ("session", SESSION, VOLUME, b"1e-400", AT_VOLUME, "40 decimals"),
    ("session", SESSION, VOLUME, b"0e-400", AT_VOLUME, "40 decimals"),
    ("session", SESSION, VOLUME, b"1e99999999999999999999",
     AT_VOLUME, "decimal"),
    ("session", SESSION, VOLUME, b"9" * 5000, AT_VOLUME, "12 digits"),
    ("session", SESSION, VOLUME, "NaN", AT_VOLUME, "not a number"),
    ("session", SESSION, VOLUME, "NaN123", AT_VOLUME, "not a number"),
    ("session", SESSION, VOLUME, "-Infinity", AT_VOLUME, "not a"),
    ("session", SESSION, VOLUME, True, AT_VOLUME, "got `bool`"),
    ("session", SESSION, ["kwh"], b"1000000000000", "kwh", "12 digits"),
    ("session", SESSION, ["kwh"], "many", "kwh", "Invalid decimal"),
    ("cdr", CDR, ["total_energy"], b"-1e12", "total_energy", "12 digits"),
    ("tariff", TARIFF, ["min_price", "after_taxes"], b"1e13", "min_price.after_taxes", "12 digits"),
    # timestamps
    ("session", SESSION, ["last_updated"], "yesterday", "last_updated", "RFC3339"),
    ("session", SESSION, ["last_updated"], "2026-01-01", "last_updated", "RFC3339"),
    ("session", SESSION, ["last_updated"], 1767225600, "last_updated", "Expected `datetime`, got `int`"),
    ("session", SESSION, ["last_updated"], "2026-01-01T00:00:00+02:00", "last_updated", "UTC"),
    ("session", SESSION, ["last_updated"], "2026-02-30T00:00:00Z", "last_updated", "RFC3339"),
    ("session", SESSION, ["charging_periods", 1, "start_date_time"], "2026-01-01T00:00:00-05:00",
     "charging_periods[1].start_date_time", "UTC"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "body", "where", "value", "path", "says"),
    WRONG,
    ids=[f"{row[0]}-{row[4]}-{str(row[3])[:20]!r}" for row in WRONG],
)
def test_a_wrong_field_is_named(
    kind: str, body: bytes, where: list[str | int], value: Any, path: str, says: str
) -> None:
    error = refusal(kind, "2.3.0", changed(body, where, value))
    assert error.path == path
    assert says in error.message
    assert str(error) == f"{path}: {error.message}"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (SESSION[:-30], "truncated"),
        (SESSION + b"{}", "malformed"),
        (b"null", "Expected `object`, got `null`"),
        (b"[]", "Expected `object`, got `array`"),
        (b"7", "Expected `object`"),
        (b"\xff\xfe", "malformed"),
        (SESSION.replace(b'"101"', b'"\xff\xff"'), "UTF-8"),
        (b'{"x":' * 100_000, "deeply"),
        (b'{"x":' + b"[" * 100_000, "deeply"),
        (SESSION.replace(b"41.12", b"NaN"), "malformed"),
        (SESSION.replace(b"41.12", b"041.12"), "malformed"),
        (SESSION.replace(b'"101"', b'"1\n01"'), "malformed"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_a_body_that_is_no_object(body: bytes, says: str) -> None:
    error = refusal("session", "2.3.0", body)
    assert error.path == ""
    assert says in error.message


@pytest.mark.parametrize("depth", [100, 500, 900, 100_000])
def test_depth_is_harmless_where_nobody_looks(depth: int) -> None:
    """What is not known may be as deep as the stack allows; it is read or refused, and nothing else."""
    deep = b"[" * depth + b"null" + b"]" * depth
    body = changed_text(SESSION, b'"kwh"', b'"deep": %s, "charging_periods": null, "kwh"' % deep)
    either_way("session", "2.3.0", body)
    either_way("session", "2.3.0", body.replace(b"41.12", b"null"))
    either_way("session", "2.3.0", changed(SESSION, ["unknown"], b"9" * 10_000))


def test_a_field_of_an_older_version_is_named_as_that_version_has_it() -> None:
    error = refusal("cdr", "2.2.1", changed(CDR_221, ["total_cost", "excl_vat"], REMOVED))
    assert error.path == "total_cost.excl_vat"
    assert refusal("cdr", "2.2.1", CDR).path == "total_cost.excl_vat"
    assert refusal("cdr", "2.3.0", CDR_221).path == "total_cost.before_taxes"
    assert refusal("session", "2.1.1", changed(SESSION_211, ["auth_id"], REMOVED)).path == "auth_id"
    assert (
        refusal("session", "2.1.1", changed(SESSION_211, ["location", "evses"], [])).path == "location.evses"
    )
    error = refusal("session", "2.1.1", changed(SESSION_211, ["location", "id"], "1" * 39))
    assert error.path == "location.id"


def test_sums_that_no_number_can_hold_are_refused() -> None:
    body = changed(CDR_221, ["total_cost"], {"excl_vat": -999999999999, "incl_vat": 999999999999})
    assert "12 digits" in refusal("cdr", "2.2.1", body).message


ACCEPTED = [
    ("2015-06-29T20:39:09Z", "2015-06-29T20:39:09+00:00"),
    ("2015-06-29T20:39:09", "2015-06-29T20:39:09+00:00"),
    ("2016-12-29T17:45:09.2Z", "2016-12-29T17:45:09.200000+00:00"),
    ("2016-12-29T17:45:09.2", "2016-12-29T17:45:09.200000+00:00"),
    ("2018-01-01T01:08:01.123Z", "2018-01-01T01:08:01.123000+00:00"),
    ("2018-01-01T01:08:01.123", "2018-01-01T01:08:01.123000+00:00"),
    ("2018-01-01T01:08:01+00:00", "2018-01-01T01:08:01+00:00"),
]


@pytest.mark.parametrize(("written", "meant"), ACCEPTED)
def test_every_way_to_write_a_timestamp(written: str, meant: str) -> None:
    """The six forms that types "DateTime" shows, and UTC said as an offset."""
    session = wire.decode("session", "2.3.0", changed(SESSION, ["last_updated"], written))
    assert session.last_updated.isoformat() == meant


def test_null_is_absence() -> None:
    whole = json.loads(SESSION)
    bare = {name: value for name, value in whole.items() if name not in ("end_date_time", "charging_periods")}
    nulls = bare | {"end_date_time": None, "charging_periods": None, "total_cost": bare["total_cost"]}
    nulls["total_cost"] = bare["total_cost"] | {"taxes": None}
    bare["total_cost"] = {"before_taxes": bare["total_cost"]["before_taxes"]}
    one, other = (wire.decode("session", "2.3.0", json.dumps(body).encode()) for body in (bare, nulls))
    assert one == other
    assert one.charging_periods == []


def test_numbers_stay_exact_where_nulls_are() -> None:
    body = changed(SESSION, ["charging_periods", 0, "dimensions", 0, "volume"], b"0.12345678901234567890123")
    with_null = changed_text(
        body, b'"charging_periods"', b'"remark": null, "cdr_token2": null, "charging_periods"'
    )
    with_null = with_null.replace(b'"taxes": [', b'"taxes": null, "was": [')
    found = wire.decode("session", "2.3.0", with_null)
    assert str(found.charging_periods[0].dimensions[0].volume) == "0.12345678901234567890123"
    assert found.total_cost.taxes == []


def changed_text(body: bytes, old: bytes, new: bytes) -> bytes:
    """A body with a piece of its text replaced, once."""
    assert body.count(old) == 1
    return body.replace(old, new)


def test_what_is_not_known_is_ignored() -> None:
    body = changed_text(SESSION, b'"kwh"', b'"booking_id": {"deep": [1, 1e999, {"er": null}]}, "kwh"')
    assert wire.decode("session", "2.3.0", body) == wire.decode("session", "2.3.0", SESSION)


def test_any_value_of_an_open_enum_is_taken() -> None:
    body = changed(LOCATION, ["evses", 0, "connectors", 0, "standard"], "NEXT_BIG_PLUG")
    for version in ("2.3.0", "2.2.1"):
        found = wire.decode("location", version, body)
        assert found.evses[0].connectors[0].standard == "NEXT_BIG_PLUG"


def test_numbers_written_as_strings_are_read() -> None:
    found = wire.decode("session", "2.3.0", changed(SESSION, ["kwh"], "41.120"))
    assert str(found.kwh) == "41.120"


def test_an_unknown_kind_or_version_is_our_mistake() -> None:
    with pytest.raises(LookupError):
        wire.decode("booking", "2.3.0", b"{}")
    with pytest.raises(LookupError):
        wire.decode("session", "2.0", b"{}")
    with pytest.raises(LookupError):
        wire.schemas("2.0")


# Whatever comes


kinds = st.sampled_from(wire.SPOKEN)
GOOD = [SESSION, CDR, TARIFF, LOCATION, CDR_221, SESSION_211, CREDENTIALS, START, CONFIRMATION, TERMINAL]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def either_way(kind: str, version: str, body: bytes) -> None:
    """Read, patch and detect: it works, or it is an InvalidObjectError."""
    current = wire.decode("session", "2.3.0", SESSION)
    for act in (
        lambda: wire.decode(kind, version, body),
        lambda: wire.apply_patch("session", version, current, body),
        lambda: wire.detect_version(kind, body),
    ):
        try:
            act()
        except wire.InvalidObjectError as error:
            assert error.message  # noqa: PT017 - it may as well succeed


@given(kinds, st.binary(max_size=200))
@example(("session", "2.3.0"), b'{"last_updated":"0001-01-01T00:00:00+23:59"}')
@example(("session", "2.3.0"), b"1e99999999999999999999")
def test_random_bytes(kind: tuple[str, str], body: bytes) -> None:
    either_way(*kind, body)


@given(
    kinds,
    st.sampled_from(GOOD),
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=4)), max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_bodies_with_bytes_replaced(
    kind: tuple[str, str], body: bytes, edits: list[tuple[int, bytes]]
) -> None:
    for place, new in edits:
        at = place % len(body)
        body = body[:at] + new + body[at + 1 :]
    either_way(*kind, body)


@given(kinds, st.sampled_from(GOOD), st.data())
@settings(max_examples=300, deadline=None)
def test_bodies_with_values_replaced(kind: tuple[str, str], body: bytes, data: st.DataObject) -> None:
    whole = json.loads(body)
    found: Any = whole
    path: list[tuple[Any, Any]] = []
    while isinstance(found, dict | list) and found and (not path or data.draw(st.booleans())):
        steps = list(found) if isinstance(found, dict) else list(range(len(found)))
        path.append((found, data.draw(st.sampled_from(steps))))
        found = path[-1][0][path[-1][1]]
    holder, step = path[-1]
    holder[step] = data.draw(json_values)
    either_way(*kind, json.dumps(whole).encode())


@given(st.text(max_size=50))
@settings(deadline=None)
def test_a_cistring_is_taken_when_it_is_printable_and_fits(text: str) -> None:
    body = changed(SESSION, ["id"], text)
    try:
        taken = wire.decode("session", "2.3.0", body).id == text
    except wire.InvalidObjectError as error:
        assert error.path == "id"  # noqa: PT017
        taken = False
    assert taken == (0 < len(text) <= 36 and text.isascii() and text.isprintable())


def test_an_object_is_held_to_its_numbers_and_times_wherever_it_is_made() -> None:
    with pytest.raises(ValueError, match="volume: not a number"):
        objects.CdrDimension(type=objects.CdrDimensionType.ENERGY, volume=Decimal("NaN"))
