"""The JSON of batches and of groups of dead letters, the same over REST and on the command line."""

from __future__ import annotations

from pydantic import Field

from choreo.app.operator.batch_plans import Draft
from choreo.app.operator.batches import Batch
from choreo.core.access import actor_of
from choreo.surfaces.json_format import Answer, Moment


class ItemAnswer(Answer):
    """A run or dead letter of a batch."""

    id: str = Field(description="The run's id, or the dead letter's.")
    key: str


class RefusedAnswer(Answer):
    """An item that is left out, and the reason."""

    id: str
    key: str
    why: str


class DraftAnswer(Answer):
    """A batch that was planned, and not begun."""

    flow: str
    action: str = Field(examples=["redrive"])
    about: str = Field(description="The chosen items, in words.", examples=["dead letters of group 3f2a91c4"])
    count: int = Field(description="Items that would be acted on.")
    seconds: float = Field(description="How long it would take at this rate, at least.")
    first: list[ItemAnswer] = Field(description="The first of them, at most 20.")
    refused: int = Field(description="Items that would be refused: they are left out.")
    reasons: list[RefusedAnswer] = Field(description="The first of those, at most 1,000.")


class BatchAnswer(Answer):
    """A batch and its progress."""

    id: str
    flow: str
    action: str = Field(examples=["redrive"])
    about: str = Field(description="The chosen items, in words.")
    state: str = Field(examples=["running", "stopped", "done"])
    total: int = Field(description="Items of the batch.")
    settled: int = Field(description="Items that are done or refused.")
    done: int = Field(description="Items whose fact stands in the log.")
    refused: int = Field(description="Items that were refused when their turn came.")
    reasons: list[RefusedAnswer] = Field(description="The first of those, at most 1,000.")
    rate: float = Field(description="Items a second, at most.")
    reason: str
    actor: str = Field(examples=["ann"])
    method: str = Field(description="How the actor was established.", examples=["api-key", "oidc", "cli"])
    created: Moment


class BatchList(Answer):
    """The newest batches."""

    items: list[BatchAnswer]


class GroupAnswer(Answer):
    """Dead letters with one cause."""

    id: str
    flow: str
    step: str = Field(description="The step, or the service where the records were no step's.")
    schema_: str = Field(
        validation_alias="schema", serialization_alias="schema", description="The event's type, with its schema."
    )
    cause: str = Field(description="The cause, with an ellipsis for each part that differs.")
    count: int
    redriven: int = Field(description="Letters of it that were redriven already.")
    oldest: Moment = Field(validation_alias="oldest_ms")
    newest: Moment = Field(validation_alias="newest_ms")
    example: str = Field(description="Id of the newest letter.")


class GroupList(Answer):
    """The dead letters of a flow in groups, the largest first."""

    items: list[GroupAnswer]


def draft_of(draft: Draft) -> DraftAnswer:
    """Return a plan that was not begun."""
    plan = draft.plan
    return DraftAnswer.model_validate(
        {
            "flow": plan.flow,
            "action": plan.action,
            "about": plan.about,
            "count": len(plan.items),
            "seconds": len(plan.items) / plan.rate,
            "first": draft.first,
            "refused": draft.refused,
            "reasons": draft.reasons,
        }
    )


def batch_of(batch: Batch) -> BatchAnswer:
    """Return a batch with its progress."""
    plan, progress, by = batch.plan, batch.progress, actor_of(batch.plan.by)
    return BatchAnswer.model_validate(
        {
            "id": plan.id,
            "flow": plan.flow,
            "action": plan.action,
            "about": plan.about,
            "state": progress.state,
            "total": len(plan.items),
            "settled": progress.at,
            "done": progress.done,
            "refused": progress.refused,
            "reasons": progress.reasons,
            "rate": plan.rate,
            "reason": plan.reason,
            "actor": by.name,
            "method": by.method,
            "created": plan.created_ms,
        }
    )
