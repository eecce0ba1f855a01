"""Every type through every door of both homes: what is published is what is handled, shown and found by a filter."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from choreo import Event, Flow, Service, StepContext
from choreo.adapters.avro.codec import AVRO, JSON, AvroCodec
from choreo.app.exact_json import written
from choreo.cli.fields import of_pairs
from choreo.core.events import Envelope
from choreo.ports.read_model import Filter
from choreo.settings import load
from choreo.surfaces.rest import Doors, create_app
from choreo.wiring import App, everything, open_app, run
from tests.adapters.avro.test_every_value import LEAF
from tests.doors.test_garbage_on_the_log import until

FIELDS: dict[str, Any] = {
    name: annotation
    for number, (kind, _) in enumerate(LEAF.values())
    for name, annotation in ((f"v{number}", kind), (f"o{number}", kind | None), (f"l{number}", list[kind]))
}
NAMES = {"__annotations__": {"k": str, **FIELDS}, "__module__": __name__}
Told: Any = type(Event)("Told", (Event,), {**NAMES, **{name: None for name in FIELDS if name[0] == "o"}})
Echoed: Any = type(Event)("Echoed", (Event,), NAMES)
echo_service = Service("echo")


def echo(event: Any, ctx: StepContext) -> Any:
    """Say again what was told."""
    return Echoed(**dict(event))


echo.__annotations__ = {"event": Told, "ctx": StepContext, "return": Echoed}
echo_service.step(on=Told, emits=Echoed, effect=False)(echo)
told = Flow("order", key="k", starts=Told, completes=Echoed, services=[echo_service])
ROUNDS = max(len(values) for _, values in LEAF.values())
CODEC = AvroCodec()


def event(key: str, turn: int) -> Any:
    """The event of that round: each field has one of its type's values."""
    fields: dict[str, Any] = {"k": key}
    for number, (_, values) in enumerate(LEAF.values()):
        value = values[turn % len(values)]
        fields |= {f"v{number}": value, f"l{number}": values[: turn + 1]}
        if turn % 2:
            fields[f"o{number}"] = value
    return Told(**fields)


def as_json(made: Any) -> dict[str, Any]:
    """Its fields as a client sends them: decimals as numbers, with all their digits."""
    return {name: value for name, value in dict(made).items() if value is not None}


def as_pairs(made: Any) -> list[str]:
    """The same as --field of the command line takes them."""
    shown = CODEC.fields(Told, AVRO, CODEC.encode(made))
    texts = {name: value for name, value in shown.items() if value is not None}
    return [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in texts.items()]


async def by_object(app: App, made: Any) -> None:
    """As a program does that has the class."""
    await app.publisher.publish("order", made)


async def by_mapping(app: App, made: Any) -> None:
    """As a program does that has the fields."""
    await app.publisher.publish("order", dict(made), type_="Told")


async def by_rest(app: App, made: Any) -> None:
    """As a client of the REST view."""
    transport = httpx.ASGITransport(
        create_app(Doors(app.queries.flows, app.publisher, app.operator, app.queries, app.clock))
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        body = written({"type": "Told", "fields": as_json(made)})
        answer = await client.post("/flows/order/events", content=body, headers={"Content-Type": JSON})
        assert answer.status_code == 201, answer.text


async def by_command(app: App, made: Any) -> None:
    """As somebody who types it."""
    await app.publisher.publish("order", of_pairs(Told, as_pairs(made)), type_="Told")


async def by_foreign_json(app: App, made: Any) -> None:
    """As a program that knows neither choreo nor Avro."""
    await app.home.log.append(
        "order", [Envelope("", "Told", made.k, "order", content_type=JSON, data=written(as_json(made)))]
    )


async def by_foreign_avro(app: App, made: Any) -> None:
    """As a program that has the frozen schema."""
    await app.home.log.append(
        "order", [Envelope("", "Told", made.k, "order", content_type=AVRO, data=CODEC.encode(made))]
    )


WAYS = (by_object, by_mapping, by_rest, by_command, by_foreign_json, by_foreign_avro)


@asynccontextmanager
async def running(tmp_path: Path, *, memory: bool) -> AsyncIterator[App]:
    """The flow in this process."""
    settings = load(flows=(f"{__name__}:told",), database=tmp_path / "x.db", partitions=1, topics=tmp_path / "none")
    async with open_app(settings, memory=memory) as app:
        stop = asyncio.Event()
        parts = asyncio.create_task(run(app, everything(app, rest=False), stop))
        try:
            yield app
        finally:
            stop.set()
            await parts


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "sqlite"])
async def test_what_is_published_is_what_is_handled_shown_and_found(
    memory: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By each door the same value, down to the last digit; each plain field finds its run."""
    count = 0
    async with running(tmp_path, memory=memory) as app:
        sent = {f"{way.__name__}-{turn}": (way, turn) for way in WAYS for turn in range(ROUNDS)}
        for key, (way, turn) in sent.items():
            await way(app, event(key, turn))
        for key, (_, turn) in sent.items():
            await until(app, lambda key=key: _completed(app, key))
            made = event(key, turn)
            shown = CODEC.fields(Told, AVRO, CODEC.encode(made))
            rows = {row.type: row.fields for row in await app.queries.history("order", key)}
            assert rows["Told"] == shown, key
            assert rows["Echoed"] == shown, key
            count += len(FIELDS)
            for name, text in _filters(made):
                page = await app.queries.instances(Filter("order", key=key, attributes={name: text}), 10)
                assert [row.key for row in page.items] == [key], (key, name, text)
    with capsys.disabled():
        sys.stdout.write(f"\n{count} values of {len(FIELDS)} fields held by {len(WAYS)} doors\n")


def _filters(made: Any) -> list[tuple[str, str]]:
    """Plain fields with a text that a person would ask with."""
    shown = CODEC.fields(Told, AVRO, CODEC.encode(made))
    found = []
    for name, value in dict(made).items():
        if name[0] == "v" and isinstance(shown[name], str | int | float):
            plain = str(value) if isinstance(value, Decimal) else str(shown[name])
            found.append((name, str(value).lower() if isinstance(value, bool) else plain))
    return found


async def _completed(app: App, key: str) -> bool:
    view = await app.home.read_model.instance("order", key)
    return view is not None and view.status == "completed"
