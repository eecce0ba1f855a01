"""The suite of the state store's port."""
# ruff: noqa: S101 -- a suite is made of asserts

from __future__ import annotations

import msgspec

from choreo.ports.log import TRACKER_GROUP, CommitBatch, Consumer
from choreo.ports.state import PendingKey, StateRow
from choreo.testing.conformance import TOPIC, Backend


def row(key: str, due_ms: int = 0, partition: int = 0, *, unacknowledged: bool = True) -> StateRow:
    """Return a state with any content."""
    return StateRow(TOPIC, partition, key, 7, b"\x00state", due_ms, unacknowledged)


async def tracker(backend: Backend) -> Consumer:
    """Return the tracker's consumer, owner of both partitions."""
    await backend.log.create(TOPIC, 2)
    consumer = await backend.log.consumer(TOPIC, TRACKER_GROUP, "tracker-1")
    await consumer.poll(10, 0)
    return consumer


async def pending(backend: Backend) -> dict[str, PendingKey]:
    """Return the pending keys of partition 0, by key."""
    found = {each.key: each async for each in backend.states.pending(TOPIC, 0)}
    return dict(sorted(found.items()))


class StatesSuite:
    """The rows of a state store."""

    async def test_states_are_found_by_key(self, backend: Backend) -> None:
        """Return the state written last, in its own partition; leave out a key without state."""
        consumer = await tracker(backend)
        await consumer.commit(CommitBatch(states=[row("o-1"), row("o-2"), row("o-1", partition=1)]))
        newer = msgspec.structs.replace(row("o-1"), position=9, state=b"newer", unacknowledged=True)
        await consumer.commit(CommitBatch(states=[newer]))
        assert await backend.states.load(TOPIC, 0, ["o-1", "o-2", "o-3"]) == {"o-1": newer, "o-2": row("o-2")}
        assert await backend.states.load(TOPIC, 1, ["o-1", "o-2"]) == {"o-1": row("o-1", partition=1)}
        assert await backend.states.load(TOPIC, 0, []) == {}

    async def test_keys_with_a_timer_or_an_unacknowledged_decision_are_pending(self, backend: Backend) -> None:
        """Drop a key when its state is written without either."""
        consumer = await tracker(backend)
        timed = row("o-1", 300, unacknowledged=False)
        await consumer.commit(
            CommitBatch(states=[timed, row("o-2"), row("o-3", unacknowledged=False), row("o-9", 50, 1)])
        )
        assert await pending(backend) == {
            "o-1": PendingKey("o-1", 300, unacknowledged=False),
            "o-2": PendingKey("o-2", 0, unacknowledged=True),
        }
        await consumer.commit(CommitBatch(states=[row("o-1", 400), row("o-2", unacknowledged=False)]))
        assert await pending(backend) == {"o-1": PendingKey("o-1", 400, unacknowledged=True)}
        await consumer.commit(CommitBatch(states=[row("o-1", unacknowledged=False)]))
        assert await pending(backend) == {}

    async def test_a_scan_yields_every_state_by_key(self, backend: Backend) -> None:
        """Yield more than one page of them; the pending keys are among them."""
        consumer = await tracker(backend)
        many = [row(f"o-{n:05}", n % 3, unacknowledged=n % 2 == 0) for n in range(2_500)]
        await consumer.commit(CommitBatch(states=[*reversed(many), row("o-x", partition=1)]))
        assert [found async for found in backend.states.scan(TOPIC, 0)] == many
        assert list((await pending(backend)).values()) == [
            PendingKey(each.key, each.due_ms, unacknowledged=each.unacknowledged)
            for each in many
            if each.due_ms or each.unacknowledged
        ]

    async def test_dropping_sends_the_tracker_back_to_the_beginning(self, backend: Backend) -> None:
        """Revoke a running tracker's partitions and assign them from offset 0; leave other groups alone."""
        consumer = await tracker(backend)
        other = await backend.log.consumer(TOPIC, "payment", "a")
        await other.poll(10, 0)
        await consumer.commit(CommitBatch(done={0: 5}, states=[row("o-1")]))
        await other.commit(CommitBatch(done={0: 5}))
        await backend.states.drop(TOPIC)
        assert await backend.states.load(TOPIC, 0, ["o-1"]) == {}
        assert (await backend.log.committed(TOPIC, TRACKER_GROUP))[0] == 0
        assert (await backend.log.committed(TOPIC, "payment"))[0] == 5
        poll = await consumer.poll(10, 0)
        assert sorted(poll.revoked) == [0, 1]
        assert [(assigned.partition, assigned.committed) for assigned in poll.assigned] == [(0, 0), (1, 0)]
        assert (await other.poll(10, 0)).revoked == []
