"""What an API process and a courier must know, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from api.vault import Vault
from schemas.topics import Topics
from streams.deliveries import Pace


@dataclass(frozen=True)
class Limits:
    """What one API process takes before it says no. Sizes in bytes, times in seconds."""

    body: int = 1 << 20
    in_flight: int = 1024
    in_flight_bytes: int = 64 << 20
    # Of one partner, in one API process; a rate of 0 switches the limit off.
    requests_per_second: float = 5_000.0
    burst: float = 20_000.0
    # How long a request waits for Kafka's acknowledgement, for the view to catch up, and for its own body.
    write_timeout: float = 10.0
    read_timeout: float = 10.0
    body_timeout: float = 30.0
    # How long a stopping server waits for requests in flight.
    grace: float = 15.0


@dataclass(frozen=True)
class ApiConfig:
    """One API process. `data` is the folder of its own read view, which no other process may share."""

    kafka: str
    topics: Topics
    data: Path
    host: str = "127.0.0.1"
    port: int = 8080
    reuse_port: bool = False  # other API processes listen there, too: connections are spread among them
    own_port: int | None = None  # where this very process answers as well, for its health check
    public_url: str | None = None  # None: as the Host header of each request has it
    party: tuple[str, str] = ("NL", "VLF")  # our own, as the hub that partners connect to
    party_name: str = "Voltfold"  # our name among business details
    vault: Vault | None = None  # opens partners' tokens; None: a key in the data folder
    partner_timeout: float = 30.0  # how long a platform may take to answer what is passed on to it
    limits: Limits = field(default_factory=Limits)
    fetch_wait_ms: int = 25  # how long Kafka may hold the view's fetch open: bounds the lag of a read
    settle: float = 0.1  # how far brokers' clocks may differ, in seconds: the end of a list waits for it
    view_linger: float = 0.1  # how long the view lets records gather while no reader waits, in seconds


@dataclass(frozen=True)
class CourierConfig:
    """One courier. `api`: what it has in common with an API process.

    `in_flight`: requests under way to one platform; `alive`: seconds of silence after which it is asked
    whether it is there; `late`: seconds within which the result of a command is still worth telling; `pull`:
    seconds of silence after which it is asked for what has changed, and 0 for never; `member`: a name that no
    other courier has.
    """

    api: ApiConfig
    in_flight: int = 4
    alive: float = 300.0
    late: float = 600.0
    pull: float = 0.0
    member: str | None = None
    pace: Pace = field(default_factory=Pace)
