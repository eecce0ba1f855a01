"""Plays a plan: lets work come, then lets things go wrong, and makes sure of each that it hit."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from confluent_kafka import KafkaException

from tests.chaos.environment import Environment
from tests.chaos.foreign import Foreign
from tests.chaos.harness import ChaosHarness
from tests.chaos.observer import PROJECTOR, Caught, Observer
from tests.chaos.plan import BROKER, FORGET, JOIN, KILL, LEAVE, REDIS, TRIPS, WIPE, Fault, Plan
from tests.chaos.run_log import RunLog
from tests.chaos.trips import Trips
from tests.chaos.world import REST, SLOTS, World, role_of
from tests.support.fleet import SERVICES, TRACKER

RECORDS_BETWEEN = 200
"""An order leaves about nine records: between two faults some dozen orders go their way."""
UNDO_WAITS_S = 12.0
"""Nobody is killed while an undo has waited that long: it has 35 s, and a dead member's partitions wait 10 of them."""
IN_FLIGHT_S = 20.0
"""How long a victim is watched for work in flight, before another is chosen."""
MORE = 20
"""Orders placed where a victim has nothing to do."""
LOOK_AGAIN_S = 60.0
"""An inbox forgets its counts 252 s after a run's end: it is looked at well before, on a slow machine too."""
DUPLICATES = 10
"""Records published again after each fault."""


