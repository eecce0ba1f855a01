"""The points of an attempt behind its handler: the outcome is published, the offset of its trigger committed.

Hooks of a process's network. A fault strikes in place of the request's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from choreo.core.events import Envelope
from choreo.testing.fault_matrix.strikes import GARBAGE, STANDSTILL_S, Strike
from choreo.testing.fault_matrix.table import BEFORE, COMMITTED, PUBLISHED
from choreo.testing.simulation.loop import spawn
from choreo.testing.simulation.network import BROKER
from choreo.testing.simulation.world import Process

POISON_KEY = "poison"


def watch(strike: Strike, process: Process) -> None:
    """Let the strike see the requests of a process."""
    if strike.cell.fault == "poison" and strike.cell.point == BEFORE:
        process.network.sending = _poisoning(strike, process)
    if process.roles == (strike.service,) and strike.cell.point in (PUBLISHED, COMMITTED):
        watcher = _Requests(strike, process)
        process.network.published = watcher.published
        process.network.committed = watcher.committed


class _Requests:
    def __init__(self, strike: Strike, process: Process) -> None:
        self._strike = strike
        self._process = process

    async def published(self, topic: str, events: Sequence[Envelope]) -> None:
        """Meet a publish request that holds the outcome."""
        strike = self._strike
        if topic != strike.flow:
            return
        types = strike.outcome_types(strike.conductor.world.project.definitions[topic])
        for event in events:
            if event.key == strike.key and event.step == strike.cell.step and event.type in types:
                strike.outcome = event.id
                if strike.cell.point == PUBLISHED and await strike.strikes(self._process):
                    await self._struck(topic)
                return

    async def committed(self, topic: str, done: Mapping[int, int]) -> None:
        """Meet a commit of the offset behind the trigger."""
        strike, source = self._strike, self._strike.source
        if strike.cell.point != COMMITTED or not strike.outcome or source is None or topic != source.topic:
            return
        if done.get(source.partition, 0) > source.offset and await strike.strikes(self._process):
            await self._struck(topic)

    async def _struck(self, topic: str) -> None:
        strike, process = self._strike, self._process
        match strike.cell.fault:
            case "error" | "compensation-failure":
                raise process.network.failure(BROKER, "did not answer in time")
            case "timeout":
                await strike.stand_still(process, STANDSTILL_S, replaced=True)
            case "kill":
                await strike.die(process)
            case "poison":
                self._append_garbage(topic)
            case "duplicate":
                if strike.cell.point == COMMITTED:
                    strike.again(strike.trigger)
                strike.again(*(r for r in strike.conductor.records(topic, strike.key) if r.event.id == strike.outcome))
            case "double-gateway":
                loop = strike.conductor.world.loop
                spawn(loop, loop.main, strike.repeat())

    def _append_garbage(self, topic: str) -> None:
        strike = self._strike
        type_ = next(r.event.type for r in strike.conductor.records(topic, strike.key) if r.event.id == strike.outcome)
        codec = strike.conductor.world.project.codec
        event = Envelope(
            "poison-1", type_, POISON_KEY, topic, source="elsewhere", data=GARBAGE, content_type=codec.content_type
        )
        strike.conductor.world.cluster.topics.append(topic, [event])


def _poisoning(strike: Strike, process: Process) -> Callable[[str, Sequence[Envelope]], Sequence[Envelope]]:
    """Return the function that makes the first trigger of the step unreadable as it is published."""

    def sending(topic: str, events: Sequence[Envelope]) -> Sequence[Envelope]:
        flow = strike.conductor.world.project.definitions.get(topic)
        step = next((each for each in flow.steps if each.name == strike.cell.step), None) if flow else None
        if step is None:
            return events
        return [strike.poisoned(process, event) if event.type in step.triggers else event for event in events]

    return sending
