"""The suite of the state store's port."""
# ruff: noqa: S101 -- a suite is made of asserts

from __future__ import annotations

import msgspec

from choreo.ports.log import TRACKER_GROUP, Member, Work
from choreo.ports.state import StateRow
from choreo.testing.conformance import TOPIC, Home


def row(key: str, due_ms: int = 0, partition: int = 0, *, unsaid: bool = True) -> StateRow:
    """A state where its content does not matter."""
    return StateRow(TOPIC, partition, key, 7, b"\x00state", due_ms, unsaid)


async def tracker(home: Home) -> Member:
    """The tracker's member, owner of both partitions."""
    await home.log.create(TOPIC, 2)
    member = await home.log.member(TOPIC, TRACKER_GROUP, "tracker-1")
    await member.poll(10, 0)
    return member


class StatesSuite:
    """What a state store keeps."""

    async def test_states_are_found_by_key(self, home: Home) -> None:
        """The last one written, in its own partition; a key without state is absent."""
        member = await tracker(home)
        await member.commit(Work(states=[row("o-1"), row("o-2"), row("o-1", partition=1)]))
        newer = msgspec.structs.replace(row("o-1"), position=9, state=b"newer", unsaid=True)
        await member.commit(Work(states=[newer]))
        assert await home.states.load(TOPIC, 0, ["o-1", "o-2", "o-3"]) == {"o-1": newer, "o-2": row("o-2")}
        assert await home.states.load(TOPIC, 1, ["o-1", "o-2"]) == {"o-1": row("o-1", partition=1)}
        assert await home.states.load(TOPIC, 0, []) == {}

    async def test_due_states_come_earliest_first(self, home: Home) -> None:
        """And stay due until they are written otherwise."""
        member = await tracker(home)
        await member.commit(
            Work(states=[row("o-1", 300), row("o-2", 100), row("o-3"), row("o-4", 200), row("o-9", 50, 1)])
        )
        for _ in range(2):
            assert [found.key for found in await home.states.due(TOPIC, 0, 250, 10)] == ["o-2", "o-4"]
        assert [found.key for found in await home.states.due(TOPIC, 0, 300, 1)] == ["o-2"]
        assert await home.states.next_due(TOPIC, 0) == 100
        await member.commit(Work(states=[row("o-2"), row("o-4", 400)]))
        assert [found.key for found in await home.states.due(TOPIC, 0, 999, 10)] == ["o-1", "o-4"]
        assert await home.states.next_due(TOPIC, 0) == 300
        await member.commit(Work(states=[row("o-1"), row("o-4")]))
        assert await home.states.next_due(TOPIC, 0) == 0

    async def test_a_scan_gives_every_state_by_key(self, home: Home) -> None:
        """Or only those with something unsaid."""
        member = await tracker(home)
        many = [row(f"o-{n:05}", unsaid=n % 2 == 0) for n in range(2_500)]
        await member.commit(Work(states=[*reversed(many), row("o-x", partition=1)]))
        assert [found async for found in home.states.scan(TOPIC, 0)] == many
        assert [found async for found in home.states.scan(TOPIC, 0, unsaid_only=True)] == many[::2]

    async def test_dropping_sends_the_tracker_back_to_the_beginning(self, home: Home) -> None:
        """A running tracker loses its partitions and gains them anew from offset 0; other groups are not touched."""
        member = await tracker(home)
        other = await home.log.member(TOPIC, "payment", "a")
        await other.poll(10, 0)
        await member.commit(Work(done={0: 5}, states=[row("o-1")]))
        await other.commit(Work(done={0: 5}))
        await home.states.drop(TOPIC)
        assert await home.states.load(TOPIC, 0, ["o-1"]) == {}
        assert (await home.log.committed(TOPIC, TRACKER_GROUP))[0] == 0
        assert (await home.log.committed(TOPIC, "payment"))[0] == 5
        poll = await member.poll(10, 0)
        assert sorted(poll.lost) == [0, 1]
        assert [(gained.partition, gained.committed) for gained in poll.gained] == [(0, 0), (1, 0)]
        assert (await other.poll(10, 0)).lost == []
