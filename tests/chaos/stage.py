"""What a run stands on: processes that are started again, orders that come, and waiting for facts, never for time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Any

import pytest

from services.demo import Demo
from tests.chaos.diary import Diary
from tests.chaos.groups import lags
from tests.chaos.outside import Outside
from tests.chaos.plan import Plan
from tests.chaos.witness import PROJECTOR, Witness
from tests.chaos.world import REST, SLOTS, World, role_of
from tests.support.fleet import SERVICES, TRACKER, Worker

PATIENCE_S = 300.0
"""The longest wait for anything that takes part: many times what it takes, also where others want the processors."""
LOOK_S = 0.05
SPARE = 10
"""So many times the plan's orders can be placed, where a victim has nothing to do for long."""
AT_REST = 40
"""About as many runs of each lot only wait for a pick that never comes."""
_UNWRITTEN = "states were not written"
"""What the last words of a tracker are about that ended because it could lose a state."""


class Stage:
    """One run. `hits` counts what hit; a fault that hit nothing is not counted, and the plan is not fulfilled."""

    def __init__(self, world: World, plan: Plan, witness: Witness, outside: Outside, diary: Diary) -> None:
        """Nothing has happened yet."""
        self.hits: Counter[str] = Counter()
        self._world = world
        self._plan = plan
        self._witness = witness
        self._outside = outside
        self._diary = diary
        self.placed = 0
        """How many orders customers have posted, or are about to."""
        self._orders = iter(Demo().orders(SPARE * plan.orders))
        self._lasting: list[asyncio.Task[None]] = []
        self._placing: list[asyncio.Task[None]] = []

    async def until(self, condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        """Wait for a fact; a process that ends by itself, or nothing happening, is a failure."""
        never = asyncio.Event()
        give_up_s = time.monotonic() + patience_s
        while not await asyncio.to_thread(condition):
            self._supervise()
            for task in (*self._lasting, *self._placing):
                if task.done():
                    task.result()
            if time.monotonic() > give_up_s:
                lag = await asyncio.to_thread(self._lags)
                pytest.fail(f"waited {patience_s:.0f} s in vain: {what}; lag {lag}, {self._open()} runs are open")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(never.wait(), LOOK_S)

    async def begin(self, *lasting: Coroutine[Any, Any, None]) -> None:
        """Start everybody, and what goes on all the time; returns when every process is at work."""
        for slot in SLOTS:
            self._world.start(slot)
        self._lasting += [asyncio.create_task(task) for task in lasting]
        await self.until(lambda: all(map(self._at_work, SLOTS)), "every process has its partitions")
        self._diary.note(f"{len(SLOTS)} processes are at work")

    async def settle(self, bound_s: float) -> float:
        """After the last fault: until all that stands in the log by then is worked. Returns the seconds it took."""
        began_s = time.monotonic()
        ends = await asyncio.to_thread(self._world.groups.ends)
        groups = self._world.groups
        await self.until(lambda: not any(groups.lag(name, ends) for name in groups.names), "the lag is gone", bound_s)
        took_s = time.monotonic() - began_s
        self._diary.note(f"all that stood in the log at the last fault is worked, {took_s:.1f} s after it")
        return took_s

    async def finish(self, bound_s: float) -> float:
        """The rest of the orders; until all runs have ended and no group lags. Then all but the REST view leave.

        Returns how many seconds after the last end the lag was gone.
        """
        self._place(max(0, self._plan.orders - self.placed))
        await self.until(lambda: all(task.done() for task in self._placing), "every order is acknowledged")
        await self.until(lambda: not self._witness.open_runs, "every run has ended")
        began_s = time.monotonic()
        self._diary.note("every run has ended")
        await self.until(lambda: not self._lags(), "the lag is 0", bound_s)
        took_s = time.monotonic() - began_s
        self._diary.note("the lag of every group is 0")
        await asyncio.to_thread(self._witness.look)
        refused = await asyncio.to_thread(self._world.fleet.stop, (*SERVICES, TRACKER, PROJECTOR))
        assert refused == [], "\n".join(refused)
        self._diary.note("every process was asked to stop, and left in order")
        return took_s

    async def end(self) -> None:
        """Nothing goes on any more."""
        for task in (*self._lasting, *self._placing):
            task.cancel()
        await asyncio.gather(*self._lasting, *self._placing, return_exceptions=True)

    def _supervise(self) -> None:
        """A tracker that could not write a state ends, as it must, and is started again; nobody else may end."""
        for slot, worker in list(self._world.workers.items()):
            if worker.process.poll() is None:
                continue
            if worker.role != TRACKER or _UNWRITTEN not in worker.last_words:
                pytest.fail("\n".join(self._world.fleet.died()))
            self._world.fleet.workers.remove(worker)
            self._world.start(slot)
            self.hits["trackers that ended because a state could not be written"] += 1
            self._diary.note(f"{slot} ended, for a state could not be written; it is started again")

    def _place(self, number: int) -> None:
        """Let customers post so many more orders meanwhile."""
        lot = list(islice(self._orders, number))
        self.placed += len(lot)
        if lot:
            self._placing.append(asyncio.create_task(self._outside.place(lot)))

    def _open(self) -> int:
        return len(self._witness.open_runs)

    def _idle(self) -> bool:
        """Whether hardly anything happens: only what waits for a pick that never comes."""
        return self._open() < AT_REST and not self._outside.waiting

    def _at_work(self, slot: str) -> bool:
        """Whether it has partitions; the REST view, whether it answers."""
        worker = self._world.workers[slot]
        if role_of(slot) == REST:
            return b"running rest" in worker.output.read_bytes()
        return bool(self._witness.owned(worker))

    def _owned(self, worker: Worker) -> frozenset[int]:
        return frozenset() if worker.role == REST else self._witness.owned(worker)

    def _lags(self) -> dict[str, int]:
        return lags(self._world.groups, self._world.groups.names)
