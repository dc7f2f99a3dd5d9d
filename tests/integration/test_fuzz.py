"""Bodies that no partner should send: whatever it is, the answer is an envelope, never a 5xx, and nothing is
accepted, or in the log, that the specification's tables do not allow.

Bodies and judgement are made from the tables (`tests.fuzzing`, `tests.ocpi_tables`), without a word of what
Voltfold itself validates by. `VOLTFOLD_FUZZ` says how many bodies there are in all (1,500 without it), and
`VOLTFOLD_FUZZ_SEED` which. `make fuzz` sends 100,000.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from api.partners import invite
from api.routes import ROUTES, Route
from schemas.ocpi.requests import COMMANDS
from schemas.topics import Topics
from tests.fuzzing import CLASSES, Bodies, class_of
from tests.integration.api_helpers import Api, a_cdr, a_location, a_session, a_token, add, events
from tests.integration.counterpart import Platform, running
from tests.integration.courier_helpers import QUICK, connect
from tests.ocpi_tables import table, unfit
from voltfold.topics import create_topics

BODIES = int(os.environ.get("VOLTFOLD_FUZZ", "1500"))
SEED = int(os.environ.get("VOLTFOLD_FUZZ_SEED", "1"))
AT_ONCE = 32
POOL = 40  # objects of each route that are spoilt again and again
OWNER = {"country_code": "NL", "party_id": "FUZ"}
OPERATOR = {"country_code": "NL", "party_id": "OPR"}
OBJECTS = {"id": "X", "uid": "X", "terminal_id": "X"}
ELSEWHERE = {"location_id": "Y", "evse_uid": "3256", "connector_id": "1", "session_id": "Y"}
CREATED = ("cdr", "financial_advice_confirmation", "invoice_reconciliation")
"""Kinds that are created by POST, each under an id of its own."""
TO = {"OCPI-to-country-code": "NL", "OCPI-to-party-id": "OPR"}
ADDRESSED = ("terminals_activated", "confirmations_created", "reconciliation")
"""Handlers of what is for the operator, and does not say so."""
HOLDERS = {"location": "X", "evse": "E", "connector": "C"}
"""Locations, by what of them is written: nobody takes an EVSE or connector away from under another."""
UNDATED = ("terminal_update", "new_terminal")
MODULES = {
    "sessions": "session",
    "cdrs": "cdr",
    "tariffs": "tariff",
    "tokens": "token",
    "terminals": "terminal_update",
    "confirmations": "financial_advice_confirmation",
    "invoicereconciliation": "invoice_reconciliation",
    "hubclientinfo": "client_info",
}
"""What the events of a module hold, as the log has it."""


@dataclass
class Target:
    """A route, who calls it, and what belongs into its URL and body."""

    route: Route
    kind: str
    path: str
    token: str
    bodies: Bodies
    pool: list[str] = field(default_factory=list)

    @property
    def part(self) -> bool:
        """Whether a body need not be whole."""
        return self.route.method == "PATCH" or self.kind in UNDATED

    def flaws(self, body: bytes) -> list[str]:
        """What a body has that validation must refuse."""
        said = told(body)
        return ["no JSON"] if said is None else unfit(
            self.route.version, class_of(self.kind, self.route.version), said, part=self.part
        )  # fmt: skip


def told(body: bytes) -> Any:
    """What a body says, exactly; None for what is no JSON."""
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _no_number(word: str) -> None:
    raise ValueError(word)


@pytest.fixture(scope="module")
def api(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that passes on, with no limit of requests."""
    topics = Topics(f"t-{uuid.uuid4().hex[:10]}", partitions=3)
    asyncio.run(create_topics(broker, topics.all()))
    settings = {**QUICK, "VOLTFOLD_REQUESTS_PER_SECOND": "0"}
    api = Api(broker, topics, tmp_path_factory.mktemp("api"), settings=settings).start()
    yield api
    api.kill()


