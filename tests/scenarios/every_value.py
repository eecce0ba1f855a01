"""A flow whose events have every type, the ways in which a value comes in, and the checks on it afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from decimal import Decimal
from typing import Any, NamedTuple

import httpx

from choreo import Event, Flow, Service, StepContext
from choreo.adapters.avro.codec import AVRO, JSON, AvroCodec
from choreo.app.exact_json import written
from choreo.app.query.read_your_writes import position_of
from choreo.cli.fields import of_pairs
from choreo.core.events import Envelope, Position
from choreo.ports.read_model import Filter
from choreo.surfaces.rest import UseCases, create_app
from choreo.wiring import App
from tests.adapters.avro.test_every_value import LEAF
from tests.support.running import ended

FLOW = f"{__name__}:sent"
FIELDS: dict[str, Any] = {
    name: annotation
    for number, (kind, _) in enumerate(LEAF.values())
    for name, annotation in ((f"v{number}", kind), (f"o{number}", kind | None), (f"l{number}", list[kind]))
}
NAMES = {"__annotations__": {"k": str, **FIELDS}, "__module__": __name__}
Sent: Any = type(Event)("Sent", (Event,), {**NAMES, **{name: None for name in FIELDS if name[0] == "o"}})
Echoed: Any = type(Event)("Echoed", (Event,), NAMES)
echo_service = Service("echo")


def echo(event: Any, ctx: StepContext) -> Any:
    """Return the same fields in another event."""
    return Echoed(**dict(event))


echo.__annotations__ = {"event": Sent, "ctx": StepContext, "return": Echoed}
echo_service.step(on=Sent, emits=Echoed, effect=False)(echo)
sent = Flow("order", key="k", starts=Sent, completes=Echoed, services=[echo_service])
ROUNDS = max(len(values) for _, values in LEAF.values())
"""Each type has had all its values after so many rounds."""
CODEC = AvroCodec()

Way = Callable[[App, Any], Awaitable[Position]]
"""Bring the event into the log; returns its position."""


def event(key: str, turn: int) -> Any:
    """Return the event of that round: each field has one of its type's values."""
    fields: dict[str, Any] = {"k": key}
    for number, (_, values) in enumerate(LEAF.values()):
        value = values[turn % len(values)]
        fields |= {f"v{number}": value, f"l{number}": values[: turn + 1]}
        if turn % 2:
            fields[f"o{number}"] = value
    return Sent(**fields)


def as_json(made: Any) -> dict[str, Any]:
    """Return its fields as a client sends them: decimals as numbers, with all their digits."""
    return {name: value for name, value in dict(made).items() if value is not None}


def as_pairs(made: Any) -> list[str]:
    """Return its fields as --field of the command line takes them."""
    texts = {name: value for name, value in shown(made).items() if value is not None}
    return [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in texts.items()]


def shown(made: Any) -> dict[str, Any]:
    """Return its fields as every surface shows them."""
    return CODEC.fields(Sent, AVRO, CODEC.encode(made))


async def by_object(app: App, made: Any) -> Position:
    """Publish as a program does that has the class."""
    return (await app.publisher.publish("order", made)).position


async def by_mapping(app: App, made: Any) -> Position:
    """Publish as a program does that has the fields."""
    return (await app.publisher.publish("order", dict(made), type_="Sent")).position


async def by_rest(app: App, made: Any) -> Position:
    """Publish as a client of the REST view."""
    transport = httpx.ASGITransport(
        create_app(UseCases(app.queries.flows, app.publisher, app.operator, app.queries, app.clock))
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        body = written({"type": "Sent", "fields": as_json(made)})
        answer = await client.post("/flows/order/events", content=body, headers={"Content-Type": JSON})
        assert answer.status_code == 201, answer.text
        return position_of(answer.json()["position"])


async def by_command(app: App, made: Any) -> Position:
    """Publish as a person types it."""
    return (await app.publisher.publish("order", of_pairs(Sent, as_pairs(made)), type_="Sent")).position


async def by_foreign_json(app: App, made: Any) -> Position:
    """Append as a program does that knows neither choreo nor Avro."""
    return await _appended(app, made, JSON, written(as_json(made)))


async def by_foreign_avro(app: App, made: Any) -> Position:
    """Append as a program does that has the frozen schema."""
    return await _appended(app, made, AVRO, CODEC.encode(made))


async def _appended(app: App, made: Any, content_type: str, data: bytes) -> Position:
    record = Envelope("", "Sent", made.k, "order", content_type=content_type, data=data)
    return (await app.backend.log.append("order", [record]))[0]


OWN_WAYS: tuple[Way, ...] = (by_object, by_mapping, by_rest, by_command)
WAYS: tuple[Way, ...] = (*OWN_WAYS, by_foreign_json, by_foreign_avro)


class Held(NamedTuple):
    """How much was found as it had been sent."""

    values: int
    filters: int
    ways: int

    def __str__(self) -> str:
        return f"{self.values} values of {len(FIELDS)} fields came through {self.ways} ways, {self.filters} filters"


async def held(app: App, ways: Iterable[Way], rounds: int = ROUNDS) -> Held:
    """Send each round's event by each way; each must be handled, shown and found as it was sent."""
    keys = {f"{way.__name__}-{turn}": (way, turn) for way in ways for turn in range(rounds)}
    places = {key: await way(app, event(key, turn)) for key, (way, turn) in keys.items()}
    filters = await asyncio.gather(*(_is_held(app, key, event(key, keys[key][1]), at) for key, at in places.items()))
    return Held(len(keys) * len(FIELDS), sum(filters), len(keys) // rounds)


async def _is_held(app: App, key: str, made: Any, position: Position) -> int:
    """Fail where a value is another than was sent; returns the number of filters that found the run."""
    assert await ended(app, position, key) == "completed", key
    rows = {row.type: row.fields for row in await app.queries.history("order", key)}
    assert rows["Sent"] == shown(made), key
    assert rows["Echoed"] == shown(made), key
    filters = _filters(made)
    for name, text in filters:
        page = await app.queries.instances(Filter("order", key=key, attributes={name: text}), 10)
        assert [row.key for row in page.items] == [key], (key, name, text)
    return len(filters)


def _filters(made: Any) -> list[tuple[str, str]]:
    """Return plain fields, each with the text that a person would ask with."""
    plain = shown(made)
    found = []
    for name, value in dict(made).items():
        if name[0] == "v" and isinstance(plain[name], str | int | float):
            text = str(value) if isinstance(value, Decimal) else str(plain[name])
            found.append((name, str(value).lower() if isinstance(value, bool) else text))
    return found
