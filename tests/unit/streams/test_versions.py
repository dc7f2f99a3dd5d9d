"""Versions by event time: the outcome depends on the set of versions, never on their order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.versions import Version, add_version, earliest, in_force

Added = tuple[int, int, str]
additions = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from("abc")), max_size=12)


def built(added: list[Added]) -> list[Version[str]]:
    versions: list[Version[str]] = []
    for since, received_at, value in added:
        add_version(versions, since, received_at, value)
    return versions


def seen(version: Version[str] | None) -> tuple[int, int, int, str] | None:
    return version and (version.since, version.first, version.last, version.value)


def test_the_newest_that_was_in_force() -> None:
    versions = built([(10, 1, "a"), (20, 2, "b"), (30, 3, "c")])
    assert in_force(versions, 9) is None
    assert seen(in_force(versions, 10)) == (10, 1, 1, "a")
    assert seen(in_force(versions, 29)) == (20, 2, 2, "b")
    assert seen(in_force(versions, 99, lambda value: value != "c")) == (20, 2, 2, "b")
    assert seen(earliest(versions)) == (10, 1, 1, "a")


def test_said_again_is_no_news_but_said_earlier_is() -> None:
    versions: list[Version[str]] = []
    assert add_version(versions, 10, 5, "a")
    assert not add_version(versions, 10, 5, "a")
    assert add_version(versions, 10, 3, "a")
    assert seen(in_force(versions, 10)) == (10, 3, 5, "a")


def test_of_two_with_one_date_the_one_received_last() -> None:
    assert seen(in_force(built([(10, 1, "b"), (10, 2, "a")]), 10)) == (10, 2, 2, "a")


@given(additions, st.randoms(use_true_random=False), st.integers(-1, 6))
def test_order_does_not_matter(added: list[Added], random, moment: int) -> None:
    shuffled = list(added)
    random.shuffle(shuffled)
    one, other = built(added), built(shuffled)
    assert seen(in_force(one, moment)) == seen(in_force(other, moment))
    assert seen(earliest(one)) == seen(earliest(other))


@given(additions, st.integers(-1, 6))
def test_what_is_chosen_was_in_force_and_nothing_newer_was(added: list[Added], moment: int) -> None:
    chosen = in_force(built(added), moment)
    dates = [since for since, _, _ in added if since <= moment]
    assert (chosen.since if chosen else None) == max(dates, default=None)
