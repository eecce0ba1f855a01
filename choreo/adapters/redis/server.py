"""One Redis server: commands, scripts, and the errors when it does not answer.

Every failure is a StorageError within a time limit, so that hosts keep their work and REST answers 503. A call may have
been executed although it failed: every command here can be sent twice. A server is examined before it is used, again
after every failure, and now and then: a connection may lead to another server, or to one that has become a replica.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from redis import exceptions
from redis.commands.core import AsyncScript

from choreo.adapters.redis.address import address_of
from choreo.adapters.redis.examination import LOSSES, NOTE, Examined
from choreo.adapters.store_errors import LossError, UnfitError
from choreo.core.errors import SettingsError, StorageError
from choreo.ports.dependencies import Dependencies, NoReports, report_error
from choreo.redaction import redact

_log = logging.getLogger(__name__)
T = TypeVar("T")

TIMEOUT_S = 2.0
"""A full batch takes Redis some 10 ms: after 200 times that, the server is away, not busy."""

SWEPT_AT_ONCE = 1_000
"""Keys read in one call: about a millisecond of the server's time."""

REDIS = "redis"
_PERMISSIONS = "Let the user do this: ACL SETUSER NAME ~* +@read +@write +@scripting +@connection +info +time."
_READ_ONLY = "Point CHOREO_REDIS to the primary: this is a replica."
_LOADING = "Wait: it is loading its data."
_MEMORY = "Give it more memory (maxmemory)."
_AWAY = "Start it, or correct CHOREO_REDIS; work is held until it answers."
_BUSY = "See what keeps it busy (SLOWLOG); work is held until it answers."
# Older servers put the error of a command in a script into a sentence of their own: its code is found by its word.
_REMEDIES: Sequence[tuple[type[Exception], str, str]] = (
    (exceptions.AuthenticationError, "WRONGPASS", "Correct the user and password in CHOREO_REDIS."),
    (exceptions.NoPermissionError, "NOPERM", _PERMISSIONS),
    (exceptions.NoPermissionError, "user executing the script can't run", _PERMISSIONS),
    (exceptions.BusyLoadingError, "LOADING", _LOADING),
    (exceptions.ReadOnlyError, "READONLY", _READ_ONLY),
    (exceptions.MasterDownError, "MASTERDOWN", "See why the replica has lost its primary, or name the primary."),
    (exceptions.OutOfMemoryError, "OOM", _MEMORY),
    (exceptions.MovedError, "MOVED", "Name a single primary: a Redis Cluster cannot be used."),
    (exceptions.ConnectionError, "", _AWAY),
    (exceptions.TimeoutError, "", _BUSY),
    (TimeoutError, "", _BUSY),
    (OSError, "", _AWAY),
)
_ELSEWHERE = ("READONLY", "LOADING", "MASTERDOWN", "MOVED")
"""Errors of a server that is not the right one (any more): a new connection may lead to the right one."""
_GLOB = re.compile(r"([*?\[\]\\])")


