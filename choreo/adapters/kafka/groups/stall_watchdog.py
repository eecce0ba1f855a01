"""Report a consumer that is connected and gets nothing of the records in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from choreo.adapters.assignment import MemberId
from choreo.adapters.kafka.groups.lookups import Ends
from choreo.core.errors import LeaseLostError, StorageError
from choreo.ports.dependencies import Dependencies

Places = Callable[[], tuple[Mapping[int, int], Collection[int]]]
"""Returns the next offset of each partition, and the partitions without fetched messages that wait."""
REMEDY = (
    "The consumer is replaced by a new one. If that does not help: see that every broker answers this process, above "
    "all the leaders of these partitions."
)


class StallWatchdog:
    """The watchdog of one member. Make it on the loop that polls the member."""

    def __init__(
        self, member_id: MemberId, ends: Ends, places: Places, look_s: float, dependencies: Dependencies
    ) -> None:
        """Begin to watch.

        `ends` are stable ends, for records behind an open transaction do not arrive.

        `look_s`: seconds between checks, and how long records may stand there while nothing at all is fetched.
        """
        self._member_id = member_id
        self._name = f"consumer of {member_id.topic} for {member_id.group}"
        self._ends = ends
        self._places = places
        self._look_s = look_s
        self._dependencies = dependencies
        self._found: dict[int, int] = {}
        self._polled = False
        self._looking = asyncio.create_task(self._look())

    def check(self) -> None:
        """Note a poll. Raises LeaseLostError where the member receives nothing, for a new client may work."""
        self._polled = True
        if self._found:
            places = ", ".join(f"offset {offset} of partition {number}" for number, offset in self._found.items())
            cause = f"records stand at {places}, and none has come for {self._look_s:g} s"
            self._dependencies.report(self._name, cause, REMEDY)
            raise LeaseLostError(cause, where=self._member_id.place, remedy=REMEDY)

    def close(self) -> None:
        """Stop the checks."""
        self._looking.cancel()

    async def _look(self) -> None:
        """Compare two checks.

        The report of an earlier member ends when this one receives records, or none stand there.
        """
        before: Mapping[int, int] = {}
        behind: dict[int, int] | None = {}
        while not self._found:
            await asyncio.sleep(self._look_s)
            polled, self._polled = self._polled, False
            places, empty = self._places()
            if behind and polled and places == before:
                self._found = {number: offset for number, offset in behind.items() if number in empty}
            gets_on = any(before.get(number, offset) < offset for number, offset in places.items())
            before, behind = places, await self._behind({number: places[number] for number in empty})
            if gets_on or (polled and places and behind == {}):
                self._dependencies.clear(self._name)

    async def _behind(self, places: Mapping[int, int]) -> dict[int, int] | None:
        """Return the offsets behind which records stand; None while the cluster does not answer."""
        if not places:
            return {}
        try:
            ends = await self._ends(places)
        except StorageError:  # reported by the member's own requests
            return None
        return {number: offset for number, offset in places.items() if offset < ends[number]}
