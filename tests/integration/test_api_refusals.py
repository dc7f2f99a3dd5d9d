"""Every way to be refused: the specification's answer, the field by name, and a log that did not change."""

from __future__ import annotations

import base64
import json
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.api_helpers import (
    VERSIONS,
    Api,
    Partner,
    a_cdr,
    a_location,
    a_session,
    a_tariff,
    a_token,
    add,
    authorization,
    is_refusal,
    is_success,
    unchanged,
    web,
)
from tests.integration.conftest import NewId

both = pytest.mark.parametrize("version", VERSIONS)


# Who is it


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Token",
        "Token bm9ib2R5",
        "Token nobody",
        "Bearer {encoded}",
        "{encoded}",
        "Token {cut}",
        "Token {twice}",
    ],
)
def test_missing_and_wrong_tokens(header: str | None, cpo: Partner, api: Api, new_id: NewId) -> None:
    """HTTP 401 in an envelope (transport_and_format, "Authorization header")."""
    encoded = base64.b64encode(cpo.token.encode()).decode()
    twice = base64.b64encode(encoded.encode()).decode()
    headers = (
        {}
        if header is None
        else {"Authorization": header.format(encoded=encoded, cut=encoded[:-4], twice=twice)}
    )
    id_ = new_id()
    with unchanged(api), web(base_url=api.url, headers=headers) as http:
        for method, url in (
            ("GET", "/ocpi/versions"),
            ("GET", "/ocpi/2.3.0"),
            ("PUT", cpo.url("2.3.0", "sessions", id_)),
            ("GET", "/ocpi/nowhere"),
        ):
            answer = http.request(method, url, json=a_session("2.3.0", id_))
            is_refusal(answer, 401, 2000, "Authorization")
            assert answer.headers["www-authenticate"] == "Token"


def test_tokens_in_every_spelling(cpo: Partner, api: Api) -> None:
    """Base64 as the specification has it, with its example's newline, and plain as many send it."""
    for text in (
        base64.b64encode(cpo.token.encode()).decode(),
        base64.b64encode(f"{cpo.token}\n".encode()).decode(),
        cpo.token,
    ):
        for scheme in ("Token", "token"):
            answer = httpx.get(f"{api.url}/ocpi/versions", headers={"Authorization": f"{scheme} {text}"})
            is_success(answer)


# May they


@both
def test_a_party_has_only_what_is_its_own(
    version: str, cpo: Partner, emsp: Partner, api: Api, new_id: NewId
) -> None:
    """404 for another party's URLs, whether the object exists or not (transport_and_format, "Errors")."""
    id_ = new_id()
    session = a_session(version, id_)
    is_success(cpo.put(version, "sessions", session, id_), 201)
    thief = add(api, "NL", "XXX", "CPO", "EMSP")
    with unchanged(api):
        for name in (id_, new_id()):
            url = cpo.url(version, "sessions", name)
            is_refusal(thief.http.get(url), 404, 2000, "NL*TNM")
            is_refusal(thief.http.put(url, json={**session, "id": name}), 404, 2000, "NL*TNM")
            patch = {"kwh": 1, "last_updated": "2030-01-01T00:00:00Z"}
            is_refusal(thief.http.patch(url, json=patch), 404, 2000)
        is_refusal(thief.http.delete(cpo.url(version, "tariffs", id_)), 404, 2000)
        # Its own URL, but somebody else's object in the body.
        is_refusal(thief.put(version, "sessions", session, id_), 200, 2001, "party_id", "TNM", "XXX")
        answer = thief.http.post(f"/ocpi/{version}/receiver/cdrs", json=a_cdr(version, new_id()))
        is_refusal(answer, 403, 2001, "country_code", "party_id", "NL*TNM")
        # Its own party, but not in that role.
        is_refusal(emsp.put(version, "sessions", session, id_), 404, 2000, "CPO")
        is_refusal(emsp.put(version, "tariffs", a_tariff(version, id_), id_), 404, 2000, "CPO")
        is_refusal(cpo.put(version, "tokens", a_token(version, id_), id_), 404, 2000, "EMSP")
        answer = emsp.http.post(f"/ocpi/{version}/receiver/cdrs", json=a_cdr(version, id_))
        is_refusal(answer, 404, 2000, "CPO")


