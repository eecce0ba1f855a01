"""Write a batch of work in its order: the work, then the offsets, each when the one before is safe.

For logs without transactions: a crash between two of them repeats work, and duplicates are dropped. Knows no client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from choreo.adapters.assignment import MemberId
from choreo.adapters.errors import admit_batch
from choreo.core.errors import ConflictError
from choreo.core.events import Envelope
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.inbox import Inbox, InboxIdentity
from choreo.ports.log import CommitBatch

Save = Callable[[CommitBatch], Awaitable[None]]
"""Writes the states and views of a commit batch."""
Publish = Callable[[str, Sequence[Envelope]], Awaitable[Any]]
"""Publishes events to a topic, durably."""
Move = Callable[[Mapping[int, int]], Awaitable[None]]
"""Commits offsets, or has them committed soon."""


class CommitWriter(NamedTuple):
    """The stores and the log to which commit batches are written."""

    publish: Publish
    add_dead_letters: Callable[[Sequence[DeadLetter]], Awaitable[None]]
    inbox: Callable[[str], Inbox] | None
    save: Save | None
    memory: Callable[[str], InboxIdentity | None] | None

    def memory_of(self, member_id: MemberId) -> InboxIdentity | None:
        """Return the identity of the group's inbox, where the inbox may be lost while the log stays; else None."""
        return self.memory(member_id.group) if self.memory else None

    async def commit(self, member_id: MemberId, commit_batch: CommitBatch, move: Move) -> None:
        """Write the batch; once all of it is durable let `move` commit its offsets. Raises as `write` and `move` do."""
        await self.write(member_id, commit_batch)
        if commit_batch.done:
            await move(commit_batch.done)

    async def write(self, member_id: MemberId, commit_batch: CommitBatch) -> None:
        """Write dead letters, outcomes, outputs, states and views; not the offsets.

        Raises ConflictError, before anything is written, on an event without a key or a missing store.
        """
        admit_batch(member_id.topic, commit_batch)
        if (commit_batch.marks or commit_batch.outcomes or commit_batch.gates) and self.inbox is None:
            raise _missing(member_id, "marks, gates and outcomes", "inbox")
        if (commit_batch.states or commit_batch.views) and self.save is None:
            raise _missing(member_id, "states and views", "save")
        if commit_batch.dead_letters:  # first: an owner that finds the outcome does not look at the record again
            await self.add_dead_letters(commit_batch.dead_letters)
        events: list[Envelope] = []
        if commit_batch.outcomes and self.inbox is not None:
            events += await self.inbox(member_id.group).record(commit_batch.outcomes)
        events += commit_batch.outputs
        sending = self.publish(member_id.topic, events)
        if (commit_batch.marks or commit_batch.gates) and self.inbox is not None:
            # Needed before the offsets, not before the outputs: a reader that waits for the outputs waits for them
            # alone.
            await _both(sending, _remember(self.inbox(member_id.group), commit_batch))
        else:
            await sending
        if (commit_batch.states or commit_batch.views) and self.save is not None:
            await self.save(commit_batch)


async def _remember(inbox: Inbox, commit_batch: CommitBatch) -> None:
    if commit_batch.marks:
        await inbox.mark(commit_batch.marks)
    if commit_batch.gates is not None:
        await inbox.keep_gates(commit_batch.gates)


async def _both(*commits: Awaitable[Any]) -> None:
    """Wait for all, then raise the first error."""
    for result in await asyncio.gather(*commits, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _missing(member_id: MemberId, what: str, where: str) -> ConflictError:
    return ConflictError(
        f"{what} cannot be written: this log was opened without `{where}`",
        where=member_id.place,
        remedy=f"Give KafkaLog `{where}`.",
    )
