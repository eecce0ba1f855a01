"""Attempts: jobs that are ready become attempts for the runners, or get a result without one.

Decides which jobs may start, decodes the handler's argument, and counts all attempts in the inbox with one write before
any handler is called. If a batch fails for an unforeseen reason, its jobs are begun one by one, and the faulty one is
set aside.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from choreo.app.steps.handlers import HandlerSpec
from choreo.app.steps.jobs import DONE, Job, JobResult, compensation_key, forward_key
from choreo.app.steps.log_lookup import records_at
from choreo.app.steps.outcomes import Verdict, verdict
from choreo.core import facts
from choreo.core.baggage import BaggageHeader
from choreo.core.context import StepContext
from choreo.core.definition import ParameterDefinition
from choreo.core.errors import DecodeError, LeaseLostError, NotFoundError, StorageError
from choreo.core.events import Envelope, Position
from choreo.core.gates import NEEDED_MAX
from choreo.core.keys import require_own_key
from choreo.hosts.runners.port import Attempt
from choreo.hosts.step.context import HostContext
from choreo.hosts.step.heartbeats import Heartbeats
from choreo.ports.codec import Codec
from choreo.ports.inbox import AttemptGrant, AttemptRequest

_log = logging.getLogger(__name__)

_Ruling = tuple[Job, Verdict, str]


class Started(NamedTuple):
    """The consequences of starting jobs."""

    attempts: list[Attempt]
    """For the runners."""
    results: list[tuple[Job, JobResult]]
    """Jobs that are handled without an attempt."""
    again: list[Job]
    """Jobs to try again: a mark of their run is loaded now, or storage has failed."""
    error: StorageError | LeaseLostError | None = None
    """The reason why some could not be started."""


class AttemptStarter:
    """The stage that begins attempts, of one host."""

    def __init__(self, context: HostContext, heartbeats: Heartbeats) -> None:
        """Load marks of runs from the inbox into the runs of `context` where they are missing."""
        self._context = context
        self._heartbeats = heartbeats
        self._inbox = context.ports.inbox
        self._runs = context.runs
        self._rules = context.rules

    async def start(self, jobs: Sequence[Job]) -> Started:
        """Begin these jobs, all at once if possible; return a storage failure with the result."""
        whole = await self._attempted(jobs) if jobs else Started([], [], [])
        if whole is not None:
            return whole
        started = Started([], [], [])
        for index, job in enumerate(jobs):
            single = await self._attempted([job]) or Started([], [], [])
            started.attempts.extend(single.attempts)
            started.results.extend(single.results)
            started.again.extend(single.again)
            if single.error is not None:
                started.again.extend(jobs[index + 1 :])
                return started._replace(error=single.error)
        return started

    async def _attempted(self, jobs: Sequence[Job]) -> Started | None:
        """Begin all of these; return None if an unforeseen error stops several of them."""
        now_ms = self._context.ports.log_clock.now_ms()
        try:
            return await self._start(jobs, now_ms)
        except (StorageError, LeaseLostError) as error:
            return Started([], [], list(jobs), error)
        # One record with an unforeseen fault must not stop the others: it is found, and set aside.
        except Exception as error:  # noqa: BLE001
            _log.exception("a batch of %d jobs cannot be begun", len(jobs))
            if len(jobs) > 1:
                return None
            return Started([], [(jobs[0], self._rules.set_aside(jobs[0], error, now_ms))], [])

    async def _start(self, jobs: Sequence[Job], now_ms: int) -> Started:
        stale = self._context.deferred.stale
        started = Started([], [(job, DONE) for job in jobs if stale(job)], [])
        jobs = [job for job in jobs if not stale(job)]
        rulings = self._rulings(jobs, now_ms)
        # Most runs have no mark, and `begin` checks that itself; marks are read first only for jobs that may not
        # start.
        unknown = self._runs.unknown([job.event.run for job, ruling, _ in rulings if ruling is not Verdict.START])
        if unknown:
            self._runs.load(unknown, await self._inbox.marks(unknown))
            rulings = self._rulings(jobs, now_ms)
        started.results.extend((job, DONE) for job, ruling, _ in rulings if ruling is Verdict.DROP)
        going = [job for job, ruling, _ in rulings if ruling is Verdict.START]
        stopped = [ruled for ruled in rulings if ruled[1] in (Verdict.SKIP, Verdict.HOLD)]
        if stopped:
            started.results.extend(await self._not_started(stopped, now_ms))
        outcomes = await self._outcomes_to_undo(going)
        ready = [job for job in going if self._prepared(job, outcomes.get(id(job)), now_ms, started)]
        if ready:
            reported = await self._heartbeats.reported(ready) if self._heartbeats.is_used else {}
            begun = await self._inbox.begin([self._begin_of(job) for job in ready], self._context.lease)
            for job, answer in zip(ready, begun, strict=True):
                self._take(job, answer, now_ms, started, reported.get(id(job)))
        return started

    def _rulings(self, jobs: Sequence[Job], now_ms: int) -> list[_Ruling]:
        """Return whether each may start, and the reason why not, by the loaded marks of its run."""
        status_of = self._runs.of
        rulings: list[_Ruling] = []
        for job in jobs:
            if job.spec.reaction:
                rulings.append((job, Verdict.START, ""))
            else:
                rulings.append((job, *verdict(job, status_of(job.event.run), now_ms, job.spec.hops_max)))
        return rulings

    async def _not_started(self, stopped: Sequence[_Ruling], now_ms: int) -> list[tuple[Job, JobResult]]:
        """Return the results of jobs to be skipped or held; an outcome that is recorded already takes precedence."""
        recorded = await self._inbox.recorded([job.inbox_key for job, _, _ in stopped])
        results: list[tuple[Job, JobResult]] = []
        for job, ruling, reason in stopped:
            events = recorded.get(job.inbox_key)
            if events is not None:
                result = JobResult(facts=tuple(events))
            elif ruling is Verdict.HOLD:
                result = self._rules.held(job, self._runs.of(job.event.run).pause_n, now_ms)
            else:
                result = self._rules.skipped(job, reason, now_ms)
            results.append((job, result))
        return results

    async def _outcomes_to_undo(self, jobs: Sequence[Job]) -> dict[int, Envelope]:
        """Return by job the outcome to be undone: from the offset in the request, else from the inbox."""
        places = {
            id(job): Position(job.record.topic, job.record.partition, job.event.outcome)
            for job in jobs
            if job.spec.undo and job.event.outcome >= 0 and not job.prepared
        }
        if not places:
            return {}
        records = await records_at(self._context.ports.log, places.values())
        found = {number: records[place].event for number, place in places.items() if place in records}
        missing = [job for job in jobs if id(job) in places and id(job) not in found]
        if missing:
            recorded = await self._inbox.recorded([(job.event.trigger, job.spec.step) for job in missing])
            for job in missing:
                for event in recorded.get((job.event.trigger, job.spec.step), ()):
                    if event.type in job.spec.takes:
                        found.setdefault(id(job), event)
        return found

    def _prepared(self, job: Job, outcome: Envelope | None, now_ms: int, started: Started) -> bool:
        """Decode the handler's arguments; set an unreadable record aside."""
        if job.prepared:
            return True
        spec, event = job.spec, job.event
        try:
            if spec.undo:
                job.undoes_trace = outcome.traceparent if outcome is not None else ""
                self._prepare_compensation(job, outcome)
            else:
                job.given = self._arguments(job)
                job.key = forward_key(spec, event.run, event.id)
        except StorageError:
            raise  # a registry that does not answer is no fault of the record: the host waits and tries again
        # Any fault of one record becomes a dead letter: it must not stop the loop.
        except Exception as error:  # noqa: BLE001
            started.results.append((job, self._rules.set_aside(job, error, now_ms)))
            return False
        job.prepared = True
        return True

    def _prepare_compensation(self, job: Job, outcome: Envelope | None) -> None:
        spec, event = job.spec, job.event
        job.key = compensation_key(event.entry, event.n)
        needed = map(partial(self._argument, job), spec.parameters[1:], (job.parts or ())[1:])
        job.given = (self._outcome(job, outcome), *needed)

    def _outcome(self, job: Job, outcome: Envelope | None) -> Any:
        """Return the outcome that a compensation undoes; None in doubt, or where its step emits nothing."""
        spec, event = job.spec, job.event
        if event.outcome >= 0:
            if outcome is not None and outcome.type == facts.STEP_COMPLETED and not spec.undoes:
                return None
            if outcome is None or outcome.type not in spec.undoes:
                raise NotFoundError(
                    f"the outcome to undo, at offset {event.outcome}, is not there",
                    where=f"undo of {spec.step}",
                    remedy="Undo it by hand, then resolve the entry.",
                )
            return self._decoded(spec, outcome)
        if not spec.takes_none:
            raise NotFoundError(
                "it is in doubt whether there is anything to undo, and the compensation cannot take None",
                where=f"undo of {spec.step}",
                remedy="Look for the effect by hand, then resolve the entry.",
            )
        return None

    def _arguments(self, job: Job) -> tuple[Any, ...]:
        if job.parts is None:
            return (self._decoded(job.spec, job.event),)
        return tuple(map(partial(self._argument, job), job.spec.parameters, job.parts))

    def _argument(self, job: Job, parameter: ParameterDefinition, events: Sequence[Envelope]) -> Any:
        where = f"{'undo of' if job.spec.undo else 'step'} {job.spec.step}, event {parameter.type}"
        if parameter.many:
            if len(events) > NEEDED_MAX:
                raise DecodeError(
                    f"the run has more than {NEEDED_MAX} of them, and the handler takes a list of all",
                    where=where,
                    remedy=f"Hint it as {parameter.type} for the newest, or split the run.",
                )
            return [self._decoded(job.spec, event) for event in events]
        if events:
            return self._decoded(job.spec, events[-1])
        if parameter.optional:
            return None
        before, instead = "the trigger", ", or start the step on a later event"
        if job.spec.undo:
            before, instead = "its compensation began", "; undo this one by hand, then resolve the entry"
        raise NotFoundError(
            f"the handler needs it, and the run had none before {before}",
            where=where,
            remedy=f"Hint it as {parameter.type} | None{instead}.",
        )

    def _decoded(self, spec: HandlerSpec, event: Envelope) -> Any:
        decoded = self._context.ports.codec.decode(spec.takes[event.type], event.content_type, event.data)
        return require_own_key(decoded, self._context.table.flow.key, event.key)

    def _begin_of(self, job: Job) -> AttemptRequest:
        slot = job.event.run if job.spec.once and not job.redriven else ""
        unmarked = not job.spec.reaction and bool(self._runs.unknown([job.event.run]))
        return AttemptRequest(job.inbox_id, job.spec.step, job.event.run, slot, unmarked)

    def _take(self, job: Job, begun: AttemptGrant, now_ms: int, started: Started, progress: Any) -> None:
        """Make the attempt that the inbox has counted, or the result of one that it refused."""
        run = job.event.run
        if not job.spec.reaction:
            self._runs.load([run], {} if begun.mark is None else {run: begun.mark})
        if begun.mark is not None:
            started.again.append(job)
            return
        if not begun.count:
            started.results.append((job, self._rules.not_begun(job, begun, now_ms)))
            job.looks += 1
            return
        job.attempt = max(begun.count, job.failed + 1)
        if self._context.traces is not None:
            job.span = self._context.traces.place(job, now_ms)
        encode = partial(_encoded, self._context.ports.codec, job.spec)
        started.attempts.append(Attempt(job, self._step_context(job, progress), encode))
        job.given, job.prepared = (), False  # the next attempt decodes a copy of its own

    def _step_context(self, job: Job, progress: Any) -> StepContext:
        event, spec = job.event, job.spec
        undoes = ""
        if spec.undo:
            forward = self._context.handlers.of(event.version).forward[spec.step]
            undoes = forward_key(forward, event.run, event.trigger)
        return StepContext(
            self._context.topic,
            event.key,
            event.run,
            spec.step,
            job.attempt,
            job.key,
            undoes,
            event.id,
            job.deadline_ms,
            job.traceparent,
            progress,
            self._heartbeats.pulse(job) if spec.heartbeat_ms else None,
            job.tracestate,
            BaggageHeader(event.baggage),
        )


def _encoded(codec: Codec, spec: HandlerSpec, value: Any) -> list[bytes] | None:
    """Encode a handler's return value before other code of the handler can change it.

    Return None if the step may not return it, or it does not fit: then the result stage reports all its faults.
    """
    try:
        values = value if isinstance(value, (list, tuple)) else [value]
        return [codec.encode(one) for one in values] if all(map(spec.returns, values)) else None
    except BaseException:  # noqa: BLE001 - it is encoded once more where its errors are reported
        return None