def test_a_cdr_is_read_by_its_party_alone(cpo: Partner, api: Api, new_id: NewId) -> None:
    """Its Location does not open for others."""
    answer = cpo.http.post("/ocpi/2.3.0/receiver/cdrs", json=a_cdr("2.3.0", new_id()))
    is_success(answer, 201)
    thief = add(api, "NL", "YYY", "CPO")
    is_refusal(thief.http.get(answer.headers["location"]), 404, 2000)


# Is there such a thing


@both
def test_unknown_objects(version: str, cpo: Partner, emsp: Partner, api: Api, new_id: NewId) -> None:
    """GET and PATCH of what nobody knows: 404, with the module's own status."""
    id_ = new_id()
    patch = {"last_updated": "2030-01-01T00:00:00Z"}
    with unchanged(api):
        for partner, module, status in (
            (cpo, "sessions", 2000),
            (cpo, "locations", 2003),
            (emsp, "tokens", 2004),
        ):
            is_refusal(partner.get(version, module, id_), 404, status, id_)
            is_refusal(partner.patch(version, module, patch, id_), 404, status, id_)
        is_refusal(cpo.get(version, "tariffs", id_), 404, 2000, id_)
        is_refusal(cpo.get(version, "cdrs", id_), 404, 2000, id_)
        is_refusal(cpo.http.delete(cpo.url(version, "tariffs", id_)), 404, 2000, id_)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/ocpi/"),
        ("GET", "/ocpi/2.0"),
        ("GET", "/ocpi/2.3.0/receiver/sessions"),
        ("GET", "/ocpi/2.3.0/receiver/sessions/NL/TNM"),
        ("GET", "/ocpi/2.3.0/receiver/sessions/NL/TNM/1/2"),
        ("GET", "/ocpi/2.3.0/receiver/sessions/NL//1"),
        ("GET", "/ocpi/2.3.0/sender/sessions/NL/TNM/1"),
        ("GET", "/ocpi/2.3.0/receiver/chargingprofiles/NL/TNM/1"),
        ("GET", "/ocpi/2.3.0/receiver/sessions/NL/TNM/%ff"),
        ("PUT", "/ocpi/2.3.0/receiver/cdrs/NL/TNM/1/2"),
        ("GET", "/"),
        ("GET", "/ocpi"),
        ("GET", "/nowhere"),
    ],
)
def test_unknown_paths(method: str, path: str, cpo: Partner, api: Api) -> None:
    """404 in an envelope."""
    with unchanged(api):
        is_refusal(cpo.http.request(method, path), 404, 2000)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/ocpi/versions", "GET"),
        ("/ocpi/2.2.1", "GET"),
        ("/ocpi/2.3.0/receiver/sessions/NL/TNM/1", "GET, PATCH, PUT"),
        ("/ocpi/2.3.0/receiver/cdrs", "POST"),
        ("/ocpi/2.3.0/receiver/tariffs/NL/TNM/1", "DELETE, GET, PUT"),
    ],
)
def test_methods_that_are_not_there(path: str, allowed: str, cpo: Partner, api: Api) -> None:
    """405, with those that are; HEAD, OPTIONS and inventions among them."""
    with unchanged(api):
        for method in {"HEAD", "OPTIONS", "POST", "DELETE", "PURGE"} - set(allowed.split(", ")):
            answer = cpo.http.request(method, path)
            assert answer.status_code == 405, method
            assert answer.headers["allow"] == allowed
            if method == "HEAD":
                assert answer.content == b""
            else:
                is_refusal(answer, 405, 2000, method, allowed.split(", ")[0])


# What does it say


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{} {}",
        b"not json",
        b'{"id": "X", "kwh": 1.2.3}',
        b'{"id": 5, "kwh"',
        b'{"kwh": NaN}',
        b'\xef\xbb\xbf{"id": "X"}',
        b'{"x_own": "\xff"}',
        "{}".encode("utf-16"),
    ],
)
def test_no_json(body: bytes, cpo: Partner, api: Api, new_id: NewId) -> None:
    """HTTP 400, as the specification prescribes (status_codes)."""
    id_ = new_id()
    headers = {"Content-Type": "application/json"}
    url = cpo.url("2.3.0", "sessions", id_)
    with unchanged(api):
        is_refusal(cpo.http.put(url, content=body, headers=headers), 400, 2001, "body")
        is_refusal(cpo.http.post("/ocpi/2.2.1/receiver/cdrs", content=body, headers=headers), 400, 2001)


