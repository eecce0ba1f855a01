"""A job: one record that makes one duty due for one key, from the moment it was read until its outcome is committed."""

from __future__ import annotations

from typing import Any

import msgspec

from choreo.app.duties import Duty
from choreo.core import facts, ids
from choreo.core.events import Envelope, Record


class Job(msgspec.Struct, eq=False, gc=False):
    """What is to be done and how far it is. Times are epoch milliseconds."""

    duty: Duty
    record: Record
    """The trigger, also where another record woke it; of an undo what asks for it."""
    event: Envelope
    """The record's event, its id and run filled in where they were left out; of an undo as the request's."""
    source: Record
    """The record this job is the handling of: the same, or a StepRetryDue or Redriven that stands for it."""
    answered: str
    """Id of the source's event: what a StepHeld answers."""
    remembered: str
    """The inbox knows the job by this and its step: the id of the trigger, of the request, or of a redrive."""
    deadline_ms: int
    """After this it is given up; a pause that is read later moves it."""
    failed: int = 0
    """Attempts known to have failed before this host took it."""
    redriven: bool = False
    attempt: int = 0
    """Number of the attempt that was begun last."""
    given: Any = None
    """What the handler is given, once decoded."""
    prepared: bool = False
    """Whether `given` is decoded. Each attempt is given its own copy: a handler may change what it was given."""
    sealed: list[bytes] | None = None
    """What the last attempt returned, encoded when it returned it."""
    key: str = ""
    """The idempotency key, once derived."""
    looks: int = 0
    """How often another process was found to be at it."""
    in_hands: Any = None
    """The attempt that a runner has; let go of when it is over, which is why the collector need not look here."""
    queued: bool = False
    """Whether it has a place in a lane."""
    dropped: bool = False
    """Its partition was lost: what comes of it is recorded, not committed."""

    @property
    def woken(self) -> bool:
        """Whether the tracker or an operator called for it again."""
        return self.source is not self.record

    @property
    def pause_n(self) -> int:
        """Number of the newest pause or resume that was read by whoever called for it again; 0 if nobody did.

        The tracker calls for nothing while it knows the run to be paused: an older pause holds the job no more.
        """
        call = self.source.event
        again = call.type == facts.STEP_RETRY_DUE if self.duty.undo else self.woken
        return call.n if again else 0

    @property
    def lane(self) -> tuple[str, str]:
        """Jobs of one lane run one after the other: key and step, an undo among them."""
        return self.event.key, self.duty.step

    @property
    def begun_as(self) -> tuple[str, str]:
        """What the inbox knows it by."""
        return self.remembered, self.duty.step

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return f"{self.record.topic}/{self.record.partition}/{self.record.offset}"


def forward_key(duty: Duty, run: str, trigger: str) -> str:
    """The idempotency key of a step forward: of the run where the step runs once a run, else of its trigger."""
    return ids.idempotency("step", run if duty.once else trigger, duty.step)


def undo_key(entry: str, nothings: int) -> str:
    """The idempotency key of an undo: of the entry, and how often it was answered with nothing."""
    return ids.idempotency("undo", entry, nothings)
