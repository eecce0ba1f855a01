"""An event loop in a thread of its own, on which async handlers run, many at once.

Attempts come in batches through one wake-up and their results leave in batches. A handler that returns without waiting
costs no task of its own: one task calls handler after handler and becomes the task of the first that waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import copy_context
from threading import Thread
from types import coroutine
from typing import Any, TypeVar

from choreo.app.steps import Withdrawn
from choreo.hosts.attempts import Attempt, Result

GRACE_S = 1.0
"""How long a handler may clean up after its timeout cancelled it, before the attempt is given up all the same."""

CLOCK_S = 0.001
"""A timer may fire this much early by the loop's own rounding."""

_T = TypeVar("_T")


def drained(queue: deque[_T]) -> list[_T]:
    """Everything in a queue that another thread may be emptying too."""
    items = []
    try:
        while queue:
            items.append(queue.popleft())
    except IndexError:  # the other was faster
        return items
    return items


class HandlerLoop:
    """Runs attempts until `close`. All methods are called from other threads; what starts with `_` runs in its own."""

    def __init__(self, name: str, waiting_max: int, deliver: Callable[[list[Result]], None]) -> None:
        """At most `waiting_max` handlers wait for something at once; `deliver` is called in this loop's thread."""
        self._waiting_max = waiting_max
        self._deliver = deliver
        self._queue: deque[Attempt] = deque()
        self._results: deque[Result] = deque()
        self._loop = asyncio.new_event_loop()
        self._pump_due = False
        self.open: set[Attempt] = set()
        """Attempts whose handler waits for something."""
        self.current: tuple[Attempt, float] | None = None
        """Whose code holds the loop, and since when (monotonic)."""
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Call their handlers as soon as there is room."""
        self._queue.extend(attempts)
        self._loop.call_soon_threadsafe(self._pump_soon)

    def abandon(self) -> list[Attempt]:
        """Start nothing more; returns what has not been started. What is open goes on."""
        return drained(self._queue)

    def collect(self) -> list[Result]:
        """What has come in and was not delivered yet; also while somebody holds the loop."""
        return drained(self._results)

    def close(self) -> None:
        """Cancel what is open and end the thread, if nobody holds it."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def join(self, timeout_s: float) -> None:
        """Wait until the thread has ended."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=GRACE_S))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _pump_soon(self) -> None:
        """Pump when the task that was made last has ended, or waits: never before it has run."""
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Deliver what is there, and let a new task go on where the last one waits."""
        self._pump_due = False
        if self._results:
            self._deliver(self.collect())
        if self._queue and len(self.open) < self._waiting_max:
            self._worker = self._loop.create_task(self._work())  # once it waits, its timer holds it
            self._pump_soon()

    async def _work(self) -> None:
        """Attempt after attempt, until one has waited for something."""
        while self._queue:
            try:
                attempt = self._queue.popleft()
            except IndexError:  # abandoned a moment ago
                return
            await self._attend(attempt)
            if attempt.suspended:
                self.open.discard(attempt)
                self._pump_soon()
                return

    async def _attend(self, attempt: Attempt) -> None:
        report = self._results.append
        if attempt.withdrawn:
            attempt.report(report, error=Withdrawn())
            return
        attempt.started_s = time.monotonic()
        try:
            value = await self._drive(attempt, attempt.duty.handler(attempt.given, attempt.context))
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is the end of its attempt
            if isinstance(error, asyncio.CancelledError) and self._overdue(attempt):
                attempt.time_out(report)
            else:
                attempt.report(report, error=error)
        else:
            attempt.report(report, value)

    @coroutine
    def _drive(self, attempt: Attempt, handler: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Step through the handler in a context of its own, saying whenever its code holds the loop."""
        context, move, value = copy_context(), handler.send, None
        timer: asyncio.TimerHandle | None = None
        try:
            while True:
                self.current = (attempt, time.monotonic())
                try:
                    awaited = context.run(move, value)
                except StopIteration as stop:
                    return stop.value
                finally:
                    self.current = None
                if timer is None:
                    attempt.suspended = True
                    self.open.add(attempt)
                    task = asyncio.current_task()
                    timer = self._loop.call_later(self._left_s(attempt), self._expire, attempt, task)
                try:
                    value = yield awaited
                    move = handler.send
                except BaseException as error:  # noqa: BLE001 - it is the handler's to catch
                    move, value = handler.throw, error
        finally:
            if timer is not None:
                timer.cancel()

    def _left_s(self, attempt: Attempt) -> float:
        return attempt.started_s + attempt.timeout_s - time.monotonic()

    def _overdue(self, attempt: Attempt) -> bool:
        return self._left_s(attempt) <= CLOCK_S

    def _expire(self, attempt: Attempt, task: asyncio.Task[Any] | None) -> None:
        if task is not None and not attempt.reported:
            task.cancel()
            self._loop.call_later(GRACE_S, self._give_up, attempt)

    def _give_up(self, attempt: Attempt) -> None:
        """It did not let itself be cancelled: it no longer counts, whatever it does."""
        if attempt.time_out(self._results.append):
            self.open.discard(attempt)
            self._pump_soon()
