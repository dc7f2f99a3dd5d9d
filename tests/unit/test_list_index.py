"""Lists: the n-th of many, counts that keep up with changes, and what a caller's query may ask for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rocksdict import Options, Rdict, WriteBatch

from api.answers import Refusal
from api.blocks import Blocks
from api.lists import Lists, Wanted
from api.pages import LARGEST_PAGE, Asked, asked
from streams.objects import State

_positions = st.binary(min_size=1, max_size=3)


@given(st.lists(st.tuples(st.booleans(), _positions)), st.integers(2, 9), _positions)
def test_blocks_know_the_nth(steps: list[tuple[bool, bytes]], most: int, end: bytes) -> None:
    """As a sorted list of all positions would, whatever comes and goes, however few blocks are kept."""
    blocks, there = Blocks(most), set[bytes]()
    for adds, position in steps:
        if adds and position not in there:
            there.add(position)
            blocks.add(position)
        elif not adds and position in there:
            there.discard(position)
            blocks.remove(position)
    ordered = sorted(there)
    assert blocks.total == len(ordered)
    for offset in range(len(ordered)):
        start, skip = blocks.find(offset)
        assert [one for one in ordered if one >= start][skip] == ordered[offset]
        if blocks.exact:
            assert blocks.known(offset, 2) == ordered[offset : offset + 2]
    assert not [one for one in ordered if one >= blocks.find(len(ordered))[0]]
    before, rest = blocks.up_to(end)
    assert before + sum(rest <= one < end for one in ordered) == sum(one < end for one in ordered)


def test_blocks_stay_few() -> None:
    """Where a hundred thousand come one behind the other, none has to be walked to far."""
    blocks = Blocks(64)
    for number in range(100_000):
        blocks.add(number.to_bytes(4, "big"))
    starts = [blocks.find(offset) for offset in range(0, 100_000, 999)]
    assert len(set(starts)) > 30
    assert max(skip for _, skip in starts) < 100_000 / 16


# The index in a real store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Rdict]:
    """A store like a view's."""
    db = Rdict(str(tmp_path / "store"), Options(raw_mode=True))
    yield db
    db.close()


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rdict]:
    """One that is emptied again and again."""
    db = Rdict(str(tmp_path_factory.mktemp("store") / "db"), Options(raw_mode=True))
    yield db
    db.close()


State3 = tuple[int, int, str]
Case = tuple[str, list[list[tuple[str, State3 | None]]], list[Wanted]]
PARTIES = ("", "DE*EMS", "FR*OTH")
NAMES = ("", "DE*EMS", "FR*OTH", "DE*EMS FR*OTH")


def _states(concerns: tuple[str, ...]) -> st.SearchStrategy[State3]:
    return st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from(concerns))


_keys = st.sampled_from([f"{owner}*S{number}" for owner in ("NL*TNM", "BE*BEC") for number in range(4)])
_readers = st.sampled_from([("DE*EMS",), ("DE*EMS", "FR*OTH"), ()])


def _wanted(module: str, **readers: st.SearchStrategy[tuple[str, ...]]) -> st.SearchStrategy[Wanted]:
    return st.builds(
        Wanted,
        module=st.just(module),
        since=st.none() | st.integers(0, 9),
        until=st.none() | st.integers(0, 9),
        owner=st.sampled_from([None, "NL*TNM"]),
        without=st.sampled_from([(), ("BE*BEC",), ("NL*TN",)]),
        **readers,
    )


def _cases(
    module: str, concerns: tuple[str, ...], **readers: st.SearchStrategy[tuple[str, ...]]
) -> st.SearchStrategy[Case]:
    changes = st.tuples(_keys, st.none() | _states(concerns))
    return st.tuples(
        st.just(module),
        st.lists(st.lists(changes, max_size=5), max_size=6),
        st.lists(_wanted(module, **readers), min_size=1, max_size=3),
    )


def _packed(state: State3 | None) -> bytes | None:
    return None if state is None else msgspec.msgpack.encode(State(*state, {}, b"{}"))


