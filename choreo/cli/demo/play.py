"""Play a project's demo: run every service in this process, start runs, answer as the outside world, and audit.

Knows no kinds of runs: the project's demo objects name the runs and how each must end. Prints nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from choreo import Event
from choreo.cli.demo.asking import asked
from choreo.cli.demo.plan import Demo, Placed
from choreo.cli.demo.results import Played, judge
from choreo.core import ids
from choreo.core.errors import LeaseLostError
from choreo.core.events import Envelope, Record
from choreo.ports.log import Consumer
from choreo.settings import Settings
from choreo.wiring import App, everything, open_app, run

_OPEN = ("running", "paused", "compensating")
Plan = Sequence[tuple[Demo, Sequence[Placed]]]
"""The runs to start, by demo."""
Progress = Callable[[str, Mapping[str, int], int], None]
"""Takes a flow, its runs by status, and the number of runs that were started."""


async def play(
    settings: Settings,
    counts: Sequence[tuple[Demo, int]],
    folder: Path,
    progress: Progress,
    *,
    keep: bool = True,
) -> Played:
    """Start so many runs of each demo and wait until all have ended.

    Without `keep` the demo's topics and keys are deleted from Kafka and Redis, also after a failure.
    """
    plan = [(demo, demo.orders(count)) for demo, count in counts]
    for demo, _ in plan:
        demo.prepare(folder / "books")
    async with open_app(settings) as app:
        try:
            return await _played(app, plan, folder, progress)
        finally:
            if not keep:
                await app.backend.discard()


async def _played(app: App, plan: Plan, folder: Path, progress: Progress) -> Played:
    """Run the services, start the runs and return the result; when it returns, nothing runs any more."""
    await app.backend.create_topics()
    stop = asyncio.Event()
    parts = asyncio.create_task(run(app, everything(app, rest=False), stop))
    outside = [asyncio.create_task(_outside(app, demo, stop)) for demo, _ in plan]
    try:
        started = await _place(app, plan, progress)
        for demo, _ in plan:
            await _ended(app, demo, started[demo.flow], progress, parts)
        return Played([await judge(app, demo, folder, placed) for demo, placed in plan])
    finally:
        stop.set()
        await asyncio.gather(*outside, parts)


async def _place(app: App, plan: Plan, progress: Progress) -> dict[str, int]:
    """Publish every start, some twice; return the number of runs of each flow."""
    runs = {demo.flow: 0 for demo, _ in plan}
    for number, (demo, order) in enumerate(_mixed(plan)):
        keys = ("", "again") if order.kind.started_twice else ("",)
        for key in keys:
            await asked(app, partial(app.publisher.publish, demo.flow, order.event, idempotency_key=key))
            runs[demo.flow] += 1
        if number % 25 == 0:
            progress(demo.flow, await asked(app, partial(app.queries.counts, demo.flow)), runs[demo.flow])
    return runs


def _mixed(plan: Plan) -> Iterator[tuple[Demo, Placed]]:
    """Yield the runs of all flows, those of each evenly among the others."""
    places = [
        (number / len(placed), which, number) for which, (_, placed) in enumerate(plan) for number in range(len(placed))
    ]
    for _, which, number in sorted(places):
        demo, placed = plan[which]
        yield demo, placed[number]


async def _outside(app: App, demo: Demo, stop: asyncio.Event) -> None:
    """Play the world outside the flow: a consumer of its own that answers the events it reads."""
    join: Callable[[], Awaitable[Consumer]] = partial(
        app.backend.log.consumer, demo.flow, "outside", "demo", demo.listens
    )
    consumer = await asked(app, join)
    while not stop.is_set():
        try:
            poll = await asked(app, partial(consumer.poll, 500, 0.1))
        except LeaseLostError:  # the machine stood still for a session's time; records are read again
            await consumer.close()
            consumer = await asked(app, join)
            continue
        for record in poll.records:
            await _answer(app, demo, record)
    await consumer.close()


async def _answer(app: App, demo: Demo, record: Record) -> None:
    key = record.event.key
    answer = demo.answer(key, record.event.type)
    if isinstance(answer, Event):
        await asked(app, partial(app.publisher.publish, demo.flow, answer, idempotency_key="demo", allow_early=True))
    elif answer is not None:
        type_ = app.definitions[demo.flow].waits[0].until
        garbage = Envelope(
            ids.derive("demo", key), type_, key, demo.flow, content_type=app.codec.content_type, data=answer
        )
        await asked(app, partial(app.backend.log.append, demo.flow, [garbage]))


async def _ended(app: App, demo: Demo, runs: int, progress: Progress, parts: asyncio.Task[None]) -> None:
    """Wait until so many runs of the flow, and all their children, have ended."""
    while True:
        counts = await asked(app, partial(app.queries.counts, demo.flow))
        progress(demo.flow, counts, runs)
        if sum(counts.values()) >= runs and not _is_open(counts) and not await _has_open_children(app, demo):
            return
        if parts.done():
            parts.result()  # raises the error of a failed part, so that the demo does not wait for ever
            return
        await app.clock.sleep(0.1)


async def _has_open_children(app: App, demo: Demo) -> bool:
    children = app.flows[demo.flow].child_flows
    return any([_is_open(await asked(app, partial(app.queries.counts, name))) for name in children])


def _is_open(counts: Mapping[str, int]) -> bool:
    return any(counts.get(status) for status in _OPEN)
