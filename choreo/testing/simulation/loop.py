"""An event loop in virtual time that owns the order of every callback.

Each callback belongs to a lane: a simulated process. Within a lane callbacks run first in, first out; which lane runs
next is a choice. When nothing is ready, time jumps to the next timer. There are no threads and no sockets. A lane may
be frozen, or killed: then its callbacks never run again, nor do `finally` blocks of its tasks.
"""

from __future__ import annotations

import asyncio
import heapq
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from functools import partial
from itertools import count
from threading import get_ident
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from choreo.testing.simulation.errors import SimulationError
from choreo.testing.simulation.lanes import LANE, Lane, Turn
from choreo.testing.simulation.unowned import Unowned

_T = TypeVar("_T")

START_S: float = 1.0
"""Time of the loop at first. Not 0: hosts take 0 for "not yet"."""


_SWEEP = 1_024
"""Tasks between two looks for those that are done and need not be kept."""
_ROUNDS, _TURNS_OF_A_BURIAL = 3, 20_000
"""A task that ignores its cancellation gets another one; turns enough for some thousand tasks to end."""


@contextmanager
def _current(loop: Any, finalize: Callable[[AsyncGenerator[Any, Any]], None]) -> Iterator[None]:
    """Let this loop be the running one, also inside of a task of another loop, which stands still meanwhile."""
    outer = asyncio._get_running_loop()  # noqa: SLF001 - the public one raises where there is none
    task = asyncio.current_task(outer) if outer is not None else None
    if outer is not None and task is not None:
        asyncio._leave_task(outer, task)  # noqa: SLF001 - as "Extending asyncio" says
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=None, finalizer=finalize)
    asyncio._set_running_loop(loop)  # noqa: SLF001 - as above
    try:
        yield
    finally:
        sys.set_asyncgen_hooks(*hooks)
        asyncio._set_running_loop(outer)  # noqa: SLF001 - as above
        if outer is not None and task is not None:
            asyncio._enter_task(outer, task)  # noqa: SLF001 - as above


