"""Free ports on this machine."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"


def reachable(host: str) -> str:
    """Where a client on this machine finds a server that listens on `host`, which may mean all addresses."""
    return LOOPBACK if host in ("", "0.0.0.0", "::", "*") else host  # noqa: S104 - nothing is bound here


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None, taken: set[int] | None = None) -> int:
    """Choose a port that nobody listens on: the preferred one when it is free, else a random one.

    Below the range from which the system takes the local ends of outgoing connections: a client that keeps
    calling a server that is down could otherwise be given that very port, and the server could not come back.
    Ports in `taken` are passed over, and the one chosen is added to it.
    """
    taken = set() if taken is None else taken
    if preferred and preferred not in taken and is_free(preferred):
        taken.add(preferred)
        return preferred
    ceiling = min(_ephemeral_floor(), 32_768)
    for _ in range(1_000):
        port = random.randrange(15_000, ceiling) if ceiling > 16_000 else random.randrange(5_000, 15_000)
        if port not in taken and is_free(port):
            taken.add(port)
            return port
    raise OSError("no free port found")


def _ephemeral_floor() -> int:
    """The lowest port that the system gives to outgoing connections."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    except (OSError, ValueError):
        return 32_768
