"""Play a project's demo: run every service in this process, place orders, answer as the outside world, and audit.

Knows no kinds of orders: the project's demo object names the orders and how each must end. Prints nothing.
"""

from __future__ import annotations

import asyncio
import importlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from choreo import Event
from choreo.app.query.timeline import TimelineRow
from choreo.core import ids
from choreo.core.errors import LeaseLostError, SettingsError, StorageError
from choreo.core.events import Envelope, Record
from choreo.ports.log import Consumer
from choreo.ports.read_model import Filter, InstanceView
from choreo.settings import Settings
from choreo.wiring import App, everything, open_app, run
from choreo.wiring.flows import add_project_to_path

_OPEN = ("running", "paused", "compensating")
_PAGE = 500
PATIENCE_S = 60
"""A broker's return takes 10 s, Redis's less; an overloaded machine may take longer than either."""
T = TypeVar("T")


class Kind(Protocol):
    """A kind of order."""

    name: str
    ends: str
    started_twice: bool


class Placed(Protocol):
    """One order to place."""

    kind: Kind
    event: Event


class Demo(Protocol):
    """The interface of a project's demo object."""

    flow: str
    time_scale: float
    listens: frozenset[str]

    def prepare(self, folder: Path) -> None:
        """Create new books in this folder."""

    def orders(self, count: int) -> Sequence[Placed]:
        """Return the orders to place."""

    def answer(self, key: str) -> Event | bytes | None:
        """Return the outside world's answer to an event of this key: an event, garbage, or nothing."""

    def audit(self, folder: Path, outcomes: Mapping[str, str]) -> list[str]:
        """Return the violations, one sentence each."""


class Ending(msgspec.Struct):
    """How the orders of one kind ended."""

    kind: str
    expected: str
    orders: int
    ended: dict[str, int]

    @property
    def as_expected(self) -> bool:
        """Return whether each order ended as it must."""
        return self.ended == {self.expected: self.orders}


class Result(msgspec.Struct):
    """The figures of a demo. Rates are orders a second until the last order was completed; times are milliseconds."""

    orders: int
    completed: int
    compensated: int
    stuck: int
    dead_letters: int
    audit_ok: bool
    orders_per_s: float
    p50_ms: float
    p99_ms: float


class Played(msgspec.Struct):
    """The result, with the data behind it."""

    result: Result
    endings: list[Ending]
    violations: list[str]
    shown: str
    """Key of one compensated order, as an example to look at."""
    timeline: list[TimelineRow]


def load_demo(settings: Settings) -> Demo:
    """Return the project's demo object; raises SettingsError with the remedy."""
    remedy = 'Run it in choreo\'s own checkout, or name your own: demo = "module:name" under [tool.choreo].'
    if not settings.demo:
        raise SettingsError("this project has no demo", where="setting demo", remedy=remedy)
    module_name, _, attribute = settings.demo.partition(":")
    add_project_to_path()
    try:
        demo: Demo = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(str(error), where=f"setting demo, {settings.demo!r}", remedy=remedy) from error
    return demo


async def play(
    settings: Settings,
    demo: Demo,
    folder: Path,
    count: int,
    progress: Callable[[Mapping[str, int], int], None],
    *,
    keep: bool = True,
) -> Played:
    """Place `count` orders and wait until all have ended; `progress` gets the runs by status and the number placed.

    Without `keep` the demo's topics and keys are deleted from Kafka and Redis, also after a failure.
    """
    demo.prepare(folder / "books")
    async with open_app(settings) as app:
        try:
            return await _played(app, demo, folder, demo.orders(count), progress)
        finally:
            if not keep:
                await app.backend.discard()


async def _played(
    app: App,
    demo: Demo,
    folder: Path,
    placed: Sequence[Placed],
    progress: Callable[[Mapping[str, int], int], None],
) -> Played:
    """Run the services, place the orders and return the result; when it returns, nothing runs any more."""
    await app.backend.create_topics()
    stop = asyncio.Event()
    parts = asyncio.create_task(run(app, everything(app, rest=False), stop))
    outside = asyncio.create_task(_outside(app, demo, stop))
    try:
        runs = await _place(app, demo, placed, progress)
        await _ended(app, demo, runs, progress, parts)
        return await _judge(app, demo, folder, placed)
    finally:
        stop.set()
        await asyncio.gather(outside, parts)


async def _asked(app: App, call: Callable[[], Awaitable[T]]) -> T:
    """Return storage's answer; ask again while it fails, as any client does: an event has its id before it is sent.

    Raises StorageError where storage has not answered for `PATIENCE_S`.
    """
    until_ms = app.clock.now_ms() + PATIENCE_S * 1_000
    while True:
        try:
            return await call()
        except StorageError:
            if app.clock.now_ms() > until_ms:
                raise
        await app.clock.sleep(0.5)


