"""The generations of a flow's views: which one counts, and dropping it.

A number beside the flow's name says it. Whoever folded the generation before writes to it no more, for a script reads
the number and writes in one piece; so nothing of the old can slip into the new.
"""

from __future__ import annotations

import logging

from choreo.adapters.redis.server import RedisServer

ROOT = "local root = KEYS[1] .. ':' .. (redis.call('GET', KEYS[1]) or '0')"
"""The line with which a script finds the root: KEYS[1] is the flow's name of `Generations.name`."""


# Several projectors meet a loss: the first one begins the new generation. A flow without views has lost none.
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


class Generations:
    """The roots of every flow's views."""

    def __init__(self, server: RedisServer, prefix: str) -> None:
        """Every key begins with `prefix`."""
        self._server = server
        self._prefix = prefix

    def name(self, flow: str) -> str:
        """The key of the flow's number."""
        return f"{self._prefix}:views:{flow}"

    @property
    def flows_key(self) -> str:
        """The set of flows that have views."""
        return f"{self._prefix}:flows"

    async def flows(self) -> list[str]:
        """The flows that have views, by name."""
        return sorted(flow.decode() for flow in await self._server.ask("SMEMBERS", self.flows_key))

    async def root(self, flow: str) -> str:
        """What the flow's keys begin with now."""
        number = await self._server.ask("GET", self.name(flow))
        return f"{self.name(flow)}:{int(number or 0)}"

    async def positions(self, flow: str) -> dict[int, int]:
        """How far each partition is folded, as the next offset; one where nothing was folded is absent."""
        found = await self._server.ask("HGETALL", f"{await self.root(flow)}:positions")
        return {int(partition): int(offset) for partition, offset in found.items()}

    async def drop(self, flow: str) -> None:
        """Begin an empty generation, at once for everybody; then sweep away all older ones, a piece at a time."""
        await self._sweep(flow, await self._server.ask("INCR", self.name(flow)))

    async def renew(self, flow: str) -> None:
        """Drop views of which the server has lost some since they were begun: they are folded from the log again.

        Below a generation's root, `about` says which loss of the server it has seen.
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
