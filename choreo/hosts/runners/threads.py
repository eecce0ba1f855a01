"""Threads of one step: a plain handler, or an async one that was found blocking, has a thread while it runs.

A handler that does not return within its timeout keeps its thread, but its result is no longer awaited: the thread is
written off and replaced, within a bound.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from threading import Condition, Thread
from typing import Any

from choreo.app.log_context import ATTEMPT
from choreo.app.steps.jobs import AttemptTimedOut, Withdrawn
from choreo.hosts.runners.port import Attempt, Result

_log = logging.getLogger(__name__)

GRACE_S = 0.25


class StepThreads:
    """Runs attempts in up to `threads_max` threads; as many more may be written off."""

    def __init__(self, step: str, threads_max: int, deliver: Callable[[list[Result]], None]) -> None:
        """Call `deliver` in the thread that has a result."""
        self.step: str = step
        self._threads_max = threads_max
        self._deliver = deliver
        self._queue: deque[Attempt] = deque()
        self._lock = Condition()
        """Guards everything here: an attempt leaves the queue in the same moment in which its thread is busy."""
        self._working: set[_Worker] = set()
        self._lost: set[_Worker] = set()
        self._idle = 0
        self._closed = False

    @property
    def lost(self) -> int:
        """Return the number of threads written off that have still not returned."""
        return len(self._lost)

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Call their handlers, each in a thread, as soon as one is free."""
        with self._lock:
            self._queue.extend(attempts)
            self._grow()
            self._lock.notify(len(attempts))

    def watch(self, now_s: float) -> None:
        """Give up attempts past their timeout (`now_s` is monotonic)."""
        with self._lock:
            for worker in [
                w for w in self._working if w.attempt is not None and (w.due_s <= now_s or w.attempt.given_up)
            ]:
                self._write_off(worker)

    def close(self) -> None:
        """End the threads that are idle or will be."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def next(self, worker: _Worker) -> Attempt | None:
        """Return the worker's next attempt; None: end. Called in its thread."""
        with self._lock:
            worker.attempt = None
            if worker in self._lost:
                self._lost.discard(worker)
                self._grow()
                return None
            self._idle += 1
            self._lock.wait_for(lambda: self._queue or self._closed)
            self._idle -= 1
            if not self._queue:
                self._working.discard(worker)
                return None
            attempt = self._queue.popleft()
            attempt.started_s = time.monotonic()
            # An async handler is cancelled at its timeout, and has a moment to let go of the thread.
            grace_s = GRACE_S if attempt.spec.is_async else 0
            worker.due_s = attempt.started_s + attempt.timeout_s + grace_s
            worker.attempt = attempt
        return attempt

    def report(self, attempt: Attempt, value: Any = None, error: BaseException | None = None) -> None:
        """Deliver the result of a worker's attempt. Called in its thread."""
        attempt.report(self._deliver_one, value, error)

    def _deliver_one(self, result: Result) -> None:
        self._deliver([result])

    def _grow(self) -> None:
        """Start as many threads as there is work for, within the bound."""
        wanted = len(self._queue) - self._idle
        while wanted > 0 and not self._closed and len(self._working) < self._room:
            worker = _Worker(self)
            self._working.add(worker)
            worker.start()
            wanted -= 1

    @property
    def _room(self) -> int:
        return min(self._threads_max, 2 * self._threads_max - len(self._lost))

    def _write_off(self, worker: _Worker) -> None:
        given_up: list[Result] = []
        attempt = worker.attempt
        if attempt is None or not (attempt.given_up or attempt.time_out(given_up.append)):
            return
        self._working.discard(worker)
        self._lost.add(worker)
        if self._room > 0:
            _log.warning(
                "step %s did not return within %.3g s, or reported nothing; its thread is replaced",
                self.step,
                attempt.timeout_s,
            )
        else:
            _log.error(
                "step %s: %d threads hang in its handler; the step starts no attempt until one returns. "
                "Give its external calls a timeout, and restart this service",
                self.step,
                len(self._lost),
            )
        self._grow()
        if given_up:
            self._deliver(given_up)


class _Worker(Thread):
    """A thread that calls one handler at a time."""

    def __init__(self, pool: StepThreads) -> None:
        super().__init__(name=f"choreo-{pool.step}", daemon=True)
        self._pool = pool
        self.attempt: Attempt | None = None
        self.due_s: float = 0.0

    def run(self) -> None:
        while (attempt := self._pool.next(self)) is not None:
            if attempt.withdrawn:
                self._pool.report(attempt, error=Withdrawn())
                continue
            try:
                value = _call(attempt)
            except BaseException as error:  # noqa: BLE001 - any error of a handler ends its attempt
                self._pool.report(attempt, error=error)
            else:
                self._pool.report(attempt, value)


def _call(attempt: Attempt) -> Any:
    spec = attempt.spec
    ATTEMPT.set(attempt.context)  # until the thread's next attempt
    value = spec.handler(*attempt.given, attempt.context)
    # A plain wrapper around an async handler is recognised only when it is called.
    return asyncio.run(_within_timeout(attempt, value)) if inspect.iscoroutine(value) else value


async def _within_timeout(attempt: Attempt, handler: Coroutine[Any, Any, Any]) -> Any:
    deadline = asyncio.timeout(attempt.timeout_s)
    try:
        async with deadline:
            return await handler
    except TimeoutError as error:
        if deadline.expired():
            raise AttemptTimedOut from error
        raise
