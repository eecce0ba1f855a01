"""The ends of all children of a step, read from the parent's log: a join's event has only the first hundred."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import msgspec

from choreo.core import children, facts
from choreo.core.crossing import ended_of
from choreo.ports.read_model import ReadModel

PAGE = 1_000


class ChildEnd(msgspec.Struct, frozen=True):
    """The end of one child that counts for the join: its first one."""

    offset: int
    place: int
    key: str
    outcome: str
    reason: str


class ChildEnds(NamedTuple):
    """A page of ends, in the order of the log; `after` asks for the rest, -1 at the end."""

    items: Sequence[ChildEnd]
    after: int


class WantedEnds(NamedTuple):
    """The ends of a step's children after an offset, at most `limit`; of every trigger unless one is named."""

    step: str
    run: str = ""
    """The run of the children's parent; empty: the key's newest."""
    trigger: str = ""
    after: int = -1
    limit: int = 1_000


async def child_ends(read_model: ReadModel, flow: str, key: str, wanted: WantedEnds) -> ChildEnds:
    """Return a page of the ends of a step's children."""
    found: list[ChildEnd] = []
    async for end in _ends(read_model, flow, key, wanted):
        if end.offset <= wanted.after:
            continue
        if len(found) == wanted.limit:
            return ChildEnds(found, found[-1].offset)
        found.append(end)
    return ChildEnds(found, -1)


async def _ends(read_model: ReadModel, flow: str, key: str, wanted: WantedEnds) -> AsyncIterator[ChildEnd]:
    """Yield the first end of each child. A later one, such as of a child that its parent undoes, is no result."""
    seen: set[tuple[str, int]] = set()
    after = -1
    while page := await read_model.history(flow, key, after, PAGE):
        for record in page:
            event = record.event
            if event.type != facts.CHILD_ENDED or event.parent or (event.run, event.step) != (wanted.run, wanted.step):
                continue
            ended, place = ended_of(event), (event.trigger, event.n)
            if ended is None or place in seen or wanted.trigger not in ("", event.trigger):
                continue
            seen.add(place)
            reason = event.reason[: children.REASON_CHARS] if ended.outcome != children.OK else ""
            yield ChildEnd(record.offset, event.n, ended.key, ended.outcome, reason)
        after = page[-1].offset