class RedisServer:
    """The server of one address. Connects when first used; belongs to one event loop.

    `inbox_loss`, `views_loss`: ids of the last moment at which inboxes or views may have lost something; `0`: never.
    Both are empty before the server was examined.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "choreo",
        timeout_s: float = TIMEOUT_S,
        dependencies: Dependencies | None = None,
    ) -> None:
        """Parse the address; raises SettingsError if it is not a Redis URL.

        `timeout_s` bounds every call, connecting included.
        """
        redact.learn({"redis": url})
        self.where: str
        self._client, self.where, self._sentinels = address_of(url)
        self._note_key = f"{prefix}:server"
        self._timeout_s = timeout_s
        self._dependencies = dependencies or NoReports()
        self._scripts: dict[str, AsyncScript] = {}
        self._examined = self._examined_to_write = False
        self._has_been_fit = self._has_been_primary = self._writes = False
        self.inbox_loss: str = ""
        self.views_loss: str = ""

    async def ask(self, *command: Any) -> Any:
        """Return the answer to one command. Raises StorageError."""
        return await self._reach(lambda client: client.execute_command(*command))

    async def ask_all(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """Return the answers to several commands of one round trip; other clients' commands may run in between.

        Raises StorageError.
        """
        commands = list(commands)

        async def call(client: Any) -> list[Any]:
            async with client.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                answers: list[Any] = await pipeline.execute()
                return answers

        return await self._reach(call)

    async def run(self, script: str, keys: Sequence[str], *arguments: Any, guarded: bool = False) -> Any:
        """Return the answer of a Lua script; the server executes nothing else meanwhile.

        Raises StorageError; if `guarded`, LossError where the server has lost writes, and then the script was not run.
        """
        self._writes = True
        return await self._reach(lambda client: self._script(client, script, keys, arguments), guarded=guarded)

    async def prepare(self, *, writes: bool) -> None:
        """Examine the server unless that was done since the last failure. Raises StorageError."""
        self._writes = self._writes or writes
        if not self._is_examined:
            await self._reach(_nothing)

    async def check(self) -> None:
        """Examine the server now, also if it was examined before.

        Raises StorageError where it cannot be used, SettingsError where it never could and waiting does not help.
        """
        try:
            self._examined = self._examined_to_write = False
            await self._reach(_nothing)
        except UnfitError as error:
            if self._has_been_fit:
                raise
            raise SettingsError(error.what, where=error.where, remedy=error.remedy) from error

    async def sweep(self, begin: str, is_old: Callable[[bytes], bool]) -> None:
        """Remove the keys that begin with `begin` and are old, in small pieces. Raises StorageError."""
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
        for client in (self._client, *self._sentinels):
            await client.aclose()

    @property
    def _is_examined(self) -> bool:
        return self._examined_to_write if self._writes else self._examined

    async def _reach(self, call: Callable[[Any], Awaitable[T]], *, guarded: bool = False) -> T:
        """Call, and call once more on a new connection if the first one was dead or led to the wrong server."""
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    answer = await self._call(call, guarded=guarded)
                except (exceptions.RedisError, OSError) as error:
                    if not await self._is_worth_another(error):
                        raise
                    answer = await self._call(call, guarded=guarded)
        except LossError:
            raise
        except StorageError as error:
            await self._failed(error)
            raise
        except (exceptions.RedisError, OSError, TimeoutError) as error:
            failure = self._failure(error)
            await self._failed(failure)
            raise failure from error
        self._dependencies.clear(REDIS)
        return answer

    async def _call(self, call: Callable[[Any], Awaitable[T]], *, guarded: bool) -> T:
        if not self._is_examined:
            known = self.inbox_loss
            await self._examine()
            if guarded and known not in ("", self.inbox_loss):
                raise LossError(
                    "it may have lost its last writes",
                    where=self.where,
                    remedy="Nothing to do: choreo repairs inboxes and views.",
                )
        return await call(self._client)

    async def _is_worth_another(self, error: Exception) -> bool:
        """Return whether a new connection may succeed; then no pooled connection is used again."""
        self._examined = self._examined_to_write = False
        elsewhere = _word(error) in _ELSEWHERE
        if elsewhere or isinstance(error, exceptions.ConnectionError | OSError):
            await self._client.connection_pool.disconnect(inuse_connections=False)
        refused = isinstance(error, exceptions.AuthenticationError | exceptions.BusyLoadingError)
        return (elsewhere or isinstance(error, exceptions.ConnectionError)) and not refused

    async def _failed(self, failure: StorageError) -> None:
        self._examined = self._examined_to_write = False
        report_error(self._dependencies, REDIS, failure)

    async def _script(self, client: Any, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        known = self._scripts.get(script)
        if known is None:
            known = self._scripts[script] = client.register_script(script)
        return await known(keys=list(keys), args=list(arguments))

    async def _examine(self) -> None:
        """Examine the server.

        Raises UnfitError or StorageError on a server that evicts keys or has become a replica, and the client's errors.
        """
        writes = self._writes
        found = await self._info()
        found.refuse_unfit(self.where)
        if found.is_replica and (writes or self._has_been_primary):
            # A replica is refused for every command, also where this process only reads: its views may be out of date.
            raise exceptions.ReadOnlyError("READONLY it is a replica")
        if writes:
            try:
                losses = await self._script(self._client, NOTE, [self._note_key], found.note())
            except exceptions.OutOfMemoryError:
                found.refuse_evicting(self.where)
                raise
        else:
            losses = [loss or b"0" for loss in await self._client.hmget(self._note_key, LOSSES)]
        self.inbox_loss, self.views_loss = (loss.decode() for loss in losses)
        found.refuse_evicting(self.where)
        if not found.keeps_file and not self._has_been_fit:
            _log.warning(
                "%s keeps no append-only file: a restart forgets begun attempts, and their failures then leave "
                "doubt. Set appendonly to yes.",
                self.where,
            )
        self._has_been_fit = True
        self._has_been_primary = not found.is_replica
        self._examined, self._examined_to_write = True, writes

    async def _info(self) -> Examined:
        """Return the fields of INFO; raises UnfitError if this user may not run INFO."""
        try:
            return Examined.of(await self._client.execute_command("INFO"))
        except exceptions.NoPermissionError as error:
            raise UnfitError(str(error), where=self.where, remedy=_PERMISSIONS) from error

    def _failure(self, error: Exception) -> StorageError:
        word = _word(error)
        known = (text for kind, code, text in _REMEDIES if isinstance(error, kind) or (word and code == word))
        remedy = next(known, "See the server's log.")
        what = redact(str(error)) or f"no answer within {self._timeout_s:g} s"
        kind = UnfitError if remedy == _PERMISSIONS else StorageError
        return kind(what.rstrip("."), where=self.where, remedy=remedy)


def _word(error: Exception) -> str:
    """Return the code of a server's error: its first word, or in a script's sentence the known one."""
    text = str(error)
    codes = (code for kind, code, _ in _REMEDIES if code and (isinstance(error, kind) or f"{code} " in text))
    return next(codes, "")


async def _nothing(_: Any) -> None:
    """Do nothing: the examination is all."""
