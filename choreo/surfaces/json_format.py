"""The JSON of the REST view and of the command line: fields and conversions. Times are RFC 3339 in UTC, null for none.

Pydantic only, so that the command line works without the `web` extra. Each model reads a use case's value by attribute:
a field that is renamed there fails here at once.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from choreo.app.publish.publisher import Receipt
from choreo.app.query.queries import Instance
from choreo.app.query.read_your_writes import token_of
from choreo.app.query.status_text import moment
from choreo.app.query.timeline import TimelineRow
from choreo.core.events import to_headers
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.read_model import InstanceView

Status: TypeAlias = Literal[
    "running", "paused", "compensating", "completed", "compensated", "stuck", "terminated", "truncated"
]


def _moment(time_ms: int) -> str | None:
    return moment(time_ms) if time_ms else None


Moment = Annotated[
    int,
    PlainSerializer(_moment),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}),
]


class Answer(BaseModel):
    """A model that is made from a value of a use case."""

    model_config: ClassVar[ConfigDict] = ConfigDict(from_attributes=True)


class EvidenceAnswer(Answer):
    """A fact that speaks for a cause."""

    name: str = Field(examples=["members of payment"])
    value: str = Field(examples=["none"])
    position: str = Field(description="Its place in the log; empty for a fact that is not there.")
    at: Moment = Field(validation_alias="at_ms")


class AlsoAnswer(Answer):
    """A further fault, of less weight than the cause."""

    cause: str
    sentence: str


class WhyAnswer(Answer):
    """Why a run stands still: one cause, its evidence, and the next command."""

    flow: str
    key: str
    run: str
    status: Status
    cause: str = Field(examples=["no-member"])
    healthy: bool = Field(description="Nothing is wrong.")
    sentence: str
    remedy: str
    command: str = Field(description="The next command; empty where there is nothing to do.")
    trace: str = Field(description="Id of the run's first trace, where traces are exported.")
    evidence: list[EvidenceAnswer]
    also: list[AlsoAnswer] = Field(description="Further faults, of less weight.")
    position: str = Field(description="The last event that the answer takes into account.", examples=["order/3/42"])
    as_of: Moment = Field(validation_alias="as_of_ms")


class ReceiptAnswer(Answer):
    """The event that was written, and its place. Pass `position` as `Choreo-Position` to a read that must see it."""

    id: str
    type: str = Field(examples=["OrderPlaced"])
    flow: str = Field(examples=["order"])
    key: str = Field(examples=["o-1001"])
    run: str = Field(description="Empty where the event belongs to the key's oldest open run.")
    position: str = Field(examples=["order/3/42"])
    duplicate: bool = Field(description="The event stands in the log already; nothing was published.")


class FlowSummary(Answer):
    """A flow and the number of its runs."""

    name: str = Field(examples=["order"])
    key: str = Field(description="The field that is the business key.", examples=["order_id"])
    starts: str = Field(examples=["OrderPlaced"])
    completes: str = Field(examples=["OrderConfirmed"])
    version: int
    counts: dict[str, int] = Field(description="Runs by status.", examples=[{"running": 3, "completed": 120}])


class FlowList(Answer):
    """Every flow that this process knows."""

    items: list[FlowSummary]


class InstanceSummary(Answer):
    """One run of a key."""

    flow: str
    key: str
    run: str
    status: Status
    cause: str = Field(description="Why it is compensating or stuck.")
    started: Moment = Field(validation_alias="started_ms")
    changed: Moment = Field(validation_alias="changed_ms")
    position: int = Field(description="Offset of the last event that is folded in.")
    partition: int
    attributes: dict[str, str] = Field(
        description="Scalar fields of the start event and search attributes; filter by `attr.NAME`."
    )


class InstancePage(Answer):
    """A page of runs, newest start first."""

    items: list[InstanceSummary]
    cursor: str = Field(description="Ask for the next page with it; empty at the end.")


class ExpectedStepAnswer(Answer):
    """A step with a trigger and without an outcome so far."""

    step: str
    trigger: str
    since: Moment = Field(validation_alias="since_ms")
    due: Moment = Field(validation_alias="due_ms")
    attempt: int = Field(description="The last attempt known to have failed.")
    retry: Moment = Field(validation_alias="retry_ms", description="Time of the next attempt.")
    held: bool = Field(description="The step waits until the run is resumed.")


class WaitAnswer(Answer):
    """An event from outside that the run waits for."""

    until: str = Field(examples=["ShipmentPicked"])
    since: Moment = Field(validation_alias="since_ms")
    due: Moment = Field(validation_alias="due_ms", description="Its time-out; null if it has none.")
    reminder: Moment = Field(validation_alias="reminder_ms", description="When the next reminder is due.")
    reminded: int = Field(description="Reminders that were published.")
    escalation: Moment = Field(validation_alias="escalation_ms", description="When it is escalated, if it was not yet.")


class ChildrenAnswer(Answer):
    """The children of one step, counted."""

    step: str
    trigger: str
    total: int
    started: int
    ended: int = Field(description="Children whose end was read, failed ones included.")
    failed: int
    undone: int
    stuck: int = Field(description="Children that cannot be undone.")


class EffectAnswer(Answer):
    """The effect that a step has, or may have."""

    entry: str
    step: str
    state: Literal["open", "requested", "undone", "nothing", "failed", "resolved"]
    in_doubt: bool = Field(description="Whether there is an effect is not known.")
    round: int = Field(description="How often its undo was requested.")
    cause: str
    due: Moment = Field(validation_alias="due_ms")
    retry: Moment = Field(validation_alias="retry_ms")


class InstanceAnswer(InstanceSummary):
    """One run with its details."""

    version: int
    build: str = Field(description="The build whose services work on it (CHOREO_BUILD); empty: those without one.")
    trace: str = Field(description="Id of its first trace, where traces are exported; later segments link to it.")
    outcome: str = Field(description="The way in which it completes, once that is known, where the flow has several.")
    deadline: Moment
    paused: Moment
    ended: Moment
    next_due: Moment
    next_timer: str = Field(description="The timer that is due then.")
    waiting_for: list[str] = Field(description="The events or actions that the run waits for; empty when it has ended.")
    expected: list[ExpectedStepAnswer]
    waits: list[WaitAnswer]
    ledger: list[EffectAnswer] = Field(description="Oldest entry first; undone from the last to the first.")
    children: list[ChildrenAnswer] = Field(description="The child flows of each step that has started some.")
    runs: list[str] = Field(description="Every run of the key, oldest first.")


class HistoryRowAnswer(Answer):
    """One event of an instance."""

    partition: int
    offset: int
    stamp: Moment = Field(validation_alias="stamp_ms", description="Time in the log: the time that rules.")
    id: str
    type: str
    run: str
    step: str
    causation: str
    trigger: str
    attempt: int
    version: int
    certain: bool
    entry: str
    round: int
    due: Moment = Field(validation_alias="due_ms")
    reason: str
    source: str
    time: Moment = Field(validation_alias="time_ms", description="Time of the event according to its producer.")
    traceparent: str
    tracestate: str
    baggage: str = Field(description="W3C Baggage, as in the event's header.")
    actor: str = Field(description="Author of an operator's fact; empty on others.", examples=["ann"])
    method: str = Field(description="How the author was established.", examples=["api-key", "oidc", "cli"])
    fields: dict[str, Any]
    unreadable: str = Field(description="Why the fields could not be decoded.")
    duplicate: bool = Field(description="A duplicate of an earlier event; every reader drops it.")


class HistoryPage(Answer):
    """Events in log order."""

    items: list[HistoryRowAnswer]
    after: int = Field(description="Ask for the rest with it; -1 at the end.")


class FailureAnswer(Answer):
    """The error of an attempt; at most 4 KB, without secrets."""

    type: str = Field(examples=["gateway.CardError"])
    message: str = Field(examples=["the card has expired"])
    causes: list[str] = Field(description="The errors behind it (`from` or while handling), nearest first.")
    members: list[str] = Field(description="The errors in a group, with those of inner groups, each with its place.")
    frames: list[str] = Field(description="Where: `file:line in function: code`, the innermost last.")


class TimelineRowAnswer(Answer):
    """One line of an instance's timeline."""

    at_ms: int = Field(description="Milliseconds since the instance started.")
    stamp: Moment = Field(validation_alias="stamp_ms")
    offset: int
    kind: str = Field(examples=["done"])
    text: str = Field(examples=["payment.charge done: PaymentCharged"])
    step: str
    type: str
    took_ms: int | None = Field(description="Milliseconds from its trigger to this event.")
    compensation: bool = Field(description="Whether it belongs to the compensation.")
    actor: str = Field(description="Author of an operator's fact; empty on others.")
    method: str = Field(description="How the author was established.")
    failure: FailureAnswer | None = Field(description="The error of the attempt, in a fact about a failure.")


