"""Test a flow with the project's real handlers and the real hosts, in virtual time: a month takes a part of a second.

    with FlowTest(order) as env:
        env.publish(OrderPlaced(order_id="o-1", ...))
        env.skip("24h")
        env.assert_events("o-1", OrderPlaced, StockReserved)

Every method may also be awaited, in a coroutine on any event loop: `async with`, `await env.skip("24h")`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from choreo.app.publish.publisher import Receipt
from choreo.app.query.queries import Instance
from choreo.core.declare.flow import Flow
from choreo.core.durations import Duration, milliseconds
from choreo.core.errors import NotFoundError, described
from choreo.core.events import Record
from choreo.core.wording import did_you_mean
from choreo.ports.measures import Series
from choreo.ports.tracing import Tracing
from choreo.settings import load
from choreo.testing.simulation import flow_story, script
from choreo.testing.simulation.compensations import failed_of
from choreo.testing.simulation.errors import SimulationError
from choreo.testing.simulation.world import Process, Project, World, project_of

_T = TypeVar("_T")

RESTART_S = 1.0
"""How long after its death a process is started again."""


class Done(Generic[_T]):
    """The result of a method that is over already: `.value`, or awaited."""

    def __init__(self, value: _T) -> None:
        self.value: _T = value

    def __await__(self) -> Generator[None, None, _T]:
        """Return the value."""
        yield from ()
        return self.value


class _Names:
    """The flows of a test, by the names that a test uses."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._flows = project.flows

    def flow(self, flow: str) -> str:
        if flow in self._flows:
            return flow
        if not flow and len(self._flows) == 1:
            return next(iter(self._flows))
        known = ", ".join(self._flows)
        raise NotFoundError(f"it has no flow {flow!r}", where="FlowTest", remedy=f"Name one of: {known}.")

    def flow_of(self, event_class: type[Any]) -> str:
        for name, flow in self._flows.items():
            if event_class in flow.event_classes.values():
                return name
        raise NotFoundError(
            f"no flow here has the event {event_class.__name__}", where="FlowTest", remedy="Pass its flow to FlowTest."
        )

    def type_of(self, wanted: Any, flow: str) -> str:
        if isinstance(wanted, str):
            known = self._flows[flow].event_classes
            if wanted in known or wanted.startswith("choreo."):
                return wanted
            raise NotFoundError(
                f"flow {flow} has no event {wanted!r}",
                where="FlowTest",
                remedy=f"{did_you_mean(wanted, known)}Its events are: {', '.join(sorted(known))}.",
            )
        event_class = wanted if isinstance(wanted, type) else type(wanted)
        return str(event_class.event_type)  # type: ignore[attr-defined]

    def require_step(self, step: str, *, compensation: bool) -> None:
        known = {each.name: each for flow in self._project.definitions.values() for each in flow.steps}
        if step not in known or (compensation and known[step].compensation is None):
            what = "no step with a compensation" if compensation else "no step"
            raise NotFoundError(
                f"there is {what} {step!r}",
                where="FlowTest",
                remedy=f"{did_you_mean(step, known)}The steps are: {', '.join(sorted(known))}.",
            )


