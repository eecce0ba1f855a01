"""The ground of a run: processes that are started again, orders that come, and waiting for facts, never for time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Any

import pytest

from services.demo import Demo
from tests.chaos.environment import Environment
from tests.chaos.groups import lags
from tests.chaos.observer import PROJECTOR, Observer
from tests.chaos.plan import Plan
from tests.chaos.run_log import RunLog
from tests.chaos.trips import Trips
from tests.chaos.world import REST, SLOTS, World, role_of
from tests.support.fleet import SERVICES, TRACKER, Worker

PATIENCE_S = 300.0
"""The longest wait for anything that takes part: many times its duration, also where others want the processors."""
LOOK_S = 0.05
SPARE = 10
"""So many times the plan's orders can be placed, where a victim has nothing to do for long."""
TRIP_EVERY = 10
"""One trip is asked for beside so many orders."""
AT_REST = 40
"""About as many runs of each lot only wait for a pick that never comes."""
SHOWN = 5
"""Open runs that the report of a wait in vain shows."""
_UNWRITTEN = "states were not written"
"""Part of the last log line of a tracker that ended because it could lose a state."""


class ChaosHarness:
    """One run. `hits` counts hits; a fault that hit nothing is not counted, and the plan is not fulfilled."""

    def __init__(
        self,
        world: World,
        plan: Plan,
        observer: Observer,
        environment: Environment,
        run_log: RunLog,
        trips: Trips | None = None,
    ) -> None:
        """Start with no process."""
        self._trips = trips
        self.hits: Counter[str] = Counter()
        self._world = world
        self._plan = plan
        self._observer = observer
        self._environment = environment
        self._run_log = run_log
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
                shown = "\n".join([await self._shown(run) for run in sorted(self._observer.open_runs)[:SHOWN]])
                pytest.fail(f"waited {patience_s:.0f} s in vain: {what}; lag {lag}, {self._open()} runs open:\n{shown}")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(never.wait(), LOOK_S)

    async def begin(self, *lasting: Coroutine[Any, Any, None]) -> None:
        """Start every process and every permanent task; returns when every process is at work."""
        for slot in SLOTS:
            self._world.start(slot)
        self._lasting += [asyncio.create_task(task) for task in lasting]
        await self.until(lambda: all(map(self._at_work, SLOTS)), "every process has its partitions")
        self._run_log.note(f"{len(SLOTS)} processes are at work")

    async def settle(self, bound_s: float) -> float:
        """Wait after the last fault until all records of the log are handled; return the seconds it took."""
        began_s = time.monotonic()
        ends = await asyncio.to_thread(self._world.groups.ends)
        groups = self._world.groups
        await self.until(lambda: not any(groups.lag(name, ends) for name in groups.names), "the lag is gone", bound_s)
        took_s = time.monotonic() - began_s
        self._run_log.note(f"all that stood in the log at the last fault is worked, {took_s:.1f} s after it")
        return took_s

    async def finish(self, bound_s: float) -> float:
        """Place the other orders; wait until all runs have ended and no group lags. Then stop all but the REST view.

        Returns how many seconds after the last end the lag was gone.
        """
        self._place(max(0, self._plan.orders - self.placed))
        await self.until(lambda: all(task.done() for task in self._placing), "every order is acknowledged")
        await self.until(lambda: not self._observer.open_runs, "every run has ended")
        await self.until(lambda: self._trips is None or self._trips.have_ended(), "every trip has ended")
        began_s = time.monotonic()
        self._run_log.note("every run has ended")
        await self.until(lambda: not self._lags(), "the lag is 0", bound_s)
        took_s = time.monotonic() - began_s
        self._run_log.note("the lag of every group is 0")
        await asyncio.to_thread(self._observer.look)
        refused = await asyncio.to_thread(self._world.fleet.stop, (*SERVICES, TRACKER, PROJECTOR))
        assert refused == [], "\n".join(refused)
        self._run_log.note("every process was asked to stop, and left in order")
        return took_s

    async def end(self) -> None:
        """Cancel all tasks."""
        for task in (*self._lasting, *self._placing):
            task.cancel()
        await asyncio.gather(*self._lasting, *self._placing, return_exceptions=True)

    def _supervise(self) -> None:
        """Restart a tracker that could not write a state and ended, as it must; no other process may end."""
        for slot, worker in list(self._world.workers.items()):
            if worker.process.poll() is None:
                continue
            if worker.role != TRACKER or _UNWRITTEN not in worker.last_words:
                pytest.fail("\n".join(self._world.fleet.died()))
            self._world.fleet.workers.remove(worker)
            self._world.start(slot)
            self.hits["trackers that ended because a state could not be written"] += 1
            self._run_log.note(f"{slot} ended, for a state could not be written; it is started again")

    def _place(self, number: int) -> None:
        """Let customers post so many more orders meanwhile."""
        lot = list(islice(self._orders, number))
        self.placed += len(lot)
        if self._trips is not None:
            self._trips.place(-(-len(lot) // TRIP_EVERY))
        if lot:
            self._placing.append(asyncio.create_task(self._environment.place(lot)))

    async def _shown(self, run: str) -> str:
        """Return a run as the log and the REST view have it, for the report of a wait in vain."""
        facts = self._observer.history(run)
        lines = [
            f"  {fact.partition}@{fact.offset} {fact.stamp_ms} {fact.type} {fact.step} {fact.reason}" for fact in facts
        ]
        return "\n".join(
            [f"run {run}", *lines, f"  {await self._environment.view(facts[0].key, run) if facts else ''}"]
        )

    def _open(self) -> int:
        return len(self._observer.open_runs)

    def _idle(self) -> bool:
        """Return whether hardly anything happens: only runs that wait for a pick that never comes."""
        return self._open() < AT_REST and not self._environment.waiting

    def _at_work(self, slot: str) -> bool:
        """Return whether it has partitions; the REST view, whether it answers."""
        worker = self._world.workers[slot]
        if role_of(slot) == REST:
            return b"running rest" in worker.output.read_bytes()
        return bool(self._observer.owned(worker))

    def _owned(self, worker: Worker) -> frozenset[int]:
        return frozenset() if worker.role == REST else self._observer.owned(worker)

    def _lags(self) -> dict[str, int]:
        return lags(self._world.groups, self._world.groups.names)
