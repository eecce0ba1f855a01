"""Objects that the parts of the model share: one key's log, the clock, chance, and the actions still under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from choreo.core.definition import FlowDefinition
from choreo.core.durations import human
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from tests.core.model.gateway import Gateway

KEY = "o-1"
BEGIN_MS = 1_767_225_600_000


class CrashedError(Exception):
    """The process that was working is no more."""


class World:
    """A log of one partition in which one key's events stand. Nothing here knows the rules under test."""

    def __init__(self, flow: FlowDefinition, seed: int) -> None:
        self.table = FlowTable(flow)
        self.chance = Random(seed)
        self.gateway = Gateway()
        self.log: list[Record] = []
        self.now_ms = BEGIN_MS
        self.faults = True
        self.late: list[Callable[[], object]] = []
        """Late actions of a slow network or a forgotten process: a call that lands, an event written once more."""
        self.happened: dict[str, int] = {}
        """How often each kind of fault fired: a test of faults in which none did has failed."""

    def likely(self, probability: float, fault: str = "") -> bool:
        """Return whether it happens this time; a fault never does once the faults have stopped."""
        if fault and not self.faults:
            return False
        fires = self.chance.random() < probability
        if fires and fault:
            self.happened[fault] = self.happened.get(fault, 0) + 1
        return fires

    def crash_point(self, probability: float, where: str) -> None:
        """Mark a point at which the process may die; raise CrashedError where it does."""
        if self.likely(probability, f"crash: {where}"):
            raise CrashedError

    def append(self, event: Envelope) -> Record:
        """Write one event with the log's own stamp."""
        record = Record(self.table.flow.name, 0, len(self.log), self.now_ms, event)
        self.log.append(record)
        return record

    def publish(self, events: Iterable[Envelope]) -> None:
        """Write events; a producer that missed the acknowledgement writes them once more, much later."""
        for event in events:
            self.append(event)
            if self.likely(0.05, "event written twice"):
                self.late.append(lambda event=event: self.append(event))  # type: ignore[misc]

    def log_text(self) -> str:
        """Return the log, for people."""
        return "\n".join(
            f"{r.offset:4} +{human(r.stamp_ms - BEGIN_MS):<14} {r.event.type:<28} {r.event.step:<15} "
            f"run={r.event.run[:4]} id={r.event.id[:4]} cause={r.event.causation[:4]} round={r.event.round} "
            f"n={r.event.n} out={r.event.outcome} certain={r.event.certain} {r.event.reason}"
            for r in self.log
        )