@pytest.fixture(scope="module")
def targets(api: Api) -> Iterator[list[Target]]:
    """Every route that takes a body, with something behind it that a fit body finds."""
    everybody = ("CPO", "EMSP", "SCSP", "PTP")
    random = Random(SEED)
    with (
        running(roles=tuple((role, "NL", "FUZ") for role in everybody)) as fuzzer,
        running(roles=(("CPO", "NL", "OPR"), ("PTP", "NL", "OPR"))) as operator,
    ):
        connect(api, fuzzer, "fuz")
        connect(api, operator, "opr")
        _prepare(api, fuzzer, operator)
        start = {
            "response_url": f"{fuzzer.url}/r",
            "token": a_token("2.3.0", "X", **OWNER),
            "location_id": "Y",
        }
        said = fuzzer.send("POST", f"{api.url}/ocpi/2.3.0/receiver/commands/START_SESSION", start)
        assert said[1]["status_code"] == 1000, said
        uid = operator.requests("POST", "START_SESSION")[0].body["response_url"].rpartition("/")[2]
        query = f"?duration=60&response_url={fuzzer.url}/r"
        said = fuzzer.send("GET", f"{api.url}/ocpi/2.3.0/receiver/chargingprofiles/Y{query}")
        assert said[1]["status_code"] == 1000, said
        profile_uid = operator.requests("GET", "chargingprofiles")[0].query["response_url"].rpartition("/")[2]
        tokens = {
            "credentials": asyncio.run(invite(api.kafka, api.topics, "NL", "CRD", roles=("CPO",)))[0],
            "command_results": operator.our_token,
            "profile_results": operator.our_token,
            "active_profiles": operator.our_token,
            "authorizations": operator.our_token,
            "client_infos": add(api, "NL", "HUB", "HUB").token,
        }
        ids = {
            **OWNER, "client_country_code": "DE", "client_party_id": "C01", "session_id": "Y", "command": "",
        }  # fmt: skip
        found = []
        for route in ROUTES:
            if not route.has_body or route.resource.handler == "terminals_deactivated":
                continue
            here = {
                "uid": profile_uid if route.resource.handler == "profile_results" else uid,
                "location_id": HOLDERS.get(route.resource.kind, "X"),
            }
            if route.resource.handler == "objects":
                here["session_id"] = "X"
            for name, kind in (
                _commands(route) if route.resource.handler == "commands" else [("", _kind(route))]
            ):
                names = {**ids, **here, "command": name or "START_SESSION"}
                path = re.sub(r"{(\w+)}", lambda at, names=names: names.get(at[1], "X"), route.path)
                token = tokens.get(route.resource.handler, fuzzer.our_token)
                if (route.resource.handler, route.method) == ("credentials", "PUT"):
                    token = operator.our_token
                found.append(Target(route, kind, path, token, Bodies(route.version, random)))
        for target in found:
            target.pool = [json.dumps(_aimed(target, fuzzer)) for _ in range(POOL)]
        yield found


def _kind(route: Route) -> str:
    if route.resource.handler == "profile_results":
        return "profile_result"
    return route.resource.sends or route.resource.kind


def _commands(route: Route) -> list[tuple[str, str]]:
    return [(n, kind) for n, kind in COMMANDS.items() if table(route.version, CLASSES[kind]) is not None]


def _prepare(api: Api, fuzzer: Platform, operator: Platform) -> None:
    """Objects X of the fuzzer's own, for PATCHes and parts; and Y of an operator, for what is passed on."""
    stamp = {"last_updated": "2010-01-01T00:00:00Z"}
    places = [a_location("2.3.0", id_, **OWNER, **stamp) for id_ in HOLDERS.values()]
    for place in places:
        place["evses"][0] |= {"uid": "X"}
        place["evses"][0]["connectors"][0] |= {"id": "X"}
    token = a_token("2.3.0", "X", **OWNER, **stamp)
    cdr = a_cdr("2.3.0", "Y", **OPERATOR)
    mine = {name: token[name] for name in ("country_code", "party_id", "uid", "type", "contract_id")}
    terminal = {"terminal_id": "X", **OWNER, **stamp}
    for platform, method, path, body in (
        *((fuzzer, "PUT", f"locations/NL/FUZ/{place['id']}", place) for place in places),
        (fuzzer, "PUT", "tokens/NL/FUZ/X", token),
        (fuzzer, "PUT", "sessions/NL/FUZ/X", a_session("2.3.0", "X", cdr_token=mine, **OWNER, **stamp)),
        (operator, "PUT", "locations/NL/OPR/Y", a_location("2.3.0", "Y", **OPERATOR)),
        (operator, "PUT", "sessions/NL/OPR/Y", a_session("2.3.0", "Y", cdr_token=mine, **OPERATOR)),
        (operator, "POST", "cdrs", cdr | {"cdr_token": mine}),
        (operator, "POST", "payments/terminals", terminal),
    ):
        said = platform.send(method, f"{api.url}/ocpi/2.3.0/receiver/{path}", body)
        assert said[1]["status_code"] == 1000, said


def _aimed(target: Target, fuzzer: Platform) -> Any:
    """A fit object that belongs to the URL and to who sends it."""
    whole: dict[str, Any] = target.bodies.fit(class_of(target.kind, target.route.version))
    aim = {**OWNER, **OBJECTS, **(ELSEWHERE if target.route.resource.module != "cdrs" else {})}
    if target.route.resource.handler == "client_infos":
        aim = {"country_code": "DE", "party_id": "C01"}
    if target.route.method == "POST" and target.kind in CREATED:
        aim = {**aim, "id": uuid.UUID(int=target.bodies.random.getrandbits(128)).hex}
    aim["response_url"] = f"{fuzzer.url}/results"
    if target.kind == "invoice_reconciliation":
        whole["cdrs"] = ["Y"]
    if target.kind == "credentials":
        aim["url"] = "http://127.0.0.1:1/versions"  # where nobody is
        for role in whole.get("roles", []):
            role |= {"country_code": "NL", "party_id": "CRD"}
    for holder in (whole, whole.get("token"), whole.get("cdr_token")):
        if isinstance(holder, dict):
            holder |= {name: value for name, value in aim.items() if name in holder}
    if target.part and target.kind not in UNDATED:
        kept = {"last_updated", *target.bodies.random.sample(sorted(whole), 2)}
        whole = {name: value for name, value in whole.items() if name in kept}
    return whole


