"""Check that a PostgreSQL server is fit for use, and detect that it may have lost acknowledged writes.

A promoted standby may lack the last writes of its primary, and a restored copy those since its backup: both have
another timeline or another system identifier than the one noted beside the data. Every process reads that note, also
after a restart.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from psycopg import AsyncConnection

from choreo.adapters.postgres.schema import TABLES, VERSION, qualified, quoted
from choreo.adapters.store_errors import UnfitError
from choreo.core.errors import StorageError

Connection = AsyncConnection[tuple[Any, ...]]

READ_ONLY = "Point CHOREO_POSTGRES to the primary: this is a standby, or read-only."
_UTF8 = "Create a database with ENCODING 'UTF8', and name it in CHOREO_POSTGRES."
_UPDATE = "Give this installation a database of its own, or run the version of choreo that made these tables."

# On a standby the second part fails: CASE evaluates it only on a primary.
_EXAMINE = """SELECT current_setting('server_encoding'), pg_is_in_recovery(),
    current_setting('transaction_read_only') = 'on', current_setting('fsync') = 'on',
    current_setting('synchronous_commit') = 'off', (SELECT system_identifier FROM pg_control_system())::text,
    CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END,
    CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint END"""
# A query, because it sees commits made while it waited for the lock: a lookup by name may see an older state.
_EXISTS = "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = 'about')"
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
_ABOUT = "SELECT version, system, timeline, loss FROM choreo.about"
_NOTE = """UPDATE choreo.about SET system = %s, timeline = %s,
    loss = CASE WHEN %s OR (system <> '' AND (system, timeline) <> (%s, %s))
        THEN clock_timestamp()::text ELSE loss END
    RETURNING loss"""


class Examined(NamedTuple):
    """The server's answers that choreo needs."""

    encoding: str
    is_standby: bool
    is_read_only: bool
    keeps_file: bool
    commits_late: bool
    system: str
    timeline: str
    written: int
    """Position of the server's write-ahead log, in bytes."""


async def examine(connection: Connection, schema: str, where: str, written: int) -> tuple[Examined, str]:
    """Return the answers of a fit server, and the id of its last loss, "0" for none.

    `written`: the highest position of its log that this process has seen; a server behind that position was restored.
    Creates the tables where they are missing. Raises UnfitError, StorageError, and the client's errors.
    """
    answers = await (await connection.execute(_EXAMINE)).fetchone()
    assert answers is not None  # noqa: S101 - a SELECT without FROM has one row
    found = Examined(*answers)
    if found.encoding != "UTF8":
        raise UnfitError(f"the database's encoding is {found.encoding}", where=where, remedy=_UTF8)
    if found.is_standby or found.is_read_only:
        raise StorageError("it takes no writes", where=where, remedy=READ_ONLY)
    await _create(connection, schema)
    about = await (await connection.execute(qualified(_ABOUT, schema))).fetchone()
    if about is None or about[0] != VERSION:
        what = f"its tables are of version {about[0] if about else 'unknown'}, and this choreo's of {VERSION}"
        raise UnfitError(what, where=where, remedy=_UPDATE)
    _, system, timeline, loss = about
    if (system, timeline) != (found.system, found.timeline) or found.written < written:
        noted = (found.system, found.timeline)
        noting = await connection.execute(qualified(_NOTE, schema), (*noted, found.written < written, *noted))
        (loss,) = await noting.fetchone() or (loss,)
    return found, loss


async def _create(connection: Connection, schema: str) -> None:
    """Create the tables in one transaction, unless they are there; several processes may do it at once."""
    if await _exists(connection, schema):
        return
    async with connection.transaction():
        await connection.execute(_LOCK, (schema,))
        if await _exists(connection, schema):
            return
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}".encode())
        await connection.execute(qualified(TABLES, schema))
        await connection.execute(qualified("INSERT INTO choreo.about (version) VALUES (%s)", schema), (VERSION,))


async def _exists(connection: Connection, schema: str) -> bool:
    found = await (await connection.execute(_EXISTS, (schema,))).fetchone()
    return bool(found and found[0])
