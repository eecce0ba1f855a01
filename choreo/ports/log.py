"""The log: ordered, durable partitions of a flow's topic, and a consumer group's membership in them.

`Consumer.commit` is the one transport primitive: publish these events, and only when they are durable mark those inputs
finished, in one transaction where the transport supports it reliably.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

from choreo.core.events import Envelope, Position, Record
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.inbox import GateSave, Outcome, RunMark
from choreo.ports.read_model import InstanceView
from choreo.ports.state import StateRow

TRACKER_GROUP = "tracker"
"""The consumer group of the saga tracker: states and views are true up to its committed offsets."""


BRIDGE_GROUP = "bridge"
"""The consumer group of the bridge: up to its offsets, other logs have every carried event of this one."""


def service_group(service: str, build: str = "") -> str:
    """Return the consumer group of a service's hosts; those of a build have one, and an inbox, of their own."""
    return f"{service}@{build}" if build else service


Admits: TypeAlias = Callable[[str, str], bool]
"""Whether a scan returns a record of this type and key; called once for each in the order of the log, in any thread."""


class GroupMember(msgspec.Struct, frozen=True):
    """A live member of a consumer group on one topic, and the partitions that it owns now."""

    name: str
    host: str = ""
    """The address from which it is connected; "" where the log has no connections."""
    partitions: tuple[int, ...] = ()
    id: str = ""
    """New with every membership: a process that joins again has another one."""
    client: str = ""
    """The process by its own name: two members of one name may be two processes."""


class Assigned(msgspec.Struct, frozen=True):
    """A partition that this consumer was just assigned: start at `committed`; `end` is the log's end at that moment."""

    partition: int
    committed: int
    end: int
    unread_until: int = 0
    """Records before this offset were deleted before the group had read them; 0: none were."""
    changed: Sequence[str] | None = None
    """Keys of stored states that others may have written since this consumer last had the partition; None: any key."""


class Poll(msgspec.Struct, frozen=True):
    """The result of one poll. `revoked` partitions belong to others now: their unfinished work is dropped.

    `read` is for each partition the next offset to read, also past records of other types.
    """

    records: Sequence[Record] = ()
    assigned: Sequence[Assigned] = ()
    revoked: Sequence[int] = ()
    read: Mapping[int, int] = {}
    full: bool = False
    """Whether the poll filled its limit: more is waiting."""


class CommitBatch(msgspec.Struct, frozen=True):
    """The writes of one commit, in this order where a transport cannot make them together.

    `marks` (by run), `gates` and `outcomes` are first written to the inbox, which decides `certain` and the outcome to
    publish; then `dead_letters` and `outputs` are published; then `states` and `views` are written; then `done`
    (partition → next offset) is committed.
    """

    outputs: Sequence[Envelope] = ()
    done: Mapping[int, int] = {}
    outcomes: Sequence[Outcome] = ()
    dead_letters: Sequence[DeadLetter] = ()
    states: Sequence[StateRow] = ()
    views: Sequence[InstanceView] = ()
    marks: Mapping[str, RunMark] = {}
    gates: GateSave | None = None
    follow: Callable[[Sequence[Record]], CommitBatch] | None = None
    """Callback of a transport that appends in the transaction of the commit: it gets the records just appended, and
    returns the batch of which `states`, `views` and `done` are written instead. It may run again with its
    transaction, and changes nothing itself; the last result is committed. Other transports never call it."""


class Consumer(Protocol):
    """One consumer of a group on one topic. Not thread-safe: used on one event loop.

    A commit may run while a poll waits, because work must not wait for new records; never two polls at once, or two
    commits.
    """

    async def poll(self, limit: int, timeout_s: float) -> Poll:
        """Return at most `limit` records of its partitions in order, waiting up to `timeout_s` for the first.

        Each poll is also the heartbeat: a consumer that does not poll within the group's lease loses its partitions.
        """
        ...

    async def commit(self, work: CommitBatch) -> None:
        """Write the batch. Raises LeaseLostError when a partition in `done` has another owner: nothing is written.

        Where offsets are a separate request, those committed beside other work may reach the group up to a second
        later, at the latest when a poll returns nothing.
        """
        ...

    def pause(self, partitions: Sequence[int]) -> None:
        """Return no records of these partitions from polls (back-pressure) until `resume`; leases are kept."""
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
        """Create the topic unless it exists; raises SettingsError if it exists with another partition count."""
        ...

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions of the topic; raises NotFoundError."""
        ...

    async def bytes_max(self, topic: str) -> int:
        """Return the most bytes that data and key of an event may have together; 0: there is no bound."""
        ...

    async def append(self, topic: str, events: Sequence[Envelope]) -> list[Position]:
        """Publish durably, each to its key's partition; return positions in the same order."""
        ...

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return at most `limit` records from `offset` on, in order, with the log's stamps; [] at the end."""
        ...

    async def scan(
        self,
        topic: str,
        partition: int,
        offset: int,
        limit: int,
        types: frozenset[str],
        admits: Admits | None = None,
    ) -> tuple[Sequence[Record], int]:
        """Scan some `limit` records from `offset` on; return those of these types, and the offset to go on from.

        The returned offset is `offset` itself only at the end. Records of other types are not decoded. Of the records
        of these types, those that `admits` refuses are left out, too.
        """
        ...

    async def end(self, topic: str, partition: int) -> int:
        """Return the offset that the next record will get."""
        ...

    async def stable_end(self, topic: str, partition: int) -> int:
        """Return the offset up to which records can be read now.

        It is the end, or the first record of a transaction that another producer has not finished. A read that finds
        nothing has reached this offset.
        """
        ...

    async def consumer(self, topic: str, group: str, name: str, types: frozenset[str] | None = None) -> Consumer:
        """Join a group. With `types`, records of other types are skipped before decoding (but move `read`)."""
        ...

    async def committed(self, topic: str, group: str) -> dict[int, int]:
        """Return the group's committed offset by partition; 0 where it has none. For lag."""
        ...

    async def members(self, topic: str, group: str) -> list[GroupMember]:
        """Return the live members of the group on this topic, by name; [] for a group that never was. For people.

        A member whose lease has expired is not live. Raises NotFoundError on an unknown topic.
        """
        ...

    async def close(self) -> None:
        """Release files, threads and connections."""
        ...
