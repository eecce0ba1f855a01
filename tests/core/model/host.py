"""A step host for one step and its undo: its answer to each record."""

from __future__ import annotations

from msgspec.structs import replace

from choreo.adapters.inbox_rules import begin
from choreo.core import facts, ids
from choreo.core.events import Envelope, Record
from choreo.ports.inbox import AttemptRequest, Outcome
from tests.core.model.process import Attempt, Mark, Process
from tests.core.model.world import KEY, CrashedError


class Host(Process):
    """Reads the log for one step: marks of runs, triggers, wakes and requests."""

    @property
    def idle(self) -> bool:
        """Return whether all is read and nothing is under way."""
        return self.position == len(self.world.log) and not self.running

    def forget(self) -> None:
        """Lose the inbox, and with it the counts of attempts.

        The host reads its runs from the log again before work goes on: a host that does not know of a compensation
        starts a step that nobody expects, and its lost answer is an effect nobody undoes (1 seed in 6,500).
        """
        self.rows, self.slots, self.marks = {}, {}, {}
        self.forgot = len(self.world.log)
        self.die()
        for record_ in self.world.log:
            self._mark(record_)

    def read(self) -> None:
        """Take the next record, unless it must wait for an attempt of the same step."""
        if self.position >= len(self.world.log):
            return
        record_ = self.world.log[self.position]
        try:
            if self._handle(record_):
                self.position += 1
                if self.world.likely(0.5):
                    self.committed = min(self.unfinished, default=self.position)
        except CrashedError:
            self.die()

    def _handle(self, record_: Record) -> bool:
        event = record_.event
        self._mark(record_)
        mine = event.step == self.step.name
        if event.type == self.step.on and not event.type.startswith(facts.PREFIX):
            self._consider(record_, record_, self.world.now_ms > record_.stamp_ms + self.step.deadline_ms, 1)
        elif event.type == facts.STEP_RETRY_DUE and mine and not event.entry:
            late = self.world.now_ms > event.deadline_ms
            self._consider(record_, self.world.log[event.outcome], late, event.attempt + 1)
        elif event.type == facts.REDRIVEN and mine:
            self._consider_redrive(record_)
        elif mine and event.type in (facts.COMPENSATION_REQUESTED, facts.STEP_RETRY_DUE):
            return self._consider_undo(record_)
        return True

    def _mark(self, record_: Record) -> None:
        event = record_.event
        mark = self.marks.setdefault(event.run or event.id, Mark())
        if event.type == facts.COMPENSATION_STARTED and mark.compensating < 0:
            mark.compensating = record_.offset
        elif event.type in facts.ENDS:
            mark.ended = True
        elif event.type in (facts.FLOW_PAUSED, facts.FLOW_RESUMED) and event.n > mark.pause_n:
            mark.pause_n, mark.paused = event.n, event.type == facts.FLOW_PAUSED

    def run_of(self, record_: Record) -> str:
        """Return the event's run; of a foreign one the oldest that no end fact was read of."""
        event = record_.event
        if event.type == self.world.table.flow.starts:
            return event.id
        if event.run:
            return event.run
        before = self.world.log[: record_.offset]
        first = next((r for r in before if r.event.id == event.id and event.id), None)
        if first is not None:
            return self.run_of(first)
        starts = dict.fromkeys(r.event.id for r in before if r.event.type == self.world.table.flow.starts)
        over = {r.event.run for r in before if r.event.type in facts.ENDS}
        return next((run for run in starts if run not in over), "")

    def _consider(self, record_: Record, trigger: Record, late: bool, number: int) -> None:
        run = self.run_of(trigger)
        if not run:
            return
        event_id = trigger.event.id or ids.foreign("order", 0, trigger.offset)
        at, mark = (event_id, self.step.name), self.marks.get(run, Mark())
        row = self.rows.get(at)
        if row is not None and row.outcome is not None:
            self.world.publish(row.outcome)
        elif event_id in self.done or any(a.trigger == event_id and not a.zombie for a in self.running):
            return
        elif mark.compensating >= 0 or mark.ended or late:
            if mark.compensating < 0 or trigger.offset < mark.compensating:
                certain_if = -1 if trigger.offset < self.forgot else 0
                skipped = self._outcome(facts.STEP_SKIPPED, event_id, run)
                self._finish(
                    Outcome(event_id, self.step.name, run, [skipped], success=False, certain_if_begun=certain_if)
                )
        elif mark.paused:
            answered = record_.event.id or event_id
            held = Envelope(
                id=ids.answer("held", answered, self.step.name), type=facts.STEP_HELD, key=KEY, flow="order", run=run,
                step=self.step.name, trigger=event_id, n=mark.pause_n,
            )  # fmt: skip
            self.world.publish([held])
        else:
            self._begin(event_id, run, number, record_.offset, trigger.offset)

    def _consider_redrive(self, record_: Record) -> None:
        """Redrive a trigger as an operator does: the step runs once more, or is skipped with a fact."""
        event = record_.event
        mark, row = self.marks.get(event.run, Mark()), self.rows.get((event.id, self.step.name))
        if row is not None and row.outcome is not None:
            self.world.publish(row.outcome)
        elif event.id in self.done or any(a.trigger == event.id and not a.zombie for a in self.running):
            return
        elif mark.compensating >= 0 or mark.ended or mark.paused:
            skipped = self.of_redrive(
                self._outcome(facts.STEP_SKIPPED, event.id, event.run), event.trigger, success=False
            )
            certain_if = -1 if record_.offset < self.forgot else 0
            outcome = Outcome(
                event.id, self.step.name, event.run, [skipped], success=False, certain_if_begun=certain_if
            )
            self._finish(outcome)
        else:
            begin([AttemptRequest(event.id, self.step.name, event.run)], self.rows, self.slots, {})
            self.unfinished.add(record_.offset)
            key, redriven = f"{event.run}/{self.step.name}", event.trigger
            attempt = Attempt(event.id, event.run, 1, record_.offset, record_.offset, key, redrives=redriven)
            self.running.append(attempt)
            self.world.crash_point(0.02, "host before a redriven attempt")

    def _begin(self, trigger: str, run: str, number: int, offset: int, since: int) -> None:
        (begun,), _ = begin([AttemptRequest(trigger, self.step.name, run, slot=run)], self.rows, self.slots, {})
        if begun.slot_holder:
            ignored = self._outcome(facts.TRIGGER_IGNORED, trigger, run)
            self.world.publish([replace(ignored, id=ids.answer("ignored", trigger, self.step.name))])
            return
        self.unfinished.add(offset)
        attempt = Attempt(trigger, run, number, offset, since, f"{run}/{self.step.name}")
        attempt.stubborn = self.step.compensation is not None and self.world.likely(0.1, "a call that no bar stops")
        self.running.append(attempt)
        self.world.crash_point(0.02, "host before an attempt")

    def _consider_undo(self, record_: Record) -> bool:
        event = record_.event
        if any(a.run == event.run and not a.request and not a.zombie and not a.stubborn for a in self.running):
            return False
        request_id = ids.of_round("undo-request", event.entry, event.round)
        row, mark = self.rows.get((request_id, self.step.name)), self.marks.get(event.run, Mark())
        if row is not None and row.outcome is not None:
            self.world.publish(row.outcome)
        elif request_id in self.done or any(a.trigger == request_id and not a.zombie for a in self.running):
            return True
        elif mark.paused:
            held = replace(event, id=ids.answer("held", event.id, self.step.name), type=facts.STEP_HELD, due_ms=0)
            held = replace(held, n=mark.pause_n, attempt=0)
            self.world.publish([held])
        else:
            undo = self.step.compensation
            assert undo is not None
            if self.world.now_ms > (event.deadline_ms or record_.stamp_ms + undo.deadline_ms):
                return True
            begin([AttemptRequest(request_id, self.step.name, event.run)], self.rows, self.slots, {})
            self.unfinished.add(record_.offset)
            key = f"{event.run}/{self.step.name}"
            attempt = Attempt(request_id, event.run, event.attempt + 1, record_.offset, record_.offset, key, event)
            nothings = event.nothings if event.type == facts.STEP_RETRY_DUE else event.n
            attempt.compensation_key = ids.idempotency("undo", event.entry, nothings)
            self.running.append(attempt)
            self.world.crash_point(0.02, "host before an undo")
        return True
