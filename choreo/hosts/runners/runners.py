"""Runners in threads: async handlers share one event loop, plain ones have threads for each step.

Attempts come in batches through one wake-up, and their results leave in batches. A handler that returns without waiting
costs no task of its own: one task calls handler after handler and becomes the task of the first that waits.
When a handler blocks the loop, another loop takes over, and its step has threads from then on.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import copy_context
from functools import partial
from itertools import count
from threading import Lock, Thread
from types import coroutine
from typing import Any, TypeVar

from choreo.app.log_context import ATTEMPT
from choreo.app.steps.jobs import Withdrawn
from choreo.core.errors import examinable
from choreo.hosts.runners.port import Attempt, Result
from choreo.hosts.runners.threads import StepThreads
from choreo.hosts.runners.watchdog import Watchdog, blocking_attempt

THREADS_MAX = 32
"""Threads of a step, where concurrency allows as many: more only wait for the interpreter's lock."""
JOIN_S = 1.0
GRACE_S = 1.0
"""How long a handler may clean up after its timeout cancelled it, before the attempt is given up all the same."""
CLOCK_S = 0.001
"""A timer may fire this much early by the loop's own rounding."""

_T = TypeVar("_T")


class ThreadedRunners:
    """The runners of one host, see `choreo.hosts.runners.port.Runners`."""

    def __init__(self, name: str, concurrency: int, wake: Callable[[], None]) -> None:
        """Run at most `concurrency` handlers of a step at once. `wake` is called when results are in, in any thread."""
        self._name = name
        self._concurrency = concurrency
        self._wake = wake
        self._results: deque[Result] = deque()
        self._numbers = count(1)
        self._lock = Lock()
        self._loop: HandlerLoop | None = None
        self._abandoned: list[HandlerLoop] = []
        self._threads: dict[str, StepThreads] = {}
        self._blocking: set[str] = set()
        self._watchdog = Watchdog(name, self._look)

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Call these handlers as soon as there is room."""
        on_loop: list[Attempt] = []
        in_threads: dict[str, list[Attempt]] = {}
        with self._lock:
            for attempt in attempts:
                if attempt.spec.is_async and attempt.spec.step not in self._blocking:
                    on_loop.append(attempt)
                else:
                    in_threads.setdefault(attempt.spec.step, []).append(attempt)
            if on_loop:
                self._loop = self._loop or self._new_loop()
                self._loop.start(on_loop)
            for step, its_attempts in in_threads.items():
                self._threads_of(step).start(its_attempts)
        self._watchdog.watch()

    def results(self) -> list[Result]:
        """Return the results since the last call."""
        return drained(self._results)

    @property
    def has_results(self) -> bool:
        """Return whether `results` would return any."""
        return bool(self._results)

    def give_up(self, attempt: Attempt, error: BaseException) -> None:
        """End an attempt with this error; the watchdog replaces its thread."""
        if attempt.report(lambda result: self._deliver([result]), error=error):
            attempt.given_up = True
            if attempt.cancel is not None:
                attempt.cancel()

    def idle(self) -> None:
        """Let the watchdog rest until the next `start`."""
        self._watchdog.rest()

    def close(self) -> None:
        """Cancel waiting handlers and end idle threads; a handler that blocks keeps its thread."""
        self._watchdog.close()
        with self._lock:
            loops = [*self._abandoned, *([self._loop] if self._loop else [])]
            for threads in self._threads.values():
                threads.close()
        for loop in loops:
            loop.close()
        if self._loop is not None and self._loop.current is None:
            self._loop.join(JOIN_S)

    def _deliver(self, results: list[Result]) -> None:
        self._results.extend(results)
        self._wake()

    def _new_loop(self) -> HandlerLoop:
        return HandlerLoop(f"choreo-{self._name}-handlers-{next(self._numbers)}", self._concurrency, self._deliver)

    def _threads_of(self, step: str) -> StepThreads:
        if step not in self._threads:
            self._threads[step] = StepThreads(step, min(self._concurrency, THREADS_MAX), self._deliver)
        return self._threads[step]

    # Below: methods that the watchdog's thread calls.

    def _look(self, now_s: float, fair: bool) -> None:  # noqa: FBT001 - the watchdog's answer
        with self._lock:
            if self._watchdog.closed:
                return
            if fair:
                self._replace_blocked_loop(now_s)
            for threads in self._threads.values():
                threads.watch(now_s)
            self._abandoned = [loop for loop in self._abandoned if not self._is_over(loop, now_s)]

    def _replace_blocked_loop(self, now_s: float) -> None:
        loop = self._loop
        blocking = blocking_attempt(loop.current, now_s) if loop is not None else None
        if loop is None or blocking is None:
            return
        step = blocking.spec.step
        self._blocking.add(step)
        left = loop.abandon()
        self._abandoned.append(loop)
        self._loop = self._new_loop()
        self._loop.start([attempt for attempt in left if attempt.spec.step != step])
        self._threads_of(step).start([attempt for attempt in left if attempt.spec.step == step])

    def _is_over(self, loop: HandlerLoop, now_s: float) -> bool:
        """Deliver the results of an abandoned loop, give up overdue attempts there; return whether none is left."""
        delivered = loop.collect()
        current = loop.current
        attempts = set(loop.open)
        if current is not None:
            attempts.add(current[0])
        for attempt in attempts:
            if attempt.started_s + attempt.timeout_s <= now_s:
                attempt.time_out(delivered.append)
        if delivered:
            self._deliver(delivered)
        if any(not attempt.reported for attempt in attempts):
            return False
        loop.close()
        return True


class HandlerLoop:
    """Run attempts until `close`. Other threads call the public methods; the private ones run in its own thread."""

    def __init__(self, name: str, waiting_max: int, deliver: Callable[[list[Result]], None]) -> None:
        """Let at most `waiting_max` handlers wait at once; call `deliver` in this loop's thread."""
        self._waiting_max = waiting_max
        self._deliver = deliver
        self._queue: deque[Attempt] = deque()
        self._results: deque[Result] = deque()
        self._loop = asyncio.new_event_loop()
        self._pump_due = False
        self.open: set[Attempt] = set()
        """Attempts whose handler waits for something."""
        self.current: tuple[Attempt, float] | None = None
        """The attempt that runs on the loop just now, and since when (monotonic)."""
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Call their handlers as soon as there is room."""
        self._queue.extend(attempts)
        self._loop.call_soon_threadsafe(self._pump_soon)

    def abandon(self) -> list[Attempt]:
        """Start nothing more; return the attempts that were not started. Open ones go on."""
        return drained(self._queue)

    def collect(self) -> list[Result]:
        """Return the results that were not delivered yet; also while a handler holds the loop."""
        return drained(self._results)

    def close(self) -> None:
        """Cancel open handlers and end the thread, unless a handler holds it."""
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
        """Pump when the newest task has ended or waits: never before it has run."""
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Deliver the results, and let a new task go on if the last one waits."""
        self._pump_due = False
        if self._results:
            self._deliver(self.collect())
        if self._queue and len(self.open) < self._waiting_max:
            self._worker = self._loop.create_task(self._work())  # once it waits, its timer holds it
            self._pump_soon()

    async def _work(self) -> None:
        """Make one attempt after the other, until one has awaited something."""
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
            value = await self._drive(attempt, attempt.spec.handler(*attempt.given, attempt.context))
        except BaseException as raised:  # noqa: BLE001 - any error of a handler ends its attempt
            error = examinable(raised)
            if isinstance(error, asyncio.CancelledError) and self._overdue(attempt):
                attempt.time_out(report)
            else:
                attempt.report(report, error=error)
        else:
            attempt.report(report, value)

    @coroutine
    def _drive(self, attempt: Attempt, handler: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Step through the handler in a context of its own; `current` tells when its code holds the loop."""
        context, move, value = copy_context(), handler.send, None
        timer: asyncio.TimerHandle | None = None
        context.run(ATTEMPT.set, attempt.context)
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
                    attempt.cancel = partial(self._loop.call_soon_threadsafe, self._end, attempt, task)
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

    def _end(self, attempt: Attempt, task: asyncio.Task[Any] | None) -> None:
        """Cancel the handler of an attempt that the host has given up."""
        if task is not None and attempt in self.open:
            task.cancel()
            self._loop.call_later(GRACE_S, self._give_up, attempt)

    def _give_up(self, attempt: Attempt) -> None:
        """Give up an attempt after its handler ignored the cancellation."""
        if attempt.time_out(self._results.append) or attempt.given_up:
            self.open.discard(attempt)
            self._pump_soon()


def drained(queue: deque[_T]) -> list[_T]:
    """Take everything from a queue that another thread may be emptying too."""
    items = []
    try:
        while queue:
            items.append(queue.popleft())
    except IndexError:  # the other thread was faster
        return items
    return items
