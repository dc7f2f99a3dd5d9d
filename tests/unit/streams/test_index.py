"""The index of sessions by reference and day, through a table that is written and read again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams import index
from streams.table import Table

DAY = 86_400_000_000


@given(
    st.lists(st.tuples(st.sampled_from(["T1", "T2"]), st.integers(-3, 3)), max_size=120),
    st.integers(1, 40),
    st.one_of(st.none(), st.integers(-4, 4)),
)
def test_finds_all_and_only_those(added: list[tuple[str, int]], batch: int, since: int | None) -> None:
    state: dict[bytes, bytes] = {}
    for start in range(0, len(added), batch):
        table = Table(state.get)
        for number, (reference, day) in enumerate(added[start : start + batch], start):
            index.add(table, reference, day * DAY + 7, f"S{number}")
        state |= {key: value for key, value in table.changes().items() if value is not None}
    found = list(index.dependents(Table(state.get), "T1", None if since is None else since * DAY))
    expected = {
        f"S{n}" for n, (ref, day) in enumerate(added) if ref == "T1" and (since is None or day >= since)
    }
    assert set(found) == expected
    assert len(found) == len(expected)
    assert max((len(value) for value in state.values()), default=0) < 400, "states stay small"