class SimulationLoop(Unowned):
    """An `asyncio` event loop; `choose(n)` returns the index of the lane that runs next, among `n`."""

    def __init__(self, choose: Callable[[int], int] | None = None) -> None:
        """Without `choose` the lane that has been ready for longest runs next."""
        super().__init__()
        self.main: Lane = Lane("main")
        """The lane of all that belongs to no process."""
        self._choose = choose
        self._now_s = START_S
        self._busy: list[Lane] = []
        self._timers: list[tuple[float, int, Turn]] = []
        self._numbers = count()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._thread = 0
        self._closed = False
        self._stopping = False
        self._kept: list[asyncio.Task[Any]] = []
        self._lanes: WeakKeyDictionary[asyncio.Task[Any], Lane] = WeakKeyDictionary()
        self.turns: int = 0
        """Callbacks that have run."""
        self.turns_max: int = sys.maxsize
        """More callbacks are taken for a repetition without end."""
        self.unhandled: list[dict[str, Any]] = []
        """Contexts of errors that no task has taken."""

    # Time and callbacks

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now_s

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Turn:
        """Let the callback run at the end of its lane."""
        context = context if context is not None else copy_context()
        turn = Turn(self._now_s, callback, args, context.get(LANE) or self.main, context)
        self._enqueue(turn)
        return turn

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Turn:
        """Let the callback run, from this thread. Raises SimulationError in another one."""
        if self._thread and get_ident() != self._thread:
            raise self.refuse("a thread that called into the event loop")
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Turn:
        """Let the callback run after this many seconds."""
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Turn:
        """Let the callback run at this time."""
        context = context if context is not None else copy_context()
        turn = Turn(when, callback, args, context.get(LANE) or self.main, context)
        heapq.heappush(self._timers, (when, next(self._numbers), turn))
        return turn

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Return a task of this loop, which is kept: a killed process has nobody that collects it."""
        task = asyncio.Task(coro, loop=self, **options)
        context = options.get("context")
        lane = LANE.get(None) if context is None else context.get(LANE)
        if lane is not None:
            self._lanes[task] = lane
            self._kept.append(task)
            if len(self._kept) % _SWEEP == 0:
                self._kept = [one for one in self._kept if not one.done()]
        return task

    # Lanes

    def freeze(self, lane: Lane) -> None:
        """Run nothing of this lane until `thaw`."""
        lane.frozen = True

    def thaw(self, lane: Lane) -> None:
        """Let a frozen lane go on."""
        lane.frozen = False
        self._admit(lane)

    def kill(self, lane: Lane) -> None:
        """Never run anything of this lane again, not even the `finally` blocks of its tasks."""
        lane.killed = True
        lane.at_turn = None

    def bury(self) -> None:
        """Cancel every task that is left, of killed lanes too, and let it end; call it once nobody looks any more."""
        for _ in range(_ROUNDS):
            left = [one for one in self._kept if not one.done()]
            if not left:
                break
            for task in left:
                self._lanes[task].killed = self._lanes[task].frozen = False
                self._admit(self._lanes[task])
                task.cancel()
            self._run(partial(self._is_buried, left, self.turns + _TURNS_OF_A_BURIAL))
        self._kept.clear()
        self.close()

    def _is_buried(self, tasks: list[asyncio.Task[Any]], turns_max: int) -> bool:
        return self.turns >= turns_max or all(task.done() for task in tasks)

    def idle(self) -> asyncio.Future[None]:
        """Return a future that is done when nothing else is ready, before time moves."""
        waiter = self.create_future()
        self._idle.append(waiter)
        return waiter

    def _enqueue(self, turn: Turn) -> None:
        lane = turn.lane
        lane.ready.append(turn)  # of a killed lane for `bury`: a task whose wake-up is lost could never be cancelled
        self._admit(lane)

    def _admit(self, lane: Lane) -> None:
        if not lane.waiting and not lane.frozen and not lane.killed and lane.ready:
            lane.waiting = True
            self._busy.append(lane)

    # Running

    def run_until_complete(self, future: Awaitable[_T]) -> _T:
        """Run until the future is done; return its result. Raises SimulationError where nothing can make it done."""
        awaited: asyncio.Future[_T] = asyncio.ensure_future(future, loop=self)
        self._run(awaited.done)
        if not awaited.done():
            awaited.cancel()
            raise SimulationError(
                "nothing is left to happen, and the awaited call is not over",
                where=f"virtual time {self._now_s - START_S:.3f} s",
                remedy="A future that nobody completes is awaited: look at the handlers and gateways.",
            )
        return awaited.result()

    def run_forever(self) -> None:
        """Run until `stop`, or until nothing is left to happen."""
        self._stopping = False
        self._run(lambda: self._stopping)

    def stop(self) -> None:
        """Let `run_forever` return."""
        self._stopping = True

    def is_running(self) -> bool:
        """Return whether it runs now."""
        return bool(self._thread)

    def is_closed(self) -> bool:
        """Return whether it was closed."""
        return self._closed

    def close(self) -> None:
        """Run nothing any more, and forget every callback."""
        self._closed = True
        self._timers.clear()
        self._busy.clear()
        self._idle.clear()

    def _run(self, is_over: Callable[[], bool]) -> None:
        if self._closed or self._thread:
            raise SimulationError("the simulation's loop is closed, or runs already", remedy="Use one loop a run.")
        self._thread = get_ident()
        try:
            with _current(self, self._finalize):
                while not is_over() and self._step():
                    if self.turns > self.turns_max:
                        raise _restless(self)
        finally:
            self._thread = 0

    def _step(self) -> bool:
        """Run one callback; return whether there was anything to do."""
        while not self._busy:
            if not (self._wake_idle() or self._advance()):
                return False
        choose, busy = self._choose, self._busy
        index = choose(len(busy)) if choose is not None and len(busy) > 1 else 0
        lane = busy[index]
        if lane.frozen or lane.killed or not lane.ready:
            lane.waiting = False
            del busy[index]
        elif lane.at_turn is not None and lane.turns >= lane.at_turn[0]:
            act, lane.at_turn = lane.at_turn[1], None
            act()
        else:
            turn = lane.ready.popleft()
            if not lane.ready:
                lane.waiting = False
                del busy[index]
            elif choose is None:
                busy.append(busy.pop(0))
            if not turn.dropped:
                self._perform(turn)
        return True

    def _perform(self, turn: Turn) -> None:
        turn.lane.turns += 1
        self.turns += 1
        try:
            turn.within.run(turn.callback, *turn.values)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as asyncio does: a callback's error is nobody else's
            self.call_exception_handler({"message": "a callback failed", "exception": error})

    def _wake_idle(self) -> bool:
        """Complete the first future of `idle`; return whether there was one."""
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return True
        return False

    def _advance(self) -> bool:
        """Move time to the next timer, and make all timers of that time ready; return whether there was one."""
        timers = self._timers
        while timers and (timers[0][2].dropped or timers[0][2].lane.killed):
            heapq.heappop(timers)
        if not timers:
            return False
        self._now_s = max(self._now_s, timers[0][0])
        while timers and timers[0][0] <= self._now_s:
            turn = heapq.heappop(timers)[2]
            if not turn.dropped:
                self._enqueue(turn)
        return True

    def _finalize(self, generator: AsyncGenerator[Any, Any]) -> None:
        if not self._closed and not (LANE.get(None) or self.main).killed:
            self.create_task(generator.aclose())

    # Errors

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep an error that no task has taken."""
        if not self._closed:
            self.unhandled.append(context)

    default_exception_handler = call_exception_handler


def _restless(loop: SimulationLoop) -> SimulationError:
    loop.turns_max = sys.maxsize  # so that it can be buried
    return SimulationError(
        f"it does not come to rest: {loop.turns:,} callbacks",
        where=f"virtual time {loop.time() - START_S:.3f} s",
        remedy="Something is repeated without end, or without a wait: look at the end of the timeline.",
    )


def spawn(loop: SimulationLoop, lane: Lane, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Return a task of this lane."""
    context = Context()
    context.run(LANE.set, lane)
    return loop.create_task(work, context=context)