class FlowTest:
    """Flows with their services, one process each, a tracker, and a log in memory, in virtual time.

    Time moves only in `skip`. Each method returns when nothing is left to do at the present moment.
    """

    def __init__(self, *flows: Flow, tracing: Tracing | None = None) -> None:
        """Check the flows; the spans of their processes go to `tracing`. Raises DeclarationError."""
        if not flows:
            raise SimulationError("it has no flow", where="FlowTest", remedy="Write FlowTest(order).")
        self._flows = {flow.name: flow for flow in flows}
        self._project = project_of(self._flows, load(time_scale=1, tracebacks=False), tracing)
        self._names = _Names(self._project)
        self._world: World | None = None
        self._script: script.Script

    def __enter__(self) -> Self:
        """Start the processes."""
        world = self._world = World(self._project, is_atomic=True)
        clock = world.cluster.clock
        self._script = script.Script(clock.elapsed_ms, world.cluster.note)
        world.meddler = lambda _: self._script
        world.drive(_started(world))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes. Raises SimulationError where something was used that virtual time does not own."""
        world, self._world = self._opened, None
        refused, unhandled = world.loop.refused, list(world.loop.unhandled)
        world.close()
        if error is not None:
            return
        if refused:
            raise refused[0]
        if world.failures or unhandled:
            raise SimulationError(
                "; ".join([*world.failures, *(described(one["exception"]) for one in unhandled if "exception" in one)]),
                where="FlowTest",
                remedy="See the error; a process that ends by itself is a fault.",
            )

    async def __aenter__(self) -> Self:
        """Start the processes."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        self.__exit__(kind, error, trace)

    # Events, time and operators

    def publish(
        self,
        event: Any,
        *,
        flow: str = "",
        run: str = "",
        idempotency_key: str = "",
        allow_early: bool = False,
        force: bool = False,
        traceparent: str = "",
    ) -> Done[Receipt]:
        """Publish an event from outside, and let every step react to it. Raises as `Publisher.publish` does."""
        name = flow or self._names.flow_of(type(event))
        options: dict[str, Any] = {"run": run, "idempotency_key": idempotency_key, "allow_early": allow_early}
        publish = self._opened.client.app.publisher.publish
        return self._do(publish(name, event, force=force, traceparent=traceparent, **options))

    def skip(self, duration: Duration) -> Done[None]:
        """Let this much time pass: "24h", "90s", 1.5 (seconds)."""
        return self._do(asyncio.sleep(milliseconds(duration, "skip") / 1_000))

    def cancel(self, key: str, *, reason: str = "", flow: str = "") -> Done[Receipt]:
        """Cancel the key's open run, as an operator does. Raises ConflictError, NotFoundError."""
        return self._do(self._opened.client.app.operator.cancel(self._names.flow(flow), key, reason=reason))

    def pause(self, key: str, *, reason: str = "", flow: str = "") -> Done[Receipt]:
        """Pause the key's open run. Raises ConflictError, NotFoundError."""
        return self._do(self._opened.client.app.operator.pause(self._names.flow(flow), key, reason=reason))

    def resume(self, key: str, *, reason: str = "", flow: str = "") -> Done[Receipt]:
        """Resume the key's paused run. Raises ConflictError, NotFoundError."""
        return self._do(self._opened.client.app.operator.resume(self._names.flow(flow), key, reason=reason))

    def terminate(self, key: str, *, reason: str, flow: str = "") -> Done[Receipt]:
        """Terminate the key's open run, without compensation. Raises ConflictError, NotFoundError."""
        return self._do(self._opened.client.app.operator.terminate(self._names.flow(flow), key, reason=reason))

    def retry_compensation(self, key: str, step: str, *, reason: str = "", flow: str = "") -> Done[Receipt]:
        """Let the failed compensation of a step be tried again. Raises ConflictError, NotFoundError."""
        operator = self._opened.client.app.operator
        return self._do(operator.retry_compensation(self._names.flow(flow), key, step, reason=reason))

    def resolve_compensation(self, key: str, step: str, *, reason: str, flow: str = "") -> Done[Receipt]:
        """Note that the failed compensation of a step was done by hand. Raises ConflictError, NotFoundError."""
        operator = self._opened.client.app.operator
        return self._do(operator.resolve_compensation(self._names.flow(flow), key, step, reason=reason))

    # Faults

    def fail(
        self,
        step: str,
        error: BaseException | str | None = None,
        *,
        times: int | None = 1,
        after: bool = False,
        compensation: bool = False,
    ) -> None:
        """Let the next attempts of a step raise an error; `after`: once the handler has done its work."""
        self._plan(step, script.failing(error, after=after), times, compensation=compensation)

    def answer(self, step: str, event: Any, *, times: int | None = 1, compensation: bool = False) -> None:
        """Let the next attempts of a step return this event, such as a declared failure, without their handler."""
        self._plan(step, script.answering(event), times, compensation=compensation)

    def hang(self, step: str, *, times: int | None = 1, compensation: bool = False) -> None:
        """Let the next attempts of a step never answer: their timeout ends them."""
        self._plan(step, script.hanging(), times, compensation=compensation)

    def delay(
        self,
        step: str,
        duration: Duration,
        *,
        times: int | None = 1,
        after: bool = False,
        compensation: bool = False,
    ) -> None:
        """Let the next attempts of a step take this much longer; `after`: once the handler has done its work."""
        self._plan(step, script.late(duration, after=after), times, compensation=compensation)

    def kill(self, step: str, *, times: int | None = 1, after: bool = False, compensation: bool = False) -> None:
        """Let the service's process die in the next attempts of a step; it starts again a second later.

        `after`: it dies once the handler has done its work, and nobody knows of it.
        """
        service = step.partition(".")[0]
        self._plan(step, script.dying(lambda: self._die(service), after=after), times, compensation=compensation)

    # Questions

    @property
    def calls(self) -> Sequence[script.Call]:
        """Return every call of a handler so far."""
        return self._script.calls

    @property
    def measures(self) -> list[Series]:
        """Return the metrics of the processes that run."""
        return [one for process in self._opened.alive for one in process.app.metrics.series()]

    def events(self, key: str, *, flow: str = "") -> list[str]:
        """Return the types of the key's events in the order of the log, the tracker's facts (`choreo.*`) included."""
        return [record.event.type for record in self._records(key, flow)]

    def instance(self, key: str, *, flow: str = "") -> Instance:
        """Return the key's newest run, as the read model shows it. Raises NotFoundError."""
        return self._do(self._opened.client.app.queries.instance(self._names.flow(flow), key)).value

    def timeline(self, key: str, *, flow: str = "") -> str:
        """Return the story of the key, as text."""
        world = self._opened
        return flow_story.shown(flow_story.timeline(self._records(key, flow), world.cluster.happenings, [key]))

    def assert_events(self, key: str, *wanted: Any, flow: str = "") -> None:
        """Compare the key's events with these, in order: event classes, types, or whole events.

        Facts of the tracker are compared only if one of them is named.
        """
        name = self._names.flow(flow)
        types = [self._names.type_of(each, name) for each in wanted]
        of_tracker = any(type_.startswith("choreo.") for type_ in types)
        records = [
            record for record in self._records(key, name) if of_tracker or not record.event.type.startswith("choreo.")
        ]
        found = [record.event.type for record in records]
        if found != types:
            raise AssertionError(self._complaint(key, name, f"its events are\n{_list(found)}\nnot\n{_list(types)}"))
        for record, each in zip(records, wanted, strict=True):
            if not isinstance(each, (str, type)):
                made = self._decoded(name, record)
                if made != each:
                    raise AssertionError(self._complaint(key, name, f"it has {made!r}\nnot {each!r}"))

    def assert_status(self, key: str, status: str, *, cause: str = "", flow: str = "") -> None:
        """Compare the status of the key's newest run; `cause` is a part of its cause."""
        name = self._names.flow(flow)
        row = self.instance(key, flow=name).row
        if row.status != status or cause not in row.cause:
            wanted = f"{status}{f', because of {cause!r}' if cause else ''}"
            found = f"{row.status}{f', because of {row.cause!r}' if row.cause else ''}"
            why = "".join(f"\n{each.text}" for each in failed_of(self._flows[name], [row]))
            raise AssertionError(self._complaint(key, name, f"it is {found}, not {wanted}{why}"))

    # Below

    @property
    def _opened(self) -> World:
        if self._world is None:
            raise SimulationError("it is not open", where="FlowTest", remedy="Write `with FlowTest(order) as env:`.")
        return self._world

    def _do(self, work: Coroutine[Any, Any, _T]) -> Done[_T]:
        world = self._opened
        value = world.drive(_settled(world, work))
        if world.loop.refused:
            raise world.loop.refused[0]
        return Done(value)

    def _plan(self, step: str, behaviour: script.Behaviour, times: int | None, *, compensation: bool) -> None:
        self._names.require_step(step, compensation=compensation)
        self._script.plan(step, behaviour, times=times, compensation=compensation)

    def _die(self, service: str) -> None:
        world = self._opened
        for process in world.alive:
            if service in process.roles:
                world.kill(process)
                world.cluster.groups.expel(process.name)
                world.later(RESTART_S, _start, world, process)

    def _records(self, key: str, flow: str) -> list[Record]:
        partitions = self._opened.cluster.topics.of(self._names.flow(flow))
        return [record for records in partitions for record in records if record.event.key == key]

    def _complaint(self, key: str, flow: str, fault: str) -> str:
        return f"{flow} {key}: {fault}\nits timeline:\n{self.timeline(key, flow=flow)}"

    def _decoded(self, flow: str, record: Record) -> Any:
        event = record.event
        return self._project.codec.decode(self._flows[flow].event_classes[event.type], event.content_type, event.data)


async def _started(world: World) -> None:
    world.start_all()
    await world.loop.idle()


async def _settled(world: World, work: Coroutine[Any, Any, _T]) -> _T:
    try:
        return await work
    finally:
        await world.loop.idle()


def _start(world: World, process: Process) -> None:
    world.start(process.roles[0], process.roles)


def _list(types: Sequence[str]) -> str:
    return "\n".join(f"  {type_}" for type_ in types) or "  none"
