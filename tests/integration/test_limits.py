"""An ad-hoc session at its limit: a real API, worker and courier, and an operator that is to stop it."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.payments import PaymentRecord
from schemas.topics import Topics
from streams import replay
from tests.integration.api_helpers import Api, a_location, a_session, a_tariff
from tests.integration.counterpart import Platform, Seen, eventually, running
from tests.integration.courier_helpers import QUICK, Courier, connect
from voltfold.latest import latest, records_of
from voltfold.topics import create_topics

CARD = {"country_code": "AT", "party_id": "PAY", "type": "AD_HOC_USER", "contract_id": "-"}


pytestmark = pytest.mark.timeout(400)  # five processes, and the courier's turns


class House:
    """A log, an API, a worker and a courier on it; an operator, and a payment terminal provider."""

    def __init__(self, api: Api, courier: Courier, operator: Platform) -> None:
        self.api, self.courier, self.operator = api, courier, operator
        self.minute = 0

    def session(self, name: str, cost: float, status: str = "ACTIVE", **changes: Any) -> None:
        """The operator says what a session costs now."""
        self.minute += 1
        body = a_session(
            "2.3.0", name, location_id="LOC1", evse_uid="3256", connector_id="1", status=status,
            cdr_token={**CARD, "uid": f"card-{name}"}, authorization_reference=f"REF-{name}",
            auth_method="COMMAND", currency="EUR", start_date_time="2026-03-05T10:00:00Z", kwh=10,
            total_cost={"before_taxes": cost}, last_updated=f"2026-03-05T11:{self.minute:02}:00Z", **changes,
        )  # fmt: skip
        url = f"{self.api.url}/ocpi/2.3.0/receiver/sessions/NL/TNM/{name}"
        http, said = self.operator.send("PUT", url, body)
        assert said["status_code"] == 1000, (http, said)

    def stops(self, name: str) -> list[Seen]:
        """The StopSessions that reached the operator for a session."""
        seen = self.operator.requests("POST", "/receiver/commands/STOP_SESSION")
        return [one for one in seen if one.body["session_id"] == name]

    def payment(self, name: str) -> PaymentRecord | None:
        """What is concluded of it."""
        found = asyncio.run(latest(self.api.kafka, self.api.topics.payment_states, PaymentRecord))
        return found.get(f"AT*PAY*REF-{name}")

    def told(self, name: str, stop: str) -> PaymentRecord:
        """The payment, once it says this of its stop."""
        found: PaymentRecord = eventually(
            lambda: found if (found := self.payment(name)) is not None and found.stop == stop else None
        )
        return found


@pytest.fixture(scope="module")
def house(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    topics = Topics(f"t-{uuid.uuid4().hex[:10]}", partitions=3)
    asyncio.run(create_topics(broker, topics.all()))
    api = Api(broker, topics, tmp_path_factory.mktemp("api"), settings=dict(QUICK)).start()
    here = {"VOLTFOLD_API_PORT": str(api.port)}
    courier = Courier(api, here).start()
    worker = Courier(api, {"VOLTFOLD_CLOCK_SECONDS": "1"}, role="worker").start()
    with (
        running(version="2.3.0", roles=(("CPO", "NL", "TNM"),)) as operator,
        running(version="2.3.0", roles=(("PTP", "AT", "PAY"),)) as provider,
    ):
        connect(api, operator, "tnm")
        connect(api, provider, "pay")
        place = a_location("2.3.0", "LOC1")
        for evse in place["evses"]:
            for connector in evse["connectors"]:
                connector["tariff_ids"] = ["T60"]
        for path, body in (
            ("locations/NL/TNM/LOC1", place),
            ("tariffs/NL/TNM/T60", a_tariff("2.3.0", "T60", preauthorize_amount=60)),
        ):
            http, said = operator.send("PUT", f"{api.url}/ocpi/2.3.0/receiver/{path}", body)
            assert http == 201, said
        # The log's clock says at which share of the limit: without it nothing is stopped.
        found = House(api, courier, operator)
        found.session("S0", 1)
        eventually(lambda: found.payment("S0"))
        eventually(lambda: _ticks(api))
        yield found
    courier.kill()
    worker.kill()
    api.kill()


def _ticks(api: Api) -> bool:
    """Whether each partition of the payments topic has been told the time."""

    async def told() -> set[int]:
        events = records_of(api.kafka, api.topics.payments)
        return {one.partition async for one in events if one.key == b"clock"}

    return len(asyncio.run(told())) == api.topics.payments.partitions


def test_it_is_stopped_once_whoever_dies(house: House) -> None:
    """The courier is killed while the operator has the command and has not answered yet."""
    house.session("S1", 20)
    house.session("S1", 56)
    house.operator.mood = lambda seen: 1.5 if "STOP_SESSION" in seen.path else None
    house.session("S1", 57.5)
    (asked,) = eventually(lambda: house.stops("S1"))
    house.courier.kill()
    house.operator.mood = None
    assert asked.header("ocpi-from-party-id") == "PAY"
    assert asked.header("ocpi-to-party-id") == "TNM"
    back = asked.body["response_url"]
    assert back.startswith(f"{house.api.url}/ocpi/2.3.0/sender/commands/STOP_SESSION/")
    assert house.operator.send("POST", back, {"result": "ACCEPTED"})[1]["status_code"] == 1000
    found = house.told("S1", "stopped")
    assert (found.status, found.preauthorized, found.issues) == ("charging", 60, [])
    # One that is back, and one that knows nothing but the log: what is over stays over.
    house.courier.start()
    house.session("S1", 70)
    house.courier.kill()
    shutil.rmtree(house.api.folder / "courier")
    house.courier.start()
    house.session("S1", 71, "COMPLETED", end_date_time="2026-03-05T11:30:00Z")
    eventually(lambda: (found := house.payment("S1")) is not None and found.status == "awaiting_cdr")
    assert len(house.stops("S1")) == 1
    assert house.operator.send("POST", back, {"result": "FAILED"})[1]["status_code"] == 1000
    assert len(house.stops("S1")) == 1


def test_one_that_was_never_heard_of_again_is_asked_for_again(house: House) -> None:
    """An operator that breaks off has not answered; one that answers, and then says nothing, said TIMEOUT."""
    house.operator.command_answer = {"result": "ACCEPTED", "timeout": 1}
    house.operator.moods.append(lambda _: b'{"status_code"')
    house.session("S2", 80)
    eventually(lambda: len(house.stops("S2")) == 2)
    first, second = house.stops("S2")
    assert first.body == second.body, "the same command, with the same URL for its result"
    found = house.told("S2", "timeout")
    assert found.issues == ["not_stopped", "over_limit"]

    house.operator.command_answer = {"result": "REJECTED", "timeout": 1}
    house.session("S3", 80)
    assert house.told("S3", "rejected").status == "charging"
    house.operator.command_answer = {"result": "ACCEPTED", "timeout": 30}

    # An operator that is away when it comes up: it is asked when it is back, if the session still runs.
    house.operator.down()
    house.session("S4", 80)
    house.session("S5", 80)
    house.told("S5", "asked")  # together with the next one it would never have come to its limit
    house.session("S5", 81, "COMPLETED", end_date_time="2026-03-05T11:30:00Z")
    eventually(lambda: (found := house.payment("S5")) is not None and found.status == "awaiting_cdr")
    house.operator.up()
    eventually(lambda: house.stops("S4"))
    assert house.told("S4", "agreed").issues == ["over_limit"]
    assert house.told("S5", "expired").issues == ["over_limit"]
    assert len(house.stops("S4")) == 1
    assert house.stops("S5") == []


def test_replay_decides_the_same_and_sends_nothing(house: House) -> None:
    before = len(house.operator.requests("POST", "/commands/STOP_SESSION"))
    report = asyncio.run(replay.check(house.api.kafka, house.api.topics, f"{house.api.topics.prefix}-worker"))
    assert report.differences == []
    assert report.records > 5
    time.sleep(1)
    assert len(house.operator.requests("POST", "/commands/STOP_SESSION")) == before