class FaultRunner(ChaosHarness):
    """Runs the plan's faults, one after the other."""

    def __init__(
        self,
        world: World,
        plan: Plan,
        observer: Observer,
        environment: Environment,
        foreign: Foreign,
        run_log: RunLog,
        trips: Trips | None = None,
    ) -> None:
        """Start with no fault."""
        super().__init__(world, plan, observer, environment, run_log, trips)
        self.forgot_ms = 0
        """When Redis was back without anything it knew; 0: it never was."""
        self._foreign = foreign
        self._looked_s = time.monotonic()
        self._chance = random.Random(plan.seed)
        self._plays = {
            KILL: self._kill,
            JOIN: self._join,
            LEAVE: self._leave,
            WIPE: self._wipe,
            BROKER: self._broker_away,
            REDIS: self._redis_away,
            FORGET: self._redis_forgets,
            TRIPS: self._kill_trips,
        }

    async def compare(self, number: int, fault: Fault) -> None:
        """Let some work be done, then let this go wrong."""
        self._place(self._plan.orders // len(self._plan.faults) // 2)
        goal = self._observer.records + self._chance.randint(20, RECORDS_BETWEEN)
        await self.until(lambda: self._observer.records >= goal or self._idle(), f"the log has {goal} records")
        await self.until(lambda: self._observer.undo_waits_s() < UNDO_WAITS_S, "what was to be undone is undone")
        await self._plays[fault.kind](fault)
        await self._foreign.duplicates(self._observer, DUPLICATES)
        if number == len(self._plan.faults) // 2:
            await self._foreign.poison()
        if time.monotonic() > self._looked_s + LOOK_AGAIN_S:
            self._looked_s = time.monotonic()
            await asyncio.to_thread(self._observer.look)

    async def _kill(self, fault: Fault) -> None:
        """Kill it while it is at something; where it is at nothing for long, take another."""
        slot = fault.slot
        for _ in SLOTS:
            give_up_s = time.monotonic() + IN_FLIGHT_S
            while time.monotonic() < give_up_s:
                if self._idle():
                    self._place(MORE)
                if (await asyncio.to_thread(self._in_flight, slot)).in_flight and await self._kill_at_work(slot):
                    self._world.start(slot)
                    return
                await asyncio.sleep(0)
            slot = self._chance.choice(SLOTS)
        pytest.fail(f"{fault.slot} was to be killed at work, and nobody had any")

    async def _kill_at_work(self, slot: str) -> bool:
        """Freeze it and look at its work: work takes milliseconds, and looking as many."""
        worker = self._world.workers[slot]
        self._world.fleet.freeze(worker)
        caught = await self._caught(slot)
        if caught.in_flight:
            await self._gone(slot, caught)
        else:
            self._world.fleet.thaw(worker)
        return caught.in_flight

    async def _kill_now(self, slot: str) -> None:
        """Kill the process of a slot in the middle of its work."""
        self._world.fleet.freeze(self._world.workers[slot])
        await self._gone(slot, await self._caught(slot))

    async def _caught(self, slot: str) -> Caught:
        """Return the work of a stopped process, once the observer has read the log to its end."""
        try:
            ends = await asyncio.to_thread(self._world.groups.ends)
        except (KafkaException, TimeoutError):
            pass  # while the broker is away there is nothing more to know
        else:
            await self.until(lambda: self._observer.has_read(ends), "the observer has read the log")
        return await asyncio.to_thread(self._in_flight, slot)

    async def _gone(self, slot: str, caught: Caught) -> None:
        self._world.fleet.kill(self._world.workers.pop(slot))
        await asyncio.to_thread(self._observer.killed, caught)
        self.hits[f"killed {role_of(slot)}"] += 1
        self.hits["kills that hit work in flight"] += caught.in_flight
        self.hits["attempts interrupted"] += len(caught.attempts)
        what = "requests" if role_of(slot) == REST else "records"
        said = f"{len(caught.attempts)} attempts under way, {caught.unread} {what}"
        self._run_log.note(f"kill -9 {slot}: {said}{'' if caught.in_flight else ' (no hit)'}")

    def _in_flight(self, slot: str) -> Caught:
        worker = self._world.workers[slot]
        if role_of(slot) == REST:
            return Caught(unread=self._environment.waiting)
        owned = self._owned(worker)
        return self._observer.caught(role_of(slot), owned) if owned else Caught()

    async def _join(self, fault: Fault) -> None:
        self._world.start(fault.slot)
        await self.until(lambda: self._at_work(fault.slot), f"{fault.slot} has partitions")
        self.hits["members joined"] += 1
        self._run_log.note(
            f"{fault.slot} joined and has partitions {sorted(self._owned(self._world.workers[fault.slot]))}"
        )

    async def _leave(self, fault: Fault) -> None:
        worker = self._world.workers.pop(fault.slot)
        refused = await asyncio.to_thread(self._world.fleet.stop_all, [worker])
        assert refused == [], refused
        self.hits["members left in order"] += 1
        self._run_log.note(f"{fault.slot} was asked to stop, and left")

    async def _wipe(self, fault: Fault) -> None:
        """Delete a tracker's disk with it."""
        await self._kill_now(fault.slot)
        folder = self._world.folder / "data" / fault.slot
        folder.rename(folder.with_name(f"{fault.slot} lost"))
        self._world.start(fault.slot)
        self.hits["trackers that lost their folder"] += 1
        self._run_log.note(f"the folder of {fault.slot} is gone")

    async def _kill_trips(self, fault: Fault) -> None:
        """Kill a process of the travel flow while trips are under way."""
        trips = self._trips
        assert trips is not None
        trips.place(2)
        await self.until(lambda: bool(trips.open_runs), "a trip is under way")
        self._run_log.note(f"kill -9 of a process of the travel flow, {len(trips.open_runs)} runs are open")
        trips.kill(int(fault.slot))
        self.hits["killed the travel flow"] += 1

    async def _broker_away(self, _: Fault) -> None:
        self._open_runs_note("the broker is stopped")
        await asyncio.to_thread(self._world.broker.stop)
        assert not await asyncio.to_thread(self._world.groups.answers), "the broker was stopped, and answers"
        await self._while_away([f"{self._chance.choice(SERVICES)}-1", f"{TRACKER}-2"])
        await asyncio.to_thread(self._world.broker.start)
        self._run_log.note("the broker is back")
        self.hits["stops of the broker"] += 1

    async def _redis_away(self, _: Fault) -> None:
        self._open_runs_note("Redis is stopped")
        await asyncio.to_thread(self._observer.look)
        await asyncio.to_thread(self._world.redis.stop)
        await self._while_away([f"{PROJECTOR}-1", f"{TRACKER}-1"])
        await asyncio.to_thread(self._world.redis.start)
        self._run_log.note("Redis is back")
        self.hits["stops of Redis"] += 1

    async def _redis_forgets(self, _: Fault) -> None:
        """Empty Redis: inboxes and views are lost. The rebuild command fills the views again."""
        self._open_runs_note("Redis loses all it knew")
        await asyncio.to_thread(self._world.redis.stop)
        self._world.redis.forget()
        await asyncio.to_thread(self._world.redis.start)
        self.forgot_ms = int(time.time() * 1_000)
        await asyncio.to_thread(self._world.run, "projections", "rebuild", "order")
        self.hits["losses of all that Redis knew"] += 1
        self._run_log.note("Redis is back, empty; the read model is rebuilt")

    async def _while_away(self, victims: list[str]) -> None:
        """Stop the server for its time; a process that dies meanwhile must start without it."""
        back_s = time.monotonic() + self._plan.away_s
        for number, slot in enumerate(victims, 1):
            kill_s = back_s - self._plan.away_s * (1 - number / (len(victims) + 1))
            await self.until(lambda kill_s=kill_s: time.monotonic() > kill_s, "its time")
            await self._kill_now(slot)
            self._world.start(slot)
        await self.until(lambda: time.monotonic() > back_s, "its time")

    def _open_runs_note(self, what: str) -> None:
        runs = len(self._observer.open_runs)
        assert runs, f"{what} while nothing runs: that proves nothing"
        self._run_log.note(f"{what}{f' for {self._plan.away_s:.0f} s' * (self._plan.away_s > 0)}, {runs} runs are open")
