"""Where handlers run: off the host's loop, so that none of them costs a heartbeat or another key's time.

Async handlers share one loop in a thread; plain ones have threads for each step. A watch sees an async handler that
holds the loop: another loop takes over, and the step has its own threads from then on.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from threading import Event, Lock, Thread

from choreo.hosts.attempts import Attempt, Result
from choreo.hosts.runners_loop import HandlerLoop, drained
from choreo.hosts.runners_pool import StepThreads

_log = logging.getLogger(__name__)

BLOCKED_S = 0.2
"""A handler that holds the loop this long delays all others; a pause of the garbage collector is a tenth of it."""
WATCH_S = 0.05
"""How often it is looked: a timeout is noticed this much late at most."""
THREADS_MAX = 32
"""Threads of a step, where concurrency allows as many: more only wait for the interpreter's lock."""
JOIN_S = 1.0


class Runners:
    """The runners of one host. Attempts go in by `start`, their results come out of `results`."""

    def __init__(self, name: str, concurrency: int, wake: Callable[[], None]) -> None:
        """At most `concurrency` handlers of a step run at once. `wake` is called when results are in, in any thread."""
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
        self._active = Event()
        self._closed = False
        self._watch: Thread | None = None

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Have these handlers called."""
        on_loop: list[Attempt] = []
        in_threads: dict[str, list[Attempt]] = {}
        with self._lock:
            for attempt in attempts:
                if attempt.duty.is_async and attempt.duty.step not in self._blocking:
                    on_loop.append(attempt)
                else:
                    in_threads.setdefault(attempt.duty.step, []).append(attempt)
            if on_loop:
                self._loop = self._loop or self._new_loop()
                self._loop.start(on_loop)
            for step, its_attempts in in_threads.items():
                self._threads_of(step).start(its_attempts)
        self._active.set()
        if self._watch is None:
            self._watch = Thread(target=self._watch_over, name=f"choreo-{self._name}-watch", daemon=True)
            self._watch.start()

    def results(self) -> list[Result]:
        """What has come in since the last call."""
        return drained(self._results)

    @property
    def has_results(self) -> bool:
        """Whether `results` would return something."""
        return bool(self._results)

    def idle(self) -> None:
        """Nothing is in a runner's hands: there is nothing to watch until the next `start`."""
        self._active.clear()

    def close(self) -> None:
        """Cancel what waits, end what is idle; what holds its thread is left to itself."""
        with self._lock:
            self._closed = True
            loops = [*self._abandoned, *([self._loop] if self._loop else [])]
            for threads in self._threads.values():
                threads.close()
        self._active.set()
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

    def _watch_over(self) -> None:
        looked_s = time.monotonic()
        while not self._closed:
            self._active.wait()
            time.sleep(WATCH_S)
            now_s = time.monotonic()
            # A machine that stood still has stopped everybody: what then looks blocked is not.
            fair = now_s - looked_s < BLOCKED_S
            looked_s = now_s
            with self._lock:
                if not self._closed:
                    self._look(now_s, fair=fair)

    def _look(self, now_s: float, *, fair: bool) -> None:
        if fair:
            self._replace_blocked_loop(now_s)
        for threads in self._threads.values():
            threads.watch(now_s)
        self._abandoned = [loop for loop in self._abandoned if not self._forsaken(loop, now_s)]

    def _replace_blocked_loop(self, now_s: float) -> None:
        loop = self._loop
        current = loop.current if loop is not None else None
        if loop is None or current is None or now_s - current[1] < BLOCKED_S:
            return
        step = current[0].duty.step
        _log.warning(
            "step %s blocks the loop of all async handlers; its handler runs in threads of its own from now on. "
            "Make it a plain def, or await what it waits for",
            step,
        )
        self._blocking.add(step)
        left = loop.abandon()
        self._abandoned.append(loop)
        self._loop = self._new_loop()
        self._loop.start([attempt for attempt in left if attempt.duty.step != step])
        self._threads_of(step).start([attempt for attempt in left if attempt.duty.step == step])

    def _forsaken(self, loop: HandlerLoop, now_s: float) -> bool:
        """Deliver what an abandoned loop has, give up what is overdue there; True when nothing is left."""
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
