"""The log: ordered, durable partitions of a flow's topic, and a consumer group's membership in them.

`Member.commit` is the one transport primitive: publish these events, and only when they are safe mark those inputs
finished, in one transaction where the transport has a sound one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from choreo.core.events import Envelope, Position, Record
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.inbox import GateSave, Outcome, RunMark
from choreo.ports.read_model import InstanceView
from choreo.ports.state import StateRow

TRACKER_GROUP = "tracker"
"""The consumer group of the saga tracker: its committed offsets are how far states and views are true."""


class Gained(msgspec.Struct, frozen=True):
    """A partition this member was just given: work from `committed`, which stood before `end` at that moment."""

    partition: int
    committed: int
    end: int


class Poll(msgspec.Struct, frozen=True):
    """What one poll brought. `lost` partitions are no longer this member's: their unfinished work is dropped.

    `read` says for each partition how far the log was read (next offset), also past records of no interest.
    """

    records: Sequence[Record] = ()
    gained: Sequence[Gained] = ()
    lost: Sequence[int] = ()
    read: Mapping[int, int] = {}
    full: bool = False
    """Whether the poll filled its limit: more is waiting."""


class Work(msgspec.Struct, frozen=True):
    """What one commit makes true together, in this order where a transport cannot do it at once.

    `marks` (by run), `gates` and `outcomes` are first written to the inbox, which settles `certain` and which outcome
    is published; then `letters` and `outputs` are published; then `states` and `views` are written; then `done`
    (partition → next offset) is committed.
    """

    outputs: Sequence[Envelope] = ()
    done: Mapping[int, int] = {}
    outcomes: Sequence[Outcome] = ()
    letters: Sequence[DeadLetter] = ()
    states: Sequence[StateRow] = ()
    views: Sequence[InstanceView] = ()
    marks: Mapping[str, RunMark] = {}
    gates: GateSave | None = None
    follow: Callable[[Sequence[Record]], Work] | None = None
    """Asked by a transport that appends in the transaction of the commit: given the records just appended, the work
    whose `states`, `views` and `done` are written there instead. It may be asked again, where a transaction is run
    again, and changes nothing itself; what it said last is what became true. Other transports never ask it."""


class Member(Protocol):
    """One member of a consumer group on one topic. Not thread-safe: used on one event loop.

    A commit may run while a poll waits, for work must not wait for news; never two polls at once, or two commits.
    """

    async def poll(self, limit: int, timeout_s: float) -> Poll:
        """At most `limit` records of its partitions in order, waiting up to `timeout_s` for the first.

        Also the heartbeat: a member that does not poll within the group's lease loses its partitions.
        """
        ...

    async def commit(self, work: Work) -> None:
        """Make the work true. Raises LeaseLostError when a partition in `done` has another owner: nothing is done.

        Where positions are a request of their own, those beside other work may be known to the group a second later,
        and are when a poll has brought nothing.
        """
        ...

    def pause(self, partitions: Sequence[int]) -> None:
        """Let polls bring nothing of these partitions (back-pressure) until `resume`; leases are kept."""
        ...

    def resume(self, partitions: Sequence[int]) -> None:
        """Undo `pause`."""
        ...

    async def close(self) -> None:
        """Leave the group at once, so that others take the partitions without waiting for the lease."""
        ...


class Log(Protocol):
    """The topics of every flow."""

    async def create(self, topic: str, partitions: int) -> None:
        """Make sure the topic exists; raises SettingsError if it exists with another partition count."""
        ...

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has; raises NotFoundError."""
        ...

    async def bytes_max(self, topic: str) -> int:
        """The most bytes that data and key of an event may have together; 0: there is no bound."""
        ...

    async def append(self, topic: str, events: Sequence[Envelope]) -> list[Position]:
        """Publish durably, each to its key's partition; returns positions in the order given."""
        ...

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """At most `limit` records from `offset` on, in order, with the log's stamps; [] at the end."""
        ...

    async def scan(
        self, topic: str, partition: int, offset: int, limit: int, types: frozenset[str]
    ) -> tuple[Sequence[Record], int]:
        """Look at some `limit` records from `offset` on; return those of these types, and the offset to go on from.

        That is `offset` itself only at the end. What is of another type is not decoded.
        """
        ...

    async def end(self, topic: str, partition: int) -> int:
        """The offset the next record will get."""
        ...

    async def stable_end(self, topic: str, partition: int) -> int:
        """Return the offset up to which records can be read now.

        It is the end, or the first record of a transaction that another producer has not finished. A read that finds
        nothing has come to this offset.
        """
        ...

    async def member(self, topic: str, group: str, name: str, types: frozenset[str] | None = None) -> Member:
        """Join a group. With `types`, records of other types are skipped before decoding (but move `read`)."""
        ...

    async def committed(self, topic: str, group: str) -> dict[int, int]:
        """The group's committed offset by partition; 0 where it has none. For lag."""
        ...

    async def close(self) -> None:
        """Release files, threads and connections."""
        ...
