"""Runs at positions of their log, for the routes of REST view and page; and the route with the changes between two."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from pydantic import Field

from choreo.app.query.comparison import Changed
from choreo.app.query.past import Between, Past, Pasts, Until
from choreo.core.access import Caller
from choreo.core.errors import NotFoundError
from choreo.ports.read_model import InstanceView
from choreo.surfaces.json_format import Answer, TimelineRowAnswer
from choreo.surfaces.rest.error_responses import refused
from choreo.surfaces.rest.masking import Masking
from choreo.surfaces.rest.parameters import At, FlowName, Key, ReadYourWrites, Run
from choreo.surfaces.rest.use_cases import Asking, Hiding, Injected, UseCases

router: APIRouter = APIRouter(prefix="/flows/{flow}/instances", tags=["instances"])


class ChangedAnswer(Answer):
    """A field of a run's state that differs between two positions, in words."""

    field: str = Field(examples=["effects"])
    before: str = Field(examples=["none"])
    after: str = Field(examples=["payment.charge open"])


class ChangesAnswer(Answer):
    """The difference of two positions."""

    run: str
    started: bool = Field(description="Whether the run had started at the first position.")
    offset: int = Field(description="Offset of the key's last event up to the second position.")
    changed: list[ChangedAnswer]
    events: list[TimelineRowAnswer] = Field(description="The events of the run between the two positions.")


async def past_of(use_cases: UseCases, caller: Caller, hiding: Masking, flow: str, key: str, run: str, at: str) -> Past:
    """Return a run at a position, as the caller may see it. Raises DecodeError, NotFoundError."""
    pasts, until = await _until(use_cases, flow, key, at)
    past = await pasts.at(flow, key, until, run)
    instance = msgspec.structs.replace(past.instance, row=hiding.instance(caller, past.instance.row))
    return msgspec.structs.replace(past, instance=instance)


async def between_of(
    use_cases: UseCases, caller: Caller, hiding: Masking, flow: str, key: str, run: str, positions: tuple[str, str]
) -> Between:
    """Return the difference of two positions, as the caller may see it; "" is the begin and the end of the log."""

    def shown(row: InstanceView) -> InstanceView:
        return hiding.instance(caller, row)

    first, last = positions
    pasts, until = await _until(use_cases, flow, key, last)
    since = await pasts.until(first, flow, key) if first else Until(-1)
    return await pasts.between(flow, key, since, until, run, shown)


async def _until(use_cases: UseCases, flow: str, key: str, at: str) -> tuple[Pasts, Until]:
    use_cases.flows.definition(flow)
    if use_cases.pasts is None:
        raise NotFoundError("this process folds no past", where="at", remedy="Leave it out to see the present.")
    return use_cases.pasts, await use_cases.pasts.until(at, flow, key)


@router.get(
    "/{key}/changes",
    operation_id="getChanges",
    summary="The difference of two positions of a run",
    dependencies=[ReadYourWrites],
    responses=refused(404),
)
async def _get_changes(
    *,
    flow: FlowName,
    key: Key,
    use_cases: Injected,
    caller: Asking,
    hiding: Hiding,
    since: Annotated[At, Query(description="The first position; without it the begin of the log.")] = "",
    at: At = "",
    run: Run = "",
) -> ChangesAnswer:
    """Compare the states that a run had at two positions, and list its events between them."""
    between = await between_of(use_cases, caller, hiding, flow, key, run, (since, at))
    return ChangesAnswer.model_validate(
        {
            "run": between.after.instance.row.run,
            "started": between.before is not None,
            "offset": between.after.offset,
            "changed": list(map(Changed._asdict, between.changed)),
            "events": between.events,
        }
    )