def test_broken_text_in_a_good_object(cpo: Partner, api: Api, new_id: NewId) -> None:
    """Also a field that nobody reads must be UTF-8, since the event keeps it for ever."""
    id_ = new_id()
    body = json.dumps({**a_session("2.3.0", id_), "x_own": "?"}).encode().replace(b"?", b"\xc3")
    with unchanged(api):
        url, headers = cpo.url("2.3.0", "sessions", id_), {"Content-Type": "application/json"}
        is_refusal(cpo.http.put(url, content=body, headers=headers), 400, 2001, "UTF-8")


def _changed(body: Any, path: str, value: Any) -> Any:
    """The body with another value at `a.0.b`; `...` takes it out."""
    copy = json.loads(json.dumps(body))
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    found = copy
    for step in steps:
        found = found[step]
    if value is ...:
        del found[last]
    elif isinstance(found, list) and last == len(found):
        found.append(value)
    else:
        found[last] = value
    return copy


SESSION_FAULTS = [
    ("kwh", "a lot", "kwh"),
    ("kwh", ..., "kwh"),
    ("kwh", [1], "kwh"),
    ("status", "RUNNING", "status"),
    ("status", "active", "status"),
    ("auth_method", "MAGIC", "auth_method"),
    ("currency", "EURO", "currency"),
    ("start_date_time", "yesterday", "start_date_time"),
    ("start_date_time", "2024-01-01T00:00:00+02:00", "start_date_time"),
    ("last_updated", ..., "last_updated"),
    ("last_updated", 5, "last_updated"),
    ("cdr_token", ..., "cdr_token"),
    ("cdr_token.type", "", "cdr_token.type"),
    ("cdr_token.uid", ..., "cdr_token.uid"),
    ("charging_periods", {}, "charging_periods"),
    ("charging_periods", [{"start_date_time": "2024-01-01T00:00:00Z"}], "charging_periods[0].dimensions"),
    (
        "charging_periods",
        [{"start_date_time": "2024-01-01T00:00:00Z", "dimensions": [{"type": "WARP", "volume": 1}]}],
        "charging_periods[0].dimensions[0].type",
    ),
    ("location_id", "x" * 37, "location_id"),
    ("id", "", "id"),
]


@both
@pytest.mark.parametrize(("path", "value", "named"), SESSION_FAULTS)
def test_bad_sessions(
    version: str, path: str, value: Any, named: str, cpo: Partner, api: Api, new_id: NewId
) -> None:
    """HTTP 200 with 2001 that names the field: such a request has reached the OCPI layer (status_codes)."""
    id_ = new_id()
    bad = _changed(a_session(version, id_), path, value)
    with unchanged(api):
        is_refusal(cpo.put(version, "sessions", bad, id_), 200, 2001, f"{named}: ")
        is_refusal(cpo.get(version, "sessions", id_), 404, 2000)


@both
def test_bad_objects_of_the_other_modules(
    version: str, cpo: Partner, emsp: Partner, api: Api, new_id: NewId
) -> None:
    """As for sessions."""
    id_ = new_id()
    evse = a_location(version, id_)["evses"][0]
    is_success(cpo.put(version, "locations", a_location(version, id_), id_), 201)
    with unchanged(api):
        for partner, module, good, ids, path, value in (
            (cpo, "locations", a_location(version, id_), (id_,), "time_zone", ...),
            (cpo, "locations", a_location(version, id_), (id_,), "evses.0.status", "FREE"),
            (cpo, "locations", evse, (id_, "3256"), "connectors.0.standard", ...),
            (cpo, "locations", evse["connectors"][0], (id_, "3256", "1"), "format", "PLUG"),
            (cpo, "tariffs", a_tariff(version, id_), (id_,), "elements.0.price_components.0.type", "KWH"),
            (cpo, "tariffs", a_tariff(version, id_), (id_,), "elements.0.price_components.0.price", "two"),
            (emsp, "tokens", a_token(version, id_), (id_,), "whitelist", "MAYBE"),
            (emsp, "tokens", a_token(version, id_), (id_,), "valid", "yes"),
        ):
            named = path.replace(".0.", "[0].")
            is_refusal(
                partner.put(version, module, _changed(good, path, value), *ids), 200, 2001, f"{named}: "
            )
        for path, value in (("total_cost", ...), ("charging_periods.0.dimensions.0.volume", None)):
            bad = _changed(a_cdr(version, id_), path, value)
            answer = cpo.http.post(f"/ocpi/{version}/receiver/cdrs", json=bad)
            is_refusal(answer, 200, 2001, path.replace(".0.", "[0]."))


