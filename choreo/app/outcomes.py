"""How a service says what came of a job: the envelopes, their derived ids, and what they carry on from the trigger.

Decides nothing: which of them is said stands in steps.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from choreo.app.duties import Duty
from choreo.app.failures import JSON, failure_of
from choreo.app.jobs import Job
from choreo.core import facts, ids
from choreo.core.errors import SchemaError, printable
from choreo.core.events import Envelope
from choreo.core.keys import key_text
from choreo.ports.codec import Codec
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.inbox import Outcome
from choreo.redaction import redact

REASON_CHARS = 500
"""A reason is a sentence in a header, not a stack trace."""


class Voice:
    """Speaks for one service in one flow."""

    def __init__(self, flow: str, service: str, codec: Codec, *, key: str = "", tracebacks: bool = True) -> None:
        """`codec` encodes the events that handlers return; `key` is the flow's key field in them.

        `tracebacks`: whether a failure says in its payload what was raised, and where.
        """
        self.flow = flow
        self._key = key
        self._tracebacks = tracebacks
        self.service = service
        self._source = f"choreo/{service}"
        self._codec = codec
        self.bytes_max = 0
        """The most bytes that an event's data and key may have together; 0: there is no bound."""

    def events(self, job: Job, values: Sequence[Any], now_ms: int) -> list[Envelope]:
        """What a handler returned, as events; raises SchemaError when one fits neither its contract nor the log."""
        event, entry = job.event, job.event.entry
        trigger, step, undo = event.id, job.duty.step, job.duty.undo
        # As its key at the gateway: where a lost inbox lets a stranger's second trigger start, one fact comes of both.
        about = event.run if job.duty.once else trigger
        content_type = self._codec.content_type
        sealed = job.sealed if job.sealed is not None else [self._codec.encode(value) for value in values]
        said = [
            Envelope(
                id=ids.undo(entry, place) if undo else ids.outcome(about, step, place),
                type=type(value).event_type,
                key=event.key,
                flow=self.flow,
                run=event.run,
                step=step,
                causation=trigger,
                attempt=job.attempt,
                version=event.version,
                hops=event.hops + 1,
                entry=entry if undo else "",
                round=event.round if undo else 0,
                source=self._source,
                time_ms=now_ms,
                traceparent=event.traceparent,
                content_type=content_type,
                data=data,
            )
            for place, (value, data) in enumerate(zip(values, sealed, strict=True))
        ]
        for one in said if self.bytes_max else ():
            check_size(one, self.bytes_max, f"step {step}")
        return said

    def about_another(self, job: Job, values: Sequence[Any]) -> str:
        """Say which of these events is about another key than the job's; empty where none is."""
        key, field = job.event.key, self._key
        for value in values:
            own = getattr(value, field, key)
            if own != key and key_text(own) != key:
                return f"{type(value).event_type} about {key_text(own)!r:.100}, and its own key is {key!r:.100}"
        return ""

    def outcome_fact(
        self, job: Job, type_: str, reason: str, now_ms: int, error: BaseException | None = None
    ) -> Envelope:
        """One of choreo's own outcomes: `StepCompleted`, `StepFailed`, `StepSkipped`, `NothingToUndo`, `UndoFailed`."""
        cause = job.event.id
        if job.duty.undo:
            kind = "nothing" if type_ == facts.NOTHING_TO_UNDO else "undo-failed"
            id_ = ids.of_round(kind, job.event.entry, job.event.round)
        else:
            # The tracker tells what a redrive left undone from the trigger's own outcome by its cause.
            cause = job.answered if job.redriven and type_ != facts.STEP_COMPLETED else cause
            id_ = ids.outcome(cause, job.duty.step)
        return self._fact(job, type_, id_, reason, now_ms, causation=cause, error=error)

    def ignored(self, job: Job, reason: str, now_ms: int) -> Envelope:
        """`TriggerIgnored`: the event does not start the step, now or later."""
        id_ = ids.answer("ignored", job.event.id, job.duty.step)
        return self._fact(job, facts.TRIGGER_IGNORED, id_, reason, now_ms, causation=job.event.id)

    def held(self, job: Job, pause_n: int, now_ms: int) -> Envelope:
        """`StepHeld`: answers the record that called for the step while pause number `pause_n` holds its run."""
        id_ = ids.answer("held", job.answered, job.duty.step)
        held = self._fact(job, facts.STEP_HELD, id_, "the run is paused", now_ms, causation=job.answered)
        return replace(held, n=pause_n)

    def attempt_failed(self, job: Job, reason: str, now_ms: int, error: BaseException) -> Envelope:
        """`StepAttemptFailed`: the tracker says when it is time for the next one."""
        id_ = ids.attempt_failed(job.event.id, job.duty.step, job.attempt)
        return self._fact(job, facts.STEP_ATTEMPT_FAILED, id_, reason, now_ms, causation=job.event.id, error=error)

    def letter(self, job: Job, cause: str, now_ms: int) -> DeadLetter:
        """The job's record set aside for this step."""
        record = job.record
        place = (record.topic, record.partition, record.offset)
        return DeadLetter(
            ids.derive("letter", *place, job.duty.step),
            *place,
            self.service,
            job.duty.step,
            redact(cause),
            now_ms,
            record,
        )

    def _fact(
        self,
        job: Job,
        type_: str,
        id_: str,
        reason: str,
        now_ms: int,
        *,
        causation: str,
        error: BaseException | None = None,
    ) -> Envelope:
        event, undo = job.event, job.duty.undo
        failure = failure_of(error) if error is not None and self._tracebacks else b""
        return Envelope(
            id=id_,
            type=type_,
            key=event.key,
            flow=self.flow,
            run=event.run,
            step=job.duty.step,
            causation=causation,
            trigger=event.trigger if undo else event.id,
            attempt=job.attempt or job.failed,
            version=event.version,
            hops=event.hops + 1,
            entry=event.entry if undo else "",
            round=event.round if undo else 0,
            reason=_reason(reason),
            source=self._source,
            time_ms=now_ms,
            traceparent=event.traceparent,
            content_type=JSON if failure else "",
            data=failure,
        )


