"""Places of spans in traces: of each attempt, of each fact that begins a new segment, and of a whole run.

Nothing stays open: a span is made when it has ended. Its ids derive from ids of the log, so that every process finds
the same ones. The span of an attempt is the child of the span that made its trigger. After a timer, a retry that the
tracker has asked for, an event from outside, an operator or a long wait a new segment begins, linked to its cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from choreo.app.steps.jobs import Job
from choreo.core import facts
from choreo.core.events import Envelope, Record
from choreo.core.state import UNDONE, Run
from choreo.core.trace_ids import SpanId, is_of_run, read, span_id, trace_id
from choreo.ports.tracing import Link, Span, Tracing

Attributes: TypeAlias = dict[str, str | int | bool]

TRACKER = "choreo-tracker"
"""Name of the service of the tracker's spans."""
_CALLS = frozenset({facts.STEP_RETRY_DUE, facts.REDRIVEN})


class Place(NamedTuple):
    """The place of an attempt's span, decided when the attempt begins."""

    at: SpanId
    parent: SpanId | None
    links: tuple[Link, ...]


class AttemptTraces:
    """The spans of one service in one flow."""

    def __init__(self, tracing: Tracing, flow: str, service: str, *, system: str = "kafka", keys: bool = True) -> None:
        """Export to `tracing`. `system` is the kind of the log; without `keys` no span names a key."""
        self._tracing = tracing
        self._flow = flow
        self._service = service
        self._system = system
        self._keys = keys

    def place(self, job: Job, now_ms: int) -> Place | None:
        """Return the place of the job's next attempt, which begins now; None where its run is not recorded."""
        event = job.event
        if not self._tracing.samples(event.run):
            return None
        run, incoming = event.run, read(event.traceparent)
        own = incoming if incoming is not None and is_of_run(incoming.trace, run) else None
        opener = _opener(job, now_ms - self._tracing.gap_ms, traced=own is not None)
        trace = trace_id(run, opener) if opener or own is None else own.trace
        at = SpanId(trace, span_id(job.inbox_id, job.spec.step, job.attempt))
        parent = own if own is not None and own.trace == trace else None
        links = [] if incoming is None else [Link(incoming, "cause" if own else "caller")]
        return Place(at, parent, (*links, *_joined(job), _run_link(run)))

    def export(self, ended: Iterable[tuple[Job, Place, float, float, str]]) -> None:
        """Export the spans of attempts: each with its begin, its end (epoch milliseconds) and its failure."""
        spans = [self._span(*each) for each in ended]
        if spans:
            self._tracing.export(spans)

    def _span(self, job: Job, place: Place, start_ms: float, end_ms: float, error: str) -> Span:
        event, step = job.event, job.spec.step
        attributes: Attributes = _of_run(self._flow, event.run, event.version) | {
            "messaging.system": self._system,
            "messaging.operation.name": step,
            "messaging.operation.type": "process",
            "messaging.destination.name": self._flow,
            "messaging.destination.partition.id": str(job.record.partition),
            "messaging.consumer.group.name": self._service,
            "messaging.message.id": event.id,
            "messaging.message.conversation_id": event.run,
            "messaging.kafka.offset": job.record.offset,
            "choreo.event": event.type,
            "choreo.attempt": job.attempt,
            "choreo.undo": job.spec.undo,
        }
        if self._keys:
            attributes["messaging.kafka.message.key"] = event.key
        if event.entry:
            attributes |= {"choreo.entry": event.entry, "choreo.round": event.round}
        name = f"{step} undo {self._flow}" if job.spec.undo else f"{step} {self._flow}"
        times = (start_ms, end_ms)
        return Span(
            name, place.at, self._service, place.parent, place.links, *times, attributes, error, is_attempt=True
        )


def _opener(job: Job, long_ago_ms: int, *, traced: bool) -> str:
    """Return the id of the event that this attempt begins a new segment with; "" if it continues one."""
    event, call = job.event, job.source.event
    if event.id == event.run:
        return ""
    if call.type in _CALLS:
        return job.answered
    from_outside = not (event.step or event.causation)
    if event.due_ms or from_outside or job.source.stamp_ms < long_ago_ms:
        return event.id
    if job.spec.undo and not traced:
        return event.causation  # of an operator's fact
    return ""


