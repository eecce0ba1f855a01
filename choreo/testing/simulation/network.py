"""The way between one simulated process and the servers: latency, servers that are away, lost answers, torn batches.

Every request passes `before` and `after`; a process may be killed at each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from choreo.core.errors import StorageError
from choreo.core.events import Envelope

BROKER, REDIS = "broker", "redis"
REQUEST_S: float = 0.4
"""How long a request waits for a server that is away before it fails."""
_LATENCIES_S = (0.0, 0.001, 0.004, 0.02)
"""Latencies of one way; the first one costs no timer."""


def _never(_: int) -> int:
    return 0


def _unchanged(_: str, events: Sequence[Envelope]) -> Sequence[Envelope]:
    return events


class Network:
    """The connections of one process."""

    def __init__(self, process: str, choose: Callable[[int], int] = _never) -> None:
        """`choose(n)` returns a number below n: which latency a request has."""
        self.process: str = process
        self.away: set[str] = set()
        """Servers that do not answer this process."""
        self.slow_s: float = 0.0
        """An additional latency of every request."""
        self.lose: dict[str, int] = {}
        """By server: how many answers get lost, from now on."""
        self.tear: int = 0
        """How many batches of several events are torn: the first events are published, and the request fails."""
        self.at_way: tuple[int, Callable[[], None]] | None = None
        """A number of ways, there and back, and the action that takes place on the last of them."""
        self.fired: Callable[[str], None] = lambda _: None
        """Called with the kind of a fault that a request has met."""
        self.sending: Callable[[str, Sequence[Envelope]], Sequence[Envelope]] = _unchanged
        """Returns the events of a topic that a publish request writes, in place of those that were given."""
        self.published: Callable[[str, Sequence[Envelope]], Awaitable[None]] | None = None
        """Called once events stand in a topic, before the answer; it may raise in place of the answer."""
        self.committed: Callable[[str, Mapping[int, int]], Awaitable[None]] | None = None
        """Called once offsets of a topic are committed, before the answer; it may raise in place of the answer."""
        self._choose = choose

    async def before(self, server: str) -> None:
        """Send a request. Raises StorageError where the server is away."""
        await self._travel()
        if server in self.away:
            self.fired(f"{server} away")
            await asyncio.sleep(REQUEST_S)
            raise self.failure(server, "does not answer")

    async def after(self, server: str) -> None:
        """Receive the answer. Raises StorageError where it is lost: the request was done."""
        await self._travel()
        if self.lose.get(server, 0) > 0:
            self.lose[server] -= 1
            self.fired("lost answer")
            raise self.failure(server, "did not answer in time")

    def torn(self, count: int) -> int:
        """Return how many of so many events the next batch publishes before it fails; -1: it does not fail."""
        if self.tear > 0 and count > 1:
            self.tear -= 1
            self.fired("torn batch")
            return 1 + self._choose(count - 1)
        return -1

    def failure(self, server: str, what: str) -> StorageError:
        """Return the error of a request."""
        return StorageError(what, where=f"{server}, from {self.process}", remedy="The simulation has planned it.")

    async def _travel(self) -> None:
        if self.at_way is not None:
            left, act = self.at_way
            self.at_way = (left - 1, act) if left > 1 else None
            if left <= 1:
                act()
                await asyncio.sleep(0)  # a killed process does not go on from here
        latency_s = _LATENCIES_S[self._choose(len(_LATENCIES_S))] + self.slow_s
        if latency_s:
            await asyncio.sleep(latency_s)
