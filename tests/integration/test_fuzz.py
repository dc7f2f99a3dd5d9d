"""Bodies that no partner should send: whatever it is, the answer is an envelope, and never a 5xx.

What is accepted is held to be valid, and can be read back. `VOLTFOLD_FUZZ` says how many bodies there are for
each route and version (10 without it).
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api.routes import ROUTES, Route
from schemas.ocpi import wire
from tests.integration.api_helpers import Api, Partner, add
from tests.strategies import spoken

EXAMPLES = int(os.environ.get("VOLTFOLD_FUZZ", "10"))
PARTY = ("NL", "FUZ")

_numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -1, 1e308, 1e-320, 10**400]),
)
_texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["", "\x00", "\n", "#NA", "null", "2026-02-30T00:00:00Z", "9999-12-31T23:59:59Z", "\ud800"]
    ),
    st.text("ab*/%2F..", max_size=300),
)
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), _numbers, _texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)


def _nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where there is something in a value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        found += _nodes(item, (*path, name))
    return found


def _changed(value: Any, path: tuple[Any, ...], how: str, other: Any) -> Any:
    """A copy with one thing changed."""
    copy = json.loads(json.dumps(value))
    at = copy
    for name in path[:-1]:
        at = at[name]
    if how == "put":
        at[path[-1]] = other
    elif how == "drop":
        del at[path[-1]]
    elif how == "twice" and isinstance(at, list):
        at.append(at[path[-1]])
    elif isinstance(at, dict):
        at[f"x_{path[-1]}"] = other
    return copy


@st.composite
def bodies(draw: st.DrawFn, kind: str, version: str) -> bytes:
    """A valid object, most of the time with something wrong in it; sometimes no object, sometimes no JSON."""
    made, up = spoken(kind, version)
    value = json.loads(wire.encode(kind, version, up(draw(made))))
    if isinstance(value, dict):
        value |= {
            name: said
            for name, said in zip(("country_code", "party_id"), PARTY, strict=True)
            if name in value
        }
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 4]))):
        where = _nodes(value)
        if not where:
            break
        how = draw(st.sampled_from(["put", "put", "drop", "twice", "more"]))
        value = _changed(value, draw(st.sampled_from(where)), how, draw(junk))
    if draw(st.integers(0, 19)) == 0:
        value = draw(junk)
    text = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    match draw(st.integers(0, 29)):
        case 0:
            return text[: draw(st.integers(0, len(text)))]
        case 1:
            at = draw(st.integers(0, len(text)))
            return text[:at] + draw(st.binary(max_size=8)) + text[at:]
        case 2:
            return b"[" * draw(st.integers(1, 20_000)) + text
        case _:
            return text


WRITES = [
    route for route in ROUTES
    if route.has_body and (route.resource.kind or route.resource.sends)
    and (route.resource.sends or route.resource.kind, route.version) in wire.SPOKEN
]  # fmt: skip


@pytest.fixture(scope="module")
def fuzzer(api: Api) -> Partner:
    """NL*FUZ, in all roles."""
    return add(api, *PARTY, "CPO", "EMSP", "SCSP", "PTP")


@pytest.mark.parametrize("route", WRITES, ids=lambda route: f"{route.method} {route.path}")
def test_bodies(route: Route, fuzzer: Partner) -> None:
    """No 5xx, an envelope always, and what is kept can be read."""
    kind = route.resource.sends or route.resource.kind

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(bodies(kind, route.version))
    def send(body: bytes) -> None:
        ids = {"country_code": PARTY[0], "party_id": PARTY[1]}
        said: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(body)
        path = route.path
        for name in route.ids:
            value = ids.get(name) or _identifier(said, name)
            path = path.replace("{" + name + "}", value)
        answer = fuzzer.http.request(
            route.method, path, content=body, headers={"Content-Type": "application/json"}
        )
        found = answer.json()
        assert answer.status_code < 500, (answer.text, body)
        assert found["timestamp"]
        assert 1000 <= found["status_code"] < 5000
        if not isinstance(said, dict):
            assert found["status_code"] != 1000 or not body, body
        elif found["status_code"] == 1000 and route.method == "PUT" and route.resource.handler == "objects":
            kept = wire.decode(kind, route.version, body, party=PARTY)  # raises for what is not valid
            query = {"type": kept.type} if kind == "token" else None
            data = fuzzer.http.get(path, params=query).json()["data"]
            read = wire.decode(kind, route.version, json.dumps(data).encode(), party=PARTY)
            assert read.last_updated >= kept.last_updated

    send()


def _identifier(body: Any, name: str) -> str:
    """What a URL has to say for a body to fit."""
    if isinstance(body, dict):
        for field in ("uid", "id"):
            found = body.get(field)
            if isinstance(found, str) and found and found.isascii() and found.isprintable():
                return quote(found, safe="") if name.endswith(("_id", "_uid")) else "X"
    return "X"
