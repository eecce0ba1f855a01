"""PostgreSQL as `choreo.ports.backend.Stores`: the read model, the projections that fill it, and the services' inboxes.

Connects the parts. An installation has a schema of its own, so that several may share a database.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from choreo.adapters.postgres.inbox.store import PostgresInbox
from choreo.adapters.postgres.notes import PostgresNotes
from choreo.adapters.postgres.projections import PostgresProjections
from choreo.adapters.postgres.read_model import PostgresReadModel
from choreo.adapters.postgres.schema import name_of
from choreo.adapters.postgres.server import TIMEOUT_S, PostgresServer
from choreo.ports.backend import Stores
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies
from choreo.ports.log import Log

_REMEMBER = "INSERT INTO choreo.origins VALUES (%s, %s) ON CONFLICT (topic) DO UPDATE SET note = excluded.note"
_RECALL = "INSERT INTO choreo.origins VALUES (%s, %s) ON CONFLICT DO NOTHING"
_ORIGIN = "SELECT note FROM choreo.origins WHERE topic = %s"
_OF_SERVICE = ("rows", "slots", "runs", "gates", "gate_positions", "identities")


class PostgresStores:
    """`.read_model`, `.projections` and `.inbox(service)`. Nothing connects before it is used."""

    def __init__(
        self,
        url: str,
        log: Log,
        clock: Clock,
        *,
        linger_ms: int,
        prefix: str = "",
        timeout_s: float = TIMEOUT_S,
        dependencies: Dependencies | None = None,
    ) -> None:
        """Connect the parts; raises SettingsError if the URL is not a PostgreSQL URL.

        `linger_ms`: the longest time that a flow keeps an ended run.
        """
        self.server: PostgresServer = PostgresServer(
            url, schema=name_of(prefix), timeout_s=timeout_s, dependencies=dependencies
        )
        self._clock = clock
        self._linger_ms = linger_ms
        self._name = secrets.token_hex(4)
        self._inboxes: dict[str, PostgresInbox] = {}
        self.notes: PostgresNotes = PostgresNotes(self.server)
        self.projections: PostgresProjections = PostgresProjections(self.server)
        self.read_model: PostgresReadModel = PostgresReadModel(self.server, log)

    def inbox(self, service: str) -> PostgresInbox:
        """Return the service's inbox."""
        inbox = self._inboxes.get(service)
        if inbox is None:
            inbox = self._inboxes[service] = PostgresInbox(
                self.server, service, self._clock, process=f"{self._name}.{service}", linger_ms=self._linger_ms
            )
        return inbox

    async def recall(self, topic: str, note: str) -> str:
        """Return the first note kept of the topic that views and outcomes belong to; keep `note` if there is none."""
        await self.server.execute(_RECALL, (topic, note))
        return await self.remembered(topic) or note

    async def remembered(self, topic: str) -> str:
        """Return the stored note of the topic; "" if there is none."""
        rows = await self.server.ask(_ORIGIN, (topic,))
        return str(rows[0][0]) if rows else ""

    async def remember(self, topic: str, note: str) -> None:
        """Replace the note of the topic."""
        await self.server.execute(_REMEMBER, (topic, note))

    async def forget(self, topic: str, services: Iterable[str]) -> None:
        """Drop the topic's views, and everything in the inboxes of these services, of other topics too."""
        await self.read_model.drop(topic)
        for table in _OF_SERVICE:
            statement = f"DELETE FROM choreo.inbox_{table} WHERE service = ANY(%s)"  # noqa: S608 - our own names
            await self.server.execute(statement, (list(services),))

    async def check(self) -> None:
        """Examine the server and report whether it can be used. Raises StorageError, SettingsError."""
        await self.server.check()

    async def clear(self) -> None:
        """Remove the schema with everything in it."""
        await self.server.clear()

    async def close(self) -> None:
        """Close the connections."""
        await self.server.close()


def open_stores(url: str, log: Log, clock: Clock, *, linger_ms: int, prefix: str, dependencies: Dependencies) -> Stores:
    """Return the stores of an installation. Raises SettingsError if the URL is not a PostgreSQL URL."""
    return PostgresStores(url, log, clock, linger_ms=linger_ms, prefix=prefix, dependencies=dependencies)