@dataclass
class Tally:
    """What became of all bodies."""

    sent: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    strict: Counter[str] = field(default_factory=Counter)  # refused, though the tables allow it
    wrong: list[str] = field(default_factory=list)


def test_no_body_breaks_anything_and_none_is_stored_that_has_to_be_refused(
    api: Api, targets: list[Target]
) -> None:
    tally, started = Tally(), time.monotonic()
    asyncio.run(_fire(api, targets, tally))
    seconds = time.monotonic() - started
    judged = _judge_the_log(api, tally)
    print(
        f"\nseed {SEED}: {tally.sent} bodies in {seconds:.0f} s, {judged} of them in the log", tally.answers
    )
    print("accepted", dict(tally.accepted), "\nrefused, though the tables allow it:")
    for words, count in tally.strict.most_common(60):
        print(f"{count:6} {words}")
    assert not tally.wrong, "\n".join(tally.wrong[:40])
    assert tally.sent >= BODIES
    assert judged > tally.sent // 20, "hardly anything was accepted: the bodies do not fit their URLs"


async def _fire(api: Api, targets: list[Target], tally: Tally) -> None:
    random = Random(SEED)
    async with aiohttp.ClientSession(api.url, timeout=aiohttp.ClientTimeout(60)) as http:

        async def one_after_another() -> None:
            while tally.sent < BODIES:
                target = targets[tally.sent % len(targets)]
                tally.sent += 1
                text = random.choice(target.pool)
                times = random.choice((0, 1, 1, 1, 2, 4))
                body = target.bodies.encode(
                    target.bodies.spoil(json.loads(text), times) if times else json.loads(text)
                )
                await _send(http, target, body, tally, random.choice(("2.1.1", "2.2.1", "2.3.0")))

        await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))


async def _send(http: aiohttp.ClientSession, target: Target, body: bytes, tally: Tally, other: str) -> None:
    headers = {"Authorization": f"Token {base64.b64encode(target.token.encode()).decode()}"}
    if target.route.resource.handler in ADDRESSED:
        headers |= TO
    where = f"{target.route.method} {target.path}"

    def wrong(what: object) -> None:
        tally.wrong.append(f"{where} ({target.kind}): {what}: {body[:2000]!r}")

    async with http.request(
        target.route.method, target.path, data=body, headers={**headers, "Content-Type": "application/json"}
    ) as answer:
        text = await answer.read()
    found = told(text) or {}
    status = found.get("status_code")
    tally.answers[f"{answer.status}/{status}"] += 1
    if (
        answer.status >= 500
        or not isinstance(status, int)
        or not 1000 <= status < 5000
        or "timestamp" not in found
    ):
        return wrong((answer.status, text[:300]))
    flaws = target.flaws(body)
    optional = target.route.resource.optional_body and not body
    if status == 1000 and flaws and not optional:
        return wrong(f"accepted, with {flaws[:3]}")
    if 2000 <= status < 3000 and not flaws:
        tally.strict[f"{target.kind} {target.route.version}: {str(found.get('status_message'))[:80]}"] += 1
    if status == 1000:
        tally.accepted[target.kind] += 1
        if target.route.method == "PUT" and target.route.resource.handler == "objects":
            query = "?type=" + quote(json.loads(body)["type"]) if target.kind == "token" else ""
            path = target.path.replace(target.route.version, other)
            async with http.get(path + query, headers=headers) as answer:
                read = told(await answer.read()) or {}
            if read.get("status_code") != 1000:
                return wrong(f"cannot be read in {other}: {read}")
            if flaws := unfit(other, class_of(target.kind, other), read["data"]):
                return wrong(f"is read in {other} with {flaws[:3]}: {read['data']}")
    return None


def _judge_the_log(api: Api, tally: Tally) -> int:
    """Hold every event's body to be fit, and about the object that the event is about."""
    judged = 0
    for topic in ("sessions", "locations", "tariffs", "tokens", "terminals", "ledger"):
        for _, event in events(api, topic):
            kind = MODULES.get(event.module)
            if event.module == "locations":
                kind = ("location", "evse", "connector")[len(event.path) - 3]
            if kind is None or not event.body or event.method not in ("PUT", "POST", "PATCH"):
                continue
            said, part = told(event.body), event.method == "PATCH" or kind in UNDATED
            flaws = ["no JSON"] if said is None else unfit(
                event.version, class_of(kind, event.version), said, part=part
            )  # fmt: skip
            names = ("country_code", "party_id") if len(event.path) in (3, 4) and said else ()
            for name, value in zip(names, event.path, strict=False):
                if kind not in UNDATED and str(said.get(name, value)).upper() != value.upper():
                    flaws.append(f"{name}: {said[name]!r} for {value!r}")
            if flaws:
                tally.wrong.append(
                    f"in the log: {kind} {event.version} {event.path}: {flaws[:3]}: {event.body!r}"
                )
            judged += 1
    return judged
