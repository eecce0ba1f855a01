"""One process after another of a service: its attempts, their random course, and the data that survives a death.

Uses the inbox's own rules (choreo.adapters.inbox_rules); what an attempt does to the world is up to chance.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from msgspec.structs import replace

from choreo.adapters.inbox_rules import Remembered, begin, record
from choreo.core import facts, ids
from choreo.core.definition import StepDefinition
from choreo.core.events import Envelope
from choreo.ports.inbox import AttemptRequest, Outcome
from tests.core.model.world import KEY, CrashedError, World

ATTEMPTS_MAX = 3


@dataclass
class Mark:
    """The facts that the host has read about a run."""

    compensating: int = -1
    ended: bool = False
    paused: bool = False
    pause_n: int = 0


@dataclass(eq=False)
class Attempt:
    """A handler at work. `entry` is empty for a forward step."""

    trigger: str
    run: str
    number: int
    offset: int
    """Of the record that began it: not committed before it is finished."""
    since: int
    """Of the trigger: what stood before the inbox was lost is never certain."""
    key: str
    request: Envelope | None = None
    compensation_key: str = ""
    answer: bool | None = None
    zombie: bool = False
    stubborn: bool = False
    redrives: str = ""
    """The trigger that an operator's redrive is for; `trigger` is then the id of the redrive."""


