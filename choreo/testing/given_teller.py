"""Turns what a story tells ("PaymentCharged") into the event a service or an operator would have written.

Fills in from the log so far what the writer of a test does not care about: ids, the run, the step, its trigger, the
ledger entry. Whatever is given by hand is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from choreo.core import facts, ids
from choreo.core.definition import FlowTable
from choreo.core.events import Envelope, Record
from choreo.core.fold import identified
from choreo.core.state import FAILED, REQUESTED, Entry, KeyState, Run

_OUTCOMES = frozenset({facts.STEP_COMPLETED, facts.STEP_FAILED, facts.STEP_SKIPPED, facts.TRIGGER_IGNORED})
_ATTEMPTS = frozenset({facts.STEP_ATTEMPT_FAILED, facts.STEP_HELD})
_UNDO_ANSWERS = {facts.NOTHING_TO_UNDO: "nothing", facts.UNDO_FAILED: "undo-failed"}
_OF_FAILED = frozenset({facts.UNDO_RETRY_REQUESTED, facts.UNDO_RESOLVED})
_OF_PAUSE = frozenset({facts.FLOW_PAUSED, facts.FLOW_RESUMED})


class Told(msgspec.Struct, frozen=True):
    """An event by its type, with the header fields that matter to the test."""

    type: str
    fields: dict[str, Any] = {}
    foreign: bool = False
    """From a producer that knows nothing of choreo: nothing is filled in."""


class Teller:
    """Makes envelopes for one key of one flow."""

    def __init__(self, table: FlowTable, key: str) -> None:
        self.table = table
        self.key = key

    def envelope(self, told: Told, log: Sequence[Record], state: KeyState) -> Envelope:
        """The event as it would stand in the log next."""
        if told.foreign:
            filled: dict[str, Any] = {"id": "", "source": "elsewhere"}
        else:
            filled = {"id": ids.derive("told", self.key, len(log))}
            if told.type == self.table.flow.starts:
                filled["id"] = ids.start(self.table.flow.name, self.key)
            else:
                run = self._run(told, state)
                filled["run"] = run.id if run else ""
                if run is not None:
                    filled |= self._of_run(told, log, run)
        return Envelope(type=told.type, key=self.key, flow=self.table.flow.name, **(filled | told.fields))

    def _run(self, told: Told, state: KeyState) -> Run | None:
        if "run" in told.fields:
            return state.run(told.fields["run"])
        still_open = (run for run in state.runs if not run.ended)
        return next(still_open, state.runs[-1] if state.runs else None)

    def _of_run(self, told: Told, log: Sequence[Record], run: Run) -> dict[str, Any]:
        type_, table = told.type, self.table
        step = told.fields.get("step") or next(self._makers(type_), "")
        if type_ in _OF_PAUSE:
            return {"id": ids.of_run("pause", run.id, run.pause_n + 1), "n": run.pause_n + 1}
        if type_ in table.undos or type_ in _UNDO_ANSWERS:
            return self._of_undo(type_, step, run)
        if type_ in _OF_FAILED:
            failed = _entry(run, step, FAILED)
            return {"entry": failed.id, "round": failed.round} if failed else {}
        if type_ in _ATTEMPTS:
            paused = {"n": run.pause_n} if type_ == facts.STEP_HELD else {}
            return paused | self._of_attempt(step, log, run)
        if type_ in _OUTCOMES or step:
            return self._of_outcome(told, step, log, run)
        return {}

    def _makers(self, type_: str) -> Iterator[str]:
        for made in (self.table.successes, self.table.failures, self.table.undos):
            yield from made.get(type_, ())

    def _of_outcome(self, told: Told, step: str, log: Sequence[Record], run: Run) -> dict[str, Any]:
        trigger = self._trigger(step, log, run)
        cause = told.fields.get("causation") or (trigger.id if trigger else "")
        hops = trigger.hops + 1 if trigger else 0
        # As a host says them whose first attempt came to this: a declared failure, or a skip before any attempt.
        certain = told.type in self.table.failures or told.type == facts.STEP_SKIPPED
        return {"id": ids.outcome(cause, step), "step": step, "causation": cause, "hops": hops, "certain": certain}

    def _of_attempt(self, step: str, log: Sequence[Record], run: Run) -> dict[str, Any]:
        entry = _entry(run, step, REQUESTED)
        if entry is not None and not any(expected.step == step for expected in run.expected):
            return {"entry": entry.id, "round": entry.round, "trigger": entry.trigger, "attempt": entry.attempt + 1}
        trigger = self._trigger(step, log, run)
        expected = run.expects(step, trigger.id) if trigger else None
        attempt = expected.attempt + 1 if expected else 1
        return {"trigger": trigger.id if trigger else "", "attempt": attempt}

    def _of_undo(self, type_: str, step: str, run: Run) -> dict[str, Any]:
        entry = _entry(run, step, REQUESTED)
        if entry is None:
            return {"step": step}
        kind = _UNDO_ANSWERS.get(type_)
        answer = ids.of_round(kind, entry.id, entry.round) if kind else ids.undo(entry.id)
        request = ids.of_round("undo-request", entry.id, entry.round)
        return {"id": answer, "step": entry.step, "entry": entry.id, "round": entry.round, "causation": request}

    def _trigger(self, step: str, log: Sequence[Record], run: Run) -> Envelope | None:
        """The latest event of the run that triggers the step."""
        definition = self.table.steps.get(step)
        on = definition.on if definition else ""
        events = map(identified, reversed(log))
        of_run = (event for event in events if (event.run or event.id) == run.id or not event.run)
        return next((event for event in of_run if event.type == on), None)


def _entry(run: Run, step: str, state: str) -> Entry | None:
    """The step's newest entry in this state, else its newest of all; without a step, any in this state."""
    of_step = [entry for entry in run.ledger if entry.step == step or (not step and entry.state == state)]
    return next((entry for entry in reversed(of_step) if entry.state == state), of_step[-1] if of_step else None)
