"""Forms that act on a run: the REST view's actions with its roles, answered with the page that shows the write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from choreo.app.operator.operator import Operator
from choreo.app.publish.publisher import Receipt
from choreo.app.query.read_your_writes import token_of
from choreo.core.access import Actor, Role
from choreo.core.errors import DecodeError
from choreo.surfaces.rest.parameters import FlowName, Key, Segment
from choreo.surfaces.rest.roles import Need
from choreo.surfaces.rest.use_cases import Asking, Injected
from choreo.surfaces.web.forms import Posted, done
from choreo.surfaces.web.links import Links
from choreo.surfaces.web.run_page import INSTANCE

router: APIRouter = APIRouter(prefix="/ui")
_EFFECT = f"{INSTANCE}/effects/{{entry}}"
ROLES: Mapping[str, Need] = {
    f"POST /ui{INSTANCE}/pause": Need(Role.OPERATOR),
    f"POST /ui{INSTANCE}/resume": Need(Role.OPERATOR),
    f"POST /ui{INSTANCE}/cancel": Need(Role.OPERATOR),
    f"POST /ui{INSTANCE}/terminate": Need(Role.ADMIN),
    f"POST /ui{_EFFECT}/retry": Need(Role.OPERATOR),
    f"POST /ui{_EFFECT}/resolve": Need(Role.ADMIN),
}


class Action(NamedTuple):
    """The run that a form acts on, the reason it gives, and the operator."""

    flow: str
    key: str
    run: str
    reason: str
    by: Actor
    operator: Operator
    links: Links

    async def take(self, act: Callable[..., Awaitable[Receipt]], *entry: str, needs_reason: bool = False) -> Response:
        """Act, and lead to the run's page; raises DecodeError where a reason is missing."""
        if needs_reason and not self.reason:
            raise DecodeError("a reason is required", where="reason", remedy="Give it in a sentence; the log keeps it.")
        receipt = await act(self.flow, self.key, *entry, run=self.run, reason=self.reason, by=self.by)
        after = token_of(receipt.position)
        return done(self.links.to("flows", self.flow, "instances", self.key, run=receipt.run, after=after))


async def _action(
    request: Request, flow: FlowName, key: Key, use_cases: Injected, caller: Asking, form: Posted
) -> Action:
    reason = form.get("reason", "").strip()
    return Action(flow, key, form.get("run", ""), reason, caller.actor, use_cases.operator, Links.of(request))


Acting = Annotated[Action, Depends(_action)]


@router.post(f"{INSTANCE}/pause")
async def _pause(act: Acting) -> Response:
    """Pause the run."""
    return await act.take(act.operator.pause)


@router.post(f"{INSTANCE}/resume")
async def _resume(act: Acting) -> Response:
    """Resume the run."""
    return await act.take(act.operator.resume)


@router.post(f"{INSTANCE}/cancel")
async def _cancel(act: Acting) -> Response:
    """Compensate the run: its effects are undone."""
    return await act.take(act.operator.cancel, needs_reason=True)


@router.post(f"{INSTANCE}/terminate")
async def _terminate(act: Acting) -> Response:
    """End the run as it is."""
    return await act.take(act.operator.terminate, needs_reason=True)


@router.post(f"{_EFFECT}/retry")
async def _retry(act: Acting, entry: Segment) -> Response:
    """Ask for a failed undo once more."""
    return await act.take(act.operator.retry_compensation, entry)


@router.post(f"{_EFFECT}/resolve")
async def _resolve(act: Acting, entry: Segment) -> Response:
    """Record that an effect was undone by hand."""
    return await act.take(act.operator.resolve_compensation, entry, needs_reason=True)
