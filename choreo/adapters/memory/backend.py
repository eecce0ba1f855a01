"""The memory backend: a log and its stores in one process, which end with the process.

Connects the parts; each part knows its port only.
"""

from __future__ import annotations

from choreo.adapters.clock import SteadyClock
from choreo.adapters.embedded import Embedded
from choreo.adapters.memory.consumer_groups import MemoryGroups, Stores
from choreo.adapters.memory.dead_letters import MemoryDeadLetters
from choreo.adapters.memory.inbox import MemoryInbox
from choreo.adapters.memory.log import MemoryLog
from choreo.adapters.memory.notes import MemoryNotes
from choreo.adapters.memory.projections import MemoryProjections
from choreo.adapters.memory.read_model import MemoryReadModel
from choreo.adapters.memory.state import MemoryStates
from choreo.adapters.memory.topics import Topics
from choreo.ports.backend import BackendOptions, StatefulBackend
from choreo.ports.clock import Clock
from choreo.ports.log import TRACKER_GROUP


class MemoryBackend(Embedded):
    """`choreo.ports.backend.StatefulBackend` in memory.

    The tracker's commits fill `.read_model`; a projector fills `.projections`, which has a read model of its own.
    `lease_s`: how long a member that does not poll keeps its partitions, on the given clock.
    """

    def __init__(self, clock: Clock, *, lease_s: float = 3.0) -> None:
        super().__init__(clock, lease_s=lease_s)
        topics = Topics(clock)
        self._inboxes: dict[str, MemoryInbox] = {}
        self.dead_letters: MemoryDeadLetters = MemoryDeadLetters()
        self.notes: MemoryNotes = MemoryNotes()
        self.states: MemoryStates = MemoryStates(self._rewind_tracker)
        self.read_model: MemoryReadModel = MemoryReadModel(topics, self._rewind_tracker, self._folded)
        self.projections: MemoryProjections = MemoryProjections(topics)
        stores = Stores(self.inbox, self.dead_letters, self.states, self.read_model)
        self._groups = MemoryGroups(topics, stores, clock, lease_s)
        self.log: MemoryLog = MemoryLog(topics, self._groups, clock)

    def inbox(self, service: str) -> MemoryInbox:
        """Return the service's inbox; a commit records outcomes in the inbox that has the name of its group."""
        return self._inboxes.setdefault(service, MemoryInbox(self.clock))

    def rewind(self, topic: str, group: str) -> None:
        """Set a consumer group back to the beginning of the topic, as an operator does with a broker's own tool."""
        self._groups.rewind(topic, group)

    def lose_inboxes(self) -> None:
        """Forget the content of all inboxes, as a lost store does."""
        for inbox in self._inboxes.values():
            inbox.lose()

    async def check(self) -> None:
        """Report nothing: memory is always there."""

    async def close(self) -> None:
        """Close the log."""
        await self.log.close()

    def _rewind_tracker(self, topic: str) -> None:
        self.rewind(topic, TRACKER_GROUP)

    def _folded(self, topic: str) -> dict[int, int]:
        return self._groups.committed(topic, TRACKER_GROUP)


async def open_backend(options: BackendOptions) -> StatefulBackend:
    """Return an empty backend with a topic for each flow. Raises SettingsError."""
    backend = MemoryBackend(SteadyClock(options.clock), lease_s=options.lease_s)
    await backend.set_up(options)
    return backend
