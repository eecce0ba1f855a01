"""Convert a scenario's event ("PaymentCharged") into the event that a service or an operator would have written.

Fills in from the log so far the fields that the test leaves out: ids, the run, the step, its trigger, the ledger entry.
A field that the test sets is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from choreo.core import facts, ids
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.identity import identified
from choreo.core.state import FAILED, REQUESTED, KeyState, LedgerEntry, Run

_OUTCOMES = frozenset({facts.STEP_COMPLETED, facts.STEP_FAILED, facts.STEP_SKIPPED, facts.TRIGGER_IGNORED})
_ATTEMPTS = frozenset({facts.STEP_ATTEMPT_FAILED, facts.STEP_HELD})
_COMPENSATION_ANSWERS = {facts.NOTHING_TO_COMPENSATE: "nothing", facts.COMPENSATION_FAILED: "undo-failed"}
_OF_FAILED = frozenset({facts.COMPENSATION_RETRY_REQUESTED, facts.COMPENSATION_RESOLVED})
_OF_PAUSE = frozenset({facts.FLOW_PAUSED, facts.FLOW_RESUMED})


_OF_CHILDREN = frozenset({facts.CHILDREN_PLANNED, facts.CHILD_ENDED})


class EventSpec(msgspec.Struct, frozen=True):
    """An event by its type, with the header fields that matter to the test."""

    type: str
    fields: dict[str, Any] = {}
    values: Mapping[str, Any] | None = None
    """The event's own fields, where a condition of the flow reads them."""
    foreign: bool = False
    """From a producer that knows nothing of choreo: nothing is filled in."""


class EventFactory:
    """Makes envelopes for one key of one flow."""

    def __init__(self, table: FlowTable, key: str) -> None:
        self.table = table
        self.key = key

    def envelope(self, spec: EventSpec, log: Sequence[Record], state: KeyState) -> Envelope:
        """Return the event as it would stand in the log next; its step and trigger are those of its run's version."""
        of = None if spec.foreign or spec.type == self.table.flow.starts else self._run(spec, state)
        if of is not None and of.version in self.table.versions:
            return EventFactory(self.table.versions[of.version], self.key).envelope(spec, log, state)
        if spec.foreign:
            filled: dict[str, Any] = {"id": "", "source": "elsewhere"}
        else:
            filled = {"id": ids.derive("told", self.key, len(log))}
            if spec.type == self.table.flow.starts:
                filled["id"] = ids.start(self.table.flow.name, self.key)
            else:
                run = self._run(spec, state)
                filled["run"] = run.id if run else ""
                if run is not None:
                    filled |= self._of_run(spec, log, run)
                    filled |= _of_children(spec, run, filled) if spec.type in _OF_CHILDREN else {}
        return Envelope(type=spec.type, key=self.key, flow=self.table.flow.name, **(filled | spec.fields))

    def _run(self, spec: EventSpec, state: KeyState) -> Run | None:
        if "run" in spec.fields:
            return state.run(spec.fields["run"])
        still_open = (run for run in state.runs if not run.ended)
        return next(still_open, state.runs[-1] if state.runs else None)

    def _of_run(self, spec: EventSpec, log: Sequence[Record], run: Run) -> dict[str, Any]:
        type_, table = spec.type, self.table
        step = spec.fields.get("step") or next(self._makers(type_), "")
        if type_ in _OF_PAUSE:
            return {"id": ids.of_run("pause", run.id, run.pause_n + 1), "n": run.pause_n + 1}
        if type_ in table.compensations or type_ in _COMPENSATION_ANSWERS:
            return self._of_compensation(type_, step, run)
        if type_ in _OF_FAILED:
            failed = _entry(run, step, FAILED)
            return {"entry": failed.id, "round": failed.round} if failed else {}
        if type_ in _ATTEMPTS:
            paused = {"n": run.pause_n} if type_ == facts.STEP_HELD else {}
            return paused | self._of_attempt(step, log, run)
        if type_ in _OUTCOMES or step:
            return self._of_outcome(spec, step, log, run)
        return {}

    def _makers(self, type_: str) -> Iterator[str]:
        for made in (self.table.successes, self.table.failures, self.table.compensations):
            yield from made.get(type_, ())

    def _of_outcome(self, spec: EventSpec, step: str, log: Sequence[Record], run: Run) -> dict[str, Any]:
        trigger = self._trigger(step, log, run)
        cause = spec.fields.get("causation") or (trigger.id if trigger else "")
        hops = trigger.hops + 1 if trigger else 0
        # As a host publishes them after a first attempt that ended so: a declared failure, or a skip before it.
        certain = spec.type in self.table.failures or spec.type == facts.STEP_SKIPPED
        return {"id": ids.outcome(cause, step), "step": step, "causation": cause, "hops": hops, "certain": certain}

    def _of_attempt(self, step: str, log: Sequence[Record], run: Run) -> dict[str, Any]:
        entry = _entry(run, step, REQUESTED)
        if entry is not None and not any(expected.step == step for expected in run.expected):
            return {"entry": entry.id, "round": entry.round, "trigger": entry.trigger, "attempt": entry.attempt + 1}
        trigger = self._trigger(step, log, run)
        expected = run.expects(step, trigger.id) if trigger else None
        attempt = expected.attempt + 1 if expected else 1
        return {"trigger": trigger.id if trigger else "", "attempt": attempt}

    def _of_compensation(self, type_: str, step: str, run: Run) -> dict[str, Any]:
        entry = _entry(run, step, REQUESTED)
        if entry is None:
            return {"step": step}
        kind = _COMPENSATION_ANSWERS.get(type_)
        answer = ids.of_round(kind, entry.id, entry.round) if kind else ids.undo(entry.id)
        request = ids.of_round("undo-request", entry.id, entry.round)
        return {"id": answer, "step": entry.step, "entry": entry.id, "round": entry.round, "causation": request}

    def _trigger(self, step: str, log: Sequence[Record], run: Run) -> Envelope | None:
        """Return the latest event of the run that triggers the step, if there is one for which it is expected."""
        definition = self.table.steps.get(step)
        triggers = definition.triggers if definition else ()
        awaited = {expected.trigger for expected in run.expected if expected.step == step}
        events = map(identified, reversed(log))
        of_run = [event for event in events if (event.run or event.id) == run.id or not event.run]
        found = [event for event in of_run if event.type in triggers]
        return next((event for event in found if event.id in awaited), found[0] if found else None)


def _of_children(spec: EventSpec, run: Run, filled: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a fact about children: their trigger, and of an end the id."""
    if spec.type == facts.CHILDREN_PLANNED:
        return {"trigger": filled["causation"]}
    known = (children.trigger for children in reversed(run.children) if children.step == spec.fields["step"])
    trigger = next(known, "")
    id_ = ids.derive("child-ended", trigger, spec.fields["n"], spec.fields["data"])
    return {"id": id_, "trigger": trigger}


def _entry(run: Run, step: str, state: str) -> LedgerEntry | None:
    """Return the step's newest entry in this state, else its newest of all; without a step, any in this state."""
    of_step = [entry for entry in run.ledger if entry.step == step or (not step and entry.state == state)]
    return next((entry for entry in reversed(of_step) if entry.state == state), of_step[-1] if of_step else None)
