"""How every client of ours reaches ClickHouse."""

from __future__ import annotations

import clickhouse_connect
from clickhouse_connect.driver.client import Client


def connect(clickhouse: str, database: str = "default", *, timeout: float = 60.0) -> Client:
    """A client for the server at a URL (`http://[user:password@]host:port`), that threads may share.

    Raises clickhouse_connect's OperationalError when nobody answers there.
    """
    return clickhouse_connect.get_client(
        dsn=clickhouse,
        database=database,
        autogenerate_session_id=False,  # a session admits one query at a time
        connect_timeout=5,
        send_receive_timeout=timeout,
    )
