"""The SQLite backend: one file for everything, shared by the processes of one machine.

Connects the parts; each part knows its tables only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

from choreo.adapters.clock import SteadyClock
from choreo.adapters.embedded import Embedded
from choreo.adapters.notifier import Notifier
from choreo.adapters.sqlite.change_notifier import ChangeNotifier
from choreo.adapters.sqlite.consumer_groups import ConsumerGroups, Stores
from choreo.adapters.sqlite.database import Database
from choreo.adapters.sqlite.dead_letters import SqliteDeadLetters
from choreo.adapters.sqlite.inbox import SqliteInbox
from choreo.adapters.sqlite.log import SqliteLog
from choreo.adapters.sqlite.notes import SqliteNotes
from choreo.adapters.sqlite.read_model import SqliteReadModel
from choreo.adapters.sqlite.reboot_detection import newest_ms
from choreo.adapters.sqlite.records import Records
from choreo.adapters.sqlite.state import SqliteStates
from choreo.adapters.sqlite.wal_sync import WalSync
from choreo.adapters.sqlite.writer import DATABASE, Writer
from choreo.core.errors import LostStorageError, SettingsError, StorageError
from choreo.ports.backend import BackendOptions, StatefulBackend
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies, NoReports, report_error
from choreo.ports.log import TRACKER_GROUP

Synchronous = Literal["FULL", "NORMAL"]


LOST_S = 30.0
"""How long a process reports a lost file before it ends: a supervisor that starts it again makes a new file."""


class SqliteBackend(Embedded):
    """`choreo.ports.backend.StatefulBackend` in a file: one thread, one event loop. Open it with `open`."""

    def __init__(
        self,
        database: Database,
        wal_sync: WalSync,
        clock: Clock,
        *,
        lease_s: float,
        lock_timeout_s: float,
        dependencies: Dependencies,
        observe: Callable[[int], None],
    ) -> None:
        super().__init__(clock, lease_s=lease_s)
        self.place: str = str(database.path)
        self.database = database
        self.wal_sync = wal_sync
        self._observe = observe
        self._dependencies = dependencies
        self._lost_ms = 0
        """Time since the machine's start at which the file was first missing; 0 while the file is in its place."""
        notifier = Notifier()
        self._changes = watch = ChangeNotifier(database, notifier)
        self.writer: Writer = Writer(database, wal_sync, lock_timeout_s, dependencies)
        self._inboxes: dict[str, SqliteInbox] = {}
        self._records = records = Records(database, wal_sync, self.writer, watch, notifier, clock)
        self.dead_letters: SqliteDeadLetters = SqliteDeadLetters(database, self.writer)
        self.notes: SqliteNotes = SqliteNotes(database, self.writer)
        self.states: SqliteStates = SqliteStates(database, self.writer, self._rewind)
        self.read_model: SqliteReadModel = SqliteReadModel(
            database, self.writer, records, self._shown, self._rewind, self._folded
        )
        stores = Stores(self.inbox, self.dead_letters, self.states, self.read_model)
        self._groups = ConsumerGroups(
            database, self.writer, watch, notifier, records, stores, clock=clock, lease_s=lease_s
        )
        self.log: SqliteLog = SqliteLog(database, self.writer, records, self._groups, clock)
        watch.forget += [records.forget, self._groups.forget, wal_sync.noticed]
        self.writer.before = watch.look
        self.writer.after_rollback = self._undone

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        clock: Clock,
        synchronous: Synchronous = "FULL",
        lease_s: float = 3.0,
        lock_timeout_s: float = 30.0,
        dependencies: Dependencies | None = None,
        observe: Callable[[int], None] | None = None,
    ) -> SqliteBackend:
        """Open the file; create it and its folder where they are missing.

        `synchronous`: with FULL, every acknowledged write survives a loss of power; with NORMAL it survives the end of
        the process only. `lease_s`: how long a consumer that does not poll keeps its partitions. `lock_timeout_s`: how
        long another process may hold the write lock. `observe` gets the log's newest timestamps. Raises StorageError
        when the path is not a choreo file, SettingsError on another `synchronous`.
        """
        if synchronous not in ("FULL", "NORMAL"):
            raise SettingsError(
                f"{synchronous!r} is not a value of synchronous", where=str(path), remedy="Choose FULL or NORMAL."
            )
        database = Database(Path(path))
        dependencies = dependencies or NoReports()
        wal_sync = WalSync(database, needed=synchronous == "FULL", dependencies=dependencies)
        backend = cls(
            database,
            wal_sync,
            clock,
            lease_s=lease_s,
            lock_timeout_s=lock_timeout_s,
            dependencies=dependencies,
            observe=observe or _nothing,
        )
        backend._observe_log()
        return backend

    def inbox(self, service: str) -> SqliteInbox:
        """Return the service's inbox; a commit records outcomes in the inbox that has the name of its group."""
        inbox = self._inboxes.get(service)
        if inbox is None:
            inbox = SqliteInbox(service, self.database, self.writer, self._records, self.clock)
            self._inboxes[service] = inbox
            self._changes.forget.append(inbox.forget_known)
        return inbox

    async def check(self) -> None:
        """Check that the file is in its place, and write again where the last write failed.

        Raises LostStorageError on a file that was deleted or replaced. For the first `LOST_S` seconds it raises
        StorageError instead, so that `/readyz` and every command report it. Nothing is written or read meanwhile, and a
        file that is put back is used again.
        """
        try:
            self.database.refuse_lost()
        except LostStorageError as error:
            self._lost_ms = self._lost_ms or self.clock.elapsed_ms()
            report_error(self._dependencies, DATABASE, error)
            if self.clock.elapsed_ms() - self._lost_ms >= LOST_S * 1_000:
                raise
            raise StorageError(error.what, where=error.where, remedy=error.remedy) from error
        if self._lost_ms:
            self._lost_ms = 0
            self._dependencies.clear(DATABASE)
        self._observe_log()
        await self.writer.check()

    async def close(self) -> None:
        """Write and flush all pending work, and close the file."""
        try:
            await self.log.close()
            await self.read_model.close()
            await self.wal_sync.close()
        finally:
            self.database.close()

    def _observe_log(self) -> None:
        """Pass the log's newest timestamp to the clock: the clock's time neither goes back nor stands still."""
        self._observe(newest_ms(self.database.connection))

    def _undone(self) -> None:
        """Drop the changes in memory that a transaction made before it was rolled back."""
        self._records.undone()
        self._groups.undone()

    async def _shown(self) -> None:
        """Flush the rows just read: another process may have written them and not flushed them yet."""
        self._changes.look()
        if not self.wal_sync.settled(self.wal_sync.newest):
            await self.wal_sync.flushed(self.wal_sync.newest)

    def _rewind(self, topic: str) -> None:
        self._groups.rewind(topic, TRACKER_GROUP)

    def _folded(self, topic: str) -> dict[int, int]:
        return self._groups.committed(topic, TRACKER_GROUP)


def _nothing(_stamp_ms: int) -> None:
    """Ignore the stamp: the clock belongs to the caller."""


async def open_backend(options: BackendOptions) -> StatefulBackend:
    """Open the file that the settings name, with a topic for each flow. Raises SettingsError, StorageError."""
    steady = SteadyClock(options.clock)
    backend = await SqliteBackend.open(
        options.address,
        synchronous=cast("Synchronous", options.synchronous),
        clock=steady,
        lease_s=options.lease_s,
        dependencies=options.dependencies,
        observe=steady.observe,
    )
    try:
        await backend.set_up(options)
    except BaseException:
        await backend.close()
        raise
    return backend