@both
def test_bad_patches(version: str, cpo: Partner, api: Api, new_id: NewId) -> None:
    """A PATCH needs last_updated, knows its fields' types, and cannot take away what is required."""
    id_ = new_id()
    session = a_session(version, id_)
    is_success(cpo.put(version, "sessions", session, id_), 201)
    stamp = {"last_updated": "2030-01-01T00:00:00Z"}
    with unchanged(api):
        is_refusal(cpo.patch(version, "sessions", {"kwh": 1}, id_), 200, 2001, "last_updated")
        is_refusal(cpo.patch(version, "sessions", {**stamp, "kwh": "1.5x"}, id_), 200, 2001, "kwh")
        is_refusal(cpo.patch(version, "sessions", {**stamp, "kwh": None}, id_), 200, 2001, "kwh")
        is_refusal(cpo.patch(version, "sessions", {**stamp, "status": "GONE"}, id_), 200, 2001, "status")
        is_refusal(cpo.patch(version, "sessions", {**stamp, "id": "other"}, id_), 200, 2001, "id")
        is_refusal(cpo.patch(version, "sessions", {**stamp, "party_id": "XXX"}, id_), 200, 2001, "party_id")
        answer = cpo.http.patch(cpo.url(version, "sessions", id_), json=[stamp])
        is_refusal(answer, 200, 2001)
    assert cpo.found(version, "sessions", id_) == session


@both
def test_a_body_that_names_another_object_than_its_url(
    version: str, cpo: Partner, emsp: Partner, api: Api, new_id: NewId
) -> None:
    """2001, as advised (transport_and_format, "Errors")."""
    id_ = new_id()
    location = a_location(version, id_)
    is_success(cpo.put(version, "locations", location, id_), 201)
    evse = location["evses"][0]
    with unchanged(api):
        is_refusal(cpo.put(version, "sessions", a_session(version, "S"), id_), 200, 2001, "id: ", "'S'", id_)
        is_refusal(cpo.put(version, "tariffs", a_tariff(version, "T"), id_), 200, 2001, "id: ")
        is_refusal(cpo.put(version, "locations", a_location(version, "L"), id_), 200, 2001, "id: ")
        is_refusal(cpo.put(version, "locations", evse, id_, "9"), 200, 2001, "uid: ", "'3256'", "'9'")
        is_refusal(cpo.put(version, "locations", evse["connectors"][0], id_, "3256", "9"), 200, 2001, "id: ")
        is_refusal(emsp.put(version, "tokens", a_token(version, "T"), id_), 200, 2001, "uid: ")
        wrong = a_session(version, id_, country_code="BE")
        is_refusal(cpo.put(version, "sessions", wrong, id_), 200, 2001, "country_code: ")


def test_wrong_content_types(cpo: Partner, api: Api, new_id: NewId) -> None:
    """415 for anything but JSON (transport_and_format, "Request format")."""
    id_ = new_id()
    body = json.dumps(a_session("2.3.0", id_))
    with unchanged(api):
        for media in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx"):
            answer = cpo.http.put(
                cpo.url("2.3.0", "sessions", id_), content=body, headers={"Content-Type": media}
            )
            is_refusal(answer, 415, 2000, "Content-Type")


def test_overlong_message_ids(cpo: Partner, api: Api, new_id: NewId) -> None:
    """They are kept with the event, so they have an end."""
    id_ = new_id()
    session = a_session("2.3.0", id_)
    with unchanged(api):
        for name in ("X-Request-ID", "X-Correlation-ID"):
            answer = cpo.put("2.3.0", "sessions", session, id_, headers={name: "x" * 256})
            is_refusal(answer, 400, 2000, name)
    headers = {"X-Request-ID": "x" * 255}
    is_success(cpo.put("2.3.0", "sessions", session, id_, headers=headers), 201)


# How much is it


def _sized(id_: str, size: int) -> bytes:
    """A good session of exactly this many bytes."""
    body = json.dumps({**a_session("2.3.0", id_), "x_own": ""})
    return body.replace('"x_own": ""', f'"x_own": "{"x" * (size - len(body))}"').encode()


def test_oversized_bodies(cpo: Partner, api: Api, new_id: NewId) -> None:
    """413 beyond 1 MB, with and without a Content-Length; the sender hears it though he still sends."""
    id_ = new_id()
    url, headers = cpo.url("2.3.0", "sessions", id_), {"Content-Type": "application/json"}
    limit = 1 << 20
    with unchanged(api):
        for size in (limit + 1, 3 * limit):
            body = _sized(id_, size)
            is_refusal(cpo.http.put(url, content=body, headers=headers), 413, 2001, "body", str(limit))
            pieces = (body[at : at + 65_536] for at in range(0, size, 65_536))
            is_refusal(cpo.http.put(url, content=pieces, headers=headers), 413, 2001, "body", str(limit))
    is_success(cpo.http.put(url, content=_sized(id_, limit), headers=headers), 201)
    assert cpo.found("2.3.0", "sessions", id_) == a_session("2.3.0", id_)


