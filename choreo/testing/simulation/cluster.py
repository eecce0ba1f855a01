"""The servers of a simulation: a modelled Kafka and Redis, shared by all simulated processes.

Topics and groups are those of the memory backend. A member of a group lives as long as its process does: a dead or
frozen one is expelled after the session timeout, as brokers do, and nobody has to poll for it. Time is the loop's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from choreo.adapters import inbox_rules
from choreo.adapters.assignment import GroupState, MemberId, Membership
from choreo.adapters.memory.consumer_groups import MemoryGroups, Stores
from choreo.adapters.memory.dead_letters import MemoryDeadLetters
from choreo.adapters.memory.inbox import MemoryInbox
from choreo.adapters.memory.projections import MemoryProjections
from choreo.adapters.memory.read_model import MemoryReadModel
from choreo.adapters.memory.state import MemoryStates
from choreo.adapters.memory.topics import Topics
from choreo.core.events import Envelope
from choreo.ports.clock import Clock
from choreo.ports.inbox import Outcome
from choreo.ports.log import TRACKER_GROUP
from choreo.ports.state import StateRow
from choreo.testing.simulation.clock import LoopClock
from choreo.testing.simulation.loop import SimulationLoop

SESSION_S: float = 6.0
"""After so long without a sign of life a broker expels a member, and another process begins its attempts."""
_NEVER_S = 1e9
"""Members need not renew: their process speaks for them."""


class Happening(NamedTuple):
    """One thing that happened in a simulation, for its timeline."""

    at_ms: int
    """Since the simulation began."""
    process: str
    text: str
    key: str = ""
    """The business key that it is about; "" for any."""


class SimulatedTopics(Topics):
    """The topics of the modelled Kafka: the clock of each partition's leader may be wrong."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.skews_ms: dict[int, int] = {}
        """By partition number: how far its leaders' clock is ahead."""

    def now_ms(self, topic: str, partition: int) -> int:
        """Return the time of the partition's leader."""
        return super().now_ms(topic, partition) + self.skews_ms.get(partition, 0)


class SimulatedGroups(MemoryGroups):
    """The groups of the modelled Kafka."""

    def __init__(self, topics: Topics, stores: Stores, clock: Clock) -> None:
        super().__init__(topics, stores, clock, _NEVER_S)
        self._expelled: set[str] = set()

    def expel(self, process: str) -> None:
        """Let the members of a process be dead, so that others take their partitions."""
        self._expelled.add(process)
        self._next_epoch()
        self._topics.notifier.notify_all()

    def restore(self, process: str) -> None:
        """Let a frozen process live again: its members join once more."""
        self._expelled.discard(process)
        self._next_epoch()
        self._topics.notifier.notify_all()

    def wake(self) -> None:
        """Let every consumer look again."""
        self._topics.notifier.notify_all()

    def group_state(self, topic: str, group: str) -> GroupState:
        """Return the group's state; members of dead processes have expired."""
        self._refresh(topic, group)
        return super().group_state(topic, group)

    async def renew(self, member_id: MemberId) -> GroupState:
        """Take part in the rebalance."""
        self._refresh(member_id.topic, member_id.group)
        return await super().renew(member_id)

    def owns(self, member_id: MemberId, epochs: Mapping[int, int]) -> list[int]:
        """Return those of the partitions that have another owner now."""
        leases = self.group_state(member_id.topic, member_id.group).leases
        return sorted(p for p, epoch in epochs.items() if (leases[p].owner, leases[p].epoch) != (member_id.name, epoch))

    def move(self, member_id: MemberId, done: Mapping[int, int]) -> None:
        """Commit offsets."""
        rows = self._groups[member_id.topic, member_id.group]
        for partition, offset in done.items():
            rows.leases[partition] = rows.leases[partition]._replace(committed=offset)

    def _refresh(self, topic: str, group: str) -> None:
        rows, now_ms = self._groups[topic, group], self._clock.elapsed_ms()
        for name, membership in rows.memberships.items():
            is_dead = process_of(name) in self._expelled
            rows.memberships[name] = Membership(membership.incarnation, 0 if is_dead else now_ms + 60_000)


