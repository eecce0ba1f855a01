"""Threads of one step: plain handlers, and async ones that were caught blocking, each in a thread while it runs.

A handler that does not return within its timeout keeps its thread, but nobody waits for it any more: the thread is
written off and replaced, within a bound.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from choreo.app.steps import AttemptTimedOut, Withdrawn
from choreo.hosts.attempts import Attempt, Result

_log = logging.getLogger(__name__)

GRACE_S = 0.25


class StepThreads:
    """Up to `threads_max` threads that work, and as many that are written off."""

    def __init__(self, step: str, threads_max: int, deliver: Callable[[list[Result]], None]) -> None:
        """`deliver` is called in the thread that has a result."""
        self._step = step
        self._threads_max = threads_max
        self._deliver = deliver
        self._queue: SimpleQueue[Attempt | None] = SimpleQueue()
        self._lock = Lock()
        self._working: set[_Worker] = set()
        self._lost: set[_Worker] = set()
        self._idle = 0
        self._closed = False

    @property
    def lost(self) -> int:
        """Threads written off whose handler has still not returned."""
        return len(self._lost)

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Call their handlers, each in a thread, as soon as one is free."""
        for attempt in attempts:
            self._queue.put(attempt)
        with self._lock:
            self._grow()

    def watch(self, now_s: float) -> None:
        """Give up attempts past their timeout (`now_s` is monotonic)."""
        with self._lock:
            for worker in [w for w in self._working if w.attempt is not None and w.due_s <= now_s]:
                self._write_off(worker)

    def close(self) -> None:
        """End the threads that are idle or will be."""
        with self._lock:
            self._closed = True
            for _ in self._working:
                self._queue.put(None)

    def next(self, worker: _Worker) -> Attempt | None:
        """The worker's next attempt; None: end. Called in its thread."""
        with self._lock:
            worker.attempt = None
            if worker in self._lost:
                self._lost.discard(worker)
                self._grow()
                return None
            self._idle += 1
        attempt = self._queue.get()
        with self._lock:
            self._idle -= 1
            if attempt is None:
                self._working.discard(worker)
            else:
                attempt.started_s = time.monotonic()
                # An async handler is cancelled at its timeout, and has a moment to let go of the thread.
                grace_s = GRACE_S if attempt.duty.is_async else 0
                worker.due_s = attempt.started_s + attempt.timeout_s + grace_s
                worker.attempt = attempt
        return attempt

    def report(self, attempt: Attempt, value: Any = None, error: BaseException | None = None) -> None:
        """A worker has finished an attempt. Called in its thread."""
        attempt.report(self._deliver_one, value, error)

    def _deliver_one(self, result: Result) -> None:
        self._deliver([result])

    def _grow(self) -> None:
        """As many threads as there is work for, within the bound."""
        wanted = self._queue.qsize() - self._idle
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
        if attempt is None or not attempt.time_out(given_up.append):
            return
        self._working.discard(worker)
        self._lost.add(worker)
        if self._room > 0:
            _log.warning("step %s did not return within %.3g s; its thread is replaced", self._step, attempt.timeout_s)
        else:
            _log.error(
                "step %s: %d threads hang in its handler; no more of its work is done until one returns. "
                "Give its outside calls a timeout, and restart this service",
                self._step,
                len(self._lost),
            )
        self._grow()
        self._deliver(given_up)


class _Worker(Thread):
    """A thread that calls one handler at a time."""

    def __init__(self, pool: StepThreads) -> None:
        super().__init__(name=f"choreo-{pool._step}", daemon=True)  # noqa: SLF001 - its own pool
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
            except BaseException as error:  # noqa: BLE001 - whatever a handler raises is the end of its attempt
                self._pool.report(attempt, error=error)
            else:
                self._pool.report(attempt, value)


def _call(attempt: Attempt) -> Any:
    duty = attempt.duty
    value = duty.handler(attempt.given, attempt.context)
    # Also of a plain wrapper around an async handler, which cannot be told before it is called.
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