def _reason(text: str) -> str:
    """Return a reason as the log may keep it: without secrets, then short, for half a secret would not be found."""
    return printable(redact(text), REASON_CHARS) if text else ""


def check_size(event: Envelope, bytes_max: int, where: str) -> None:
    """Raise SchemaError where an event is larger than the log takes."""
    size = len(event.data) + len(event.key.encode(errors="replace"))
    if size > bytes_max:
        raise SchemaError(
            f"{event.type} of {size:,} bytes does not fit into the log, which takes {bytes_max:,}",
            where=where,
            remedy=(
                "Keep what is large elsewhere and its address in the event; or raise max.message.bytes of the topic "
                "and CHOREO_KAFKA_MESSAGE_MAX_BYTES of every role."
            ),
        )


def sealed(codec: Codec, duty: Duty, value: Any) -> list[bytes] | None:
    """Encode what a handler returned, before anything else of its code can change it.

    None where it is not what the step may return, or does not fit: then it is looked at with all its faults.
    """
    values = value if isinstance(value, (list, tuple)) else [value]
    try:
        return [codec.encode(one) for one in values] if all(map(duty.returns, values)) else None
    except Exception:  # noqa: BLE001 - it is encoded once more where its errors are told
        return None


def outcome(job: Job, events: Sequence[Envelope], *, success: bool = False, certain_if_begun: int = -1) -> Outcome:
    """What the inbox writes of this job."""
    # An attempt may have begun before it was set aside: what a redriven one did is never certain, only that none began.
    certain = -1 if job.redriven and certain_if_begun > 0 else certain_if_begun
    return Outcome(job.remembered, job.duty.step, job.event.run, events, success, certain, job.record.stamp_ms)
