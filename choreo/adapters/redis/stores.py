"""Redis as `choreo.ports.backend.Stores`: the read model, the projections that fill it, and the services' inboxes.

Connects the parts. All keys begin with one prefix, so that several systems may share a server.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from choreo.adapters.redis.inbox import RedisInbox
from choreo.adapters.redis.notes import RedisNotes
from choreo.adapters.redis.projections import RedisProjections
from choreo.adapters.redis.read_model import RedisReadModel
from choreo.adapters.redis.server import TIMEOUT_S, RedisServer
from choreo.adapters.redis.view_generations import ViewGenerations
from choreo.ports.backend import Stores
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies
from choreo.ports.log import Log


class RedisStores:
    """`.read_model`, `.projections` and `.inbox(service)`. Nothing connects before it is used."""

    def __init__(
        self,
        url: str,
        log: Log,
        clock: Clock,
        *,
        linger_ms: int,
        prefix: str = "choreo",
        timeout_s: float = TIMEOUT_S,
        dependencies: Dependencies | None = None,
    ) -> None:
        """Connect the parts; raises SettingsError if the URL is not a Redis URL.

        `linger_ms`: the longest time that a flow keeps an ended run.
        """
        self.server: RedisServer = RedisServer(url, prefix=prefix, timeout_s=timeout_s, dependencies=dependencies)
        self._clock = clock
        self._linger_ms = linger_ms
        self._prefix = prefix
        self._name = secrets.token_hex(4)
        self._inboxes: dict[str, RedisInbox] = {}
        self.notes: RedisNotes = RedisNotes(self.server, prefix)
        generations = ViewGenerations(self.server, prefix)
        self.projections: RedisProjections = RedisProjections(self.server, generations)
        self.read_model: RedisReadModel = RedisReadModel(self.server, generations, log)

    def inbox(self, service: str) -> RedisInbox:
        """Return the service's inbox."""
        inbox = self._inboxes.get(service)
        if inbox is None:
            inbox = self._inboxes[service] = RedisInbox(
                self.server,
                f"{self._prefix}:inbox:{service}",
                self._clock,
                process=f"{self._name}.{service}",
                linger_ms=self._linger_ms,
            )
        return inbox

    async def remember(self, topic: str, note: str) -> None:
        """Replace the note of the topic."""
        await self.server.ask("HSET", f"{self._prefix}:origins", topic, note)

    async def remembered(self, topic: str) -> str:
        """Return the stored note of the topic; "" if there is none."""
        found: bytes | None = await self.server.ask("HGET", f"{self._prefix}:origins", topic)
        return (found or b"").decode()

    async def forget(self, topic: str, services: Iterable[str]) -> None:
        """Drop the topic's views, and everything in the inboxes of these services, of other topics too."""
        await self.read_model.drop(topic)
        for service in services:
            await self.server.sweep(f"{self._prefix}:inbox:{service}:", lambda _: True)

    async def check(self) -> None:
        """Examine the server and report whether it can be used. Raises StorageError, SettingsError."""
        await self.server.check()

    async def recall(self, topic: str, note: str) -> str:
        """Return the first note kept of the topic that views and outcomes belong to; keep `note` if there is none."""
        key = f"{self._prefix}:origins"
        await self.server.ask("HSETNX", key, topic, note)
        found: bytes = await self.server.ask("HGET", key, topic)
        return (found or note.encode()).decode()

    async def clear(self) -> None:
        """Remove every key below the prefix."""
        await self.server.sweep(f"{self._prefix}:", lambda _: True)

    async def close(self) -> None:
        """Close the connections."""
        await self.server.close()


def open_stores(url: str, log: Log, clock: Clock, *, linger_ms: int, prefix: str, dependencies: Dependencies) -> Stores:
    """Return the stores of an installation. Raises SettingsError if the URL is not a Redis URL."""
    return RedisStores(
        url,
        log,
        clock,
        linger_ms=linger_ms,
        prefix=f"choreo:{prefix}".removesuffix(":"),
        dependencies=dependencies,
    )
