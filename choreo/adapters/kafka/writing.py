"""A commit's work before its positions: outcomes, letters, outputs, states and views, each when the one before is safe.

Knows what it writes through; whether the member may, and the positions, are the member's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from choreo.adapters.kafka.records import message_of
from choreo.adapters.kafka.sender import Sender
from choreo.adapters.membership import Ticket
from choreo.adapters.refusals import admit
from choreo.core.errors import ConflictError
from choreo.core.events import Envelope
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.inbox import Inbox
from choreo.ports.log import Work

Save = Callable[[Work], Awaitable[None]]
"""Writes the states and views of a work."""


class Writing(NamedTuple):
    """What works are written through."""

    sender: Sender
    add_letters: Callable[[Sequence[DeadLetter]], Awaitable[None]]
    inbox: Callable[[str], Inbox] | None
    save: Save | None

    async def write(self, ticket: Ticket, topic: str, work: Work) -> None:
        """All of it but the positions, to the topic of this name in the cluster.

        Raises ConflictError, before anything is written, on an event without a key or a store that is not there.
        """
        admit(ticket.topic, work.outputs)
        for outcome in work.outcomes:
            admit(ticket.topic, outcome.events)
        if (work.marks or work.outcomes) and self.inbox is None:
            raise _missing(ticket, "marks and outcomes", "inbox")
        if (work.states or work.views) and self.save is None:
            raise _missing(ticket, "states and views", "save")
        events: list[Envelope] = []
        if work.marks and self.inbox is not None:
            await self.inbox(ticket.group).mark(work.marks)
        if work.outcomes and self.inbox is not None:
            events += await self.inbox(ticket.group).record(work.outcomes)
        if work.letters:
            await self.add_letters(work.letters)
        events += work.outputs
        await self.sender.send(topic, [message_of(event) for event in events])
        if (work.states or work.views) and self.save is not None:
            await self.save(work)


def _missing(ticket: Ticket, what: str, where: str) -> ConflictError:
    return ConflictError(
        f"nobody keeps {what}: this log was opened without `{where}`",
        where=ticket.place,
        remedy=f"Give KafkaLog `{where}`.",
    )
