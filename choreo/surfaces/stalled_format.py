"""The JSON of runs that stand still and of due times, the same over REST and on the command line."""

from __future__ import annotations

from pydantic import Field

from choreo.surfaces.json_format import Answer, Moment, Status


class StalledRunAnswer(Answer):
    """A run that stands longer in a step, wait or undo than runs usually do."""

    flow: str
    key: str
    run: str
    status: Status
    partition: int
    place: str = Field(description="The step, the wait, or `undo STEP`.", examples=["payment.charge"])
    since: Moment = Field(validation_alias="since_ms")
    age_ms: int
    limit_ms: int = Field(description="The time after which it counts as stalled.")
    p99_ms: int = Field(description="99 of 100 runs have left this place within that time; 0: not measured.")
    count: int = Field(description="Durations behind the measure.")
    ratio: float = Field(description="The age, in limits.")


class OrphanAnswer(Answer):
    """An event from outside without a run of its key."""

    flow: str
    type: str
    key: str
    position: str = Field(examples=["order/3/42"])
    stamp: Moment = Field(validation_alias="stamp_ms")
    source: str


class DueRunAnswer(Answer):
    """A run with its next due time."""

    flow: str
    key: str
    run: str
    status: Status
    due: Moment = Field(validation_alias="due_ms")
    about: str = Field(description="The timer that is due then.", examples=["the flow's deadline"])
    late_ms: int = Field(description="How long it has been due; 0: it is not.")


class StalledAnswer(Answer):
    """Everything of a flow that stands still."""

    flow: str
    runs: list[StalledRunAnswer] = Field(description="The one furthest beyond its measure first.")
    orphans: list[OrphanAnswer] = Field(description="The newest first.")
    overdue: list[DueRunAnswer] = Field(description="Due times that have passed, of which no fact in the log says so.")
    as_of: Moment = Field(validation_alias="as_of_ms")


class HeldUpAnswer(Answer):
    """Runs that stand in the steps of a group in one partition."""

    items: list[StalledRunAnswer] = Field(description="The one that stands there longest first.")


class DuePageAnswer(Answer):
    """Runs by their next due time, the earliest first."""

    items: list[DueRunAnswer]
    cursor: str = Field(description="Ask for the next page with it; empty at the end.")
