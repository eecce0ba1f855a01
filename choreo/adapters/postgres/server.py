"""One PostgreSQL database for several stores: connections with a time limit, examined before use.

A call is a job with a connection. It is repeated once on a new connection if the first one was dead, or led to the
wrong server: every job here has the same result when it runs twice. Knows no table but those that `examination`
creates.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncCursor, errors

from choreo.adapters.postgres.address import address_of
from choreo.adapters.postgres.examination import READ_ONLY, Connection, examine
from choreo.adapters.postgres.schema import qualified, quoted
from choreo.adapters.store_errors import LossError, UnfitError
from choreo.core.errors import SettingsError, StorageError
from choreo.ports.dependencies import Dependencies, NoReports, report_error
from choreo.redaction import redact

_log = logging.getLogger(__name__)
T = TypeVar("T")
Row = tuple[Any, ...]

TIMEOUT_S = 5.0
"""A full batch takes some 20 ms, and a flush of a busy disk some 100 ms: after 50 times that the server is away."""
CONNECTIONS_MAX = 4
"""Of one process: a batch is a few milliseconds, and a server has some 100 connections for all."""

POSTGRES = "postgres"
_AWAY = "Start it, or correct CHOREO_POSTGRES; work is held until it answers."
_BUSY = "See what keeps it busy (pg_stat_activity); work is held until it answers."
_LOGIN = "Correct the user and password in CHOREO_POSTGRES, or pg_hba.conf."
_PERMISSIONS = "Let the user create the tables (GRANT CREATE ON DATABASE NAME TO USER), or use them."
_AGAIN = "Nothing: it is tried again."
_BY_STATE = {
    "28000": _LOGIN,
    "28P01": _LOGIN,
    "3D000": "Create the database, or correct its name in CHOREO_POSTGRES.",
    "42501": _PERMISSIONS,
    "25006": READ_ONLY,
    "53100": "Give it more disk.",
    "53200": "Give it more memory.",
    "53300": "Raise max_connections, or put fewer processes on it.",
    "57P03": "Wait: it is starting, or shutting down.",
    "57014": _BUSY,
    "40P01": _AGAIN,
    "40001": _AGAIN,
    "42P01": "Nothing: the tables were dropped, and are created again.",
    "3F000": "Nothing: the tables were dropped, and are created again.",
}
# A failed connection attempt has no SQLSTATE, only the server's message in English or another language.
_BY_WORDS = (
    ("password", _LOGIN),
    ("pg_hba.conf", _LOGIN),
    ("role ", _LOGIN),
    ("database ", _BY_STATE["3D000"]),
    ("read-only", READ_ONLY),
    ("starting up", _BY_STATE["57P03"]),
    ("shutting down", _BY_STATE["57P03"]),
    ("too many", _BY_STATE["53300"]),
    ("connection slots", _BY_STATE["53300"]),
)
_HINT = "Is the server running on that host and accepting TCP/IP connections?"
"""libpq's own remedy; ours names the setting."""
_ELSEWHERE = frozenset({"25006", "40001", "40P01", "42P01", "3F000", "57P01", "57P02"})
"""A new connection or a second try may do better: a primary that was demoted, a deadlock, tables that were dropped."""