class Timeline(Answer):
    """An instance's events in the words of a person."""

    items: list[TimelineRowAnswer]


class DeadLetterSummary(Answer):
    """A record that was set aside."""

    id: str
    flow: str
    position: str = Field(examples=["order/3/42"])
    key: str
    type: str
    service: str
    step: str = Field(description="Empty where the record was no step's.")
    cause: str
    set_aside: Moment
    redriven: int = Field(description="How often it was redriven.")


class DeadLetterPage(Answer):
    """Dead letters, newest first."""

    items: list[DeadLetterSummary]
    cursor: str = Field(description="Ask for the next page with it; empty at the end.")


class DeadLetterAnswer(DeadLetterSummary):
    """A dead letter with its record."""

    headers: dict[str, str]
    data_base64: str


class LivenessAnswer(Answer):
    """The process makes progress."""

    status: Literal["ok"]
    hosts: dict[str, float] = Field(description="Seconds since each host of this process last polled.")


class ReadinessAnswer(Answer):
    """The process can do its work, and its reads are recent."""

    status: Literal["ok"]
    read_model_lag: dict[str, int] = Field(description="Number of records that the read model is behind, by flow.")


def receipt_of(receipt: Receipt) -> ReceiptAnswer:
    """Return the receipt of a write."""
    return ReceiptAnswer(**{**msgspec.structs.asdict(receipt), "position": token_of(receipt.position)})


