"""What a group's commits say of the log and of the group's memory: one that was lost is told from one that is new.

Who is given a partition hears what the last commit said there, and says the memory's name before anything is begun.
Whoever comes after it, and finds another memory or none, knows that one was lost; where nothing was said, nothing was
begun.
"""

from __future__ import annotations

from collections.abc import Sequence

from choreo.adapters.kafka.origin import Origin, check, first_noted, noted, read_note
from choreo.adapters.kafka.subscription import Found, Subscription
from choreo.ports.inbox import Memory
from choreo.ports.log import Gained


class Witness:
    """Between the log a member joined, its memory, if it has one, and the positions of its group."""

    def __init__(self, topic: str, origin: Origin, memory: Memory | None, subscription: Subscription) -> None:
        """Nothing is said yet."""
        self._topic = topic
        self._origin = origin
        self._memory = memory
        self._subscription = subscription

    @property
    def saying(self) -> str:
        """What a commit says beside its positions."""
        return noted(self._origin, self._memory.name if self._memory else "")

    async def hear(self, found: Sequence[Found]) -> list[Gained]:
        """Let the memory hear what was said of it, and say what was not said; returns what was gained.

        Raises ReplacedLogError where they are of another log, StorageError where the memory is away, KafkaException
        where the cluster is.
        """
        was = first_noted(said for _, said, _ in found if said is not None)
        check(self._topic, was or self._origin, self._origin)
        if self._memory is not None:
            names = (read_note(said)[1] for _, said, _ in found if said is not None)
            await self._memory.meet([name for name in names if name])
        unsaid = {gained.partition: gained.committed for gained, said, _ in found if said != self.saying}
        if unsaid:
            await self._subscription.commit(unsaid, self.saying)
        return [gained for gained, _, _ in found]
