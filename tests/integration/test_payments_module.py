"""Payments and invoice reconciliation: every example through every door, in both roles, and on to others."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from schemas.topics import Topics
from tests.integration.api_helpers import EXAMPLES, Api, a_cdr, a_location
from tests.integration.counterpart import Platform, eventually, running
from tests.integration.courier_helpers import QUICK, Courier, cli, connect
from voltfold.topics import create_topics

Json = dict[str, Any]
CARD = {"country_code": "AT", "party_id": "PAY", "uid": "T1", "type": "AD_HOC_USER", "contract_id": "-"}
EMS = {"country_code": "DE", "party_id": "EMS", "uid": "R1", "type": "RFID", "contract_id": "DE-EMS-1"}
TO_CPO = {"OCPI-to-country-code": "NL", "OCPI-to-party-id": "TNM"}
TERMINALS, CONFIRMATIONS = "payments/terminals", "payments/financial-advice-confirmations"


def example(name: str) -> Json:
    """An example of the payments module."""
    found: Json = json.loads((EXAMPLES / "2.3.0" / f"payment_{name}.json").read_bytes())
    return found


@dataclass
class Side:
    """One party's platform, and how it calls us."""

    api: Api
    platform: Platform

    def ask(self, method: str, path: str, body: Any = None, *, http: int = 200, **more: Any) -> Any:
        """The data of an answer that is a success."""
        found, envelope = self.tell(method, path, body, **more)
        assert (found, envelope["status_code"]) == (http, 1000), envelope
        return envelope.get("data")

    def tell(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Json]:
        """HTTP status and envelope."""
        return self.platform.send(method, f"{self.api.url}/ocpi/2.3.0/{path}", body, **more)

    def told(self, method: str, path: str) -> list[Any]:
        """Bodies of the requests that arrived."""
        return [
            one.body
            for one in self.platform.seen
            if (one.method, one.path) == (method, f"/ocpi/2.3.0/{path}")
        ]


@dataclass
class House:
    """An API with its courier, an operator, a terminal provider, a mobility provider and a stranger."""

    api: Api
    cpo: Side
    ptp: Side
    emsp: Side
    other: Side


