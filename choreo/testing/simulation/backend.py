"""The backend of one simulated process: the ports of choreo over the cluster, through the process's network.

A commit on the modelled Kafka is not a transaction: the Kafka adapter's own writer (`choreo.adapters.commit_writer`)
writes it. Offsets alone are fenced: a zombie still publishes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from choreo.adapters.assignment import GroupState, MemberId
from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.commit_writer import CommitWriter
from choreo.adapters.consumer import GroupConsumer
from choreo.adapters.embedded import Embedded
from choreo.adapters.errors import admit, lease_lost
from choreo.adapters.log_clock import LogClock, LogTime
from choreo.adapters.memory.log import MemoryLog
from choreo.adapters.memory.notes import MemoryNotes
from choreo.core.errors import LeaseLostError
from choreo.core.events import Envelope, Position, Record
from choreo.ports.backend import PROJECTOR, TRACKER
from choreo.ports.clock import Clock
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.inbox import GateSave
from choreo.ports.log import CommitBatch
from choreo.testing.simulation.clock import LoopClock
from choreo.testing.simulation.cluster import SESSION_S, Cluster
from choreo.testing.simulation.network import BROKER, REDIS, Network


class ProcessGroups:
    """`choreo.adapters.consumer.GroupBackend` of one process."""

    def __init__(self, cluster: Cluster, network: Network, inbox: Callable[[str], Any], observe: LogTime) -> None:
        self._cluster = cluster
        self._groups = cluster.groups
        self._network = network
        self._inbox = inbox
        self._observed = observe
        self.lease_s: float = cluster.groups.lease_s
        self._writer = CommitWriter(self._publish, self._add_dead_letters, inbox, self._save, None)

    def version(self, *, look: bool) -> int:
        """Return a number that moves with every change of a membership."""
        return self._groups.version(look=look)

    def group_state(self, topic: str, group: str) -> GroupState:
        """Return the group's state."""
        return self._groups.group_state(topic, group)

    async def renew(self, member_id: MemberId) -> GroupState:
        """Take part in the rebalance."""
        return await self._groups.renew(member_id)

    async def leave(self, member_id: MemberId) -> None:
        """Leave the group."""
        await self._groups.leave(member_id)

    def scan(
        self, topic: str, partition: int, offset: int, limit: int, types: frozenset[str] | None
    ) -> tuple[Sequence[Record], int]:
        """Return records; their stamps tell the log's time."""
        records, read = self._groups.scan(topic, partition, offset, limit, types)
        if records:
            self._observed.read(records[-1].stamp_ms)
        return records, read

    def end(self, topic: str, partition: int) -> int:
        """Return the offset of the next record."""
        return self._groups.end(topic, partition)

    def ends(self, topic: str) -> Sequence[int]:
        """Return the ends of all partitions; nothing is there to be read while the brokers are away."""
        ends = self._groups.ends(topic)
        return [0] * len(ends) if BROKER in self._network.away else ends

    def listen(self, topic: str, types: frozenset[str] | None = None) -> asyncio.Future[None]:
        """Return a future that is done when the topic has new records of these types or a group has changed."""
        return self._groups.listen(topic, types)

    async def commit(
        self, member_id: MemberId, epochs: Mapping[int, int], commit_batch: CommitBatch
    ) -> Mapping[int, int]:
        """Write the batch, then commit the offsets. Raises LeaseLostError, StorageError."""
        network = self._network
        if self._cluster.is_atomic:
            await network.before(BROKER)
            done = await self._groups.commit(member_id, epochs, commit_batch)
            await network.after(BROKER)
            return done
        await self._writer.commit(member_id, commit_batch, partial(self._move, member_id, epochs, commit_batch))
        return commit_batch.done

    async def _move(
        self, member_id: MemberId, epochs: Mapping[int, int], work: CommitBatch, done: Mapping[int, int]
    ) -> None:
        network = self._network
        await network.before(BROKER)
        lost = self._groups.owns(member_id, epochs)
        if lost:
            if work.outcomes or work.outputs:
                network.fired("zombie")
            raise lease_lost(member_id, lost)
        self._groups.move(member_id, done)
        if network.committed is not None:
            await network.committed(member_id.topic, done)
        await network.after(BROKER)

    async def _publish(self, topic: str, events: Sequence[Envelope]) -> None:
        if events:
            await published(self._cluster, self._network, self._observed, topic, events)

    async def _add_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        await self._network.before(BROKER)
        self._cluster.dead_letters.add_now(dead_letters)

    async def _save(self, commit_batch: CommitBatch) -> None:
        self._cluster.states.save(commit_batch.states)


async def published(
    cluster: Cluster, network: Network, observed: LogTime, topic: str, events: Sequence[Envelope]
) -> list[Position]:
    """Publish events; return their positions. Raises StorageError, also after some or all are published."""
    sent_ms = observed.elapsed_ms()
    await network.before(BROKER)
    events = network.sending(topic, events)
    kept = network.torn(len(events))
    positions = cluster.topics.append(topic, events if kept < 0 else events[:kept])
    if kept >= 0:
        raise network.failure(BROKER, f"accepted {kept} of {len(events)} events")
    if network.published is not None:
        await network.published(topic, events)
    await network.after(BROKER)
    if positions:
        observed.appended(cluster.topics.of(topic)[positions[-1].partition][positions[-1].offset].stamp_ms, sent_ms)
    return positions


