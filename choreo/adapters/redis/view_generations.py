"""The generations of a flow's views: the current one, and dropping it.

A number beside the flow's name is the current generation. A projector of an older generation writes nothing any more,
because a script reads the number and writes atomically; so nothing old gets into the new generation.
"""

from __future__ import annotations

import logging

from choreo.adapters.redis.server import RedisServer

ROOT = "local root = KEYS[1] .. ':' .. (redis.call('GET', KEYS[1]) or '0')"
"""The line with which a script finds the root: KEYS[1] is `ViewGenerations.name` of the flow."""


# Several projectors detect a loss: the first one begins the new generation. A flow without views has lost none.
_RENEW = f"""
{ROOT}
local known = redis.call('HGET', root .. ':about', 'loss') or (redis.call('EXISTS', root .. ':positions') == 1 and '0')
if not known then redis.call('HSET', root .. ':about', 'loss', ARGV[1]) end
if not known or known == ARGV[1] then return 0 end
local number = redis.call('INCR', KEYS[1])
redis.call('HSET', KEYS[1] .. ':' .. number .. ':about', 'loss', ARGV[1])
return number
"""

_log = logging.getLogger(__name__)


class ViewGenerations:
    """The roots of every flow's views."""

    def __init__(self, server: RedisServer, prefix: str) -> None:
        """Share the server; every key begins with `prefix`."""
        self._server = server
        self._prefix = prefix

    def name(self, flow: str) -> str:
        """Return the key of the flow's generation number."""
        return f"{self._prefix}:views:{flow}"

    @property
    def flows_key(self) -> str:
        """Return the key of the set of flows that have views."""
        return f"{self._prefix}:flows"

    async def flows(self) -> list[str]:
        """Return the names of the flows that have views."""
        return sorted(flow.decode() for flow in await self._server.ask("SMEMBERS", self.flows_key))

    async def root(self, flow: str) -> str:
        """Return the prefix of the flow's keys in the current generation."""
        number = await self._server.ask("GET", self.name(flow))
        return f"{self.name(flow)}:{int(number or 0)}"

    async def positions(self, flow: str) -> dict[int, int]:
        """Return the next offset to fold, by partition; a partition without folded records is absent."""
        found = await self._server.ask("HGETALL", f"{await self.root(flow)}:positions")
        return {int(partition): int(offset) for partition, offset in found.items()}

    async def drop(self, flow: str) -> None:
        """Begin an empty generation, at once for every process; then remove all older ones in small pieces."""
        await self._sweep(flow, await self._server.ask("INCR", self.name(flow)))

    async def renew(self, flow: str) -> None:
        """Drop views if the server has lost some since they were begun: projectors fold them again.

        Below a generation's root, `about` holds the id of the last loss of the server that the generation has noted.
        """
        await self._server.prepare(writes=True)
        loss = self._server.views_loss
        number = await self._server.run(_RENEW, [self.name(flow)], loss)
        if number:
            _log.warning("%s has evicted keys: the views of %s are folded from the log again", self._server.where, flow)
            await self._sweep(flow, number)

    async def _sweep(self, flow: str, number: int) -> None:
        begin = f"{self.name(flow)}:"
        await self._server.sweep(begin, lambda key: int(key[len(begin.encode()) :].partition(b":")[0]) < number)
