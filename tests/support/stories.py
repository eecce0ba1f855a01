"""Random logs of one key, as a seed chooses them: the course of a flow, and everything that may come between.

A tracker folds the log as it grows, so that its decisions and timer facts stand there, too. Beside them: outcomes of
all kinds, late and repeated ones, foreign events without run or cause, operators, second starts, pauses, terminations,
redrives, unknown types, unreadable headers, early timer facts.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from msgspec.structs import replace

from choreo.core import facts, ids, timers
from choreo.core.definition import FlowDefinition
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.identity import identified
from choreo.core.react import react
from choreo.core.state import FAILED, REQUESTED, KeyState, Run

KEY = "o-1"
START_MS = 1_800_000_000_000
_FOREIGN = "elsewhere"


class Story:
    """One log that grows record by record."""

    def __init__(self, flow: FlowDefinition, seed: int) -> None:
        """Begin with the start of a run."""
        self.chance: Random = Random(seed)
        self.table: FlowTable = FlowTable(flow)
        self.state: KeyState = KeyState()
        self.log: list[Record] = []
        self._now_ms = START_MS
        self._numbers = 0
        self._triggers: list[tuple[str, str, str]] = []
        """(run, step, trigger) of everything that was expected."""
        self._acts: list[tuple[int, Callable[[], Envelope | None]]] = [
            (30, self._decision), (25, self._outcome), (12, self._answer), (6, self._timer), (2, self._early_timer),
            (5, self._outside), (3, self._foreign_outcome), (3, self._operator), (5, self._repeated),
            (2, self._late_outcome), (2, self._second_start), (1, self._strange), (1, self._unreadable),
            (1, self._redriven),
        ]  # fmt: skip
        self.append(self._start(ids.start(flow.name, KEY)))

    def tell(self, length: int) -> None:
        """Let so many things happen."""
        weights = [weight for weight, _ in self._acts]
        for _ in range(length):
            (act,) = self.chance.choices([act for _, act in self._acts], weights)
            event = act()
            if event is not None:
                self.append(event)

    def append(self, event: Envelope) -> Record:
        """Append an event, and fold it."""
        self._now_ms = max(self._now_ms, self.stamp_of(event))
        record = Record(self.table.flow.name, 0, len(self.log), self._now_ms, event)
        self.log.append(record)
        self.state, _ = react(self.table, self.state, record)
        for run in self.state.runs:
            self._triggers += [
                each for e in run.expected if (each := (run.id, e.step, e.trigger)) not in self._triggers
            ]
        self._now_ms += self.chance.choice((0, 1, 1_000, 60_000))
        return record

    def stamp_of(self, event: Envelope) -> int:
        """Return the time that an event has at least: a timer fact stands at its time, unless it is early."""
        return event.due_ms if event.due_ms and not event.reason.startswith("early") else 0

    # Each act returns an event, or None where there is none.

    def _run(self) -> Run | None:
        return self.chance.choice(self.state.runs) if self.state.runs else None

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _start(self, id_: str) -> Envelope:
        flow = self.table.flow
        return Envelope(id_, flow.starts, KEY, flow.name, run=id_, version=flow.version, source="choreo/publisher")

    def _decision(self) -> Envelope | None:
        waiting = [run for run in self.state.runs if run.outbox]
        return self.chance.choice(waiting).outbox[0] if waiting else None

    def _timer(self) -> Envelope | None:
        due = timers.due(self.table, KEY, self.state, START_MS * 2)
        return min(due, key=lambda fact: fact.due_ms) if due else None

    def _early_timer(self) -> Envelope | None:
        due = [f for f in timers.due(self.table, KEY, self.state, START_MS * 2) if f.due_ms > self._now_ms]
        return replace(self.chance.choice(due), reason="early") if due else None

    def _outcome(self) -> Envelope | None:
        run = self._run()
        if run is None or not run.expected:
            return None
        expected = self.chance.choice(run.expected)
        return self._of(run.id, expected.step, expected.trigger)

    def _late_outcome(self) -> Envelope | None:
        return self._of(*self.chance.choice(self._triggers)) if self._triggers else None

    def _of(self, run: str, name: str, trigger: str) -> Envelope | None:
        step = self.table.steps.get(name)
        if step is None:
            return None
        certain = self.chance.random() < 0.5
        success = step.emits or (facts.STEP_COMPLETED,)
        more = (*step.fails, facts.STEP_FAILED, facts.STEP_SKIPPED, facts.STEP_ATTEMPT_FAILED, facts.STEP_HELD)
        type_ = self.chance.choice(success) if self.chance.random() < 0.7 else self.chance.choice(more)
        attempt = 1 if type_ == facts.STEP_ATTEMPT_FAILED else 0
        of_run = self.state.run(run)
        n = of_run.pause_n if of_run and type_ == facts.STEP_HELD else 0
        if type_ == facts.STEP_HELD and not n:
            return None  # hosts hold a step for a pause alone
        return Envelope(
            ids.derive(type_, run, name, trigger, attempt, n), type_, KEY, self.table.flow.name, run=run, step=name,
            causation=trigger, trigger=trigger, attempt=attempt, source=f"choreo/{step.service}",
            certain=certain and type_ not in (*success, facts.STEP_ATTEMPT_FAILED),
            n=n,
        )  # fmt: skip

    def _answer(self) -> Envelope | None:
        asked = [(run, entry) for run in self.state.runs for entry in run.ledger if entry.state == REQUESTED]
        if not asked:
            return None
        run, entry = self.chance.choice(asked)
        step = self.table.steps.get(entry.step)
        undone = step.compensation.emits if step is not None and step.compensation else ()
        type_ = self.chance.choice((*undone, *undone, facts.NOTHING_TO_COMPENSATE, facts.COMPENSATION_FAILED))
        id_ = ids.derive("undone", entry.id) if type_ in undone else ids.of_round(type_, entry.id, entry.round)
        request = ids.of_round("undo-request", entry.id, entry.round)
        return Envelope(
            id_, type_, KEY, self.table.flow.name, run=run.id, step=entry.step, causation=request, entry=entry.id,
            round=entry.round, source="choreo/host", reason="it cannot be undone",
        )  # fmt: skip

    def _outside(self) -> Envelope | None:
        types = sorted(self.table.outside)
        return self._foreign(self.chance.choice(types)) if types else None

    def _foreign_outcome(self) -> Envelope | None:
        return self._foreign(self.chance.choice(sorted(self.table.successes)))

    def _foreign(self, type_: str) -> Envelope:
        """Return an event of a program that knows nothing of choreo: with an id of its own, or without any."""
        id_ = "" if self.chance.random() < 0.3 else f"{self._number()}"
        return Envelope(id_, type_, KEY, self.table.flow.name, source=_FOREIGN if id_ else "")

    def _second_start(self) -> Envelope | None:
        return self._start(ids.start(self.table.flow.name, KEY, f"again {self._number()}"))

    def _repeated(self) -> Envelope | None:
        """Return a record once more; one without an id is known by its first position, which a repeat writes."""
        record = self.chance.choice(self.log)
        return record.event if record.event.id else identified(record)

    def _strange(self) -> Envelope | None:
        run = self._run()
        named = run.id if run is not None and self.chance.random() < 0.5 else ""
        type_ = self.chance.choice(("Strange", "choreo.Strange"))
        return Envelope(f"strange {self._number()}", type_, KEY, self.table.flow.name, run=named)

    def _unreadable(self) -> Envelope | None:
        return Envelope("", facts.UNREADABLE, KEY, self.table.flow.name, reason="its headers cannot be read")

    def _redriven(self) -> Envelope | None:
        if not self._triggers:
            return None
        run, step, trigger = self.chance.choice(self._triggers)
        return self._fact(run, facts.REDRIVEN, f"redriven {self._number()}", step=step, trigger=trigger)

    def _operator(self) -> Envelope | None:
        run = self._run()
        if run is None:
            return None
        kind = self.chance.choice(("cancel", "pause", "pause", "resume", "resume", "terminate", "retry", "resolve"))
        if kind in ("retry", "resolve"):
            return self._operated(run, kind)
        n, event = run.pause_n + 1, None
        if kind == "cancel":
            event = self._fact(run.id, facts.CANCEL_REQUESTED, f"cancel {self._number()}")
        elif kind == "terminate" and self.chance.random() < 0.3:
            event = self._fact(run.id, facts.FLOW_TERMINATED, ids.of_run("terminated", run.id))
        elif kind in ("pause", "resume") and bool(run.paused_ms) == (kind == "resume"):
            type_ = facts.FLOW_RESUMED if run.paused_ms else facts.FLOW_PAUSED
            event = self._fact(run.id, type_, ids.of_run("pause", run.id, n), n=n)
        return event

    def _operated(self, run: Run, kind: str) -> Envelope | None:
        failed = [entry for entry in run.ledger if entry.state == FAILED]
        if not failed:
            return None
        type_ = facts.COMPENSATION_RETRY_REQUESTED if kind == "retry" else facts.COMPENSATION_RESOLVED
        entry = self.chance.choice(failed)
        id_ = ids.of_round(kind, entry.id, entry.round)
        return self._fact(run.id, type_, id_, entry=entry.id, step=entry.step, round=entry.round)

    def _fact(self, run: str, type_: str, id_: str, **fields: object) -> Envelope:
        return Envelope(id_, type_, KEY, self.table.flow.name, run=run, source="choreo/operator", **fields)  # type: ignore[arg-type]
