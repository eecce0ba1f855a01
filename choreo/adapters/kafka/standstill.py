"""Sees that a member which is connected, and thinks that all is well, gets nothing of what stands in the log.

Asks the cluster through a client of its own, so that one which hangs is not its own witness. Knows no consumer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from choreo.adapters.kafka.lookups import Ends
from choreo.adapters.membership import Ticket
from choreo.core.errors import LeaseLostError, StorageError

Places = Callable[[], tuple[Mapping[int, int], Collection[int]]]
"""Where a member is in each of its partitions, and in which of them it has nothing to take that was brought."""


class Standstill:
    """Of one member. Make it on the loop that polls the member."""

    def __init__(self, ticket: Ticket, ends: Ends, places: Places, look_s: float) -> None:
        """`ends` are stable ends, for what stands behind an open transaction does not come.

        `look_s`: how often it is looked, and how long records may stand there while nothing is brought at all.
        """
        self._ticket = ticket
        self._ends = ends
        self._places = places
        self._look_s = look_s
        self._found: dict[int, int] = {}
        self._polled = False
        self._looking = asyncio.create_task(self._look())

    def check(self) -> None:
        """It is polled: raise LeaseLostError where it stands still, for another client may do better."""
        self._polled = True
        if self._found:
            places = ", ".join(f"offset {offset} of partition {number}" for number, offset in self._found.items())
            raise LeaseLostError(f"records stand at {places}, and none has come", where=self._ticket.place)

    def close(self) -> None:
        """Look no more."""
        self._looking.cancel()

    async def _look(self) -> None:
        before: Mapping[int, int] = {}
        behind: dict[int, int] = {}
        while not self._found:
            await asyncio.sleep(self._look_s)
            polled, self._polled = self._polled, False
            places, empty = self._places()
            if behind and polled and places == before:
                self._found = {number: offset for number, offset in behind.items() if number in empty}
            before, behind = places, await self._behind({number: places[number] for number in empty})

    async def _behind(self, places: Mapping[int, int]) -> dict[int, int]:
        """Those behind which records stand; none while the cluster does not say."""
        if not places:
            return {}
        try:
            ends = await self._ends(places)
        except StorageError:  # whoever works says so
            return {}
        return {number: offset for number, offset in places.items() if offset < ends[number]}