class ProcessLog(MemoryLog):
    """`choreo.ports.log.Log` of one process."""

    def __init__(
        self, cluster: Cluster, network: Network, groups: ProcessGroups, clock: Clock, observe: LogTime
    ) -> None:
        super().__init__(cluster.topics, cluster.groups, clock)
        self._cluster = cluster
        self._network = network
        self._of_process = groups
        self._observed = observe

    async def append(self, topic: str, events: Sequence[Envelope]) -> list[Position]:
        """Publish; raises ConflictError on an event without a key, StorageError."""
        admit(topic, events)
        return await published(self._cluster, self._network, self._observed, topic, events)

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return at most `limit` records from `offset` on."""
        await self._network.before(BROKER)
        return await super().read(topic, partition, offset, limit)

    async def consumer(self, topic: str, group: str, name: str, types: frozenset[str] | None = None) -> GroupConsumer:
        """Join the group."""
        await self._network.before(BROKER)
        return GroupConsumer(self._of_process, self._groups.join(topic, group, name), self._clock, types)


class ProcessInbox:
    """`choreo.ports.inbox.Inbox` of one process: requests to the modelled Redis."""

    def __init__(self, shared: Any, network: Network) -> None:
        self._shared = shared
        self._network = network
        self._gated: set[tuple[str, str, int]] = set()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._shared, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            await self._network.before(REDIS)
            answer = await method(*arguments, **options)
            await self._network.after(REDIS)
            return answer

        return call

    async def gates(self, flow: str, shape: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the kept gates of these keys. Raises LeaseLostError where they were lost."""
        await self._network.before(REDIS)
        if shape != _PROGRESS and not self._shared.gated_partitions(flow, shape):
            self._require(flow, shape, {place[2] for place in self._gated if place[:2] == (flow, shape)})
        kept: dict[str, bytes] = await self._shared.gates(flow, shape, keys)
        await self._network.after(REDIS)
        return kept

    async def gates_position(self, flow: str, shape: str, partition: int) -> int:
        """Return the offset up to which the kept gates of a partition are true."""
        await self._network.before(REDIS)
        position: int = await self._shared.gates_position(flow, shape, partition)
        is_stored = partition in self._shared.gated_partitions(flow, shape)
        (self._gated.add if is_stored else self._gated.discard)((flow, shape, partition))
        await self._network.after(REDIS)
        return position

    async def keep_gates(self, save: GateSave) -> None:
        """Keep these gates. Raises LeaseLostError where earlier ones were lost."""
        await self._network.before(REDIS)
        places = {(save.flow, save.shape, partition) for partition in save.positions}
        self._require(save.flow, save.shape, {place[2] for place in places & self._gated})
        await self._shared.keep_gates(save)
        self._gated.update(places)
        await self._network.after(REDIS)

    def _require(self, flow: str, shape: str, known: set[int]) -> None:
        """Raise LeaseLostError where these partitions' gates were lost, until `gates_position` is asked for them."""
        lost = sorted(known - self._shared.gated_partitions(flow, shape))
        if lost:
            where = f"flow {flow}"
            raise LeaseLostError(f"the inbox has lost the gates of partitions {', '.join(map(str, lost))}", where=where)


_PROGRESS = "progress"
"""The shape under which the inbox keeps progress reports."""


class _OverRedis:
    """A store on the modelled Redis, through the process's network."""

    def __init__(self, shared: Any, network: Network) -> None:
        self._shared = shared
        self._network = network

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._shared, name)
        if not asyncio.iscoroutinefunction(value):
            return value

        async def call(*arguments: Any, **options: Any) -> Any:
            await self._network.before(REDIS)
            answer = await value(*arguments, **options)
            await self._network.after(REDIS)
            return answer

        return call


class ProcessBackend(Embedded):
    """`choreo.ports.backend.Backend` of one simulated process."""

    shares_loop: bool = False

    def __init__(self, cluster: Cluster, network: Network, codec: AvroCodec) -> None:
        """Connect a process. Its clock may be wrong, and is held within the log's time as on Kafka."""
        self.own_clock: LoopClock = cluster.make_clock(cluster.loop)
        observed = LogTime(cluster.clock.elapsed_ms)
        super().__init__(LogClock(self.own_clock, observed), lease_s=SESSION_S)
        self.place = "the simulated Kafka"
        if not cluster.is_atomic:
            self.roles: Mapping[str, str] = {TRACKER: "log", PROJECTOR: "projector"}
        self._cluster = cluster
        self._network = network
        self._codec = codec
        self._patient = LogClock(self.own_clock, observed, is_patient=True)
        self._inboxes: dict[str, ProcessInbox] = {}
        groups = ProcessGroups(cluster, network, self.inbox, observed)
        self.log: ProcessLog = ProcessLog(cluster, network, groups, self.clock, observed)
        self.states: Any = cluster.states
        self.dead_letters: Any = cluster.dead_letters
        self.read_model: Any = _OverRedis(cluster.read_model, network)
        self.projections: Any = _OverRedis(cluster.projections, network)
        self.notes: Any = _OverRedis(MemoryNotes(), network)

    @property
    def deadline_clock(self) -> Clock:
        """Return the clock by which no deadline passes too early."""
        return self._patient

    def inbox(self, service: str) -> Any:
        """Return the service's inbox."""
        if service not in self._inboxes:
            self._inboxes[service] = ProcessInbox(self._cluster.inbox(service), self._network)
        return self._inboxes[service]

    async def codec(self, classes: Iterable[type[Any]]) -> AvroCodec:  # noqa: ARG002 - no registry has to know them
        """Return the project's codec, one for all processes."""
        return self._codec

    async def check(self) -> None:
        """Report nothing."""

    async def close(self) -> None:
        """Close nothing."""
