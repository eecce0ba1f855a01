"""Consumer groups as rows: memberships, leases, committed offsets, and the commit of a batch in one transaction.

The transaction of a commit checks the member's leases: a member that was declared dead and is still alive writes
nothing. Every change of membership raises the counter `epoch` in `meta`, so that reading one row shows whether the
other rows must be read.

Nothing here needs a flush of its own: another write is flushed before a handler or a request from outside learns of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from choreo.adapters.assignment import GroupState, Lease, MemberId, Membership, live_members, rebalance
from choreo.adapters.errors import admit_batch, lease_lost
from choreo.adapters.notifier import Notifier
from choreo.adapters.sqlite.bulk import Bulk
from choreo.adapters.sqlite.change_notifier import ChangeNotifier
from choreo.adapters.sqlite.database import Database
from choreo.adapters.sqlite.dead_letters import SqliteDeadLetters
from choreo.adapters.sqlite.inbox import SqliteInbox
from choreo.adapters.sqlite.read_model import SqliteReadModel
from choreo.adapters.sqlite.records import Records
from choreo.adapters.sqlite.state import SqliteStates
from choreo.adapters.sqlite.writer import Until, Writer
from choreo.core.events import Record
from choreo.ports.clock import Clock
from choreo.ports.log import CommitBatch, GroupMember

_COMMIT_OFFSETS = Bulk(
    "offsets (topic, grp, partition, offset)",
    "ON CONFLICT (topic, grp, partition) DO UPDATE SET offset = excluded.offset",
)
_MEMBERSHIP = """INSERT INTO memberships (topic, grp, name, incarnation, expires_ms) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (topic, grp, name) DO UPDATE SET incarnation = excluded.incarnation, expires_ms = excluded.expires_ms"""
_LEASE = """INSERT INTO leases (topic, grp, partition, owner, epoch) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (topic, grp, partition) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch"""


class Stores(NamedTuple):
    """The stores that a commit writes besides the log."""

    inbox: Callable[[str], SqliteInbox]
    dead_letters: SqliteDeadLetters
    states: SqliteStates
    views: SqliteReadModel


class ConsumerGroups:
    """`choreo.adapters.consumer.GroupBackend` in a file.

    `lease_s`: how long a member that does not poll keeps its membership.
    """

    def __init__(
        self,
        database: Database,
        writer: Writer,
        watch: ChangeNotifier,
        notifier: Notifier,
        records: Records,
        stores: Stores,
        *,
        clock: Clock,
        lease_s: float,
    ) -> None:
        self._database = database
        self._writer = writer
        self._changes = watch
        self._notifier = notifier
        self._records = records
        self._stores = stores
        self._clock = clock
        self.lease_s = lease_s
        self._version: int | None = None
        self._leases: dict[tuple[str, str], tuple[int, dict[int, tuple[str, int]]]] = {}
        """(topic, group) → the version of these leases, and partition → (owner, epoch)."""
        self.scan: Callable[[str, int, int, int, frozenset[str] | None], tuple[Sequence[Record], int]] = records.scan
        self.end: Callable[[str, int], int] = records.end
        self.ends: Callable[[str], list[int]] = records.ends

    def forget(self) -> None:
        """Drop the cached values after a write of another process."""
        self._version = None

    def undone(self) -> None:
        """Drop the cached values after a rollback: the numbers that the transaction took will be issued again."""
        self._version = None
        self._leases.clear()

    async def join(self, topic: str, group: str, name: str) -> MemberId:
        """Create the membership; free everything that an older member of this name owned."""

        def job() -> MemberId:
            member_id = MemberId(topic, group, name, self._next_epoch())
            known = self.group_state(topic, group).leases
            for partition in range(len(self._records.partition_ids(topic))):
                if partition not in known or known[partition].owner == name:
                    self._assign_partition(member_id, partition, "")
            self._write_membership(member_id)
            return member_id

        return await self._writer.write(job, Until.COMMITTED)

    def version(self, *, look: bool) -> int:
        """Return a number that moves with every change of a group's membership.

        `look`: also with the changes of other processes.
        """
        if look:
            self._changes.look()
        return self._known_version()

    def group_state(self, topic: str, group: str) -> GroupState:
        """Return the group's rows."""
        memberships = self._database.query(
            "SELECT name, incarnation, expires_ms FROM memberships WHERE topic = ? AND grp = ?", (topic, group)
        )
        leases = self._database.query(
            """SELECT partition, owner, epoch, coalesce(offset, 0) FROM leases
            LEFT JOIN offsets USING (topic, grp, partition) WHERE topic = ? AND grp = ?""",
            (topic, group),
        )
        return GroupState(
            {name: Membership(*row) for name, *row in memberships}, {number: Lease(*row) for number, *row in leases}
        )

    async def renew(self, member_id: MemberId) -> GroupState:
        """Renew the membership and return the state of the group, for the member's part in the rebalance."""
        return await self._writer.write(lambda: self._rebalance(member_id), Until.COMMITTED)

    async def leave(self, member_id: MemberId) -> None:
        """Delete the membership and free its partitions, unless a newer member of its name has them."""

        def job() -> None:
            group_state = self.group_state(member_id.topic, member_id.group)
            membership = group_state.memberships.get(member_id.name)
            if membership is not None and membership.incarnation == member_id.incarnation:
                self._delete_membership(member_id, member_id.name)
                for partition, lease in group_state.leases.items():
                    if lease.owner == member_id.name:
                        self._assign_partition(member_id, partition, "")

        await self._writer.write(job, Until.COMMITTED)

    async def commit(
        self, member_id: MemberId, epochs: Mapping[int, int], commit_batch: CommitBatch
    ) -> Mapping[int, int]:
        """Check the epochs, then write the whole batch; the port describes the order."""
        admit_batch(member_id.topic, commit_batch)

        def job() -> Mapping[int, int]:
            leases = self._owners(member_id)
            lost = sorted(p for p, epoch in epochs.items() if leases.get(p) != (member_id.name, epoch))
            if lost:
                raise lease_lost(member_id, lost)
            inbox = self._stores.inbox(member_id.group)
            if commit_batch.marks:
                inbox.mark_now(commit_batch.marks)
            if commit_batch.gates is not None:
                inbox.keep_gates_now(commit_batch.gates)
            published, save = inbox.settle(commit_batch.outcomes)
            self._stores.dead_letters.write(commit_batch.dead_letters)
            records = self._records.append(member_id.topic, [*published, *commit_batch.outputs])
            save(records)
            whole = commit_batch.follow(records) if commit_batch.follow and records else commit_batch
            self._stores.states.write(whole.states)
            self._stores.views.write(whole.views)
            done = [(member_id.topic, member_id.group, partition, offset) for partition, offset in whole.done.items()]
            _COMMIT_OFFSETS.write(self._database.connection, done)
            return whole.done

        return await self._writer.write(job, Until.COMMITTED)

    def listen(self, topic: str, types: frozenset[str] | None = None) -> asyncio.Future[None]:
        """Return a future that is done when the topic has new records of these types or a group has changed."""
        return self._changes.listen(topic, types)

    def committed(self, topic: str, group: str) -> dict[int, int]:
        """Return the group's committed offsets; a partition without one is absent."""
        return dict(
            self._database.query("SELECT partition, offset FROM offsets WHERE topic = ? AND grp = ?", (topic, group))
        )

    def members(self, topic: str, group: str) -> list[GroupMember]:
        """Return the group's live members."""
        return live_members(self.group_state(topic, group), self._clock.elapsed_ms())

    def rewind(self, topic: str, group: str) -> None:
        """Set the group back to the beginning, inside a transaction.

        Its members lose their partitions and begin again.
        """
        self._database.connection.execute("DELETE FROM offsets WHERE topic = ? AND grp = ?", (topic, group))
        member_id = MemberId(topic, group, "", 0)
        for partition in self.group_state(topic, group).leases:
            self._assign_partition(member_id, partition, "")

    def _rebalance(self, member_id: MemberId) -> GroupState:
        group_state = self.group_state(member_id.topic, member_id.group)
        mine = rebalance(group_state, member_id, self._clock.elapsed_ms())
        if mine.fenced:
            return group_state
        self._write_membership(member_id)
        for name in mine.expired:
            self._delete_membership(member_id, name)
        for partition in mine.release:
            self._assign_partition(member_id, partition, "")
        for partition in mine.claim:
            self._assign_partition(member_id, partition, member_id.name)
        return self.group_state(member_id.topic, member_id.group) if mine.moves else group_state

    def _owners(self, member_id: MemberId) -> Mapping[int, tuple[str, int]]:
        """Return the group's leases as of this transaction; read them again only when the membership has changed."""
        version = self._known_version()
        known = self._leases.get((member_id.topic, member_id.group))
        if known is None or known[0] != version:
            leases = self.group_state(member_id.topic, member_id.group).leases
            known = version, {number: (lease.owner, lease.epoch) for number, lease in leases.items()}
            self._leases[member_id.topic, member_id.group] = known
        return known[1]

    def _known_version(self) -> int:
        if self._version is None:
            self._version = self._database.query("SELECT value FROM meta WHERE name = 'epoch'")[0][0]
        return self._version

    def _write_membership(self, member_id: MemberId) -> None:
        expires_ms = self._clock.elapsed_ms() + round(self.lease_s * 1_000)
        row = (member_id.topic, member_id.group, member_id.name, member_id.incarnation, expires_ms)
        self._database.connection.execute(_MEMBERSHIP, row)

    def _delete_membership(self, member_id: MemberId, name: str) -> None:
        row = (member_id.topic, member_id.group, name)
        self._database.connection.execute("DELETE FROM memberships WHERE topic = ? AND grp = ? AND name = ?", row)
        self._next_epoch()

    def _assign_partition(self, member_id: MemberId, partition: int, owner: str) -> None:
        row = (member_id.topic, member_id.group, partition, owner, self._next_epoch())
        self._database.connection.execute(_LEASE, row)

    def _next_epoch(self) -> int:
        """Return a number that was never issued before.

        This process notes the change at once and notifies readers after the commit.
        """
        sql = "UPDATE meta SET value = value + 1 WHERE name = 'epoch' RETURNING value"
        self._version = int(self._database.query(sql)[0][0])
        self._writer.after_commit(self._notifier.notify_all)
        return self._version
