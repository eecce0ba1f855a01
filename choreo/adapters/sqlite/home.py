"""The SQLite home: one file for everything, shared by the processes of one machine.

Knows which part is given to which; the parts know their tables only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from choreo.adapters.bell import Bell
from choreo.adapters.sqlite.boot import newest_ms
from choreo.adapters.sqlite.database import Database
from choreo.adapters.sqlite.dead_letters import SqliteDeadLetters
from choreo.adapters.sqlite.disk import Disk
from choreo.adapters.sqlite.groups import Groups, Stores
from choreo.adapters.sqlite.inbox import SqliteInbox
from choreo.adapters.sqlite.log import SqliteLog
from choreo.adapters.sqlite.read_model import SqliteReadModel
from choreo.adapters.sqlite.records import Records
from choreo.adapters.sqlite.state import SqliteStates
from choreo.adapters.sqlite.watch import Watch
from choreo.adapters.sqlite.writer import DATABASE, Writer
from choreo.core.errors import LostStorageError, SettingsError, StorageError
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies, NoReports, report_error
from choreo.ports.log import TRACKER_GROUP

Synchronous = Literal["FULL", "NORMAL"]


LOST_S = 30.0
"""How long a process whose file is gone says so before it ends: a supervisor that starts it again makes a new file."""


class SqliteHome:
    """`.log`, `.states`, `.read_model`, `.dead_letters` and `.inbox(service)`, as every home has them.

    Used from one thread, on one event loop. Make it with `open`.
    """

    def __init__(
        self,
        database: Database,
        disk: Disk,
        clock: Clock,
        *,
        lease_s: float,
        lock_timeout_s: float,
        dependencies: Dependencies,
        observe: Callable[[int], None],
    ) -> None:
        self._database = database
        self.disk = disk
        self._clock = clock
        self._observe = observe
        self._dependencies = dependencies
        self._lost_ms = 0
        """Since when (time since the machine's start) the file is not in its place; 0: it is."""
        bell = Bell()
        self._watch = watch = Watch(database, bell)
        self.writer: Writer = Writer(database, disk, lock_timeout_s, dependencies)
        self._inboxes: dict[str, SqliteInbox] = {}
        self._records = records = Records(database, disk, self.writer, watch, bell, clock)
        self.dead_letters: SqliteDeadLetters = SqliteDeadLetters(database, self.writer)
        self.states: SqliteStates = SqliteStates(database, self.writer, self._rewind)
        self.read_model: SqliteReadModel = SqliteReadModel(
            database, self.writer, records, self._shown, self._rewind, self._folded
        )
        stores = Stores(self.inbox, self.dead_letters, self.states, self.read_model)
        self._groups = Groups(database, self.writer, watch, bell, records, stores, clock=clock, lease_s=lease_s)
        self.log: SqliteLog = SqliteLog(database, self.writer, records, self._groups, clock)
        watch.forget += [records.forget, self._groups.forget, disk.noticed]
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
    ) -> SqliteHome:
        """Open the file, making it and its folder if need be.

        `synchronous`: with FULL, all that the world outside has learned of survives the loss of power; with NORMAL
        only that of the process. `lease_s`: how long a member that does not poll keeps its partitions.
        `lock_timeout_s`: how long another process may hold the write lock. `observe` is told the log's newest stamps.
        Raises StorageError when the path is no file of ours, SettingsError on another `synchronous`.
        """
        if synchronous not in ("FULL", "NORMAL"):
            raise SettingsError(
                f"{synchronous!r} is no way to synchronise", where=str(path), remedy="Choose FULL or NORMAL."
            )
        database = Database(Path(path))
        dependencies = dependencies or NoReports()
        disk = Disk(database, needed=synchronous == "FULL", dependencies=dependencies)
        home = cls(
            database,
            disk,
            clock,
            lease_s=lease_s,
            lock_timeout_s=lock_timeout_s,
            dependencies=dependencies,
            observe=observe or _nothing,
        )
        home._observe_log()
        return home

    def inbox(self, service: str) -> SqliteInbox:
        """The service's inbox; the outcomes of a commit are recorded in the inbox named as the member's group."""
        inbox = self._inboxes.get(service)
        if inbox is None:
            inbox = SqliteInbox(service, self._database, self.writer, self._records, self._clock)
            self._inboxes[service] = inbox
            self._watch.forget.append(inbox.forget_known)
        return inbox

    async def check(self) -> None:
        """Look whether the file is in its place, and write again where the last write failed.

        Raises LostStorageError on a file that was deleted or replaced. For `LOST_S` that is a StorageError, so that
        doors tell it; nothing is written or read meanwhile, and a file that is put back is used again.
        """
        try:
            self._database.refuse_lost()
        except LostStorageError as error:
            self._lost_ms = self._lost_ms or self._clock.elapsed_ms()
            report_error(self._dependencies, DATABASE, error)
            if self._clock.elapsed_ms() - self._lost_ms >= LOST_S * 1_000:
                raise
            raise StorageError(error.what, where=error.where, remedy=error.remedy) from error
        if self._lost_ms:
            self._lost_ms = 0
            self._dependencies.clear(DATABASE)
        self._observe_log()
        await self.writer.check()

    async def close(self) -> None:
        """Write what is still waiting, flush it, and close the file."""
        try:
            await self.log.close()
            await self.read_model.close()
            await self.disk.close()
        finally:
            self._database.close()

    def _observe_log(self) -> None:
        """Tell the clock how far the log's time is: it does not go back, and does not stand still either."""
        self._observe(newest_ms(self._database.connection))

    def _undone(self) -> None:
        """A transaction was undone: what it changed in memory is wrong."""
        self._records.undone()
        self._groups.undone()

    async def _shown(self) -> None:
        """What was read may be another process's, and not flushed by it."""
        self._watch.look()
        if not self.disk.settled(self.disk.newest):
            await self.disk.flushed(self.disk.newest)

    def _rewind(self, topic: str) -> None:
        self._groups.rewind(topic, TRACKER_GROUP)

    def _folded(self, topic: str) -> dict[int, int]:
        return self._groups.committed(topic, TRACKER_GROUP)


def _nothing(_stamp_ms: int) -> None:
    """Tell nobody: the clock is another's."""
