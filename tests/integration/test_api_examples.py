"""Every JSON example of the specification comes back from its door equal in meaning, in all versions.

Examples are sent as they are, byte for byte; those that lack what their own chapter requires, with just that
added. Not here are credentials (`test_handshake`), versions and endpoints (which are answers of ours), and
the payments module, which 2.3.0 alone has (`test_payments_module`).
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from schemas.ocpi import unsaid, wire
from schemas.topics import Topics
from tests.integration.api_helpers import EXAMPLES, Api, Json, Partner, add, is_success
from tests.ocpi_tables import faults
from tests.unit.schemas import test_ocpi_examples as examples
from voltfold.topics import create_topics

VERSIONS = ("2.1.1", "2.2.1", "2.3.0")
MODULES = {
    "session": "sessions", "cdr": "cdrs", "tariff": "tariffs", "token": "tokens",
    "location": "locations", "evse": "locations", "connector": "locations",
}  # fmt: skip
CLASSES = {
    "session": "Session", "cdr": "CDR", "tariff": "Tariff", "token": "Token",
    "location": "Location", "evse": "EVSE", "connector": "Connector",
}  # fmt: skip
LACKING: dict[str, Json] = {
    "tariff_put_example": {"last_updated": "2030-01-01T00:00:00Z"},
    "location_put_example_add_evse": {"last_updated": "2030-01-01T00:00:00Z"},
}
"""What is added to examples that are not complete."""
PLACES = {
    "location_put_example_add_evse": ("BE", "BEC", "LOC1", "3256"),
    "location_patch_example_location": ("BE", "BEC", "LOC1"),
    "location_patch_example_status": ("BE", "BEC", "LOC1", "3256"),
    "location_patch_example_remove_evse": ("BE", "BEC", "LOC1", "3256"),
    "location_patch_example_tariff": ("BE", "BEC", "LOC1", "3257", "1"),
    "session_patch_example_charging_period": ("BE", "BEC", "101"),
    "session_patch_example_total_cost": ("BE", "BEC", "101"),
    "token_patch_example": ("NL", "TNM", "012345678"),
}
"""The objects of other examples that these are about."""


class Said(NamedTuple):
    """An example, and the door that it belongs to."""

    name: str
    kind: str
    method: str
    ids: tuple[str, ...]  # country code, party id and identifiers
    body: bytes

    @property
    def whole(self) -> Any:
        """What it says."""
        return json.loads(self.body)


def _said(version: str) -> list[Said]:
    """Every example of a version that is a body, in the order in which its objects changed."""
    found = []
    for path in sorted((EXAMPLES / version).glob("*.json")):
        for kind, body in _bodies(path):
            found.append(_aimed(path.stem, kind, version, body))
    return sorted(found, key=lambda one: (one.method == "PATCH", one.whole.get("last_updated", "")))


def _bodies(path: Path) -> Iterator[tuple[str, bytes]]:
    """The objects of an example, with the kind of each."""
    name, body = path.stem, path.read_bytes()
    if name in examples.PARTS:
        place = json.loads((EXAMPLES / path.parent.name / "location_example.json").read_bytes())
        part = json.loads(body)
        if "energy_mix" not in part and "opening_times" not in part:
            part = {"opening_times": part}
        if "opening_times" in part:  # location_regularhours_example lacks the flag
            part["opening_times"].setdefault("twentyfourseven", False)
        yield "location", json.dumps(place | part).encode()
    elif name in examples.ENVELOPES:
        if examples.ENVELOPES[name] == "token":
            data = json.loads(body)["data"]
            for token in data if isinstance(data, list) else [data]:
                yield "token", json.dumps(token).encode()
    elif name in examples.PATCHES:
        if not name.startswith("payment"):
            yield examples.PATCHES[name], body
    elif name in LACKING:
        yield "evse" if "evse" in name else "tariff", json.dumps(json.loads(body) | LACKING[name]).encode()
    elif name not in examples.LISTS and (kind := examples.kind_of(path)) in MODULES:
        yield kind, body


def _aimed(name: str, kind: str, version: str, body: bytes) -> Said:
    whole = json.loads(body)
    if name in PLACES:
        return Said(name, kind, "PATCH" if "patch" in name else "PUT", PLACES[name], body)
    owner = (whole.get("country_code", "NL"), whole.get("party_id", "TNM"))
    id_ = str(whole["uid"] if kind == "token" else whole["id"])
    return Said(name, kind, "POST" if kind == "cdr" else "PUT", (*owner, id_), body)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_example_comes_back_equal_in_meaning(
    version: str, broker: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    topics = Topics(f"t-{uuid.uuid4().hex[:10]}", partitions=3)
    asyncio.run(create_topics(broker, topics.all()))
    api = Api(broker, topics, tmp_path_factory.mktemp("api")).start()
    try:
        said = _said(version)
        owners = {one.ids[:2] for one in said}
        partners = {owner: add(api, *owner, "CPO", "EMSP") for owner in owners}
        for one in said:
            _goes_through(partners[one.ids[:2]], version, one)
        assert {one.kind for one in said} == set(MODULES) - (
            {"evse", "connector"} if version == "2.1.1" else set()
        )
        assert len(said) >= (12 if version == "2.1.1" else 45)
    finally:
        api.kill()


def _goes_through(partner: Partner, version: str, one: Said) -> None:
    """Send an example, and hold what is read in every version to be what it says."""
    query = {"type": one.whole["type"]} if "type" in one.whole and one.kind == "token" else None
    where = partner.url("{}", MODULES[one.kind], *one.ids[2:])
    url = f"/ocpi/{version}/receiver/cdrs" if one.kind == "cdr" else where.format(version)
    before = None
    if one.method == "PATCH":
        before = partner.http.get(where.format(version), params=query).json()["data"]
    headers = {"Content-Type": "application/json"}
    answer = partner.http.request(one.method, url, content=one.body, headers=headers, params=query)
    if one.name in examples.INCOMPLETE and one.name != "tariff_put_example":
        assert answer.json()["status_code"] == 2001, one.name
        assert examples.INCOMPLETE[one.name] in answer.json()["status_message"]
        return
    assert answer.json()["status_code"] == 1000, (one.name, answer.text)
    read = {}
    for spoken in VERSIONS:
        found = partner.http.get(where.format(spoken), params=query)
        is_success(found)
        read[spoken] = json.dumps(found.json()["data"])
        assert faults(spoken, CLASSES[one.kind], found.json()["data"]) == [], (one.name, spoken)
    sent: Any = one.body
    if before is not None:
        more = one.whole
        if "charging_periods" in more:
            more["charging_periods"] = before["charging_periods"] + more["charging_periods"]
        sent = json.dumps(before | more)
    if version != "2.1.1" or one.kind not in ("session", "cdr"):
        own = examples.plain(read[version])
        assert own == examples.known(examples.plain(sent), own), one.name
    meant = _canonical(one.kind, version, sent, one.ids[:2])
    for spoken in VERSIONS:
        again = _canonical(one.kind, spoken, read[spoken], one.ids[:2])
        other = [
            path
            for path in examples.differences(meant, again)
            if spoken == version or not unsaid.excused(one.kind, spoken, path)
        ]
        assert not other, (one.name, spoken, other)


def _canonical(kind: str, version: str, body: bytes | str, owner: tuple[str, ...]) -> Any:
    """What a body of a version means, in 2.3.0's words."""
    body = body.encode() if isinstance(body, str) else body
    found = wire.decode(kind, version, body, party=(owner[0], owner[1]))
    return examples.plain(wire.encode(kind, "2.3.0", found))
