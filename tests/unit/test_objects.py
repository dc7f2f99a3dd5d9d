"""The fold of an object's events: what PUT, PATCH, POST and DELETE leave, in any order and repetition."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.keys import object_key
from schemas.ocpi import wire
from schemas.ocpi.wire import InvalidObjectError
from schemas.records import Event, event_id, micros
from streams.objects import KINDS, fold_object, head, last_updated, load, part
from tests import strategies
from tests.integration.api_helpers import a_cdr, a_location, a_session, a_tariff, a_token

START = datetime(2024, 1, 1, tzinfo=UTC)


def stamp(minute: int) -> str:
    """A timestamp so many minutes after the start."""
    return (START + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ")


def event(
    module: str,
    method: str,
    body: Any,
    *ids: str,
    version: str = "2.3.0",
    received_at: int = 0,
) -> Event:
    """An event of NL*TNM as the door writes it; `ids` are the URL's, from the object's id on."""
    path = ["NL", "TNM", *(ids or ("1",))]
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Event(
        id=event_id("NL*TNM", module, method, path, raw),
        received_at=received_at,
        sender="NL*TNM",
        version=version,
        module=module,
        method=method,
        key=object_key(*path[:3]),
        path=path,
        request_id=None,
        correlation_id=None,
        body=raw,
    )


def fold(events: list[Event], state: bytes | None = None) -> bytes | None:
    """The state after all of them."""
    for one in events:
        state = fold_object(one.module, state, one)
    return state


def said(state: bytes | None, module: str = "sessions", version: str = "2.3.0") -> Any:
    """What a GET would answer."""
    assert state is not None
    return json.loads(wire.encode(KINDS[module], version, load(module, state)))


def session(minute: int, **changes: Any) -> dict[str, Any]:
    """A session as of a minute."""
    return a_session("2.3.0", "1", last_updated=stamp(minute), **changes)


def period(minute: int) -> dict[str, Any]:
    """A charging period."""
    return {"start_date_time": stamp(minute), "dimensions": [{"type": "ENERGY", "volume": minute}]}


def put(minute: int, **changes: Any) -> Event:
    """PUT of the session."""
    return event("sessions", "PUT", session(minute, **changes))


def patch(minute: int, **changes: Any) -> Event:
    """PATCH of the session."""
    return event("sessions", "PATCH", {"last_updated": stamp(minute), **changes})


minutes = st.integers(0, 30)
puts = st.builds(lambda minute, kwh: put(minute, kwh=kwh), minutes, st.integers(0, 3))
patches = st.one_of(
    st.builds(lambda minute, kwh: patch(minute, kwh=kwh), minutes, st.integers(0, 3)),
    st.builds(lambda minute, at: patch(minute, charging_periods=[period(at)]), minutes, st.integers(0, 3)),
)
changes = st.lists(st.one_of(puts, patches), max_size=12)


# Examples


def test_put_replaces_and_patch_merges() -> None:
    """mod_sessions, "PUT Method" and "PATCH Method"."""
    state = fold([put(0, charging_periods=[period(1)]), patch(5, kwh=7, charging_periods=[period(2)])])
    assert said(state) == session(5, kwh=7, charging_periods=[period(1), period(2)])
    assert said(fold([patch(6, charging_periods=[])], state))["charging_periods"] == [period(1), period(2)]
    assert said(fold([put(7)], state)) == session(7)
    assert last_updated(state or b"") == micros(START + timedelta(minutes=5))


def test_null_takes_an_optional_field_away() -> None:
    """And not a required one."""
    state = fold([put(0, total_cost={"before_taxes": 1})])
    assert "total_cost" not in said(fold([patch(1, total_cost=None)], state))
    with pytest.raises(InvalidObjectError, match="kwh"):
        fold([patch(1, kwh=None)], state)


def test_nothing_to_patch() -> None:
    """A PATCH of an unknown object is nothing."""
    assert fold([patch(0, kwh=1)]) is None
    assert fold([event("locations", "PUT", a_location("2.3.0", "1")["evses"][0], "1", "3256")]) is None


def test_delete_removes() -> None:
    """And a PUT afterwards makes it anew, whatever its age."""
    tariff = event("tariffs", "PUT", a_tariff("2.3.0", "1"))
    gone = fold([tariff, event("tariffs", "DELETE", b"")])
    assert gone is None
    assert said(fold([tariff], gone), "tariffs") == a_tariff("2.3.0", "1")


def test_the_first_cdr_counts() -> None:
    """Of two in the log, that which was received first, in either order: partitions have no common order."""
    first = event("cdrs", "POST", a_cdr("2.3.0", "1"), received_at=1)
    second = event("cdrs", "POST", a_cdr("2.3.0", "1", total_energy=99), received_at=2)
    for events in ([first, second], [second, first], [second, first, second, first]):
        assert said(fold(events), "cdrs") == a_cdr("2.3.0", "1")


def test_versions_mix() -> None:
    """What 2.2.1 PUT, 2.3.0 may PATCH, and what 2.2.1 cannot say stays."""
    old = a_session("2.2.1", "1", last_updated=stamp(0))
    taxes = {"before_taxes": 2, "taxes": [{"name": "GST", "amount": 0.1}, {"name": "QST", "amount": 0.2}]}
    state = fold([event("sessions", "PUT", old, version="2.2.1"), patch(1, total_cost=taxes)])
    kwh = {"last_updated": stamp(2), "kwh": 4}
    state = fold([event("sessions", "PATCH", kwh, version="2.2.1")], state)
    assert said(state) == session(2, kwh=4, total_cost=taxes)


def test_parts_move_their_parents() -> None:
    """mod_locations, "PUT Method": the parent's last_updated is that of a part that is newer."""
    location = a_location("2.3.0", "1", last_updated=stamp(0))
    connector = {"last_updated": stamp(5), "tariff_ids": ["X"]}
    state = fold(
        [event("locations", "PUT", location), event("locations", "PATCH", connector, "1", "3256", "1")]
    )
    found = load("locations", state or b"")
    evse, untouched = found.evses
    assert part(found, ["3256", "1"]).tariff_ids == ["X"]
    assert {found.last_updated, evse.last_updated} == {START + timedelta(minutes=5)}
    assert said(state, "locations")["evses"][1] == location["evses"][1]
    assert untouched == part(found, ("3257",))
    assert part(found, ("3256", "9")) is None
    assert part(found, ("9", "1")) is None

    older = {"last_updated": stamp(3), "status": "BLOCKED"}
    assert fold([event("locations", "PATCH", older, "1", "3256")], state) == state, "its EVSE is newer now"
    assert said(fold([event("locations", "PATCH", older, "1", "3257")], state), "locations")[
        "last_updated"
    ] == stamp(5), "never back"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"id": 1}', b"\xff"])