def _is_in(wanted: Wanted, key: str, state: State3) -> bool:
    """What `Wanted` says, said again."""
    owner = "*".join(key.split("*")[:2])
    if wanted.module == "sessions":
        may_see = state[2] in wanted.concerning
    else:
        may_see = not state[2] or any(party in wanted.named for party in state[2].split())
    return (
        may_see
        and (wanted.since is None or state[0] >= wanted.since)
        and (wanted.until is None or state[0] < wanted.until)
        and wanted.owner in (None, owner)
        and owner not in wanted.without
    )


class _Shelf:
    """Objects, and lists over them that are told of every change."""

    def __init__(self, store: Rdict, module: str = "sessions") -> None:
        self.store = store
        self.module = module
        self.lists = Lists(lambda: store)
        self.states: dict[str, State3] = {}

    def write(self, batch: list[tuple[str, State3 | None]]) -> None:
        """Change some objects at once."""
        writes = WriteBatch(raw_mode=True)
        self.lists.begin()
        for key, state in batch:
            old = _packed(self.states.get(key))
            self.lists.changed(self.module, key, old, _packed(state), writes)
            if state is None:
                self.states.pop(key, None)
            else:
                self.states[key] = state
        self.store.write(writes)
        self.lists.written()

    async def holds(self, wanted: Wanted, until: int = 100) -> None:
        """Hold every page to be what a sorted list of everything would have."""
        found = sorted(
            (state[1], key)
            for key, state in self.states.items()
            if _is_in(wanted, key, state) and state[1] <= until
        )
        for offset in (0, 1, len(found)):
            page = await self.lists.page(wanted, offset, 3, until)
            assert page.total == len(found)
            assert page.keys == [key for _, key in found[offset : offset + 3]]


@settings(max_examples=60, deadline=None)
@given(
    _cases("sessions", PARTIES[1:], concerning=_readers)
    | _cases("tariffs", NAMES, concerning=st.just(("",)), named=_readers),
    st.integers(0, 9),
    st.sampled_from([2, 4096]),
)
def test_pages_are_what_was_written(
    db: Rdict,
    case: Case,
    until: int,
    most: int,
) -> None:
    """Counted before, between and behind changes, with every filter; and counted anew by another process."""
    module, batches, wanted = case

    async def run(store: Rdict) -> None:
        shelf = _Shelf(store, module)
        for batch in batches:
            shelf.write(batch)
            for one in wanted:
                await shelf.holds(one, until)
        again = _Shelf(store, module)
        again.states = shelf.states
        for one in wanted:
            await again.holds(one)

    db.delete_range(b"", b"\xff")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Blocks.__init__, "__defaults__", (most,))
        asyncio.run(run(db))


def test_a_count_takes_in_what_changes_meanwhile(store: Rdict) -> None:
    """Counting takes turns with others, who write: what it missed is counted, and nothing twice."""

    async def run() -> None:
        shelf = _Shelf(store)
        shelf.write([(f"NL*TNM*S{n}", (1, n, "DE*EMS")) for n in range(5000)])
        counting = [
            asyncio.create_task(shelf.lists.page(Wanted("sessions", ("DE*EMS",), since), 0, 1, 10_000))
            for since in (0, 2)
        ]
        for n in range(8):
            await asyncio.sleep(0)
            new: list[tuple[str, Any]] = [(f"NL*TNM*N{n}", (2, 9000 + n, "DE*EMS"))]
            shelf.write([*new, (f"NL*TNM*S{n}", None), (f"NL*TNM*S{4999 - n}", (2, 4999 - n, "DE*EMS"))])
        assert not all(task.done() for task in counting), "it is still counting"
        await asyncio.gather(*counting)
        for since, total in ((0, 5000), (2, 16)):
            page = await shelf.lists.page(Wanted("sessions", ("DE*EMS",), since), total - 2, 9, 10_000)
            assert page == (["NL*TNM*N6", "NL*TNM*N7"], total)

    asyncio.run(run())