@pytest.fixture(scope="module")
def house(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """All of them, connected."""
    topics = Topics(f"t-{uuid.uuid4().hex[:10]}", partitions=3)
    asyncio.run(create_topics(broker, topics.all()))
    api = Api(broker, topics, tmp_path_factory.mktemp("api"), settings=dict(QUICK)).start()
    courier = Courier(api)
    try:
        with (
            running(roles=(("CPO", "NL", "TNM"),)) as cpo,
            running(roles=(("PTP", "AT", "PAY"),)) as ptp,
            running(roles=(("EMSP", "DE", "EMS"),)) as emsp,
            running(roles=(("CPO", "FR", "OTH"), ("EMSP", "FR", "OTH"))) as other,
        ):
            names = {"cpo": cpo, "ptp": ptp, "emsp": emsp, "other": other}
            for name, platform in names.items():
                connect(api, platform, name)
            courier.start()
            yield House(api, *(Side(api, platform) for platform in names.values()))
    finally:
        courier.kill()
        api.kill()


def test_every_example_of_terminals_goes_through_every_door(house: House) -> None:
    """Created by the provider, told to the operator, assigned and updated by it, told to the provider."""
    cpo, ptp, other = house.cpo, house.ptp, house.other
    names = (
        *("create", "create_minimal", "example_newly_created", "example_assigned_locations"),
        "example_assigned_locations_assigned_evses",
    )
    for name in names:
        body = example(f"terminal_{name}")
        where = body["terminal_id"] = f"{name[-30:]}-1"
        ptp.ask("POST", f"receiver/{TERMINALS}", body, http=201, **TO_CPO)
        ptp.ask("POST", f"receiver/{TERMINALS}", body, **TO_CPO)
        here = ptp.ask("GET", f"receiver/{TERMINALS}/{where}")
        there = cpo.ask("GET", f"sender/{TERMINALS}/{where}")
        assert here == there
        assert here.items() >= {key: value for key, value in body.items() if value != []}.items()
        assert (here["country_code"], here["party_id"]) == ("NL", "TNM")
        eventually(lambda: here in cpo.told("POST", f"receiver/{TERMINALS}"))  # noqa: B023
        assert other.tell("GET", f"sender/{TERMINALS}/{where}")[0] == 404

    where = "create_minimal-1"
    assigned = example("terminal_location_assignment")
    cpo.ask("PATCH", f"sender/{TERMINALS}/{where}", assigned)
    update = example("terminal_put_update") | {"last_updated": "2099-01-01T00:00:00Z"}
    cpo.ask("PUT", f"sender/{TERMINALS}/{where}", update)
    found = cpo.ask("GET", f"sender/{TERMINALS}/{where}")
    assert found.items() >= (assigned | update).items()
    eventually(lambda: found in ptp.told("PUT", f"sender/{TERMINALS}/{where}"))
    # The provider says it again without assignment, which is the operator's.
    ptp.ask("POST", f"receiver/{TERMINALS}", {"terminal_id": where, "last_updated": "2099-01-02T00:00:00Z"})
    assert cpo.ask("GET", f"sender/{TERMINALS}/{where}").items() >= assigned.items()

    listed = cpo.ask("GET", f"sender/{TERMINALS}?limit=2")
    assert [one["terminal_id"] for one in listed] == ["create-1", "create_minimal-1"]
    assert len(cpo.ask("GET", f"sender/{TERMINALS}")) == len(names)
    assert other.ask("GET", f"sender/{TERMINALS}") == []


def test_a_terminal_is_activated_and_deactivated(house: House) -> None:
    """Asked of the provider at once; the terminal that it then creates is the operator's who asked."""
    cpo, ptp = house.cpo, house.ptp
    wanted = example("terminal_activate")
    cpo.ask("POST", f"sender/{TERMINALS}/activate", wanted)
    assert ptp.told("POST", f"sender/{TERMINALS}/activate") == [wanted]
    created = {
        "terminal_id": "NEW-1",
        "reference": wanted["reference"],
        "last_updated": wanted["last_updated"],
    }
    ptp.ask("POST", f"receiver/{TERMINALS}", created | {"location_ids": wanted["location_ids"]}, http=201)
    assert cpo.ask("GET", f"sender/{TERMINALS}/NEW-1")["location_ids"] == wanted["location_ids"]
    cpo.ask("POST", f"sender/{TERMINALS}/NEW-1/deactivate")
    assert len(ptp.told("POST", f"sender/{TERMINALS}/NEW-1/deactivate")) == 1
    assert "location_ids" not in cpo.ask("GET", f"sender/{TERMINALS}/NEW-1")
    assert house.other.tell("POST", f"sender/{TERMINALS}/NEW-1/deactivate")[0] == 404


def test_every_example_of_confirmations_goes_through_every_door(house: House) -> None:
    """Posted by the provider, told to the operator that started the session, and read by both."""
    cpo, ptp, other = house.cpo, house.ptp, house.other
    cpo.ask("PUT", "receiver/locations/NL/TNM/LOC1", a_location("2.3.0", "LOC1"), http=201)
    token = {"issuer": "Pay", "valid": True, "whitelist": "NEVER", "last_updated": "2018-12-10T17:00:00Z"}
    reference = example("financial_advice_confirmation_create")["authorization_reference"]
    start = {
        "response_url": f"{ptp.platform.url}/results/1",
        "token": CARD | token,
        "location_id": "LOC1",
        "authorization_reference": reference,
    }
    ptp.ask("POST", "receiver/commands/START_SESSION", start)
    for name in ("create", "example_failure", "example_success"):
        body = example(f"financial_advice_confirmation_{name}") | {"id": name}
        ptp.ask("POST", f"receiver/{CONFIRMATIONS}", body, http=201)
        here = ptp.ask("GET", f"receiver/{CONFIRMATIONS}/{name}")
        assert here == cpo.ask("GET", f"sender/{CONFIRMATIONS}/{name}")
        costs = {"before_taxes": body["total_costs"]["excl_vat"], "taxes": [{"name": "VAT"}]}
        costs["taxes"][0]["amount"] = here["total_costs"]["taxes"][0]["amount"]
        assert here == body | {"total_costs": costs}
        assert costs["before_taxes"] + costs["taxes"][0]["amount"] == body["total_costs"]["incl_vat"]
        eventually(lambda: here in cpo.told("POST", f"receiver/{CONFIRMATIONS}"))  # noqa: B023
        assert other.tell("GET", f"sender/{CONFIRMATIONS}/{name}")[0] == 404
    assert len(cpo.ask("GET", f"sender/{CONFIRMATIONS}?date_from=2018-12-10T00:00:00Z")) == 3
    assert other.ask("GET", f"sender/{CONFIRMATIONS}") == []


@pytest.mark.parametrize("issuer", ["cpo", "emsp"])
def test_records_go_to_the_other_party_either_way_of_billing(house: House, issuer: str) -> None:
    """Direct billing: the operator issues them; reverse billing: the provider."""
    cdr = a_cdr("2.3.0", f"C-{issuer}", session_id=f"S-{issuer}", cdr_token=EMS)
    house.cpo.ask("POST", "receiver/cdrs", cdr, http=201)
    mine, theirs = (house.cpo, house.emsp) if issuer == "cpo" else (house.emsp, house.cpo)
    country, party = ("NL", "TNM") if issuer == "cpo" else ("DE", "EMS")
    module, where = "invoicereconciliation", f"invoicereconciliation/{country}/{party}/R1"
    record = {
        "country_code": country, "party_id": party, "id": "R1", "invoice_id": "I-2026-03",
        "cdrs": [f"C-{issuer}"], "last_updated": "2026-04-01T00:00:00Z",
    }  # fmt: skip
    mine.ask("POST", f"receiver/{module}", record, http=201)
    mine.ask("POST", f"receiver/{module}", record)
    assert mine.ask("GET", f"receiver/{where}") == record
    assert theirs.ask("GET", f"sender/{module}") == [record]
    assert mine.ask("GET", f"sender/{module}") == []
    eventually(lambda: record in theirs.told("POST", f"receiver/{module}"))
    newer = record | {"invoice_id": "I-2026-03-B", "last_updated": "2026-04-02T00:00:00Z"}
    http, envelope = mine.tell("POST", f"receiver/{module}", newer)
    assert (http, envelope["status_code"]) == (200, 2001)
    mine.ask("PUT", f"receiver/{where}", newer)
    assert theirs.ask("GET", f"sender/{module}?date_from=2026-04-02T00:00:00Z") == [newer]
    eventually(lambda: newer in theirs.told("PUT", f"receiver/{where}"))
    for stranger in (house.other, theirs):
        assert stranger.tell("GET", f"receiver/{where}")[0] == 404
        assert stranger.tell("PUT", f"receiver/{where}", newer)[0] == 404
        assert stranger.tell("POST", f"receiver/{module}", newer)[0] == 403
    mine.ask("DELETE", f"receiver/{where}")
    assert mine.tell("GET", f"receiver/{where}")[0] == 404
    assert theirs.ask("GET", f"sender/{module}") == []
    eventually(lambda: theirs.told("DELETE", f"receiver/{where}"))
    gone = theirs.platform.requests("DELETE", "receiver/invoicereconciliation")[-1]
    assert gone.header("ocpi-to-party-id") == theirs.platform.roles[0][2]


def test_what_is_wrong_is_named(house: House) -> None:
    """And nobody but the party in its role gets through."""
    cpo, ptp = house.cpo, house.ptp
    assert cpo.tell("POST", f"receiver/{TERMINALS}", {"terminal_id": "X"})[0] == 404
    assert ptp.tell("GET", f"sender/{TERMINALS}")[0] == 404
    http, envelope = ptp.tell("POST", f"receiver/{TERMINALS}", {"terminal_id": "X", "invoice_creator": "ME"})
    assert (http, envelope["status_code"]) == (200, 2001)
    assert "invoice_creator" in envelope["status_message"]
    http, envelope = cpo.tell("PATCH", f"sender/{TERMINALS}/create-1", {"terminal_id": "another"})
    assert (http, envelope["status_code"]) == (200, 2001)
    http, envelope = cpo.tell("PATCH", f"sender/{TERMINALS}/create-1", {"party_id": "OTH"})
    assert (http, envelope["status_code"]) == (200, 2001)
    record = {
        "country_code": "NL", "party_id": "TNM", "id": "R9", "invoice_id": "I", "cdrs": ["UNKNOWN"],
        "last_updated": "2026-04-01T00:00:00Z",
    }  # fmt: skip
    http, envelope = cpo.tell("POST", "receiver/invoicereconciliation", record)
    assert (http, envelope["status_code"]) == (200, 2002)
    headers = {"OCPI-to-country-code": "DE", "OCPI-to-party-id": "EMS"}
    cpo.ask("POST", "receiver/invoicereconciliation", record, http=201, **headers)
    assert [one["id"] for one in house.emsp.ask("GET", "sender/invoicereconciliation")] == ["R9"]
    assert cli(house.api, "outbound", "list") == []
