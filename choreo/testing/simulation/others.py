"""Acts of others on a running seed: clients, foreign producers, operators."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from choreo.app.publish.publisher import Receipt
from choreo.core import facts, ids
from choreo.core.events import Envelope
from choreo.testing.simulation.conductor import Conductor
from choreo.testing.simulation.kinds import OLD_VERSION
from choreo.testing.simulation.plan import Action
from choreo.testing.simulation.world import CLIENT


async def start(conductor: Conductor, action: Action) -> None:
    """Start a run through the client, or through one of an older version of the program."""
    event = conductor.made(action.flow, conductor.world.project.definitions[action.flow].starts, action.target)
    if action.n:
        conductor.acknowledged.append(_old_start(conductor, action, event))
    else:
        conductor.acknowledged.append(await conductor.world.client.app.publisher.publish(action.flow, event))


def _old_start(conductor: Conductor, action: Action, event: Any) -> Receipt:
    """Publish a start as a program did that knew this version of the flow; return its receipt."""
    flow, key, codec, cluster = action.flow, action.target, conductor.world.project.codec, conductor.world.cluster
    id_, type_ = ids.start(flow, key, ""), type(event).event_type
    data, now_ms = codec.encode(event), cluster.clock.now_ms()
    published = Envelope(id_, type_, key, flow, run=id_, version=action.n, source=f"choreo/{flow}", time_ms=now_ms)
    published = msgspec.structs.replace(published, data=data, content_type=codec.content_type)
    (position,) = cluster.topics.append(flow, [published])
    conductor.note(OLD_VERSION, CLIENT, f"a run of version {action.n} is started", key)
    return Receipt(id_, type_, flow, key, id_, position)


async def early(conductor: Conductor, action: Action) -> None:
    """Publish an outside event before its wait."""
    key, answer = action.target.split(" ")
    await conductor.publish(action.flow, answer, key)
    conductor.note(action.kind, CLIENT, f"{answer} comes early", key)


async def never(conductor: Conductor, action: Action) -> None:
    """Publish nothing."""
    conductor.note(action.kind, CLIENT, "no outside event comes", action.target)


async def duplicate(conductor: Conductor, action: Action) -> None:
    """Append a record once more."""
    records = conductor.records(action.flow, action.target)
    if records:
        event = records[action.n % len(records)].event
        conductor.world.cluster.topics.append(action.flow, [event])
        conductor.note(action.kind, "a producer", f"{event.type} stands in the log again", event.key)


async def foreign_duplicate(conductor: Conductor, action: Action) -> None:
    """Publish a trigger once more, under another id, as a producer does that knows nothing of choreo."""
    flow = conductor.world.project.definitions[action.flow]
    triggers = sorted({type_ for step in flow.steps for type_ in step.triggers if not type_.startswith(facts.PREFIX)})
    record = await conductor.first(action.flow, action.target, triggers[action.n % len(triggers)])
    await asyncio.sleep(action.duration_ms / 1_000)
    _foreign(conductor, action, record.event.type, record.event.key, record.event.data, record.event.content_type)


async def foreign_start(conductor: Conductor, action: Action) -> None:
    """Publish a start for a key that may have a run."""
    event = conductor.made(action.flow, conductor.world.project.definitions[action.flow].starts, action.target)
    data, content_type = conductor.world.project.codec.encode(event), conductor.world.project.codec.content_type
    _foreign(conductor, action, type(event).event_type, action.target, data, content_type)


async def poison(conductor: Conductor, action: Action) -> None:
    """Publish a start that nobody can decode."""
    starts = conductor.world.project.definitions[action.flow].starts
    _foreign(
        conductor, action, starts, f"poison-{action.n}", b"\x07 no event", conductor.world.project.codec.content_type
    )


def _foreign(conductor: Conductor, action: Action, type_: str, key: str, data: bytes, content_type: str) -> None:
    id_ = f"foreign-{action.at_ms}-{action.n}"
    event = Envelope(id_, type_, key, action.flow, source="elsewhere", data=data, content_type=content_type)
    conductor.world.cluster.topics.append(action.flow, [event])
    conductor.note(action.kind, "elsewhere", f"{type_} {id_}", key)


async def operate(conductor: Conductor, action: Action) -> None:
    """Cancel, pause or terminate a run."""
    operator = conductor.world.client.app.operator
    flow, key = action.flow, action.target
    calls: dict[str, Callable[[], Awaitable[Receipt]]] = {
        "cancel": lambda: operator.cancel(flow, key, reason="simulated"),
        "pause": lambda: operator.pause(flow, key, reason="simulated"),
        "terminate": lambda: operator.terminate(flow, key, reason="simulated"),
    }
    if not await conductor.accepted(calls[action.kind]()):
        return
    conductor.note(action.kind, CLIENT, action.kind, key)
    if action.kind == "pause":
        await asyncio.sleep(action.duration_ms / 1_000)
        if await conductor.accepted(operator.resume(flow, key)):
            conductor.world.cluster.note(CLIENT, "resume", key)


async def redrive(conductor: Conductor, action: Action) -> None:
    """Redrive every dead letter, now or a while later."""
    await asyncio.sleep(action.duration_ms / 1_000)
    await conductor.redrive_all(action.kind)