@pytest.mark.parametrize("module", KINDS)
def test_bodies_that_cannot_be_read(module: str, body: bytes) -> None:
    """One error for all of them, so that whoever folds can put them aside."""
    with pytest.raises(InvalidObjectError):
        fold([event(module, "POST" if module in ("cdrs", "terminals") else "PUT", body)])


# Properties


@given(st.data(), st.sampled_from(sorted(KINDS)))
def test_what_is_put_is_read(data: st.DataObject, module: str) -> None:
    """Any object of any module comes back as it was."""
    found = data.draw(strategies.canonical(KINDS[module]))
    body = wire.encode(KINDS[module], "2.3.0", found)
    state = fold([event(module, "POST" if module in ("cdrs", "terminals") else "PUT", body)])
    assert load(module, state or b"") == found


@given(st.lists(minutes, min_size=1, max_size=6, unique=True), st.data())
def test_puts_in_any_order(found: list[int], data: st.DataObject) -> None:
    """The newest wins, however they are ordered and repeated."""
    events = [put(minute, kwh=minute) for minute in found]
    shuffled = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=6))))
    assert said(fold(shuffled)) == session(max(found), kwh=max(found))


@given(changes)
def test_last_updated_never_goes_back(events: list[Event]) -> None:
    """Neither the object's own nor the state's."""
    states = [fold([put(0)])]
    for one in events:
        states.append(fold([one], states[-1]))
    stamps = [last_updated(state or b"") for state in states]
    assert all(earlier <= later for earlier, later in pairwise(stamps))
    for state, mark in zip(states, stamps, strict=True):
        assert micros(load("sessions", state or b"").last_updated) == mark


@given(changes, st.data())
def test_what_comes_again_changes_nothing(events: list[Event], data: st.DataObject) -> None:
    """An event that was folded, folded again at any later time, leaves the very bytes."""
    once = [put(0), *events]
    again = list(once)
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(0, len(again) - 1))
        again.insert(data.draw(st.integers(index + 1, len(again))), again[index])
    assert fold(again) == fold(once)


@given(changes)
def test_a_newer_put_makes_all_before_it_forgotten(events: list[Event]) -> None:
    """Whatever was said before."""
    final = put(31, kwh=9)
    assert fold([put(0), *events, final]) == fold([final])
    assert fold([final, *events]) == fold([final])


