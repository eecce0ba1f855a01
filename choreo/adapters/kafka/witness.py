"""What a group's commits say of its memory: a store that was lost is told from one that is new by the log beside it.

Who is given a partition hears what the last commit said there, and says the memory's name before anything is begun.
Whoever comes after it, and finds another memory or none, knows that one was lost; where nothing was said, nothing was
begun.
"""

from __future__ import annotations

from collections.abc import Sequence

from choreo.adapters.kafka.subscription import Found, Subscription
from choreo.ports.inbox import Memory
from choreo.ports.log import Gained


class Witness:
    """Between one member's memory, if it has one, and the positions of its group."""

    def __init__(self, memory: Memory | None, subscription: Subscription) -> None:
        """Nothing is said yet."""
        self._memory = memory
        self._subscription = subscription

    @property
    def saying(self) -> str:
        """What a commit says beside its positions."""
        return self._memory.name if self._memory else ""

    async def hear(self, found: Sequence[Found]) -> list[Gained]:
        """Let the memory hear what was said of it, and say its name where it was not said; returns what was gained.

        Raises StorageError where the memory is away, KafkaException where the cluster is.
        """
        if self._memory is not None:
            await self._memory.meet([said for _, said in found if said is not None])
            unsaid = {gained.partition: gained.committed for gained, said in found if said != self.saying}
            if unsaid:
                await self._subscription.commit(unsaid, self.saying)
        return [gained for gained, _ in found]
