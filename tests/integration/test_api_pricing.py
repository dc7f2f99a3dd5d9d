"""Prices over HTTP: partners ask about objects in the body and about their own, and about nobody else's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.api_helpers import (
    VERSIONS,
    Api,
    Partner,
    a_cdr,
    a_location,
    a_tariff,
    add,
    is_refusal,
    is_success,
    unchanged,
)
from tests.integration.conftest import NewId

Json = dict[str, Any]
TIMES = {"start": "2024-05-13T10:00:00Z", "end": "2024-05-13T12:00:00Z", "kwh": 11, "max_power_kw": 11}


def ask(partner: Partner, name: str, **body: Any) -> Json:
    answer = partner.http.post(f"/pricing/{name}", json=body)
    is_success(answer)
    found: Json = answer.json()["data"]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cdr_is_priced_and_compared(version: str, cpo: Partner, api: Api) -> None:
    """The specification's own: € 4.00, € 4.40 with VAT. Nothing is written."""
    with unchanged(api):
        found = ask(cpo, "price", cdr=a_cdr(version, "C1"))
    assert found["total_cost"] == {"excl_vat": 4, "incl_vat": 4.4}
    assert found["comparison"]["verdict"] == "match"
    assert found["ocpi_version"] == version
    assert found["periods"][0]["components"][0]["price"] == 2
    dear = ask(cpo, "price", cdr=a_cdr(version, "C1"), tariffs=[a_tariff(version, "12", elements=[
        {"price_components": [{"type": "TIME", "price": 1, "vat": 10, "step_size": 300}]}])])  # fmt: skip
    assert dear["total_cost"] == {"excl_vat": 2, "incl_vat": 2.2}
    assert dear["comparison"]["verdict"] == "overcharged"
    lax = ask(cpo, "price", cdr=a_cdr(version, "C1"), tariffs=[a_tariff(version, "12")], tolerance=1000)
    assert lax["comparison"]["verdict"] in ("match", "within_tolerance")


def test_own_objects_by_id(cpo: Partner, api: Api, new_id: NewId) -> None:
    """A CDR and a tariff that this partner pushed, in the time zone of its location; not those of others."""
    cdr, tariff = new_id(), new_id()
    is_success(cpo.put("2.3.0", "locations", a_location("2.3.0", "LOC1"), "LOC1"), 201)
    is_success(cpo.put("2.3.0", "tariffs", a_tariff("2.3.0", tariff), tariff), 201)
    is_success(cpo.http.post("/ocpi/2.3.0/receiver/cdrs", json=a_cdr("2.3.0", cdr)), 201)
    found = ask(cpo, "price", cdr_id=cdr)
    assert found["total_cost"] == {"excl_vat": 4, "incl_vat": 4.4}
    assert found["warnings"] == []
    assert ask(cpo, "price", cdr_id=cdr, tariff_id=tariff)["warnings"][0]["code"] == "tariff_id_differs"
    estimate = ask(cpo, "estimate", tariff_id=tariff, **TIMES)
    assert (estimate["total_cost"]["excl_vat"], estimate["total_parking_time"]) == (2, 1)
    assert ask(cpo, "lint", tariff_id=tariff)["errors"] is False
    other = add(api, "NL", "OTH", "CPO")
    for name, body in (
        ("price", {"cdr_id": cdr}),
        ("estimate", {"tariff_id": tariff, **TIMES}),
        ("lint", {"tariff_id": tariff}),
    ):
        is_refusal(other.http.post(f"/pricing/{name}", json=body), 200, 2001, "NL*OTH has pushed no")


def test_bad_requests_are_told_and_change_nothing(cpo: Partner, api: Api) -> None:
    tariff = a_tariff("2.3.0", "T")
    with unchanged(api):
        for name, body, http, ocpi, words in (
            ("price", b"{", 400, 2001, "body"),
            ("price", b"", 400, 2001, "empty"),
            ("price", b"[]", 200, 2001, "object"),
            ("price", b"{}", 200, 2001, "cdr"),
            ("price", b'{"cdr": {}}', 200, 2001, "start_date_time"),
            ("price", b'{"cdr": 5}', 200, 2001, "object"),
            ("price", b'{"cdr": null}', 200, 2001, "object"),
            ("price", b'{"cdrs": {}}', 200, 2001, "cdrs"),
            ("price", b'{"cdr": {}, "ocpi_version": "3.0"}', 200, 2001, "ocpi_version"),
            ("lint", b'{"tariff": []}', 200, 2001, "one object"),
            ("estimate", json.dumps({"tariff": tariff}).encode(), 200, 2001, "start"),
            ("estimate", json.dumps({"tariff": tariff, **TIMES, "kwh": -1}).encode(), 200, 2001, "kwh"),
            ("estimate", json.dumps({"tariff": tariff, **TIMES, "end": TIMES["start"]}).encode(), 200, 2001,
             "end_before_start"),
            ("price", b'{"cdr": "' + b"x" * 300_000 + b'"}', 413, 2001, "256 KB"),
            ("nothing", b"{}", 404, 2000, "nothing"),
        ):  # fmt: skip
            answer = cpo.http.post(
                f"/pricing/{name}", content=body, headers={"Content-Type": "application/json"}
            )
            is_refusal(answer, http, ocpi, words)
        is_refusal(cpo.http.get("/pricing/price"), 405, 2000)
        stranger = Partner(api, "NL", "TNM", "nobody")
        is_refusal(stranger.http.post("/pricing/lint", json={"tariff": tariff}), 401, 2000)


def test_a_tariff_that_is_expensive_to_price_does_not_hold_up_others(cpo: Partner) -> None:
    """Elements by the hundred, days by the hundred: refused or answered, soon."""
    elements = [
        {
            "price_components": [{"type": "ENERGY", "price": 1, "vat": 10, "step_size": 1}],
            "restrictions": {
                "start_time": f"{n // 60:02}:{n % 60:02}",
                "end_time": f"{n // 60:02}:{n % 60:02}",
            },
        }
        for n in range(1, 1400)
    ]
    elements = [{**one, "restrictions": {**one["restrictions"], "max_kwh": 0.001}} for one in elements]
    answer = cpo.http.post(
        "/pricing/estimate",
        json={
            "tariff": a_tariff("2.3.0", "T", elements=elements),
            **TIMES,
            "end": "2024-06-30T12:00:00Z",
        },
    )
    is_refusal(answer, 200, 2001, "session_too_long")
