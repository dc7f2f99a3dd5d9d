"""What cannot be folded is kept with its reason, and the stream goes on."""

from __future__ import annotations

from schemas.records import QuarantineRecord
from schemas.topics import Topics
from streams.folding import Fact, Output


class RefusedError(Exception):
    """A record that cannot be folded: a stable code and words."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def quarantined(
    topics: Topics,
    fact: Fact,
    reason: str,
    message: str,
    *,
    received_at: int | None = None,
    key: str | None = None,
) -> Output:
    """The record of what could not be folded, under its place in the log unless a key is given."""
    record = QuarantineRecord(
        topic=fact.topic,
        partition=fact.partition,
        offset=fact.offset,
        reason=reason,
        message=message,
        received_at=received_at,
        value=fact.value or b"",
    )
    key = key or f"{fact.topic}-{fact.partition}-{fact.offset}"
    return Output(topics.quarantine.name, key.encode(), record.encode())
