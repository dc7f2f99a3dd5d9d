"""The one place through which everything that partners say enters the log.

A call arrives here authenticated, within its limits, for an URL that its sender owns. Here its body is
decoded and checked, held against what is known, written as an event, and answered once Kafka has it.
Nothing that is refused is written.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs, quote

import msgspec
from aiokafka import TopicPartition

from api import clock
from api.answers import Answer, Refusal, Status, invalid
from api.calls import Call
from api.config import ApiConfig
from api.log import Log
from api.metrics import refused
from api.routes import Route
from api.view import View
from schemas.keys import object_key, party_key
from schemas.ocpi import wire
from schemas.records import Event, event_id, micros
from streams import objects
from streams.concerns import BROADCAST

# mod_tokens "TokenType": those that the specification knows (2.3.0 allows others); the default of the `type`
# parameter first.
TOKEN_TYPES = ("RFID", "APP_USER", "AD_HOC_USER", "EMAID", "OTHER")


_CREATED = Answer(201, Status.SUCCESS, "Success")
_UPDATED = Answer(200, Status.SUCCESS, "Success")
_OVERTAKEN = Answer(
    200,
    Status.SUCCESS,
    "Success: kept as evidence, but a newer last_updated is already known, so the object stays as it is",
)


class Known(msgspec.Struct):
    """What is known of the object that a call is about. `key` is its Event.key."""

    key: str
    state: bytes | None
    extra: tuple[str, ...] = ()  # identifiers that are not segments of the URL


class Ingress:
    """Reads and writes of objects, for every module alike."""

    def __init__(self, config: ApiConfig, log: Log, view: View) -> None:
        self._config = config
        self._topics = {
            topic.name.removeprefix(f"{config.topics.prefix}."): topic for topic in config.topics.facts
        }
        self._log = log
        self._view = view
        self._posting: dict[str, asyncio.Future[None]] = {}

    async def handle(self, call: Call) -> Answer:
        """Do what the call asks for. Raises Refusal."""
        match call.route.method:
            case "GET":
                return await self._get(call)
            case "PUT":
                return await self._put(call)
            case "PATCH":
                return await self._patch(call)
            case "POST":
                return await self._post(call)
            case "DELETE":
                return await self._delete(call)
            case other:
                raise AssertionError(other)

    async def catch_up(self, route: Route) -> None:
        """Wait until all that was written of a route's module is known. Raises LogUnavailableError."""
        await self._view.catch_up(self._view.partitions(self._topics[route.resource.topic]))

    # Reading

    async def _get(self, call: Call) -> Answer:
        resource = call.route.resource
        known = await self._find(call)
        if known.state is None:
            raise _unknown(call)
        found = objects.load(resource.module, known.state)
        if resource.module == "locations":
            found = objects.part(found, call.ids[3:])
            if found is None:
                raise _unknown(call)
        place = self._view.place(resource.module, found) if call.version == "2.1.1" else None
        data = wire.encode(resource.kind, call.version, found, place=place)
        return Answer(200, Status.SUCCESS, "Success", data)

    def _keys(self, call: Call) -> list[tuple[str, tuple[str, ...]]]:
        """Keys that the URL may mean, with the identifiers in them that are no segments of it."""
        country, party, identifier = call.ids[:3]
        if call.route.resource.module != "tokens":
            return [(object_key(country, party, identifier), ())]
        kind = token_type(call.query)
        kinds = TOKEN_TYPES if kind is None else (kind,)
        return [(object_key(country, party, identifier, name), (name,)) for name in kinds]

    async def _find(self, call: Call, *, newest: bool = True) -> Known:
        """The object of the URL: `newest` waits until the view has all that was ever acknowledged."""
        module, keys = call.route.resource.module, self._keys(call)
        if newest:
            topic = self._topics[call.route.resource.topic]
            if module == "cdrs":  # a CDR lies where its session lies, which the URL does not tell
                partitions = self._view.partitions(topic)
            else:
                partitions = [self._view.partition(topic, key) for key, _ in keys]
            await self._view.catch_up(partitions)
        for key, extra in keys:
            if (state := self._view.get(module, key)) is not None:
                return Known(key, state, extra)
        return Known(keys[0][0], None, keys[0][1])

    # Writing

    async def _put(self, call: Call) -> Answer:
        resource = call.route.resource
        country, party = call.ids[:2]
        new = wire.decode(resource.kind, call.route.version, call.body, party=(country, party))
        _agrees(call, new)
        stamp = micros(new.last_updated)
        if len(call.ids) > 3:
            known = await self._part_of(call)
            current = objects.part(objects.load(resource.module, known.state or b""), call.ids[3:])
            last = None if current is None else micros(current.last_updated)
        else:
            kind = (new.type,) if resource.module == "tokens" else ()
            key = object_key(*call.ids, *kind)
            state = self._view.get(resource.module, key)
            known = Known(key, state, kind)
            last = None if state is None else objects.last_updated(state)
        return await self._write(call, known, last, stamp, new)

    async def _patch(self, call: Call) -> Answer:
        resource = call.route.resource
        known = await self._find(call, newest=False)
        current = self._current(call, known)
        if current is None:
            known = await self._find(call)
            current = self._current(call, known)
        if current is None:
            raise _unknown(call)
        new = wire.apply_patch(resource.kind, call.route.version, current, call.body)
        _agrees(call, new)
        if known.extra and known.extra != (new.type,):
            raise invalid("type", f"a token's type is part of its identity: this one is {known.extra[0]}")
        return await self._write(call, known, micros(current.last_updated), micros(new.last_updated))

    def _current(self, call: Call, known: Known) -> Any | None:
        if known.state is None:
            return None
        return objects.part(objects.load(call.route.resource.module, known.state), call.ids[3:])

    async def _part_of(self, call: Call) -> Known:
        """The location under which an EVSE or connector is put. Raises Refusal when there is none."""
        for newest in (False, True):
            known = await self._find(call, newest=newest)
            if known.state is not None:
                location = objects.load("locations", known.state)
                if objects.part(location, call.ids[3:-1]) is not None:
                    return known
        raise _unknown(call, call.ids[:-1])

    async def _delete(self, call: Call) -> Answer:
        known = await self._find(call)
        if known.state is None:
            raise _unknown(call)
        partition, offset = await self._append(call, known.key, known.key, call.ids)
        await self._view.reach(partition, offset + 1)  # rare, and what comes next shall find it gone
        return Answer(200, Status.SUCCESS, "Success")

    async def _post(self, call: Call) -> Answer:
        """A CDR. The same again is answered as the first time was; another with its id is refused."""
        partner = call.partner
        new = wire.decode("cdr", call.version, call.body, party=(partner.country_code, partner.party_id))
        country, party = new.country_code, new.party_id
        if not any(partner.may(role, country, party) for role in call.route.resource.callers):
            refused("cdrs", "party")
            raise Refusal(
                403,
                Status.INVALID_PARAMETERS,
                f"country_code, party_id: {country}*{party} is not a party of yours",
            )
        key = object_key(country, party, new.id)
        path = "/".join(quote(segment, safe="") for segment in (country, party, new.id))
        url = f"{call.base_url}/ocpi/{call.route.version}/receiver/cdrs/{path}"
        headers = ((b"location", url.encode()),)
        while (other := self._posting.get(key)) is not None:
            await asyncio.shield(other)
        done = self._posting[key] = asyncio.get_running_loop().create_future()
        try:
            if (state := self._view.get("cdrs", key)) is None:
                await self._view.catch_up(self._view.partitions(self._topics["sessions"]))
                state = self._view.get("cdrs", key)
            if state is None:
                session = object_key(country, party, new.session_id or f"#CDR:{new.id}")
                await self._append(call, key, session, (), new)
                return Answer(201, Status.SUCCESS, "Success", headers=headers)
        finally:
            del self._posting[key]
            done.set_result(None)
        if objects.load("cdrs", state) != new:
            raise invalid(
                "id", f"CDR {new.id} is already known with another content, and a CDR cannot be replaced"
            )
        return Answer(200, Status.SUCCESS, "Success: this CDR was known already", headers=headers)

    async def _write(self, call: Call, known: Known, last: int | None, stamp: int, new: Any = None) -> Answer:
        """Append a PUT or PATCH. `last`, `stamp`: last_updated of what is known, and of what comes.

        `new`: the object in the body, where that is one.
        """
        name = f"{call.route.resource.module} {known.key} {'*'.join(call.ids[3:]).upper()}"
        if (noted := self._view.noted(name)) is not None:
            last = noted if last is None else max(last, noted)
        partition, offset = await self._append(call, known.key, known.key, (*call.ids, *known.extra), new)
        self._view.note(partition, offset, name, stamp)
        if last is None:
            return _CREATED
        return _UPDATED if stamp >= last else _OVERTAKEN

    async def _append(
        self, call: Call, key: str, log_key: str, path: tuple[str, ...], new: Any = None
    ) -> tuple[TopicPartition, int]:
        route = call.route
        sender, module, identifiers = call.partner.key, route.resource.module, list(path)
        receiver = self._receiver(call)
        said = identifiers if receiver is None else [*identifiers, receiver]
        event = Event(
            id=event_id(sender, module, route.method, said, call.body),
            received_at=clock.now(),
            sender=sender,
            version=route.version,
            module=module,
            method=route.method,
            key=key,
            path=identifiers,
            request_id=call.request_id,
            correlation_id=call.correlation_id,
            body=call.body,
            receiver=receiver,
        )
        partition = self._view.partition(self._topics[route.resource.topic], log_key)
        value = event.encode()
        if new is not None and route.version != "2.1.1":  # whose objects take their owner from the key
            self._view.expect(value, event, new)
        return partition, await self._log.append(partition, log_key.encode(), value)

    def _receiver(self, call: Call) -> str | None:
        """The party that a push is for by name, where the object does not say for whom it is.

        transport_and_format "Party to Party via Hub": it goes there. Our own party means a Broadcast Push,
        nobody an Open Routing Request. A session or a CDR goes to the party whose token it carries.
        """
        to = call.routing.to
        if to is None or call.route.resource.module not in BROADCAST:
            return None
        key = party_key(*to)
        return None if key == party_key(*self._config.party) else key


