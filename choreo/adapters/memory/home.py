"""The memory home: a log and its stores in one process, gone with it.

Knows which part is given to which; the parts know their port only.
"""

from __future__ import annotations

from choreo.adapters.memory.dead_letters import MemoryDeadLetters
from choreo.adapters.memory.groups import MemoryGroups, Stores
from choreo.adapters.memory.inbox import MemoryInbox
from choreo.adapters.memory.log import MemoryLog
from choreo.adapters.memory.projections import MemoryProjections
from choreo.adapters.memory.read_model import MemoryReadModel
from choreo.adapters.memory.state import MemoryStates
from choreo.adapters.memory.topics import Topics
from choreo.ports.clock import Clock
from choreo.ports.log import TRACKER_GROUP


class MemoryHome:
    """`.log`, `.states`, `.read_model`, `.dead_letters` and `.inbox(service)`, as every home has them.

    The tracker's commits fill `.read_model`; a projector fills `.projections`, which has a read model of its own.
    `lease_s`: how long a member that does not poll keeps its partitions, on the given clock.
    """

    def __init__(self, clock: Clock, *, lease_s: float = 3.0) -> None:
        topics = Topics(clock)
        self._clock = clock
        self._inboxes: dict[str, MemoryInbox] = {}
        self.dead_letters: MemoryDeadLetters = MemoryDeadLetters()
        self.states: MemoryStates = MemoryStates(self._rewind)
        self.read_model: MemoryReadModel = MemoryReadModel(topics, self._rewind, self._folded)
        self.projections: MemoryProjections = MemoryProjections(topics)
        stores = Stores(self.inbox, self.dead_letters, self.states, self.read_model)
        self._groups = MemoryGroups(topics, stores, clock, lease_s)
        self.log: MemoryLog = MemoryLog(topics, self._groups, clock)

    def inbox(self, service: str) -> MemoryInbox:
        """The service's inbox; the outcomes of a commit are recorded in the inbox named as the member's group."""
        return self._inboxes.setdefault(service, MemoryInbox(self._clock))

    async def check(self) -> None:
        """Report nothing: memory is always there."""

    async def close(self) -> None:
        """Release everything held, which is nothing."""
        await self.log.close()

    def _rewind(self, topic: str) -> None:
        self._groups.rewind(topic, TRACKER_GROUP)

    def _folded(self, topic: str) -> dict[int, int]:
        return self._groups.committed(topic, TRACKER_GROUP)
