"""The conductor of one seed: starts the processes, lets each action of a plan happen, then ends all faults and waits.

An action that meets nothing, such as a cancel of a run that has ended, does not count as fired.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, TypeAlias

from choreo.app.publish.publisher import Receipt
from choreo.app.tracking.views import detail_of
from choreo.core.errors import ChoreoError, ConflictError, NotFoundError
from choreo.core.events import Record
from choreo.core.state import FAILED, PAUSED, STUCK
from choreo.hosts.runners.port import Attempt
from choreo.ports.read_model import Filter, InstanceView
from choreo.testing.simulation import meddling
from choreo.testing.simulation.calls import Calls
from choreo.testing.simulation.hooks import Hooks
from choreo.testing.simulation.meddling import HandlerFaults
from choreo.testing.simulation.plan import OUTSIDE, Action, Plan
from choreo.testing.simulation.runners import Meddler
from choreo.testing.simulation.sampling import sampled
from choreo.testing.simulation.world import CLIENT, IDLE_S, Process, World

SLACK_S: float = 3_600.0
"""Beyond the declared times: lag, sessions, and the skew of clocks."""
RESTART_S: float = 1.0
ROUNDS_MAX: int = 4
"""Rounds in which operators retry failed compensations."""
_EXPECTED = (ConflictError, NotFoundError)
"""Answers that an operator may get: the run has ended, or is not known yet."""

_LEASES_END = ("zombie", "redis-away", "lost-answer", "slow-network", "inbox-emptied")
"""Faults after which another process may begin an attempt that still runs."""

Act: TypeAlias = "Callable[[Conductor, Action], Awaitable[None] | None]"
"""Performs an action."""


class Conductor:
    """One seed's run on its world."""

    def __init__(self, world: World, plan: Plan, hooks: Hooks, kinds: Sequence[str], acts: Mapping[str, Act]) -> None:
        """Start nothing yet. `kinds`: the faults that are enabled; `acts` perform the actions."""
        self.world: World = world
        self.plan: Plan = plan
        self.fired: Counter[str] = Counter()
        """Faults that have met something, by kind."""
        self.acknowledged: list[Receipt] = []
        """Starts whose publishing was acknowledged."""
        self._hooks = hooks
        self._kinds = kinds
        self._acts = acts
        self.calls: Calls = Calls(world.is_alive, world.cluster.has_outcome, self._loses_leases)
        """Checks each call of a handler."""
        self._handlers = HandlerFaults(plan.actions, self.note, self._failure, self.calls, self._join)
        world.meddler = self._meddler

    async def conduct(self) -> None:
        """Let the plan happen, then wait until every bound has passed."""
        self._start_all()
        acting = [asyncio.ensure_future(self._at(action)) for action in self.plan.actions]
        await asyncio.sleep(self.plan.last_ms / 1_000 + RESTART_S)
        await self._end_faults()
        await asyncio.sleep(self._bound_s())
        for task in acting:
            if task.done():
                task.result()
            task.cancel()
        self._handlers.is_over = True
        if "redrive" in self._kinds:
            await self.redrive_all("redrive")
            await asyncio.sleep(self._bound_s())
        if "compensation-retry" in self._kinds:
            await self._retry_compensations()

    @property
    def met(self) -> set[tuple[str, bool]]:
        """Return the handlers that a fault has met: step, and whether it was its compensation."""
        return self._handlers.met

    @property
    def is_settled(self) -> bool:
        """Return whether every bound has passed, so that no fault meets a handler any more."""
        return self._handlers.is_over

    def _loses_leases(self) -> bool:
        """Return whether a lease on an attempt may have ended while its process works: it was not renewed, or lost."""
        return any(self.fired[kind] for kind in _LEASES_END)

    def _join(self, role: str) -> None:
        """Start another process of a role."""
        self.note("rebalance", self.started(role).name, "another process of the role joins")

    def _start_all(self) -> None:
        self.world.start_all()
        for process in self.world.alive:
            self._watch(process)

    def _watch(self, process: Process) -> None:
        def met(kind: str) -> None:
            self.note("zombie-published" if kind == "zombie" else kind.replace(" ", "-"), process.name, kind)

        process.network.fired = met

    def _meddler(self, process: Process) -> Meddler:
        return self._handlers.of(process.name, lambda: self.die(process, RESTART_S))

    async def _at(self, action: Action) -> None:
        if action.kind == OUTSIDE:
            await self._outside(action)
            return
        await asyncio.sleep(action.at_ms / 1_000)
        if action.kind in meddling.KINDS or action.kind == "compensation-retry":
            return
        act = self._acts[action.kind](self, action)
        if act is not None:
            await act

    def note(self, kind: str, process: str, text: str, key: str = "") -> None:
        """Count a fault that has met something."""
        self.fired[kind] += 1
        self.world.cluster.note(process, f"FAULT {text}", key)

    # Starts and outside events

    def made(self, flow: str, type_: str, key: str) -> Any:
        """Return an event of this type, by the hook of its class or by its fields' types."""
        event_class = self.world.project.flows[flow].event_classes[type_]
        chance = self.chance(f"{self.plan.seed} {flow} {type_} {key}")
        maker = self._hooks.maker(event_class)
        if maker is not None:
            return maker(chance, key)
        return sampled(event_class, chance, {self.world.project.definitions[flow].key: key})

    def chance(self, of: str) -> Random:
        """Return the chance of one event."""
        return Random(of)  # noqa: S311 - chosen by the seed

    async def _outside(self, action: Action) -> None:
        """Publish an outside event, some time after its wait was opened."""
        key, answer, opener, *kind = action.target.split(" ")
        await self.first(action.flow, key, opener)
        await asyncio.sleep(action.at_ms / 1_000)
        await self.publish(action.flow, answer, key)
        if kind:
            self.note(kind[0], CLIENT, f"{answer} comes late", key)

    async def publish(self, flow: str, type_: str, key: str) -> None:
        """Publish an event from outside through the client, which may refuse it."""
        try:
            event = self.made(flow, type_, key)
            await self.world.client.app.publisher.publish(flow, event, allow_early=True)
        except _EXPECTED as refused:
            self.world.cluster.note(CLIENT, f"{type_} was refused: {refused}", key)

    def _failure(self, attempt: Attempt, action: Action) -> Any:
        """Return an event of a declared failure."""
        for name, flow in self.world.project.definitions.items():
            for step in flow.steps:
                if step.name == attempt.spec.step:
                    return self.made(name, step.fails[action.at_ms % len(step.fails)], attempt.job.event.key)
        raise AssertionError(attempt.spec.step)

    # Parts that acts use

    def processes(self, role: str) -> Iterator[Process]:
        """Yield the living processes of a role; of every one with ""."""
        yield from (process for process in self.world.alive if not role or role in process.roles)

    def die(self, process: Process, restart_s: float) -> None:
        """Kill a process, and start another one of its roles later."""
        if not process.is_over:
            self.world.kill(process)
            self.world.later(restart_s, self.restart, process)

    def restart(self, process: Process) -> None:
        """Start another process of the same role."""
        self.started(process.roles[0])

    def started(self, role: str) -> Process:
        """Return a process of this role that starts now."""
        process = self.world.start(role, (role,))
        self._watch(process)
        return process

    def records(self, flow: str, key: str) -> list[Record]:
        """Return the records of a key; of every one with ""."""
        partitions = self.world.cluster.topics.of(flow)
        return [record for records in partitions for record in records if not key or record.event.key == key]

    async def first(self, flow: str, key: str, type_: str) -> Record:
        """Return the first event of this type about a key, once it stands in the log."""
        while True:
            found = next((record for record in self.records(flow, key) if record.event.type == type_), None)
            if found is not None:
                return found
            await self.world.cluster.groups.listen(flow, frozenset({type_}))

    async def accepted(self, call: Awaitable[Receipt]) -> bool:
        """Return whether an operator's call was accepted; note the refusal."""
        try:
            await call
        except ChoreoError as refused:
            self.world.cluster.note(CLIENT, f"an operator's call was refused: {refused}")
            return False
        return True

    async def redrive_all(self, kind: str) -> None:
        """Redrive each dead letter that was not redriven yet."""
        for letter in await self.world.cluster.dead_letters.list():
            if not letter.redriven and await self.accepted(self.world.client.app.operator.redrive(letter.id)):
                self.note(kind, CLIENT, f"redrive of {letter.id}", letter.record.event.key)

    async def _retry_compensations(self) -> None:
        operator = self.world.client.app.operator
        for _ in range(ROUNDS_MAX):
            failed = [
                (row, effect.entry)
                for row in await self.rows()
                if row.status == STUCK
                for effect in detail_of(row).ledger
                if effect.state == FAILED
            ]
            for row, entry in failed:
                if await self.accepted(operator.retry_compensation(row.flow, row.key, entry, run=row.run)):
                    self.note("compensation-retry", CLIENT, "retry of a compensation", row.key)
            if not failed:
                return
            await asyncio.sleep(self._bound_s())

    # The end

    async def rows(self) -> list[InstanceView]:
        """Return every run that the read model shows."""
        rows: list[InstanceView] = []
        for flow in self.world.project.flows:
            rows += (await self.world.client.app.queries.instances(Filter(flow=flow), 500)).items
        return rows

    async def _end_faults(self) -> None:
        """Let every server answer, every clock be right, every handler behave, and every paused run go on."""
        for process in self.world.processes:
            network = process.network
            network.away.clear()
            network.lose.clear()
            network.tear, network.slow_s = 0, 0.0
            process.backend.own_clock.skew_ms = 0
            process.lane.at_turn = network.at_way = None
        self.world.cluster.topics.skews_ms.clear()
        self.world.cluster.note(CLIENT, "all faults are over")
        self.world.cluster.groups.wake()
        await asyncio.sleep(2 * IDLE_S)  # an idle projector looks only then whether its read model was emptied
        for _ in range(ROUNDS_MAX):
            await asyncio.sleep(SLACK_S)
            for row in await self.rows():
                if row.status == PAUSED:
                    await self.accepted(self.world.client.app.operator.resume(row.flow, row.key, run=row.run))

    def _bound_s(self) -> float:
        """Return the time of promise 3: within it every run has ended."""
        total_ms = 0
        for flow in self.world.project.definitions.values():
            undos = sum(step.compensation.deadline_ms for step in flow.steps if step.compensation)
            steps = max((step.deadline_ms for step in flow.steps), default=0)
            whole = flow.deadline_ms or sum(w.timeout_ms for w in flow.waits) + sum(s.deadline_ms for s in flow.steps)
            total_ms += whole + steps + undos
        return total_ms / 1_000 + SLACK_S