def test_a_body_that_breaks_off(cpo: Partner, api: Api, new_id: NewId) -> None:
    """Nothing is written, and the next request is served."""
    with unchanged(api):
        with socket.create_connection(("127.0.0.1", api.port)) as raw:
            raw.sendall(
                f"PUT {cpo.url('2.3.0', 'sessions', new_id())} HTTP/1.1\r\nHost: x\r\n"
                f"Authorization: {authorization(cpo.token)['Authorization']}\r\n"
                'Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"id":'.encode()
            )
            time.sleep(0.2)
        is_success(cpo.http.get("/ocpi/versions"))


def test_nonsense_instead_of_http(cpo: Partner, api: Api) -> None:
    """A 400 or a closed door, and the next request is served."""
    for nonsense in (b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", api.port), timeout=10) as raw:
            raw.sendall(nonsense)
            raw.shutdown(socket.SHUT_WR)
            answer = raw.recv(4096)
        assert answer == b"" or b" 400 " in answer.split(b"\r\n")[0]
    is_success(cpo.http.get("/ocpi/versions"))


# How often


def test_too_many_requests(api: Api, tmp_path: Path, cpo: Partner, emsp: Partner) -> None:
    """429 with Retry-After for one partner alone, and it is served again afterwards."""
    settings = {"VOLTFOLD_REQUESTS_PER_SECOND": "2", "VOLTFOLD_BURST": "5"}
    strict = Api(api.kafka, api.topics, tmp_path, settings=settings).start()
    try:
        busy, calm = cpo.at(strict), emsp.at(strict)
        answers = [busy.http.get("/ocpi/versions") for _ in range(10)]
        assert [answer.status_code for answer in answers[:5]] == [200] * 5
        refused = [answer for answer in answers if answer.status_code != 200]
        assert len(refused) >= 4
        for answer in refused:
            is_refusal(answer, 429, 2000)
        is_success(calm.http.get("/ocpi/versions"))
        time.sleep(int(refused[-1].headers["retry-after"]))
        is_success(busy.http.get("/ocpi/versions"))
    finally:
        strict.kill()


def test_too_much_at_once(api: Api, tmp_path: Path, cpo: Partner, new_id: NewId) -> None:
    """503 with Retry-After when the bytes of all bodies under way are too many, also if none is too large."""
    settings = {"VOLTFOLD_MAX_IN_FLIGHT_BYTES": "100000", "VOLTFOLD_MAX_BODY": "90000"}
    small = Api(api.kafka, api.topics, tmp_path, settings=settings).start()
    try:
        partner, id_ = cpo.at(small), new_id()
        url, headers = partner.url("2.3.0", "sessions", id_), {"Content-Type": "application/json"}
        with socket.create_connection(("127.0.0.1", small.port)) as slow:
            slow.sendall(
                f"PUT {url} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                f"Authorization: {authorization(cpo.token)['Authorization']}\r\n"
                "Content-Length: 80000\r\n\r\n{".encode()
            )
            time.sleep(0.2)
            with unchanged(api):
                answer = partner.http.put(url, content=_sized(id_, 80_000), headers=headers)
            is_refusal(answer, 503, 3000)
            assert int(answer.headers["retry-after"]) >= 1
        deadline = time.monotonic() + 5  # the API may hear of the closed connection after this request
        while (answer := partner.http.put(url, content=_sized(id_, 80_000), headers=headers)).is_error:
            assert answer.status_code == 503
            assert time.monotonic() < deadline
            time.sleep(0.05)
        is_success(answer, 201)
    finally:
        small.kill()


@pytest.mark.parametrize(
    "sent", [b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /\x00 HTTP/1.1\r\nHost\r\n\r\n"]
)
def test_what_is_no_http(sent: bytes, api: Api) -> None:
    """Refused in an envelope, too, and the connection is closed."""
    with socket.create_connection(("127.0.0.1", api.port), 10) as connection:
        connection.sendall(sent)
        answer = b""
        while part := connection.recv(4096):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head
    assert json.loads(body)["status_code"] == 2000
