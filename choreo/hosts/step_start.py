"""From jobs that are ready to attempts that a runner may have: who may start, what it is given, counted in the inbox.

One read of marks, one write of attempts for all jobs at once. Raises StorageError with nothing started.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from choreo.app.fetch import records_at
from choreo.app.jobs import Job, forward_key, undo_key
from choreo.app.outcomes import sealed
from choreo.app.steps import DONE, Conclusion, Verdict, verdict
from choreo.core import facts
from choreo.core.context import StepContext
from choreo.core.errors import NotFoundError, StorageError
from choreo.core.events import Envelope, Position
from choreo.hosts.attempts import Attempt
from choreo.hosts.step_parts import Parts
from choreo.ports.inbox import Begin, Begun


class Started(NamedTuple):
    """What came of the jobs: attempts for the runner, jobs that are over without one, and jobs to look at again."""

    attempts: list[Attempt]
    over: list[tuple[Job, Conclusion]]
    again: list[Job]
    """Of their runs something was read before: it is known now, and may stop them."""


class Starter:
    """Starts jobs of one service in one flow."""

    def __init__(self, parts: Parts) -> None:
        """The runs of `parts` are loaded from the inbox where one is lacking."""
        self._parts = parts
        self._flow = parts.table.flow
        self._steps = parts.steps
        self._runs = parts.runs
        self._inbox = parts.inbox

    async def start(self, jobs: Sequence[Job], now_ms: int) -> Started:
        """Sort out what may not start, prepare the rest, and count it as begun."""
        stale = self._parts.put_off.stale
        started = Started([], [(job, DONE) for job in jobs if stale(job)], [])
        jobs = [job for job in jobs if not stale(job)]
        rulings = self._rulings(jobs, now_ms)
        # Of most runs nothing was ever read, and `begin` sees that itself; who may not start is asked about first.
        unknown = self._runs.unknown([job.event.run for job, ruling, _ in rulings if ruling is not Verdict.START])
        if unknown:
            self._runs.load(unknown, await self._inbox.marks(unknown))
            rulings = self._rulings(jobs, now_ms)
        started.over.extend((job, DONE) for job, ruling, _ in rulings if ruling is Verdict.DROP)
        going = [job for job, ruling, _ in rulings if ruling is Verdict.START]
        stopped = [ruled for ruled in rulings if ruled[1] in (Verdict.SKIP, Verdict.HOLD)]
        if stopped:
            await self._say_why(stopped, now_ms, started)
        undone = await self._fetch(going)
        ready = [job for job in going if self._prepared(job, undone.get(id(job)), now_ms, started)]
        if ready:
            begun = await self._inbox.begin([self._begin_of(job) for job in ready], self._parts.hold)
            for job, answer in zip(ready, begun, strict=True):
                self._take(job, answer, now_ms, started)
        return started

    def _rulings(self, jobs: Sequence[Job], now_ms: int) -> list[tuple[Job, Verdict, str]]:
        """What each may do, and why, as far as is known of its run."""
        hops_max, standing = self._flow.hops_max, self._runs.of
        rulings: list[tuple[Job, Verdict, str]] = []
        for job in jobs:
            if job.duty.reaction:
                rulings.append((job, Verdict.START, ""))
            else:
                rulings.append((job, *verdict(job, standing(job.event.run), now_ms, hops_max)))
        return rulings

    async def _say_why(self, stopped: Sequence[tuple[Job, Verdict, str]], now_ms: int, started: Started) -> None:
        """Skipped or held, unless an outcome was recorded already: then that is what is said."""
        recorded = await self._inbox.recorded([job.begun_as for job, _, _ in stopped])
        for job, ruling, reason in stopped:
            standing = recorded.get(job.begun_as)
            if standing is not None:
                conclusion = Conclusion(facts=tuple(standing))
            elif ruling is Verdict.HOLD:
                conclusion = self._steps.held(job, self._runs.of(job.event.run).pause_n, now_ms)
            else:
                conclusion = self._steps.skipped(job, reason, now_ms)
            started.over.append((job, conclusion))

    async def _fetch(self, jobs: Sequence[Job]) -> dict[int, Envelope]:
        """By job the outcome that is to be undone: where the request says, else as the inbox has it."""
        places = {
            id(job): Position(job.record.topic, job.record.partition, job.event.outcome)
            for job in jobs
            if job.duty.undo and job.event.outcome >= 0 and not job.prepared
        }
        if not places:
            return {}
        records = await records_at(self._parts.log, places.values())
        fetched = {number: records[place].event for number, place in places.items() if place in records}
        gone = [job for job in jobs if id(job) in places and id(job) not in fetched]
        if gone:
            recorded = await self._inbox.recorded([(job.event.trigger, job.duty.step) for job in gone])
            for job in gone:
                for said in recorded.get((job.event.trigger, job.duty.step), ()):
                    if said.type in job.duty.takes:
                        fetched.setdefault(id(job), said)
        return fetched

    def _prepared(self, job: Job, fetched: Envelope | None, now_ms: int, started: Started) -> bool:
        """Decode what the handler is given; what cannot be read is set aside."""
        if job.prepared:
            return True
        duty, event = job.duty, job.event
        try:
            if duty.undo:
                self._prepare_undo(job, fetched)
            else:
                job.given = self._parts.codec.decode(duty.takes[event.type], event.content_type, event.data)
                job.key = forward_key(duty, event.run, event.id)
        except StorageError:
            raise  # a registry that does not answer is no fault of the record: the host waits and tries again
        # Whatever is wrong with one record is a dead letter: it must not stop the loop.
        except Exception as error:  # noqa: BLE001
            started.over.append((job, self._steps.set_aside(job, error, now_ms)))
            return False
        job.prepared = True
        return True

    def _prepare_undo(self, job: Job, fetched: Envelope | None) -> None:
        duty, event = job.duty, job.event
        job.key = undo_key(event.entry, event.n)
        if event.outcome >= 0:
            if fetched is not None and fetched.type == facts.STEP_COMPLETED and not duty.takes:
                return  # its step emits nothing, so that there is nothing to give
            if fetched is None or fetched.type not in duty.takes:
                raise NotFoundError(
                    f"the outcome to undo, at offset {event.outcome}, is not there",
                    where=f"undo of {duty.step}",
                    remedy="Undo it by hand, then resolve the entry.",
                )
            job.given = self._parts.codec.decode(duty.takes[fetched.type], fetched.content_type, fetched.data)
        elif not duty.takes_none:
            raise NotFoundError(
                "it is in doubt whether there is anything to undo, and the compensation cannot take None",
                where=f"undo of {duty.step}",
                remedy="Look for the effect by hand, then resolve the entry.",
            )

    def _begin_of(self, job: Job) -> Begin:
        slot = job.event.run if job.duty.once and not job.redriven else ""
        unmarked = not job.duty.reaction and bool(self._runs.unknown([job.event.run]))
        return Begin(job.remembered, job.duty.step, job.event.run, slot, unmarked)

    def _take(self, job: Job, begun: Begun, now_ms: int, started: Started) -> None:
        run = job.event.run
        if not job.duty.reaction:
            self._runs.load([run], {} if begun.mark is None else {run: begun.mark})
        if begun.mark is not None:
            started.again.append(job)
            return
        if not begun.count:
            started.over.append((job, self._steps.not_begun(job, begun, now_ms)))
            job.looks += 1
            return
        job.attempt = max(begun.count, job.failed + 1)
        attempt = job.in_hands = Attempt(job, self._context(job), partial(sealed, self._parts.codec, job.duty))
        job.given, job.prepared = None, False  # the next attempt decodes its own: this one may change what it has
        started.attempts.append(attempt)

    def _context(self, job: Job) -> StepContext:
        event, duty = job.event, job.duty
        undoes = ""
        if duty.undo:
            undoes = forward_key(self._parts.duties.forward[duty.step], event.run, event.trigger)
        return StepContext(
            self._flow.name,
            event.key,
            event.run,
            duty.step,
            job.attempt,
            job.key,
            undoes,
            event.id,
            job.deadline_ms,
            event.traceparent,
        )