def test_a_crawl_is_stable(store: Rdict) -> None:
    """Who follows the pages sees each object once, while new ones come and old ones are updated."""

    async def run() -> None:
        shelf = _Shelf(store)
        shelf.write([(f"NL*TNM*S{n}", (1, n, "DE*EMS")) for n in range(9000)])
        wanted, seen = Wanted("sessions", ("DE*EMS",)), list[str]()
        while True:
            page = await shelf.lists.page(wanted, len(seen), 500, 1_000_000)
            seen += page.keys
            if len(seen) >= page.total:
                break
            n = len(seen)
            new = (f"NL*TNM*S{9000 + n}", (1, 9000 + n, "DE*EMS"))
            shelf.write([new, (f"NL*TNM*S{n}", (7, n, "DE*EMS"))])
        assert len(seen) == len(set(seen)) == len(shelf.states)

    asyncio.run(run())


def test_queries_are_forgotten(store: Rdict) -> None:
    """Those that were asked longest ago, and all when the store is another one."""

    async def run() -> None:
        shelf = _Shelf(store)
        shelf.write([("NL*TNM*S1", (5, 5, "DE*EMS"))])
        for since in range(200):
            await shelf.lists.page(Wanted("sessions", ("DE*EMS",), since % 7), 0, 1, 10)
            await shelf.lists.page(Wanted("sessions", ("DE*EMS",), since), 0, 1, 10)
        shelf.write([("NL*TNM*S1", None)])
        for since in range(200):
            assert (await shelf.lists.page(Wanted("sessions", ("DE*EMS",), since), 0, 1, 10)).total == 0
        newest = shelf.lists.newest(Wanted("sessions", PARTIES))
        assert newest is not None
        assert newest[0] == 5
        shelf.lists.restart()
        assert shelf.lists.newest(Wanted("sessions", PARTIES)) is None

    asyncio.run(run())


# Queries


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", Asked()),
        (b"offset=7&limit=3", Asked(7, 3)),
        (b"limit=100000", Asked(0, LARGEST_PAGE)),
        (b"limit=1&limit=2&x=y", Asked(0, 2)),
        (
            b"date_from=2026-01-01T00:00:00Z&date_to=2026-01-01T00:00:01.5",
            Asked(
                0, LARGEST_PAGE, 1_767_225_600_000_000, 1_767_225_601_500_000,
                (("date_from", "2026-01-01T00:00:00Z"), ("date_to", "2026-01-01T00:00:01.5")),
            ),
        ),
    ],
)  # fmt: skip
def test_queries(query: bytes, expected: Asked) -> None:
    """transport_and_format "Paginated Request"; the last of several counts, others are ignored."""
    assert asked(query) == expected


@pytest.mark.parametrize(
    ("query", "name"),
    [
        (b"offset=-1", "offset"),
        (b"offset=1.5", "offset"),
        (b"offset=", "offset"),
        (b"offset=%D9%A3", "offset"),
        (b"offset=99999999999999999999", "offset"),
        (b"limit=0", "limit"),
        (b"limit=all", "limit"),
        (b"date_from=yesterday", "date_from"),
        (b"date_from=", "date_from"),
        (b"date_to=2026-01-01", "date_to"),
        (b"date_to=2026-01-01T00:00:00%2B02:00", "date_to"),
        (b"date_to=2026-13-01T00:00:00Z", "date_to"),
    ],
)
def test_bad_queries(query: bytes, name: str) -> None:
    """Each is refused with 2001, by name."""
    with pytest.raises(Refusal) as refusal:
        asked(query)
    assert (refusal.value.answer.http, refusal.value.answer.status) == (200, 2001)
    assert refusal.value.answer.message.startswith(f"{name}: ")


@given(st.binary(max_size=60))
def test_no_query_is_a_defect(query: bytes) -> None:
    """Any is understood or refused."""
    with contextlib.suppress(Refusal):
        assert 1 <= asked(query).limit <= LARGEST_PAGE
