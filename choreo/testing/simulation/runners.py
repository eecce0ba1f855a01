"""Runners of a simulated process: handlers run on the simulation's loop, without threads.

An async handler is a task. A plain handler runs inline, in no time; its `time.sleep` passes before its
result comes. A `Meddler` may come between: it delays, fails or replaces a call.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from choreo.app.steps.jobs import Withdrawn
from choreo.hosts.runners.port import Attempt, Result
from choreo.testing.simulation.ownership import SLEPT, Slept

GRACE_S: float = 1.0
"""How long a handler may clean up after its timeout cancelled it, before the attempt is given up all the same."""


class Meddler(Protocol):
    """Comes between a host and its handlers."""

    async def call(self, attempt: Attempt, handler: Callable[[], Any]) -> Any:
        """Return what the attempt returns; `handler` calls the user's handler once."""
        ...


class SimulatedRunners:
    """`choreo.hosts.runners.port.Runners` on the running loop."""

    def __init__(self, meddler: Meddler | None, wake: Callable[[], None]) -> None:
        """Call `wake` when results are in."""
        self._meddler = meddler
        self._wake = wake
        self._results: list[Result] = []
        self._open: dict[asyncio.Task[None], None] = {}

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Call these handlers."""
        for attempt in attempts:
            task = asyncio.get_running_loop().create_task(self._attend(attempt))
            self._open[task] = None
            task.add_done_callback(lambda ended: self._open.pop(ended, None))

    def results(self) -> list[Result]:
        """Return the results since the last call."""
        results, self._results = self._results, []
        return results

    @property
    def has_results(self) -> bool:
        """Return whether `results` would return any."""
        return bool(self._results)

    def give_up(self, attempt: Attempt, error: BaseException) -> None:
        """End an attempt with this error, and cancel its handler."""
        if attempt.report(self._deliver, error=error):
            attempt.given_up = True
            if attempt.cancel is not None:
                attempt.cancel()

    def idle(self) -> None:
        """Do nothing: no watchdog runs."""

    def close(self) -> None:
        """Cancel open handlers."""
        for task in list(self._open):
            task.cancel()

    def _deliver(self, result: Result) -> None:
        self._results.append(result)
        self._wake()

    async def _attend(self, attempt: Attempt) -> None:
        if attempt.withdrawn:
            attempt.report(self._deliver, error=Withdrawn())
            return
        loop = asyncio.get_running_loop()
        attempt.started_s = loop.time()
        attempt.suspended = True
        working = loop.create_task(self._called(attempt))
        attempt.cancel = working.cancel
        try:
            done, _ = await asyncio.wait((working,), timeout=attempt.timeout_s)
            is_overdue = not done
            if is_overdue:
                working.cancel()
                done, _ = await asyncio.wait((working,), timeout=GRACE_S)
        except asyncio.CancelledError:
            working.cancel()
            raise
        if not done or (is_overdue and working.cancelled()):
            attempt.time_out(self._deliver)
            return
        try:
            value = working.result()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - any error of a handler ends its attempt
            attempt.report(self._deliver, error=error)
        else:
            attempt.report(self._deliver, value)

    async def _called(self, attempt: Attempt) -> Any:
        if self._meddler is None:
            return await _handled(attempt)
        return await self._meddler.call(attempt, lambda: _handled(attempt))


async def _handled(attempt: Attempt) -> Any:
    """Call the user's handler; wait as long as it slept."""
    slept = Slept()
    token = SLEPT.set(slept)
    error: Exception | None = None
    value: Any = None
    try:
        value = attempt.spec.handler(*attempt.given, attempt.context)
    except Exception as raised:  # noqa: BLE001 - raised again once its time has passed
        error = raised
    finally:
        with suppress(ValueError):
            SLEPT.reset(token)
    if slept.seconds:
        await asyncio.sleep(slept.seconds)
    if error is not None:
        raise error
    return await value if inspect.isawaitable(value) else value
