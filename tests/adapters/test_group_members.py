"""The members of a group, for people: the same answer of every embedded backend."""

import pytest

from choreo.adapters.memory import MemoryBackend
from choreo.adapters.sqlite import SqliteBackend
from choreo.core.errors import NotFoundError
from choreo.ports.log import GroupMember
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import LEASE_S, TOPIC

Backend = MemoryBackend | SqliteBackend


async def test_members_are_listed_with_their_partitions(backend: Backend) -> None:
    """Each partition has one owner; a member that has left is no member."""
    await backend.log.create(TOPIC, 4)
    assert await backend.log.members(TOPIC, "payment") == []
    a, b = [await backend.log.consumer(TOPIC, "payment", name) for name in "ab"]
    for _ in range(3):
        await a.poll(10, 0)
        await b.poll(10, 0)
    found = await backend.log.members(TOPIC, "payment")
    assert [member.name for member in found] == ["a", "b"]
    assert sorted(number for member in found for number in member.partitions) == [0, 1, 2, 3]
    assert {len(member.partitions) for member in found} == {2}
    await a.close()
    await b.poll(10, 0)
    (left,) = await backend.log.members(TOPIC, "payment")
    assert left == GroupMember("b", "", (0, 1, 2, 3), left.id, "b")
    assert await backend.log.members(TOPIC, "shipping") == []


async def test_each_membership_has_an_id_of_its_own(backend: Backend) -> None:
    """A process that joins again under its name is another member."""
    await backend.log.create(TOPIC, 1)
    ids = set()
    for _ in range(3):
        await backend.log.consumer(TOPIC, "payment", "a")
        ids |= {member.id for member in await backend.log.members(TOPIC, "payment")}
    assert len(ids) == 3


async def test_a_member_whose_lease_has_expired_is_not_live(backend: Backend, clock: VirtualClock) -> None:
    """A killed process does not say that it leaves."""
    await backend.log.create(TOPIC, 1)
    await (await backend.log.consumer(TOPIC, "payment", "killed")).poll(10, 0)
    await clock.advance(LEASE_S * 1.1)
    assert await backend.log.members(TOPIC, "payment") == []


async def test_an_unknown_topic_has_no_groups(backend: Backend) -> None:
    """Raise NotFoundError instead of an empty answer."""
    with pytest.raises(NotFoundError, match="no such topic"):
        await backend.log.members(TOPIC, "payment")
