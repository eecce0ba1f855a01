"""Job: one record to be handled by one handler, from the moment it is read until its result is committed.

`JobResult` is the other end: the events, the dead letter or the retry that follow from a job.
"""

from __future__ import annotations

from typing import Any

import msgspec

from choreo.app.steps.handlers import HandlerSpec
from choreo.core import facts, ids
from choreo.core.events import Envelope, Record
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.inbox import Outcome


class AttemptTimedOut(Exception):  # noqa: N818 - an outcome of an attempt, not an error of the program
    """An attempt took longer than its step allows."""


class HeartbeatMissed(Exception):  # noqa: N818 - the same
    """An attempt reported nothing for longer than its step allows."""


class Withdrawn(Exception):  # noqa: N818 - the same
    """The attempt was withdrawn before its handler was called."""


class Job(msgspec.Struct, eq=False, gc=False):
    """The work and its progress. Times are epoch milliseconds.

    The dispatcher makes it. `attempt`, `given`, `prepared`, `key`, `span` and `looks` are written where an attempt
    begins; `encoded` and `baggage` where it ends; `running`, `queued` and `revoked` by the work queue.
    """

    spec: HandlerSpec
    record: Record
    """The trigger, also after a request by another record; for a compensation its request."""
    event: Envelope
    """The record's event with its id and run filled in; of a compensation as in the request."""
    source: Record
    """The record whose offset this job holds back: `record`, or a StepRetryDue or Redriven that names it."""
    answered: str
    """Id of the source's event: a StepHeld answers it."""
    inbox_id: str
    """Names the job in the inbox together with its step: the id of the trigger, of the request or of a redrive."""
    deadline_ms: int
    """The job is given up after this; a pause that is read later moves it."""
    failed: int = 0
    """Attempts known to have failed before this host took it."""
    redriven: bool = False
    attempt: int = 0
    """Number of the newest attempt that has begun."""
    parts: tuple[tuple[Envelope, ...], ...] | None = None
    """The events that a handler with several arguments takes, by argument; None if it takes `event` alone."""
    given: tuple[Any, ...] = ()
    """The handler's arguments before its context, decoded."""
    prepared: bool = False
    """Whether `given` is decoded. Each attempt gets a copy of its own, because a handler may change it."""
    encoded: list[bytes] | None = None
    """The events that the newest attempt returned, encoded at that moment."""
    baggage: str | None = None
    """The baggage that the newest attempt has set; None: its outcome carries that of `event`."""
    key: str = ""
    """The idempotency key, once derived."""
    span: Any = None
    """The place of the newest attempt's span; None without tracing."""
    undoes_trace: str = ""
    """`traceparent` of the outcome that a compensation undoes."""
    looks: int = 0
    """How often another process held it."""
    running: Any = None
    """The attempt that a runner has. Cleared when it ends, so that the collector need not track jobs."""
    queued: bool = False
    """Whether it has a place in a key queue."""
    revoked: bool = False
    """Its partition was revoked: its result is recorded, not committed."""

    @property
    def traceparent(self) -> str:
        """Return the trace context of its consequences: of its newest attempt, or as its trigger has brought it."""
        traceparent: str = self.event.traceparent if self.span is None else self.span.at.traceparent
        return traceparent

    @property
    def tracestate(self) -> str:
        """Return the trace state of its consequences: that of another trace is left out."""
        return self.event.tracestate if self.span is None else ""

    @property
    def called_again(self) -> bool:
        """Return whether the tracker or an operator asked for it again."""
        return self.source is not self.record

    @property
    def pause_n(self) -> int:
        """Return the number of the newest pause or resume known to the record that asked for it again, else 0.

        The tracker asks for nothing while it knows the run to be paused: an older pause does not hold the job.
        """
        call = self.source.event
        again = call.type == facts.STEP_RETRY_DUE if self.spec.undo else self.called_again
        return call.n if again else 0

    @property
    def queue_key(self) -> tuple[str, str]:
        """Return (key, step): jobs of one such pair run one after the other, compensations included."""
        return self.event.key, self.spec.step

    @property
    def inbox_key(self) -> tuple[str, str]:
        """Return (id, step), by which the inbox knows it."""
        return self.inbox_id, self.spec.step

    @property
    def place(self) -> str:
        """Return topic/partition/offset of its record, for people."""
        return f"{self.record.topic}/{self.record.partition}/{self.record.offset}"


class JobResult(msgspec.Struct, frozen=True, gc=False):
    """The consequence of a job. Without `retry_ms` the job is over."""

    outcome: Outcome | None = None
    """Recorded in the inbox, then published."""
    facts: tuple[Envelope, ...] = ()
    """Published as they are."""
    dead_letter: DeadLetter | None = None
    retry_ms: int = -1
    """The wait in memory before the next attempt; -1: there is none."""
    deferred: bool = False
    """The next attempt is far off: the tracker will ask for it."""
    failed: bool = False
    held: bool = False
    """Another process runs it: the wait is for that outcome, no attempt has failed."""
    withdrawn: bool = False
    """The attempt was withdrawn before its handler ran: whether the job may start is decided again."""


DONE = JobResult()
WITHDRAWN = JobResult(retry_ms=0, withdrawn=True)


def forward_key(spec: HandlerSpec, run: str, trigger: str) -> str:
    """Return the idempotency key of a forward step: of its run if the step runs once a run, else of its trigger."""
    return ids.idempotency("step", run if spec.once else trigger, spec.step)


def compensation_key(entry: str, nothings: int) -> str:
    """Return the idempotency key of a compensation: of the ledger entry and the number of empty answers to it."""
    return ids.idempotency("undo", entry, nothings)