async def _place(
    app: App, demo: Demo, placed: Sequence[Placed], progress: Callable[[Mapping[str, int], int], None]
) -> int:
    """Publish every start, some twice; return the number of runs."""
    runs = 0
    for number, order in enumerate(placed):
        keys = ("", "again") if order.kind.started_twice else ("",)
        for key in keys:
            await _asked(app, partial(app.publisher.publish, demo.flow, order.event, idempotency_key=key))
            runs += 1
        if number % 25 == 0:
            progress(await _asked(app, partial(app.queries.counts, demo.flow)), number)
    return runs


async def _outside(app: App, demo: Demo, stop: asyncio.Event) -> None:
    """Play the world outside the flow: a consumer of its own that answers the events it reads."""
    join: Callable[[], Awaitable[Consumer]] = partial(
        app.backend.log.consumer, demo.flow, "outside", "demo", demo.listens
    )
    consumer = await _asked(app, join)
    while not stop.is_set():
        try:
            poll = await _asked(app, partial(consumer.poll, 500, 0.1))
        except LeaseLostError:  # the machine stood still for a session's time; records are read again
            await consumer.close()
            consumer = await _asked(app, join)
            continue
        for record in poll.records:
            await _answer(app, demo, record)
    await consumer.close()


async def _answer(app: App, demo: Demo, record: Record) -> None:
    key = record.event.key
    answer = demo.answer(key)
    if isinstance(answer, Event):
        await _asked(app, partial(app.publisher.publish, demo.flow, answer, idempotency_key="demo", allow_early=True))
    elif answer is not None:
        type_ = app.definitions[demo.flow].waits[0].until
        garbage = Envelope(
            ids.derive("demo", key), type_, key, demo.flow, content_type=app.codec.content_type, data=answer
        )
        await _asked(app, partial(app.backend.log.append, demo.flow, [garbage]))


async def _ended(
    app: App,
    demo: Demo,
    runs: int,
    progress: Callable[[Mapping[str, int], int], None],
    parts: asyncio.Task[None],
) -> None:
    while True:
        counts = await _asked(app, partial(app.queries.counts, demo.flow))
        progress(counts, runs)
        if sum(counts.values()) >= runs and not any(counts.get(status) for status in _OPEN):
            return
        if parts.done():
            parts.result()  # raises the error of a failed part, so that the demo does not wait for ever
            return
        await app.clock.sleep(0.1)


async def _judge(app: App, demo: Demo, folder: Path, placed: Sequence[Placed]) -> Played:
    views: dict[str, InstanceView] = {}
    stuck, cursor = 0, ""
    while True:
        page = await _asked(app, partial(app.queries.instances, Filter(flow=demo.flow), _PAGE, cursor))
        for view in page.items:
            views[view.key] = view  # newest first: the last one stored is the key's first run
            stuck += view.status == "stuck"
        cursor = page.cursor
        if not cursor:
            break
    by_key = {_key_of(app, demo, order): order for order in placed}
    outcomes = {key: views[key].status if key in views else "lost" for key in by_key}
    violations = demo.audit(folder / "books", outcomes)
    endings = _endings(by_key, outcomes)
    violations += [
        f"{e.orders} orders of kind {e.kind!r} must end {e.expected}, they ended {e.ended}"
        for e in endings
        if not e.as_expected
    ]
    completed = [view for view in views.values() if view.status == "completed"]
    took = sorted(view.changed_ms - view.started_ms for view in completed)
    first = min((view.started_ms for view in views.values()), default=0)
    last = max((view.changed_ms for view in completed), default=0)
    result = Result(
        orders=len(placed),
        completed=len(completed),
        compensated=sum(status == "compensated" for status in outcomes.values()),
        stuck=stuck,
        dead_letters=await _asked(app, partial(app.queries.dead_letter_count, demo.flow)),
        audit_ok=not violations,
        orders_per_s=round(len(completed) * 1_000 / max(1, last - first), 1),
        p50_ms=_percentile(took, 50),
        p99_ms=_percentile(took, 99),
    )
    shown = next((key for key, o in by_key.items() if "refund" in o.kind.name and outcomes[key] == "compensated"), "")
    timeline = await _asked(app, partial(app.queries.timeline, demo.flow, shown)) if shown else []
    return Played(result, endings, violations, shown, timeline)


def _endings(by_key: Mapping[str, Placed], outcomes: Mapping[str, str]) -> list[Ending]:
    endings: dict[str, Ending] = {}
    ended: dict[str, Counter[str]] = {}
    for key, order in by_key.items():
        ending = endings.setdefault(order.kind.name, Ending(order.kind.name, order.kind.ends, 0, {}))
        ending.orders += 1
        ended.setdefault(order.kind.name, Counter())[outcomes[key]] += 1
    for name, ending in endings.items():
        ending.ended = dict(ended[name])
    return list(endings.values())


def _key_of(app: App, demo: Demo, order: Placed) -> str:
    value: Any = getattr(order.event, app.definitions[demo.flow].key)
    return str(value)


def _percentile(values: Sequence[float], percent: int) -> float:
    return values[min(len(values) - 1, len(values) * percent // 100)] if values else 0.0
