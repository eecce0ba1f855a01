"""What the Kafka home keeps in Redis: the read model with what fills it, and the services' inboxes.

Knows which part is given to which. All keys begin with one prefix, so that several systems may share a server.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from choreo.adapters.redis.generations import Generations
from choreo.adapters.redis.inbox import RedisInbox
from choreo.adapters.redis.projections import RedisProjections
from choreo.adapters.redis.read_model import RedisReadModel
from choreo.adapters.redis.server import TIMEOUT_S, RedisServer
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
        """`linger_ms`: the longest that a flow lets an ended run linger.

        Raises SettingsError on what is no Redis URL.
        """
        self.server: RedisServer = RedisServer(url, prefix=prefix, timeout_s=timeout_s, dependencies=dependencies)
        self._clock = clock
        self._linger_ms = linger_ms
        self._prefix = prefix
        self._name = secrets.token_hex(4)
        self._inboxes: dict[str, RedisInbox] = {}
        generations = Generations(self.server, prefix)
        self.projections: RedisProjections = RedisProjections(self.server, generations)
        self.read_model: RedisReadModel = RedisReadModel(self.server, generations, log)

    def inbox(self, service: str) -> RedisInbox:
        """The service's inbox."""
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
        """Remember this of the topic from now on."""
        await self.server.ask("HSET", f"{self._prefix}:origins", topic, note)

    async def forget(self, topic: str, services: Iterable[str]) -> None:
        """Drop the topic's views, and all that these services remember, of other topics too."""
        await self.read_model.drop(topic)
        for service in services:
            await self.server.sweep(f"{self._prefix}:inbox:{service}:", lambda _: True)

    async def check(self) -> None:
        """Examine the server; it reports whether it can be used. Raises StorageError, SettingsError."""
        await self.server.check()

    async def recall(self, topic: str, note: str) -> str:
        """Return what was remembered first of the topic that views and outcomes are of: `note`, where nothing was."""
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