class PostgresServer:
    """The database of one address. Connects when first used; belongs to one event loop.

    `inbox_loss`: the id of the last moment at which inboxes may have lost something; "0": never, "": not examined yet.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str,
        timeout_s: float = TIMEOUT_S,
        dependencies: Dependencies | None = None,
    ) -> None:
        """Parse the address; raises SettingsError if it is not a PostgreSQL URL.

        `timeout_s` bounds every call, connecting included.
        """
        redact.learn({"postgres": url})
        client = logging.getLogger("psycopg")
        if not client.level:
            client.setLevel(logging.ERROR)  # each lost connection is a line in that log, and is reported here
        self.where: str
        self._conninfo, self.where = address_of(url)
        self._schema = schema
        self._timeout_s = timeout_s
        self._dependencies = dependencies or NoReports()
        self._slots = asyncio.Semaphore(CONNECTIONS_MAX)
        self._idle: list[Connection] = []
        self._calls = 0
        self._statements: dict[str, bytes] = {}
        self._written = 0
        self._commits_late = self._has_been_fit = False
        self.inbox_loss: str = ""

    @property
    def is_busy(self) -> bool:
        """Return whether a call is under way."""
        return self._calls > 0

    def sql(self, statement: str) -> bytes:
        """Return the statement for this installation's schema."""
        known = self._statements.get(statement)
        if known is None:
            known = self._statements[statement] = qualified(statement, self._schema)
        return known

    async def ask(self, statement: str, values: Sequence[Any] = (), *, prepare: bool | None = None) -> list[Row]:
        """Return the rows of one statement. `prepare=False`: planned for these values. Raises StorageError."""

        async def job(connection: Connection) -> list[Row]:
            return await (await connection.execute(self.sql(statement), values, prepare=prepare)).fetchall()

        return await self.run(job)

    async def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Execute a statement without a result; return the number of changed rows. Raises StorageError."""

        async def job(connection: Connection) -> int:
            return (await connection.execute(self.sql(statement), values)).rowcount

        return await self.run(job)

    async def execute_in(self, connection: Connection, statement: str, *values: object) -> AsyncCursor[Row]:
        """Execute a statement in a job of the caller's; return its cursor."""
        return await connection.execute(self.sql(statement), values)

    @asynccontextmanager
    async def transaction(self, connection: Connection) -> AsyncIterator[None]:
        """Send all statements of the block in one transaction, without waiting for each answer."""
        async with connection.pipeline(), connection.transaction():
            if self._commits_late:
                await connection.execute("SET LOCAL synchronous_commit = on")
            yield

    async def run(self, job: Callable[[Connection], Awaitable[T]], *, guarded: bool = False) -> T:
        """Return the result of a job, which may run twice.

        Raises StorageError; if `guarded`, LossError where the server has lost writes since the last call.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._slots:
                try:
                    result = await self._call(job, guarded=guarded)
                except psycopg.Error as error:
                    if not await self._is_worth_another(error):
                        raise
                    result = await self._call(job, guarded=guarded)
        except LossError:
            raise
        except StorageError as error:
            report_error(self._dependencies, POSTGRES, error)
            raise
        except (psycopg.Error, OSError, TimeoutError) as error:
            failure = self._failure(error)
            report_error(self._dependencies, POSTGRES, failure)
            # Not from the cause: its text, which a traceback shows, may hold a piece of the address.
            raise failure from (error if isinstance(error, TimeoutError) else None)
        self._dependencies.clear(POSTGRES)
        return result

    async def check(self) -> None:
        """Examine the server now, also if it was examined before.

        Raises StorageError where it cannot be used, SettingsError where it never could and waiting does not help.
        """
        try:
            await self.run(self._examine)
        except UnfitError as error:
            if self._has_been_fit:
                raise
            raise SettingsError(error.what, where=error.where, remedy=error.remedy) from error

    async def prepare(self) -> None:
        """Examine the server unless it was examined. Raises StorageError."""
        if not self.inbox_loss:
            await self.run(self._examine)

    async def clear(self) -> None:
        """Drop the schema with everything in it. Raises StorageError."""
        await self.run(lambda connection: connection.execute(f"DROP SCHEMA {quoted(self._schema)} CASCADE".encode()))
        await self._close_idle()

    async def close(self) -> None:
        """Close the connections."""
        await self._close_idle()

    async def _call(self, job: Callable[[Connection], Awaitable[T]], *, guarded: bool) -> T:
        known = self.inbox_loss
        connection = self._idle.pop() if self._idle else await self._connected()
        if guarded and known not in ("", self.inbox_loss):
            self._idle.append(connection)
            raise self._loss()
        self._calls += 1
        try:
            result = await _bounded(connection, job(connection))
        except BaseException:
            await _closed(connection)
            raise
        finally:
            self._calls -= 1
        self._idle.append(connection)
        return result

    def _loss(self) -> LossError:
        return LossError(
            "it may have lost its last writes",
            where=self.where,
            remedy="Nothing to do: choreo repairs inboxes and views.",
        )

    async def _connected(self) -> Connection:
        """Return a new connection to an examined server."""
        connection = await AsyncConnection.connect(self._conninfo, autocommit=True)
        try:
            await _bounded(connection, self._examine(connection))
        except BaseException:
            await _closed(connection)
            raise
        return connection

    async def _examine(self, connection: Connection) -> None:
        found, self.inbox_loss = await examine(connection, self._schema, self.where, self._written)
        self._written, self._commits_late = found.written, found.commits_late
        if not found.keeps_file and not self._has_been_fit:
            _log.warning(
                "%s has fsync off: a crash of its machine forgets begun attempts. Set fsync to on.", self.where
            )
        self._has_been_fit = True

    async def _is_worth_another(self, error: psycopg.Error) -> bool:
        """Return whether a new connection may succeed; then no idle connection is used again."""
        broken = error.sqlstate is None or error.sqlstate.startswith("08")
        if broken or error.sqlstate in _ELSEWHERE:
            await self._close_idle()
        refused = broken and _by_words(str(error)) is not None
        return (broken or error.sqlstate in _ELSEWHERE) and not refused

    async def _close_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await _closed(connection)

    def _failure(self, error: Exception) -> StorageError:
        text = " ".join(str(error).replace(_HINT, "").split()).rstrip(".")
        if isinstance(error, TimeoutError) or not text:
            return StorageError(f"no answer within {self._timeout_s:g} s", where=self.where, remedy=_BUSY)
        state = error.sqlstate if isinstance(error, psycopg.Error) else None
        remedy = _BY_STATE.get(state or "") or (None if state else _by_words(text)) or (_AWAY if not state else "")
        if isinstance(error, errors.InsufficientPrivilege):
            return UnfitError(redact(text), where=self.where, remedy=remedy)
        return StorageError(redact(text), where=self.where, remedy=remedy or "See the server's log.")


def _by_words(text: str) -> str | None:
    return next((remedy for words, remedy in _BY_WORDS if words in text), None)


async def _bounded(connection: Connection, job: Awaitable[T]) -> T:
    """Return the job's result; a cancelled job ends at once, even if the server does not answer.

    The client would first ask the server to cancel and wait for its answer.
    """
    task = asyncio.ensure_future(job)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        _cut(connection)
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()
        raise


def _cut(connection: Connection) -> None:
    """End the connection below the client, so that everything that waits for it fails."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


async def _closed(connection: Connection) -> None:
    with suppress(OSError, psycopg.Error):
        await connection.close()
