"""One Redis: commands, scripts, and what is said when it does not answer.

Every failure is a StorageError within a bound, so that hosts hold their work and doors answer 503; the next call tries
again on a new connection. A call may have been done although it failed: whatever is sent here can be sent twice.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from choreo.core.errors import MissingExtraError, SettingsError, StorageError
from choreo.ports.dependencies import Dependencies, NoReports, report_error
from choreo.redaction import redact

try:
    from redis import exceptions
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.commands.core import AsyncScript
except ImportError as missing:
    raise MissingExtraError.of(
        f"Redis as a store needs {missing.name}, which is not installed",
        where="choreo.adapters.redis",
        extra="redis",
    ) from missing

_log = logging.getLogger(__name__)

TIMEOUT_S = 2.0
"""A full batch takes Redis some 10 ms: 200 times that is no load any more, it is an absence."""

SWEPT_AT_ONCE = 1_000
"""Keys looked at by a call: about a millisecond of the server's."""

REDIS = "redis"
_REFUSED_WRITES = (exceptions.ReadOnlyError, exceptions.OutOfMemoryError, exceptions.NoPermissionError)
"""Answers of a server that reads: only a write that succeeds takes them back."""

_GLOB = re.compile(r"([*?\[\]\\])")
_REMEDIES: Sequence[tuple[type[Exception], str]] = (
    (exceptions.AuthenticationError, "Correct the user and password in CHOREO_REDIS."),
    (exceptions.NoPermissionError, "Let the user read and write keys and run scripts."),
    (exceptions.BusyLoadingError, "Wait: it is loading its data."),
    (exceptions.ReadOnlyError, "Point CHOREO_REDIS to the primary: this is a replica."),
    (exceptions.OutOfMemoryError, "Give it more memory (maxmemory)."),
    (exceptions.ConnectionError, "Start it, or correct CHOREO_REDIS; work is held until it answers."),
    (exceptions.TimeoutError, "See what keeps it busy (SLOWLOG); work is held until it answers."),
    (TimeoutError, "See what keeps it busy (SLOWLOG); work is held until it answers."),
    (OSError, "Start it, or correct CHOREO_REDIS; work is held until it answers."),
)


class RedisServer:
    """A server at `redis://`, `rediss://` (TLS) or `unix://`. Connects when first used; belongs to one event loop."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, dependencies: Dependencies | None = None) -> None:
        """`timeout_s` bounds every call, connecting included. Raises SettingsError on what is no such URL."""
        redact.learn({"redis": url})
        try:
            # One try more, at once: after a restart of the server a pooled connection is found dead when it is used.
            # The bound is `_reached`'s: the client's own would start a task for every send, and that one eats the
            # cancellation that comes in the turn in which it ends (cpython issue 86296).
            self._client = Redis.from_url(
                url,
                protocol=2,
                socket_timeout=None,
                retry=Retry(NoBackoff(), 1, (exceptions.ConnectionError,)),
                client_name="choreo",
            )
        except ValueError as error:
            # Not what the client says: it takes the address apart, and shows a piece that may be a password's.
            raise SettingsError(
                "this is no address of a Redis",
                where="setting redis",
                remedy="Write redis://host:6379/0, rediss://user:password@host:6379/0 or unix:///path; percent-encode "
                "what is special in user and password (a slash is %2F, an at-sign %40).",
            ) from error
        place = self._client.connection_pool.connection_kwargs
        self.where = f"Redis at {place.get('path') or '{host}:{port}'.format_map({'host': '', 'port': 6379, **place})}"
        self._timeout_s = timeout_s
        self._dependencies = dependencies or NoReports()
        self._refuses_writes = False
        self._scripts: dict[str, AsyncScript] = {}
        self._examined = False

    async def ask(self, *command: Any) -> Any:
        """The answer to one command. Raises StorageError."""
        async with self._reached() as client:
            return await client.execute_command(*command)

    async def ask_all(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """The answers to several commands in one round trip; others' may come between them. Raises StorageError."""
        async with self._reached() as client, client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = await pipeline.execute()
            return answers

    async def run(self, script: str, keys: Sequence[str], *arguments: Any) -> Any:
        """What a Lua script returns: nothing else happens in the server meanwhile. Raises StorageError."""
        async with self._reached(writes=True) as client:
            known = self._scripts.get(script)
            if known is None:
                known = self._scripts[script] = client.register_script(script)
            return await known(keys=list(keys), args=list(arguments))

    async def sweep(self, begin: str, is_old: Callable[[bytes], bool]) -> None:
        """Remove the keys that begin so and are old, a piece at a time. Raises StorageError."""
        pattern = _GLOB.sub(r"\\\1", begin) + "*"
        cursor: bytes | int = 0
        while True:
            cursor, keys = await self.ask("SCAN", cursor, "MATCH", pattern, "COUNT", SWEPT_AT_ONCE)
            old = [key for key in keys if is_old(key)]
            if old:
                await self.ask("UNLINK", *old)
            if not int(cursor):
                return

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def _reached(self, *, writes: bool = False) -> AsyncIterator[Any]:
        try:
            async with asyncio.timeout(self._timeout_s):
                if not self._examined:
                    await self._examine(self._client)
                yield self._client
        except (exceptions.RedisError, OSError, TimeoutError) as error:
            failure = self._failure(error)
            self._refuses_writes = isinstance(error, _REFUSED_WRITES)
            report_error(self._dependencies, REDIS, failure)
            raise failure from error
        if writes or not self._refuses_writes:
            self._refuses_writes = False
            self._dependencies.clear(REDIS)

    async def _examine(self, client: Any) -> None:
        """A server that drops keys of its own accord would forget outcomes: work is held until it is set right."""
        about: dict[str, Any] = await client.execute_command("INFO")
        policy = about.get("maxmemory_policy", "noeviction")
        if about.get("maxmemory") and policy != "noeviction":
            raise StorageError(
                f"it may drop keys when memory is short (maxmemory-policy {policy})",
                where=self.where,
                remedy="Set maxmemory-policy to noeviction: what steps have done must not be forgotten.",
            )
        if not about.get("aof_enabled"):
            _log.warning(
                "%s keeps no append-only file: a restart forgets what steps have begun, and their failures then leave "
                "doubt. Set appendonly to yes.",
                self.where,
            )
        self._examined = True

    def _failure(self, error: Exception) -> StorageError:
        remedy = next((text for kind, text in _REMEDIES if isinstance(error, kind)), "See the server's log.")
        what = redact(str(error)) or f"no answer within {self._timeout_s:g} s"
        return StorageError(what.rstrip("."), where=self.where, remedy=remedy)