def summary_of(row: InstanceView) -> InstanceSummary:
    """Return one run as a list shows it."""
    return InstanceSummary.model_validate(row)


def instance_of(instance: Instance) -> InstanceAnswer:
    """Return one run with its details."""
    row, detail = instance.row, instance.detail
    return InstanceAnswer.model_validate(
        {
            "flow": row.flow,
            "key": row.key,
            "run": row.run,
            "status": row.status,
            "cause": row.cause,
            "started_ms": row.started_ms,
            "changed_ms": row.changed_ms,
            "position": row.position,
            "partition": row.partition,
            "attributes": row.attributes,
            "version": detail.version,
            "build": detail.build,
            "trace": instance.trace,
            "outcome": detail.outcome,
            "deadline": detail.due_ms,
            "paused": detail.paused_ms,
            "ended": detail.ended_ms,
            "next_due": detail.next_due_ms,
            "next_timer": instance.next_timer,
            "waiting_for": instance.waiting_for,
            "expected": detail.expected,
            "waits": detail.waits,
            "ledger": detail.ledger,
            "children": detail.children,
            "runs": instance.runs,
        }
    )


def timeline_of(rows: Iterable[TimelineRow]) -> Timeline:
    """Return an instance's timeline."""
    return Timeline.model_validate({"items": rows})


def dead_letter_of(dead_letter: DeadLetter) -> DeadLetterSummary:
    """Return one dead letter as a list shows it."""
    return DeadLetterSummary(**_dead_letter(dead_letter))


def dead_letter_and_record_of(dead_letter: DeadLetter) -> DeadLetterAnswer:
    """Return one dead letter with its record."""
    event = dead_letter.record.event
    return DeadLetterAnswer(
        **_dead_letter(dead_letter), headers=to_headers(event), data_base64=b64encode(event.data).decode("ascii")
    )


def _dead_letter(dead_letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": dead_letter.id,
        "flow": dead_letter.topic,
        "position": token_of(dead_letter.position),
        "key": dead_letter.record.event.key,
        "type": dead_letter.record.event.type,
        "service": dead_letter.service,
        "step": dead_letter.step,
        "cause": dead_letter.cause,
        "set_aside": dead_letter.set_aside_ms,
        "redriven": dead_letter.redriven,
    }
