"""Whatever comes in, out comes a price, or an error that names the field; never a traceback."""

from __future__ import annotations

import contextlib
import copy
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.ocpi.wire import InvalidObjectError
from streams.pricing import PricingError
from streams.pricing.documents import estimate_document, lint_document, price_bytes, price_document, to_json
from tests.unit.pricing.talk import EXAMPLES

CDR: dict[str, Any] = json.loads((EXAMPLES / "2.2.1" / "cdr_example.json").read_bytes())
TARIFF: dict[str, Any] = CDR["tariffs"][0]
NOW = datetime(2024, 5, 13, tzinfo=UTC)
ROOT = Path(__file__).parent.parent.parent.parent


def changed(change: Callable[[dict[str, Any]], Any]) -> bytes:
    body = copy.deepcopy(CDR)
    change(body)
    return json.dumps(body).encode()


def dimension(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = body["charging_periods"][0]["dimensions"][0]
    return found


def part(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = body["tariffs"][0]["elements"][0]
    return found


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda b: b["tariffs"][0].update(elements=[]), "tariffs[0].elements"),
        (lambda b: part(b)["price_components"][0].update(step_size=-5), "price_components[0].step_size"),
        (lambda b: part(b)["price_components"][0].update(price=1e30), "price_components[0].price"),
        (lambda b: part(b)["price_components"][0].update(type="FOO"), "price_components[0].type"),
        (lambda b: part(b).update(restrictions={"start_time": "25:00"}), "restrictions.start_time"),
        (lambda b: part(b).update(restrictions={"start_date": "2024-02-31"}), "restrictions"),
        (lambda b: dimension(b).update(volume=1e30), "charging_periods[0].dimensions[0].volume"),
        (lambda b: dimension(b).update(volume=-1), "charging_periods[0].dimensions"),
        (lambda b: dimension(b).update(type="FOO"), "charging_periods[0].dimensions[0].type"),
        (lambda b: b.update(charging_periods=[]), "charging_periods"),
        (lambda b: b.update(end_date_time="yesterday"), "end_date_time"),
        (lambda b: b.update(end_date_time="2001-01-01T00:00:00Z"), "end_date_time"),
        (lambda b: b.update(tariffs=[]), "tariffs"),
    ],
)
def test_what_is_wrong_is_named(change: Callable[[dict[str, Any]], Any], where: str) -> None:
    with pytest.raises((InvalidObjectError, PricingError)) as refused:
        price_document(changed(change))
    assert where in refused.value.path
    assert refused.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"x":' * 700 + b"1" + b"}" * 700,
        b"{}",
        b"[{},{}]",
        b"null",
        b'"x"',
        b"NaN",
    ],
)
def test_what_is_no_object_is_refused(body: bytes) -> None:
    for read in (
        lambda: price_document(body),
        lambda: lint_document(body, NOW),
        lambda: estimate_document(body, NOW, NOW.replace(hour=2), Decimal(1)),
        lambda: price_bytes(body, "2.2.1", None),
    ):
        with pytest.raises((InvalidObjectError, PricingError)):
            read()


def test_odd_but_readable_is_priced_and_told() -> None:
    def warned(change: Callable[[dict[str, Any]], Any], zone: str | None = None) -> set[str]:
        return {one["code"] for one in price_document(changed(change), time_zone=zone)["warnings"]}

    assert warned(lambda b: None) == set()
    assert warned(lambda b: dimension(b).update(volume=30)) == {"time_exceeds_session"}
    assert warned(lambda b: part(b)["price_components"][0].update(step_size=0)) == {"step_size_invalid"}
    assert warned(lambda b: b.pop("auth_method")) == {"field_filled_in"}
    assert warned(lambda b: b["tariffs"][0].update(id="other")) == {"tariff_id_differs"}
    early = {"start_date_time": "2015-06-29T20:00:00Z"}
    assert warned(lambda b: b["charging_periods"][0].update(early)) == {"period_before_start"}
    late = {"start_date_time": "2015-07-29T20:00:00Z"}
    assert warned(lambda b: b["charging_periods"][0].update(late)) == {"period_after_end"}
    assert "time_zone_assumed" in warned(lambda b: part(b).update(restrictions={"start_time": "08:00"}))
    with pytest.raises(PricingError, match="Mars"):
        warned(lambda b: part(b).update(restrictions={"start_time": "08:00"}), "Mars/Olympus")


