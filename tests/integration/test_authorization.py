"""The authorization matrix, from the route table: every route, every role and party that may not call it.

What is refused is refused in an envelope, counted, and leaves nothing in the log.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import httpx
import pytest

from api.partners import ROLES, invite
from api.routes import ROUTES, Route
from tests.integration.api_helpers import Api, Partner, add, authorization, is_refusal, unchanged, web

_FORBIDDEN = re.compile(r"^voltfold_api_forbidden_total\{.*\} ([0-9.]+)$", re.MULTILINE)
_GATE = ("Not found: you do not speak for", " is for the role ")


@pytest.fixture(scope="module")
def partners(api: Api) -> dict[str, Partner]:
    """NL*TNM once in each role, each with a token of its own, and NL*OTH in all of them."""
    found = {role: add(api, "NL", "TNM", role) for role in ROLES}
    return {**found, "": add(api, "NL", "OTH", *ROLES)}


def ask(route: Route, http: httpx.Client) -> httpx.Response:
    """A request to a route: NL*TNM's object where it names a party, an empty object as its body."""
    ids = {"country_code": "NL", "party_id": "TNM"}
    path = re.sub(r"\{(\w+)\}", lambda name: ids.get(name[1], "X1"), route.path)
    return http.request(route.method, path, json={} if route.has_body else None)


def is_let_in(answer: httpx.Response) -> bool:
    """Whether it got beyond the question who may call."""
    said = answer.json().get("status_message", "")
    return answer.status_code != 401 and not any(words in said for words in _GATE)


def forbidden(api: Api) -> float:
    """How many requests were counted as forbidden."""
    with web() as http:
        return sum(float(one) for one in _FORBIDDEN.findall(http.get(f"{api.url}/metrics").text))


def of_module(module: str) -> Iterator[Route]:
    """The routes of a module."""
    return (route for route in ROUTES if route.resource.module == module)


MODULES = sorted({route.resource.module for route in ROUTES} - {"credentials"})


@pytest.mark.parametrize("module", MODULES)
def test_who_may_call(module: str, api: Api, partners: dict[str, Partner]) -> None:
    """Of the eight roles those of the route, and of them the party that the URL names."""
    refused = 0
    before = forbidden(api)
    with unchanged(api):
        for route in of_module(module):
            resource = route.resource
            assert resource.callers
            assert set(resource.callers) <= set(ROLES)
            for role in set(ROLES) - set(resource.callers):
                is_refusal(ask(route, partners[role].http), 404, 2000, "is for the role")
                refused += 1
            if resource.owned and route.ids:
                is_refusal(ask(route, partners[""].http), 404, 2000, "you do not speak for NL*TNM")
                refused += 1
    assert forbidden(api) - before == refused
    for route in of_module(module):
        for role in route.resource.callers:
            answer = ask(route, partners[role].http)
            assert is_let_in(answer), (route.method, route.path, role, answer.text)
            assert answer.status_code < 500, answer.text


def test_who_is_not_through(api: Api) -> None:
    """Without a token, with one that nobody has, or with one that is for registering, nothing is open."""
    token_a = asyncio.run(invite(api.kafka, api.topics))[0]
    with unchanged(api):
        for headers in ({}, authorization("nobody"), authorization(token_a)):
            with web(base_url=api.url, headers=headers) as http:
                for route in ROUTES:
                    answer = ask(route, http)
                    if route.resource.module == "credentials" and headers == authorization(token_a):
                        assert is_let_in(answer)
                    else:
                        is_refusal(answer, 401, 2000, "Authorization")