def token_type(query: bytes) -> str | None:
    """The `type` parameter of a token's URL. Raises Refusal for a value that can be no TokenType."""
    values = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("type")
    if not values:
        return None
    value = values[-1]
    if not (value and value.isascii() and value.isprintable()):
        raise invalid("type", f"{value!r} is no TokenType, such as {', '.join(TOKEN_TYPES)}")
    return value


def _agrees(call: Call, new: Any) -> None:
    """Refuse a body that names another object than its URL (transport_and_format, "Errors": 2001)."""
    resource = call.route.resource
    if len(call.ids) == 3:
        _same("country_code", new.country_code, call.ids[0])
        _same("party_id", new.party_id, call.ids[1])
    _same(resource.id_name, getattr(new, resource.id_name), call.ids[-1])
    if resource.module == "tokens":
        kind = token_type(call.query)
        if kind is not None and kind != new.type:
            raise invalid("type", f"{new.type} in the body, {kind} in the URL")


def _same(field: str, body: str, url: str) -> None:
    if body != url and body.upper() != url.upper():
        raise invalid(field, f"{body!r} in the body, {url!r} in the URL")


def _unknown(call: Call, ids: tuple[str, ...] | None = None) -> Refusal:
    """404: the URL addresses nothing that is known (or nothing above it is)."""
    resource = call.route.resource
    depth = len(call.ids if ids is None else ids)
    title = resource.title if ids is None else {3: "Location", 4: "EVSE"}[depth]
    return Refusal(404, resource.unknown, f"Unknown {title}: {'/'.join(call.ids[:depth])}")
