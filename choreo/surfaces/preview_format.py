"""The JSON of a preview: an action's consequences, the same over REST and on the command line."""

from __future__ import annotations

from pydantic import Field

from choreo.surfaces.json_format import Answer, Moment


class DecidedAnswer(Answer):
    """A fact that the tracker will publish."""

    type: str = Field(examples=["choreo.CompensationStarted"])
    step: str
    reason: str


class UndoAnswer(Answer):
    """A compensation that will be requested, or that cannot be."""

    step: str = Field(examples=["payment.charge"])
    entry: str
    in_doubt: bool
    cause: str = Field(description="Why it cannot be requested; empty where it will be.")
    asked: bool = Field(description="It is under way already.")


class MovedAnswer(Answer):
    """A timer with another due time."""

    about: str = Field(examples=["the flow's deadline"])
    before: Moment = Field(validation_alias="before_ms")
    after: Moment = Field(validation_alias="after_ms")


class ChangedAnswer(Answer):
    """A field of the shown state that differs, with both values in words."""

    field: str = Field(examples=["status"])
    before: str
    after: str


class PreviewAnswer(Answer):
    """The consequences of an action, if it were done now."""

    flow: str
    key: str
    run: str
    fact: str = Field(description="Type of the fact that the action publishes.", examples=["choreo.CancelRequested"])
    status: str = Field(description="Status before; empty where the run is not known yet.", examples=["running"])
    becomes: str = Field(description="Status right after it.", examples=["compensating"])
    end: str = Field(
        description="Status in which a run that compensates comes to rest, if every compensation answers; else empty."
    )
    refused: str = Field(description="Why the tracker will refuse it; empty where it will not.")
    sentences: list[str] = Field(description="The consequences in words, the most important first.")
    decided: list[DecidedAnswer] = Field(description="Facts that the tracker publishes for it at once.")
    undos: list[UndoAnswer] = Field(description="Compensations in the order of their requests.")
    under_way: list[str] = Field(description="Steps without an outcome.")
    fragile: list[str] = Field(description="Those of them that leave the run stuck if they end in doubt.")
    remaining: list[str] = Field(description="Steps whose effects stay, because the run ends as it is.")
    timers: list[MovedAnswer] = Field(description="Timers whose due time changes; null: not due, or no longer.")
    changed: list[ChangedAnswer] = Field(description="Fields of the shown state that differ right after it.")
    position: str = Field(description="The last event that is taken into account.", examples=["order/3/42"])
    as_of: Moment = Field(validation_alias="as_of_ms")