def test_what_can_only_be_meant_in_one_way_is_mended_and_told() -> None:
    def mended(change: Callable[[dict[str, Any]], Any]) -> set[tuple[str, str]]:
        found = price_document(changed(change), version="2.2.1")
        assert found["total_cost"] == {"excl_vat": 4, "incl_vat": Decimal("4.4")}
        assert found["comparison"]["totals"]["total_cost"]["verdict"] == "match"
        return {(one["code"], one["path"]) for one in found["warnings"]}

    component = "tariffs[0].elements[0].price_components[0]"
    said = "field_mended"
    step = {(said, f"{component}.step_size")}
    assert mended(lambda b: b["tariffs"][0].pop("currency")) == {(said, "tariffs[0].currency")}
    assert mended(lambda b: b.pop("start_date_time")) == {(said, "start_date_time")}
    assert mended(lambda b: b.update(start_date_time=None)) == {(said, "start_date_time")}
    assert mended(lambda b: b.update(total_cost=4)) == {(said, "total_cost")}
    assert mended(lambda b: part(b)["price_components"][0].update(step_size=300.0)) == step
    assert mended(lambda b: part(b)["price_components"][0].update(step_size="300")) == step
    empty = {"start_date_time": "2015-06-29T23:00:00Z", "dimensions": [], "tariff_id": "12"}
    assert mended(lambda b: b["charging_periods"].append(empty)) == {(said, "charging_periods[1].dimensions")}
    without_step = price_document(changed(lambda b: part(b)["price_components"][0].pop("step_size")))
    assert [one["path"] for one in without_step["warnings"]] == [f"{component}.step_size"]


def test_comments_trailing_commas_and_an_envelope_are_taken() -> None:
    plain = price_document(json.dumps(CDR).encode())
    talkative = b"// a bill\n" + json.dumps(CDR).encode()[:-1] + b", /* no more */ }"
    assert price_document(talkative) == plain
    assert price_document(json.dumps({"status_code": 1000, "data": CDR}).encode()) == plain
    assert price_document(json.dumps([CDR]).encode()) == plain


_values = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**13), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "x", "2024-02-31", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "-1", "24:00"]),
    st.builds(list), st.builds(dict),
)  # fmt: skip


def _places(found: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    return [path, *(place for key, value in inner for place in _places(value, (*path, key)))]


PLACES = [place for place in _places(CDR) if place]


@settings(max_examples=600, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), _values), min_size=1, max_size=3))
def test_any_change_is_priced_or_refused(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    """No other exception; what is priced is a JSON document; and both ways to read a CDR agree."""
    body: Any = copy.deepcopy(CDR)
    for place, value in changes:
        try:
            inner = body
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue
    raw = json.dumps(body).encode()
    try:
        found = price_document(raw, version="2.2.1", time_zone="Europe/Brussels")
    except (InvalidObjectError, PricingError) as error:
        assert error.message  # noqa: PT017
        # The quick way does not look at what no price depends on, and may price it.
        with contextlib.suppress(InvalidObjectError, PricingError):
            price_bytes(raw, "2.2.1", "Europe/Brussels")
        return
    json.loads(to_json(found))
    if not any(one["code"].startswith("field_") for one in found["warnings"]):
        quick = price_bytes(raw, "2.2.1", "Europe/Brussels").totals["total_cost"]
        assert found["total_cost"]["excl_vat"] == quick.before_taxes


def run(*arguments: str, body: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "voltfold", *arguments],
        cwd=ROOT, input=body, capture_output=True, timeout=30, check=False,
    )  # fmt: skip


def test_the_commands_say_what_is_wrong_in_a_line() -> None:
    for arguments, body, words in (
        (("price", "--cdr", "-"), b"{", b"no JSON"),
        (("price", "--cdr", "nowhere.json"), b"", b"nowhere.json: No such file"),
        (("tariff", "lint", "-"), b"{}", b"currency: is required"),
        (("price", "--cdr", "-", "--timezone", "X"), changed(lambda b: part(b).update(restrictions={"start_time": "08:00"})), b"unknown_time_zone"),  # noqa: E501
        (("estimate", "--tariff", "-", "--start", "x", "--end", "y", "--kwh", "1"), b"", b"--start"),
    ):  # fmt: skip
        done = run(*arguments, body=body)
        assert done.returncode == 2, (arguments, done)
        assert words in done.stderr
        assert b"Traceback" not in done.stderr
        assert not done.stdout


def test_the_commands_answer_people_and_programs() -> None:
    bill, tariff = json.dumps(CDR).encode(), json.dumps(TARIFF).encode()
    priced = json.loads(run("price", "--cdr", "-", "--json", body=bill).stdout)
    assert priced["total_cost"] == {"excl_vat": 4, "incl_vat": 4.4}
    assert b"match" in run("price", "--cdr", "-", body=bill).stdout
    times = ("--start", "2024-05-13T10:00:00Z", "--end", "2024-05-13T12:00:00Z", "--kwh", "11")
    asked = run("estimate", "--tariff", "-", *times, "--max-power-kw", "11", "--json", body=tariff)
    estimated = json.loads(asked.stdout)
    assert estimated["total_cost"] == {"excl_vat": 2, "incl_vat": 2.2}
    assert (estimated["total_energy"], estimated["total_time"], estimated["total_parking_time"]) == (11, 2, 1)
    linted = run("tariff", "lint", "-", "--json", body=tariff)
    assert linted.returncode == 0
    assert json.loads(linted.stdout)["errors"] is False