def _joined(job: Job) -> list[Link]:
    """Return links to the spans behind the other arguments of a handler, and behind the outcome that it undoes."""
    links = [
        Link(span, "joins")
        for part in job.parts or ()
        for event in part
        if event.id != job.event.id and (span := _own(event)) is not None
    ]
    undone = read(job.undoes_trace) if job.undoes_trace else None
    return [*links, Link(undone, "undoes")] if undone is not None else links


def _own(event: Envelope) -> SpanId | None:
    span = read(event.traceparent)
    return span if span is not None and is_of_run(span.trace, event.run) else None


def _run_span(run: str) -> SpanId:
    return SpanId(trace_id(run), span_id(run, "run"))


def _run_link(run: str) -> Link:
    return Link(_run_span(run), "run")


def _of_run(flow: str, run: str, version: int) -> Attributes:
    return {"choreo.flow": flow, "choreo.run": run, "choreo.version": version}


class TrackerTraces:
    """The spans of one flow's tracker: of the facts that begin a segment, and of runs that have ended."""

    def __init__(self, tracing: Tracing, flow: str, *, keys: bool = True) -> None:
        """Export to `tracing`; without `keys` no span names a key."""
        self._tracing = tracing
        self._flow = flow
        self._keys = keys

    @property
    def gap_ms(self) -> int:
        """Return the age from which on an end that is read is one of long ago."""
        return self._tracing.gap_ms

    def opened(self, outputs: Sequence[Envelope], records: Iterable[Record] = ()) -> list[Envelope]:
        """Return these facts, those that begin a segment with its trace; `records` are their causes."""
        causes = {record.event.id: record.event.type for record in records}
        spans: dict[str, Span] = {}
        found = [self._opened(fact, causes, spans) for fact in outputs]
        if spans:
            self._tracing.export(list(spans.values()))
        return found

    def _opened(self, fact: Envelope, causes: Mapping[str, str], spans: dict[str, Span]) -> Envelope:
        if not fact.run or not self._tracing.samples(fact.run):
            return fact
        if fact.due_ms or fact.type == facts.STEP_RETRY_DUE:
            opener, type_ = fact.id, fact.type
        elif causes.get(fact.causation) in facts.PUBLISHED_BY_OPERATORS:
            opener, type_ = fact.causation, causes[fact.causation]
        else:
            return fact
        at, before = SpanId(trace_id(fact.run, opener), span_id(opener)), _own(fact)
        links = (*([Link(before, "cause")] if before is not None else []), _run_link(fact.run))
        attributes = _of_run(self._flow, fact.run, fact.version) | self._about(fact.key)
        attributes |= {"messaging.message.id": opener, "messaging.message.conversation_id": fact.run}
        if fact.step:
            attributes["choreo.step"] = fact.step
        name = f"{type_.removeprefix(facts.PREFIX)} {self._flow}"
        spans[opener] = Span(name, at, TRACKER, None, links, fact.time_ms, fact.time_ms, attributes)
        return replace(fact, traceparent=at.traceparent, tracestate="")

    def ended(self, runs: Iterable[tuple[str, Run]]) -> None:
        """Export the spans of runs, each with its key, that have ended."""
        spans = [self._ended(key, run) for key, run in runs if self._tracing.samples(run.id)]
        if spans:
            self._tracing.export(spans)

    def _ended(self, key: str, run: Run) -> Span:
        attributes: Attributes = {
            "choreo.status": run.status,
            "choreo.undone": sum(entry.state == UNDONE for entry in run.ledger),
            "messaging.message.conversation_id": run.id,
        }
        attributes |= _of_run(self._flow, run.id, run.version) | self._about(key)
        at = _run_span(run.id)
        return Span(f"run {self._flow}", at, TRACKER, None, (), run.started_ms, run.ended_ms, attributes)

    def _about(self, key: str) -> Attributes:
        return {"messaging.kafka.message.key": key} if self._keys else {}
