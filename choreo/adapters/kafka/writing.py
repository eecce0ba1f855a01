"""A commit's work before its positions: outcomes, letters, outputs, states and views, each when the one before is safe.

Knows what it writes through; whether the member may, and the positions, are the member's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from choreo.adapters.membership import Ticket
from choreo.adapters.refusals import admit
from choreo.core.errors import ConflictError
from choreo.core.events import Envelope
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.inbox import Inbox, Memory
from choreo.ports.log import Work

Save = Callable[[Work], Awaitable[None]]
"""Writes the states and views of a work."""
Publish = Callable[[str, Sequence[Envelope]], Awaitable[Any]]
"""Publishes events to a topic, durably."""


class Writing(NamedTuple):
    """What works are written through."""

    publish: Publish
    add_letters: Callable[[Sequence[DeadLetter]], Awaitable[None]]
    inbox: Callable[[str], Inbox] | None
    save: Save | None
    memory: Callable[[str], Memory | None] | None

    def memory_of(self, ticket: Ticket) -> Memory | None:
        """What the group's inbox is kept in, where that may be lost while the log stays."""
        return self.memory(ticket.group) if self.memory else None

    async def write(self, ticket: Ticket, work: Work) -> None:
        """All of it but the positions.

        Raises ConflictError, before anything is written, on an event without a key or a store that is not there.
        """
        admit(ticket.topic, work.outputs)
        for outcome in work.outcomes:
            admit(ticket.topic, outcome.events)
        if (work.marks or work.outcomes or work.gates) and self.inbox is None:
            raise _missing(ticket, "marks, gates and outcomes", "inbox")
        if (work.states or work.views) and self.save is None:
            raise _missing(ticket, "states and views", "save")
        events: list[Envelope] = []
        if work.outcomes and self.inbox is not None:
            events += await self.inbox(ticket.group).record(work.outcomes)
        if work.letters:
            await self.add_letters(work.letters)
        events += work.outputs
        sending = self.publish(ticket.topic, events)
        if (work.marks or work.gates) and self.inbox is not None:
            # Needed before the positions, not before the outputs: whoever waits for these does not wait for both.
            await _both(sending, _remember(self.inbox(ticket.group), work))
        else:
            await sending
        if (work.states or work.views) and self.save is not None:
            await self.save(work)


async def _remember(inbox: Inbox, work: Work) -> None:
    if work.marks:
        await inbox.mark(work.marks)
    if work.gates is not None:
        await inbox.keep_gates(work.gates)


async def _both(*works: Awaitable[Any]) -> None:
    """Raises what the first to fail raised, when all are over."""
    for result in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _missing(ticket: Ticket, what: str, where: str) -> ConflictError:
    return ConflictError(
        f"nobody keeps {what}: this log was opened without `{where}`",
        where=ticket.place,
        remedy=f"Give KafkaLog `{where}`.",
    )
