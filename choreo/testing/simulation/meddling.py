"""Planned faults of handlers: the n-th call of a step, or of its compensation, fails, hangs, is late, or dies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from choreo.hosts.runners.port import Attempt
from choreo.testing.simulation import script
from choreo.testing.simulation.calls import Calls
from choreo.testing.simulation.plan import Action

KINDS = frozenset(
    {
        "handler-error",
        "late-error",
        "slow-handler",
        "hanging-handler",
        "handler-death",
        "declared-failure",
        "compensation-error",
    }
)


class HandlerFaults:
    """The handlers' faults of one plan, over all processes."""

    def __init__(
        self,
        actions: Sequence[Action],
        fired: Callable[[str, str, str, str], None],
        failure: Callable[[Attempt, Action], Any],
        watched: Calls,
        join: Callable[[str], None],
    ) -> None:
        """Call `fired(kind, process, text, key)` for each fault; `failure` makes the event of a declared failure.

        `watched` checks every call; `join` lets another process of a service join.
        """
        self._join = join
        self._watched = watched
        self._armed: dict[tuple[str, bool], list[Action]] = {}
        for action in actions:
            if action.kind in KINDS:
                self._armed.setdefault((action.target, action.undo), []).append(action)
        self._fired = fired
        self._failure = failure
        self._calls: dict[tuple[str, bool], int] = {}
        self.is_over: bool = False
        """Whether handlers behave well from now on."""
        self.met: set[tuple[str, bool]] = set()
        """Handlers that a fault has met: step, and whether it was its compensation."""

    def of(self, process: str, die: Callable[[], None]) -> _OfProcess:
        """Return the meddler of one process; `die` kills it."""
        return _OfProcess(self, process, die)

    async def call(self, process: str, die: Callable[[], None], attempt: Attempt, handler: script.Handler) -> Any:
        """Call a handler with the fault that is planned for this call of it."""
        with self._watched.watched(process, attempt.spec.step.rpartition(".")[0], attempt):
            return await self._call(process, die, attempt, handler)

    async def _call(self, process: str, die: Callable[[], None], attempt: Attempt, handler: script.Handler) -> Any:
        spec = attempt.spec
        place = (spec.step, spec.undo)
        number = self._calls[place] = self._calls.get(place, 0) + 1
        action = None if self.is_over else self._due(place, number)
        if action is None:
            return await handler()
        self.met.add(place)
        name = f"{'undo of ' if spec.undo else ''}{spec.step}"
        self._fired(action.kind, process, f"{name}, call {number}: {action.kind}", attempt.job.event.key)
        if action.joins:
            self._join(spec.step.rpartition(".")[0])
        return await self._behaviour(action, attempt, die)(attempt, handler)

    def _due(self, place: tuple[str, bool], number: int) -> Action | None:
        for action in self._armed.get(place, ()):
            if action.n <= number < action.n + action.calls:
                return action
        return None

    def _behaviour(self, action: Action, attempt: Attempt, die: Callable[[], None]) -> script.Behaviour:
        match action.kind:
            case "slow-handler":
                return script.late(action.duration_ms / 1_000, after=action.after)
            case "hanging-handler":
                return _hanging_after if action.after else script.hanging()
            case "handler-death":
                return script.dying(die, after=action.after)
            case "declared-failure":
                return script.answering(self._failure(attempt, action))
            case kind:
                return script.failing("the simulation has planned that it fails", after=kind == "late-error")


async def _hanging_after(_: Attempt, handler: script.Handler) -> Any:
    await handler()
    await asyncio.get_running_loop().create_future()


class _OfProcess:
    def __init__(self, faults: HandlerFaults, process: str, die: Callable[[], None]) -> None:
        self._faults = faults
        self._process = process
        self._die = die

    async def call(self, attempt: Attempt, handler: Callable[[], Awaitable[Any]]) -> Any:
        """Return what the attempt returns."""
        return await self._faults.call(self._process, self._die, attempt, handler)
