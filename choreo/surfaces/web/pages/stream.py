"""The one stream of a browser's tab (server-sent events): the page has changed, and how far it is behind the log.

An event's id is a mark of the positions that it is about, so that a stream which was cut goes on without a loss. The
stream ends when the credential of its reader does not hold any more, and when the server stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from markupsafe import escape

from choreo.app.query.freshness import Freshness
from choreo.app.query.status_text import duration
from choreo.core.access import Role
from choreo.core.wording import counted
from choreo.surfaces.rest.access import require, still_admitted
from choreo.surfaces.rest.roles import Need, Within
from choreo.surfaces.rest.use_cases import Asking, Injected, UseCases
from choreo.surfaces.web.changes import Changes, mark_of

router: APIRouter = APIRouter(prefix="/ui")
ROLES: Mapping[str, Need] = {"GET /ui/stream": Need(Role.VIEWER, Within.ANY)}

CHANGED = "choreo-changed"
ENDED = "choreo-ended"
HEARTBEAT_S = 15.0
"""Proxies commonly cut a stream that is silent for 30 to 60 s."""
RETRY_MS = 1_000
LATE_MS = 1_000
"""From here on the page says that it is behind: a tracker reads a record within milliseconds."""


class Subject(NamedTuple):
    """The part of the log that a page shows."""

    flows: Sequence[str]
    partition: int
    """Of the only flow; -1: all."""

    def stamp(self, states: Sequence[Freshness], fault: str) -> str:
        """Return how far the page is true, as HTML."""
        if fault:
            return f'<span class="warning">The page cannot be refreshed now: {escape(fault)}.</span>'
        behind, behind_ms = sum(state.behind for state in states), max((state.behind_ms for state in states), default=0)
        late = behind and behind_ms >= LATE_MS
        shown = ", ".join(self._shown(state) for state in states)
        text = f"True up to {escape(shown)}, {duration(behind_ms) if late else '0 ms'} behind"
        if not late:
            return f"<span>{text}.</span>"
        records = counted(behind, "record")
        remedy = "is the process that fills the read model running? choreo run tracker, on Kafka choreo run projector"
        return f'<span class="warning">{text}: {records} not shown; {remedy}.</span>'

    def _shown(self, state: Freshness) -> str:
        if self.partition >= 0:
            return f"{state.flow}/{self.partition}/{max(0, state.positions.get(self.partition, 0) - 1)}"
        return f"event {state.shown:,} of {state.flow}"


@router.get("/stream")
async def _stream(
    *,
    request: Request,
    use_cases: Injected,
    caller: Asking,
    flow: Annotated[str, Query(max_length=249)] = "",
    partition: Annotated[int, Query(ge=-1, le=10**9)] = -1,
    since: Annotated[str, Query(max_length=64)] = "",
    last_event_id: Annotated[str, Header(max_length=64)] = "",
) -> StreamingResponse:
    """Stream changes of the flows that the caller may see, or of one, or of one of its partitions."""
    if flow:
        require(caller, Role.VIEWER, flow)
        use_cases.flows.definition(flow)
    names = [flow] if flow else [name for name in use_cases.flows.names if caller.may(Role.VIEWER, name)]
    subject = Subject(names, partition if flow else -1)
    events = _events(use_cases, request.app.state.changes, subject, still_admitted(request), last_event_id or since)
    return StreamingResponse(
        events, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )


async def _events(
    use_cases: UseCases, changes: Changes, subject: Subject, admitted: Callable[[], Awaitable[bool]], mark: str
) -> AsyncIterator[str]:
    yield f"retry: {RETRY_MS}\n\n"
    stamp, silent_since_ms = "", use_cases.clock.elapsed_ms()
    with changes.watched(subject.flows):
        while not use_cases.closing.is_set():
            if not await admitted():
                yield f"event: {ENDED}\ndata: the credential does not hold any more\n\n"
                return
            said = ""
            states = changes.known(subject.flows)
            if states or changes.fault:
                now = mark_of(states, subject.partition)
                if now and now != mark:
                    said, mark = f"id: {now}\nevent: {CHANGED}\ndata: {now}\n\n", now
                if (new := subject.stamp(states, changes.fault)) != stamp:
                    said, stamp = f"{said}data: {new}\n\n", new
            elapsed_ms = use_cases.clock.elapsed_ms()
            if not said and elapsed_ms - silent_since_ms >= HEARTBEAT_S * 1_000:
                said = ": heartbeat\n\n"
            if said:
                silent_since_ms = elapsed_ms
                yield said
            await _next(changes, use_cases)


async def _next(changes: Changes, use_cases: UseCases) -> None:
    """Wait for the next look, or until the server stops."""
    waits = [asyncio.create_task(changes.next_look()), asyncio.create_task(use_cases.closing.wait())]
    try:
        await asyncio.wait(waits, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
