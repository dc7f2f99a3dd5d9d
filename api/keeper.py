"""Writes what a call says to the log, as one event, and shows it to our own view."""

from __future__ import annotations

from collections.abc import Iterable

from api import clock
from api.calls import Call
from api.log import Log
from api.view import View
from schemas.keys import party_key
from schemas.records import Event, event_id
from schemas.topics import Topic


class Keeper:
    """For modules with few events: each is in the view before it is answered."""

    def __init__(self, log: Log, view: View) -> None:
        self._log = log
        self._view = view

    async def keep(
        self,
        call: Call,
        topic: Topic,
        key: str,
        path: Iterable[str],
        *,
        module: str,
        sender: tuple[str, str],
        log_key: str | None = None,
    ) -> None:
        """Append the call's body. `key`: of the object; `log_key`: of the record, if it is another.

        Raises LogUnavailableError.
        """
        event = self.event(call, key, path, module=module, sender=sender)
        log_key = key if log_key is None else log_key
        partition = self._view.partition(topic, log_key)
        offset = await self._log.append(partition, log_key.encode(), event.encode())
        await self._view.reach(partition, offset + 1)

    def event(
        self, call: Call, key: str, path: Iterable[str], *, module: str, sender: tuple[str, str]
    ) -> Event:
        """The event that a call makes."""
        said_by, identifiers = party_key(*sender), list(path)
        return Event(
            id=event_id(said_by, module, call.method, identifiers, call.body),
            received_at=clock.now(),
            sender=said_by,
            version=call.version,
            module=module,
            method=call.method,
            key=key,
            path=identifiers,
            request_id=call.request_id,
            correlation_id=call.correlation_id,
            body=call.body,
        )
