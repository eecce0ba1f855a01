"""What the Kafka home keeps in Redis: the read model with what fills it, and the services' inboxes.

Knows which part is given to which. All keys begin with one prefix, so that several systems may share a server.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial

from choreo.adapters.redis.generations import Generations
from choreo.adapters.redis.inbox import RedisInbox
from choreo.adapters.redis.projections import RedisProjections
from choreo.adapters.redis.read_model import RedisReadModel
from choreo.adapters.redis.server import TIMEOUT_S, RedisServer
from choreo.core.errors import NotFoundError
from choreo.ports.clock import Clock
from choreo.ports.log import Log


class RedisStores:
    """`.read_model`, `.projections` and `.inbox(service)`. Nothing connects before it is used."""

    def __init__(
        self,
        url: str,
        log: Log,
        clock: Clock,
        *,
        topics: Sequence[str],
        linger_ms: int,
        prefix: str = "choreo",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`topics`: those of the flows; `linger_ms`: the longest that one of them lets an ended run linger.

        Raises SettingsError on what is no Redis URL.
        """
        self.server = RedisServer(url, timeout_s=timeout_s)
        self._log = log
        self._clock = clock
        self._topics = topics
        self._linger_ms = linger_ms
        self._prefix = prefix
        self._name = secrets.token_hex(4)
        self._inboxes: dict[str, RedisInbox] = {}
        generations = Generations(self.server, prefix)
        self.projections = RedisProjections(self.server, generations)
        self.read_model = RedisReadModel(self.server, generations, log)

    def inbox(self, service: str) -> RedisInbox:
        """The service's inbox."""
        inbox = self._inboxes.get(service)
        if inbox is None:
            inbox = self._inboxes[service] = RedisInbox(
                self.server,
                f"{self._prefix}:inbox:{service}",
                self._clock,
                name=f"{self._name}.{service}",
                linger_ms=self._linger_ms,
                worked_before=partial(self._worked_before, service),
            )
        return inbox

    async def _worked_before(self, service: str) -> bool:
        """Whether the service's group has committed anything: it has then had an inbox."""
        for topic in self._topics:
            try:
                if any((await self._log.committed(topic, service)).values()):
                    return True
            except NotFoundError:
                continue
        return False

    async def close(self) -> None:
        """Close the connections."""
        await self.server.close()