@given(st.lists(st.integers(0, 3), max_size=8))
def test_periods_are_appended_in_their_order(found: list[int]) -> None:
    """Of PATCHes that come in order, none is lost, none is twice, equal ones stay."""
    events = [patch(n, charging_periods=[period(at)]) for n, at in enumerate(found, start=1)]
    periods = said(fold([put(0), *events])).get("charging_periods", [])
    assert periods == [period(at) for at in found]


@given(st.lists(st.tuples(minutes, st.sampled_from(["3256", "3257"])), max_size=8), st.data())
def test_parts_in_any_order(found: list[tuple[int, str]], data: st.DataObject) -> None:
    """Each EVSE has its own newest status; repetition changes nothing."""
    location = event("locations", "PUT", a_location("2.3.0", "1"))
    newest: dict[str, int] = {}
    events = []
    for minute, uid in dict.fromkeys(found):
        body = {"last_updated": stamp(minute), "physical_reference": str(minute)}
        events.append(event("locations", "PATCH", body, "1", uid))
        newest[uid] = max(minute, newest.get(uid, 0))
    again = data.draw(st.lists(st.sampled_from(events), max_size=4)) if events else []
    state = fold([location, *data.draw(st.permutations(events + again))])
    result = load("locations", state or b"")
    for uid, minute in newest.items():
        assert part(result, [uid]).physical_reference == str(minute)
        assert part(result, [uid]).last_updated == START + timedelta(minutes=minute)
    if newest:
        assert result.last_updated == START + timedelta(minutes=max(newest.values()))


@given(st.lists(st.tuples(minutes, st.booleans()), min_size=1, max_size=6))
def test_tokens(found: list[tuple[int, bool]]) -> None:
    """The newest says whether it is valid; of two of one moment, the later."""
    events = [
        event("tokens", "PUT", a_token("2.3.0", "1", valid=valid, last_updated=stamp(minute)))
        for minute, valid in dict.fromkeys(found)
    ]
    best = max(range(len(events)), key=lambda n: (list(dict.fromkeys(found))[n][0], n))
    assert said(fold(events), "tokens")["valid"] == list(dict.fromkeys(found))[best][1]


# Where an object stands in lists


@given(st.permutations([(1, 7, "a"), (2, 5, "b"), (3, 9, "c")]))
def test_a_cdr_is_created_when_the_log_had_it_first(order: list[tuple[int, int, str]]) -> None:
    """The first received counts; the log's earliest time is its place, whichever was read first."""
    state = None
    for received_at, logged_at, remark in order:
        one = event("cdrs", "POST", a_cdr("2.3.0", "1", remark=remark), received_at=received_at)
        state = fold_object("cdrs", state, one, logged_at)
    assert state is not None
    assert said(state, "cdrs")["remark"] == "a"
    assert (head(state).created, head(state).concerns) == (5, "DE*TNM")


@given(st.lists(minutes, min_size=1, max_size=5))
def test_an_object_stays_where_it_was_created(found: list[int]) -> None:
    """Whatever comes later; and is where its newest token's party is."""
    state = None
    for at, minute in enumerate(found, start=10):
        token = {**a_session("2.3.0", "1")["cdr_token"], "party_id": f"P{minute:02}"}
        state = fold_object("sessions", state, put(minute, cdr_token=token), at)
        assert head(state or b"").last_updated == last_updated(state or b"")
    found_in = head(state or b"")
    assert (found_in.created, found_in.concerns) == (10, f"NL*P{max(found):02}")


@pytest.mark.parametrize("version", ["2.3.0", "2.2.1"])
def test_what_was_decoded_already_folds_the_same(version: str) -> None:
    """The door's own objects need not be decoded again: state for state as from the bytes."""
    for module, method, make in (
        ("sessions", "PUT", a_session),
        ("tariffs", "PUT", a_tariff),
        ("locations", "PUT", a_location),
        ("tokens", "PUT", a_token),
        ("cdrs", "POST", a_cdr),
    ):
        plain: bytes | None = None
        spared: bytes | None = None
        for minute in (0, 5, 5, 3):
            one = event(module, method, make(version, "1", last_updated=stamp(minute)), version=version)
            new = wire.decode(KINDS[module], version, one.body, party=("NL", "TNM"))
            plain = fold_object(module, plain, one)
            spared = fold_object(module, spared, msgspec.structs.replace(one, body=b"not read"), said=new)
            assert plain is not None
            assert spared == plain
