"""The generations of a flow's views: which one counts, and dropping it.

A number beside the flow's name says it. Whoever folded the generation before writes to it no more, for a script reads
the number and writes in one piece; so nothing of the old can slip into the new.
"""

from __future__ import annotations

from choreo.adapters.redis.server import RedisServer

ROOT = "local root = KEYS[1] .. ':' .. (redis.call('GET', KEYS[1]) or '0')"
"""The line with which a script finds the root: KEYS[1] is the flow's name of `Generations.name`."""


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
        number = await self._server.ask("INCR", self.name(flow))
        begin = f"{self.name(flow)}:"
        await self._server.sweep(begin, lambda key: int(key[len(begin.encode()) :].partition(b":")[0]) < number)