class SimulatedInbox(MemoryInbox):
    """A service's inbox on the modelled Redis. After a loss nothing is certain until a `linger` has passed."""

    def __init__(self, clock: Clock, linger_ms: int) -> None:
        self._linger_ms = linger_ms
        self._lost_ms = -1
        super().__init__(clock)

    def empty(self) -> None:
        """Lose everything, as a Redis without its file does."""
        self.lose()
        self._lost_ms = self._clock.elapsed_ms()

    def record_now(self, outcomes: Sequence[Outcome]) -> list[Envelope]:
        """Record outcomes; after a loss none is certain, for the lost inbox may have counted attempts."""
        is_doubtful = self._lost_ms >= 0 and self._clock.elapsed_ms() < self._lost_ms + self._linger_ms
        return inbox_rules.record(outcomes, self._rows, _ALL_MS if is_doubtful else -1)[0]

    def gated_partitions(self, flow: str, shape: str) -> set[int]:
        """Return the partitions of which gates are stored, also those of no key."""
        return {place[2] for place in self._gate_positions if place[:2] == (flow, shape)}

    def has_outcome(self, trigger: str, step: str) -> bool:
        """Return whether the outcome of a step is recorded, for checks."""
        row = self._rows.get((trigger, step))
        return row is not None and row.outcome is not None


_ALL_MS = 1 << 62


class SimulatedStates(MemoryStates):
    """The tracker's states behind a changelog: a restore takes the state with the highest position of each key."""

    def save(self, rows: Iterable[StateRow]) -> None:
        """Write rows; an older state of a former owner changes nothing."""
        for row in rows:
            known = self._of(row.topic, row.partition).get(row.key)
            if known is None or row.position >= known.position:
                self._of(row.topic, row.partition)[row.key] = row


class Cluster:
    """The modelled Kafka with its topics, and the modelled Redis with inboxes and read model."""

    def __init__(
        self,
        loop: SimulationLoop,
        partitions: Mapping[str, int],
        *,
        linger_ms: int,
        is_atomic: bool = False,
        make_clock: Callable[[SimulationLoop], LoopClock] = LoopClock,
    ) -> None:
        """Create the topics. `is_atomic`: a commit is one transaction, as on SQLite, and the tracker fills the views.

        `linger_ms`: how long inboxes keep ended runs. `make_clock` makes the clocks of brokers and processes.
        """
        self.loop: SimulationLoop = loop
        self.make_clock: Callable[[SimulationLoop], LoopClock] = make_clock
        self.is_atomic: bool = is_atomic
        self.clock: LoopClock = make_clock(loop)
        """The brokers' clock, which stamps records."""
        self.partitions: Mapping[str, int] = partitions
        self.topics: SimulatedTopics = SimulatedTopics(self.clock)
        self.dead_letters: MemoryDeadLetters = MemoryDeadLetters()
        self.projections: MemoryProjections = MemoryProjections(self.topics)
        self.states: SimulatedStates = SimulatedStates(lambda topic: self.groups.rewind(topic, TRACKER_GROUP))
        self.views: MemoryReadModel = MemoryReadModel(
            self.topics, lambda topic: self.groups.rewind(topic, TRACKER_GROUP), self._folded
        )
        """Filled by the tracker's commits where they are atomic."""
        self._linger_ms = linger_ms
        self.inboxes: dict[str, SimulatedInbox] = {}
        stores = Stores(self.inbox, self.dead_letters, self.states, self.views)
        self.groups: SimulatedGroups = SimulatedGroups(self.topics, stores, self.clock)
        self.happenings: list[Happening] = []
        self.watch: Callable[[Happening], None] = self.happenings.append
        for topic, count in partitions.items():
            self.topics.create(topic, count)

    def inbox(self, service: str) -> SimulatedInbox:
        """Return the service's inbox."""
        if service not in self.inboxes:
            self.inboxes[service] = SimulatedInbox(self.clock, self._linger_ms)
        return self.inboxes[service]

    def has_outcome(self, service: str, place: tuple[str, str]) -> bool:
        """Return whether the service's inbox has the outcome of (trigger, step)."""
        return service in self.inboxes and self.inboxes[service].has_outcome(*place)

    @property
    def read_model(self) -> MemoryReadModel:
        """Return the views that people read."""
        return self.views if self.is_atomic else self.projections.read_model

    def note(self, process: str, text: str, key: str = "") -> None:
        """Note an event of this moment."""
        self.watch(Happening(self.clock.elapsed_ms(), process, text, key))

    def _folded(self, topic: str) -> dict[int, int]:
        return self.groups.committed(topic, TRACKER_GROUP)


def process_of(member: str) -> str:
    """Return the process of a group's member, by its name."""
    return member.partition("/")[0]