@dataclass
class Process:
    """The attempts of one step and its undo; inbox, marks and committed offset survive every death."""

    world: World
    step: StepDefinition
    rows: dict[tuple[str, str], Remembered] = field(default_factory=dict)
    slots: dict[tuple[str, str], str] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    committed: int = 0
    position: int = 0
    unfinished: set[int] = field(default_factory=set)
    running: list[Attempt] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    """Triggers whose outcome stood in the log when this process took over: the log is the first inbox."""
    forgot: int = -1
    """The inbox lost its memory of what stood before this offset: nothing of it is certain."""

    def die(self) -> None:
        """End the process; its attempts end with it, or go on unknown to anybody."""
        self.position, self.unfinished = self.committed, set()
        for attempt in self.running:
            if attempt.zombie or attempt.stubborn or self.world.likely(0.6, "an attempt outlives its process"):
                attempt.zombie = True
            else:
                self._leave_call(attempt)
        self.running = [attempt for attempt in self.running if attempt.zombie]
        log = self.world.log[self.committed :]
        self.done = {r.event.causation for r in log if r.event.step == self.step.name and r.event.causation}

    def go_on(self, attempt: Attempt) -> None:
        """Advance the attempt by one step: it calls, fails, times out, or ends."""
        try:
            self._go_on(attempt)
        except CrashedError:
            self.die()

    def _go_on(self, attempt: Attempt) -> None:
        world = self.world
        if attempt.zombie and world.likely(0.97, "a zombie dawdles"):
            return
        if attempt.stubborn and not attempt.zombie and world.likely(0.5, "an attempt is given up and goes on"):
            attempt.zombie = True
            given_up = dataclasses.replace(attempt, zombie=False, stubborn=False, number=ATTEMPTS_MAX)
            self.running.append(given_up)
            self._failed(given_up)
        elif attempt.answer is None:
            if attempt.request is None and self.step.fails and not attempt.stubborn and world.likely(0.1, "declined"):
                self._end(attempt, self.step.fails[0], certain_if=1)
            elif not attempt.stubborn and world.likely(0.08, "a handler raises before its call"):
                self._failed(attempt)
            elif not attempt.stubborn and world.likely(0.08, "an attempt times out with its call under way"):
                self._leave_call(attempt, surely=True)
                self._failed(attempt)
            else:
                attempt.answer = self._call(attempt)
        elif not attempt.stubborn and world.likely(0.08, "an answer is lost"):
            self._failed(attempt)
        elif attempt.request is not None:
            self._end_undo(attempt, attempt.request)
        elif attempt.answer:
            self._end(attempt, self.step.emits[0] if self.step.emits else facts.STEP_COMPLETED, success=True)
        else:
            self._failed(attempt)

    def _call(self, attempt: Attempt) -> bool:
        if attempt.request is not None:
            return self.world.gateway.undo(attempt.key, attempt.compensation_key)
        return self.world.gateway.act(attempt.key, stubborn=attempt.stubborn)

    def _leave_call(self, attempt: Attempt, *, surely: bool = False) -> None:
        if attempt.answer is None and (surely or self.world.likely(0.3, "a dead process's call lands")):
            self.world.late.append(lambda: self._call(attempt))

    def _failed(self, attempt: Attempt) -> None:
        if attempt.zombie:
            self.running.remove(attempt)
            return
        if attempt.number >= ATTEMPTS_MAX:
            type_ = facts.COMPENSATION_FAILED if attempt.request else facts.STEP_FAILED
            self._end(attempt, type_)
            return
        self.running.remove(attempt)
        if attempt.redrives or self.world.likely(0.5):
            begin([AttemptRequest(attempt.trigger, self.step.name, attempt.run)], self.rows, self.slots, {})
            self.running.append(dataclasses.replace(attempt, number=attempt.number + 1, answer=None))
        else:
            self.world.publish([self._attempt_failed(attempt)])
            self.unfinished.discard(attempt.offset)

    def _attempt_failed(self, attempt: Attempt) -> Envelope:
        of = attempt.request
        return Envelope(
            id=ids.attempt_failed(attempt.trigger, self.step.name, attempt.number), type=facts.STEP_ATTEMPT_FAILED,
            key=KEY, flow="order", run=attempt.run, step=self.step.name, trigger=of.trigger if of else attempt.trigger,
            attempt=attempt.number, entry=of.entry if of else "", round=of.round if of else 0,
        )  # fmt: skip

    def _end_undo(self, attempt: Attempt, request: Envelope) -> None:
        assert self.step.compensation is not None
        if attempt.answer:
            self._end(attempt, self.step.compensation.emits[0], success=True)
        elif request.outcome < 0:
            self._end(attempt, facts.NOTHING_TO_COMPENSATE, success=True)
        else:
            self._end(attempt, facts.COMPENSATION_FAILED)

    def _end(self, attempt: Attempt, type_: str, *, success: bool = False, certain_if: int = -1) -> None:
        self.running.remove(attempt)
        if attempt.zombie and not success:
            return
        event = self._outcome(type_, attempt.trigger, attempt.run)
        if attempt.redrives:
            event = self.of_redrive(event, attempt.redrives, success=success)
            certain_if = -1
        request = attempt.request
        if request is not None:
            kinds = {facts.NOTHING_TO_COMPENSATE: "nothing", facts.COMPENSATION_FAILED: "undo-failed"}
            id_ = (
                ids.of_round(kinds[type_], request.entry, request.round) if type_ in kinds else ids.undo(request.entry)
            )
            event = replace(event, id=id_, entry=request.entry, round=request.round)
        certain_if = -1 if attempt.since < self.forgot else certain_if
        outcome = Outcome(
            attempt.trigger, self.step.name, attempt.run, [event], success=success, certain_if_begun=certain_if
        )
        self._finish(outcome, mortal=not attempt.zombie)
        self.unfinished.discard(attempt.offset)

    def of_redrive(self, event: Envelope, trigger: str, *, success: bool) -> Envelope:
        """Return the outcome of a redriven step: a success is the trigger's own, anything else names the redrive."""
        if success:
            return replace(event, id=ids.outcome(trigger, self.step.name), causation=trigger)
        return replace(event, trigger=trigger)

    def _outcome(self, type_: str, trigger: str, run: str) -> Envelope:
        id_ = ids.outcome(trigger, self.step.name)
        return Envelope(
            id=id_, type=type_, key=KEY, flow="order", run=run, step=self.step.name, causation=trigger, reason=type_
        )

    def _finish(self, outcome: Outcome, *, mortal: bool = True) -> None:
        published, _ = record([outcome], self.rows)
        if mortal:  # the process of a zombie is not this one
            self.world.crash_point(0.02, "host between inbox and log")
        self.world.publish(published)
