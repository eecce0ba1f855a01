"""Notes as fields of one hash."""

from __future__ import annotations

from choreo.adapters.redis.server import RedisServer

_SWAP = """
local known = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if known ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""


class RedisNotes:
    """`choreo.ports.notes.Notes` in Redis. Everything raises StorageError when that cannot be used."""

    def __init__(self, server: RedisServer, prefix: str) -> None:
        self._server = server
        self._key = f"{prefix}:notes"

    async def get(self, name: str) -> str:
        """Return the note; "" if there is none."""
        found: bytes | None = await self._server.ask("HGET", self._key, name)
        return (found or b"").decode()

    async def swap(self, name: str, text: str, former: str) -> bool:
        """Replace the note if it is still `former`; return whether it was."""
        return bool(await self._server.ask("EVAL", _SWAP, 1, self._key, name, text, former))
