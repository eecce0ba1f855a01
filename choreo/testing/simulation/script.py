"""Planned behaviour of handlers in a test: the next attempts of a step fail, hang, come late, are declined or die.

Planned behaviours of a step are used up in the order in which they were planned; then the handler runs as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from choreo.core.durations import Duration, milliseconds
from choreo.core.errors import described
from choreo.hosts.runners.port import Attempt


class PlannedError(Exception):
    """The error of an attempt that a test has planned."""


class Call(NamedTuple):
    """One call of a handler."""

    step: str
    key: str
    attempt: int
    compensation: bool
    at_ms: int
    """Since the test began."""


Handler = Callable[[], Awaitable[Any]]
"""Calls the user's handler once."""
Behaviour = Callable[[Attempt, Handler], Awaitable[Any]]
"""Gets an attempt and a function that calls the user's handler; returns what the attempt returns."""


class _Planned:
    def __init__(self, behaviour: Behaviour, times: int | None) -> None:
        self.behaviour: Behaviour = behaviour
        self.left: int | None = times


class Script:
    """The plans of a test for the handlers of its flows, and every call that was made."""

    def __init__(self, now_ms: Callable[[], int], note: Callable[[str, str, str], None]) -> None:
        """`note(step, text, key)` shows a call in the timeline."""
        self._now_ms = now_ms
        self._note = note
        self._planned: dict[tuple[str, bool], list[_Planned]] = {}
        self.calls: list[Call] = []

    def plan(self, step: str, behaviour: Behaviour, *, times: int | None, compensation: bool) -> None:
        """Let the next attempts of a step, all with `times` None, behave so."""
        self._planned.setdefault((step, compensation), []).append(_Planned(behaviour, times))

    def unused(self) -> list[str]:
        """Return the steps with a plan that was not used."""
        return [
            f"{'undo of ' if compensation else ''}{step}"
            for (step, compensation), planned in self._planned.items()
            if any(each.left for each in planned)
        ]

    async def call(self, attempt: Attempt, handler: Callable[[], Awaitable[Any]]) -> Any:
        """Call the handler as planned; note how it ended."""
        spec, event = attempt.spec, attempt.job.event
        name = f"{'undo of ' if spec.undo else ''}{spec.step}"
        number = attempt.job.attempt
        self.calls.append(Call(spec.step, event.key, number, spec.undo, self._now_ms()))
        behaviour = self._next(spec.step, compensation=spec.undo)
        try:
            value = await (handler() if behaviour is None else behaviour(attempt, handler))
        except asyncio.CancelledError:
            self._note(name, f"attempt {number} was cancelled", event.key)
            raise
        except Exception as error:
            self._note(name, f"attempt {number} failed: {described(error)}", event.key)
            raise
        self._note(name, f"attempt {number} returned {_shown(value)}", event.key)
        return value

    def _next(self, step: str, *, compensation: bool) -> Behaviour | None:
        for planned in self._planned.get((step, compensation), ()):
            if planned.left is None:
                return planned.behaviour
            if planned.left:
                planned.left -= 1
                return planned.behaviour
        return None


def failing(error: BaseException | str | None, *, after: bool) -> Behaviour:
    """Return the behaviour of an attempt that raises; `after`: its handler has done its work before."""
    raised = error if isinstance(error, BaseException) else PlannedError(error or "the test has planned that it fails")

    async def behave(_: Attempt, handler: Callable[[], Awaitable[Any]]) -> Any:
        if after:
            await handler()
        raise raised

    return behave


def hanging() -> Behaviour:
    """Return the behaviour of an attempt that never answers; its handler is not called."""

    async def behave(_: Attempt, __: Callable[[], Awaitable[Any]]) -> Any:
        await asyncio.get_running_loop().create_future()

    return behave


def late(duration: Duration, *, after: bool) -> Behaviour:
    """Return the behaviour of an attempt that takes long: before its handler, or after it has done its work."""
    duration_s = milliseconds(duration, "late") / 1_000

    async def behave(_: Attempt, handler: Callable[[], Awaitable[Any]]) -> Any:
        if not after:
            await asyncio.sleep(duration_s)
            return await handler()
        value = await handler()
        await asyncio.sleep(duration_s)
        return value

    return behave


def answering(value: Any) -> Behaviour:
    """Return the behaviour of an attempt that returns this value; its handler is not called."""

    async def behave(_: Attempt, __: Callable[[], Awaitable[Any]]) -> Any:
        return value

    return behave


def dying(die: Callable[[], None], *, after: bool) -> Behaviour:
    """Return the behaviour of an attempt in which the process dies, before its handler or after its work."""

    async def behave(_: Attempt, handler: Callable[[], Awaitable[Any]]) -> Any:
        if after:
            await handler()
        die()
        await asyncio.get_running_loop().create_future()

    return behave


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    return "nothing" if value is None else type(value).__name__
