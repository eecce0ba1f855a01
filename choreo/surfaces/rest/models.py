"""What the REST view answers, as pydantic models: the documented shapes. Times are RFC 3339 in UTC, null where none is.

Made from the use cases' values by attribute, so that a field renamed there fails here at once.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from choreo.app.query_words import moment

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
    """Made from a value of a use case."""

    model_config: ClassVar[ConfigDict] = ConfigDict(from_attributes=True)


class ReceiptAnswer(Answer):
    """What was written, and where. Pass `position` as `Choreo-Position` to read what follows from it."""

    id: str
    type: str = Field(examples=["OrderPlaced"])
    flow: str = Field(examples=["order"])
    key: str = Field(examples=["o-1001"])
    run: str = Field(description="Empty where the event belongs to the key's oldest open run.")
    position: str = Field(examples=["order/3/42"])
    duplicate: bool = Field(description="It stood in the log already; nothing was published.")


class FlowSummary(Answer):
    """A flow and how many runs of it there are."""

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
    cause: str = Field(description="Why it turned back or is stuck.")
    started: Moment = Field(validation_alias="started_ms")
    changed: Moment = Field(validation_alias="changed_ms")
    position: int = Field(description="Offset of the last event that is folded in.")
    partition: int
    attributes: dict[str, str] = Field(description="The start event's scalar fields; filter by `attr.NAME`.")


class InstancePage(Answer):
    """A page of runs, newest start first."""

    items: list[InstanceSummary]
    cursor: str = Field(description="Ask for the next page with it; empty at the end.")


class ExpectedStepAnswer(Answer):
    """A step whose trigger was seen and whose outcome was not."""

    step: str
    trigger: str
    since: Moment = Field(validation_alias="since_ms")
    due: Moment = Field(validation_alias="due_ms")
    attempt: int = Field(description="The last attempt known to have failed.")
    retry: Moment = Field(validation_alias="retry_ms", description="When the next attempt is woken.")
    held: bool = Field(description="It waits for the run to be resumed.")


class WaitAnswer(Answer):
    """An event from outside that the run waits for."""

    until: str = Field(examples=["ShipmentPicked"])
    since: Moment = Field(validation_alias="since_ms")
    due: Moment = Field(validation_alias="due_ms")


class EffectAnswer(Answer):
    """What a step left in the world, or may have left."""

    entry: str
    step: str
    state: Literal["open", "requested", "undone", "nothing", "failed", "resolved"]
    in_doubt: bool = Field(description="It is not known whether there is an effect.")
    round: int = Field(description="How often its undo was asked for.")
    cause: str
    due: Moment = Field(validation_alias="due_ms")
    retry: Moment = Field(validation_alias="retry_ms")


class InstanceAnswer(InstanceSummary):
    """One run with all that is known of it."""

    version: int
    deadline: Moment
    paused: Moment
    ended: Moment
    next_due: Moment
    next_timer: str = Field(description="What is due then.")
    waiting_for: list[str] = Field(description="What must happen for it to go on; empty when it has ended.")
    expected: list[ExpectedStepAnswer]
    waits: list[WaitAnswer]
    ledger: list[EffectAnswer] = Field(description="Oldest entry first; undone from the last to the first.")
    runs: list[str] = Field(description="Every run of the key, oldest first.")


class HistoryRowAnswer(Answer):
    """One event of an instance."""

    partition: int
    offset: int
    stamp: Moment = Field(validation_alias="stamp_ms", description="When the log took it: the time that rules.")
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
    time: Moment = Field(validation_alias="time_ms", description="When its maker says it happened.")
    traceparent: str
    fields: dict[str, Any]
    unreadable: str = Field(description="Why the fields could not be decoded.")
    twin: bool = Field(description="A duplicate of an earlier event; every reader drops it.")


class HistoryPage(Answer):
    """Events in log order."""

    items: list[HistoryRowAnswer]
    after: int = Field(description="Ask for the rest with it; -1 at the end.")


class FailureAnswer(Answer):
    """What an attempt raised; at most 4 KB, without secrets."""

    type: str = Field(examples=["gateway.CardError"])
    message: str = Field(examples=["the card has expired"])
    causes: list[str] = Field(description="What it was raised from or while handling, nearest first.")
    frames: list[str] = Field(description="Where: `file:line in function: code`, the innermost last.")


class TimelineRowAnswer(Answer):
    """One line of an instance's story."""

    at_ms: int = Field(description="Milliseconds since the instance started.")
    stamp: Moment = Field(validation_alias="stamp_ms")
    offset: int
    kind: str = Field(examples=["done"])
    text: str = Field(examples=["payment.charge done: PaymentCharged"])
    step: str
    type: str
    took_ms: int | None = Field(description="From what made it happen to this.")
    undo: bool = Field(description="It belongs to the way back.")
    failure: FailureAnswer | None = Field(description="What an attempt raised, in a fact that says it has failed.")


class Timeline(Answer):
    """An instance's story as a person tells it."""

    items: list[TimelineRowAnswer]


class DeadLetterSummary(Answer):
    """A record that was set aside."""

    id: str
    flow: str
    position: str = Field(examples=["order/3/42"])
    key: str
    type: str
    service: str
    step: str = Field(description="Empty where it was no step's.")
    cause: str
    set_aside: Moment
    redriven: int = Field(description="How often it was given back.")


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
    """Reads answer, and answer what is true."""

    status: Literal["ok"]
    read_model_lag: dict[str, int] = Field(description="Records that the read model is behind, by flow.")
