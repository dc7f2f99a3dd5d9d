"""Named queries: each a file `NAME.sql` beside this one, with ClickHouse's bound parameters.

>>> client = connect("http://127.0.0.1:8123", "voltfold")
>>> run(client, "wrong_bills", limit=5)
[{'key': 'NL*TNM*C17', 'difference': Decimal('1.210000000'), ...}, ...]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any

from clickhouse_connect.driver.client import Client

DEFAULTS: Mapping[str, Any] = {
    "since": datetime(1970, 1, 1, tzinfo=UTC),
    "until": datetime(2106, 1, 1, tzinfo=UTC),
    "location_id": "",  # all of them
    "time_zone": "UTC",
    "limit": 100,
    "wait_hours": 72.0,  # of a capture or CDR that is waited for
    "everything": 0,  # or 1: also what is in order
    "silent_hours": -1.0,  # what the fold concluded
    "group_id": "",  # none
    "provider": "",  # all of them
}
"""What a parameter is when it is not given."""


@cache
def names() -> tuple[str, ...]:
    """The queries there are."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(".sql") for file in files if file.name.endswith(".sql")))


@cache
def text(name: str) -> str:
    """A query's SQL. Raises LookupError for a name that no query has."""
    if name not in names():
        raise LookupError(f"no query named {name!r}; there are {', '.join(names())}")
    return (resources.files(__name__) / f"{name}.sql").read_text(encoding="utf-8")


@cache
def parameters(name: str) -> frozenset[str]:
    """The parameters that a query takes; `DEFAULTS` has the values of those that are not given."""
    return frozenset(re.findall(r"\{(\w+):", text(name)))


def run(client: Client, name: str, **params: Any) -> list[dict[str, Any]]:
    """Run a query: a dictionary for each row; amounts and energy are Decimals, times are UTC.

    Raises LookupError for an unknown name, TypeError for a parameter that the query does not take, ValueError
    for a time without zone, and clickhouse_connect's errors.
    """
    query, taken = text(name), parameters(name)
    if foreign := params.keys() - taken:
        raise TypeError(f"{name} takes {sorted(taken)}, not {sorted(foreign)}")
    values = {key: _bound(params.get(key, DEFAULTS[key])) for key in taken}
    return list(client.query(query, parameters=values).named_results())


def _bound(value: Any) -> Any:
    """Times as ClickHouse reads them, in UTC."""
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        raise ValueError(f"{value} needs a time zone")
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
