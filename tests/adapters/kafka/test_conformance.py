"""The log on Kafka passes the log's suites and the dead letters', on a real broker.

The suites know a clock that stands still; where a fact is about time or about who answers first, it is told here anew.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from choreo.adapters.kafka import KafkaLog
from choreo.adapters.memory import MemoryHome
from choreo.ports.log import Member, Poll, Work
from choreo.testing.conformance import TOPIC, Home, event, keys_of_partition
from choreo.testing.conformance.dead_letters import DeadLettersSuite
from choreo.testing.conformance.log import LogSuite
from choreo.testing.conformance.member import PARTITIONS, CommitSuite, PollSuite, ids, joined
from tests.adapters.kafka.conftest import OpenLog

QUIET_S = 0.3
JOIN_S = 20.0


class PatientMember:
    """A member whose poll brings together what comes, until a moment in which nothing does.

    The suites poll once and look; a broker answers when it answers.
    """

    def __init__(self, member: Member) -> None:
        self._member = member
        self._joined = False

    async def poll(self, limit: int, timeout_s: float) -> Poll:
        """As the port says, but not before there was time for an answer."""
        until = time.monotonic() + (timeout_s if self._joined else JOIN_S)
        polls: list[Poll] = []
        while sum(len(poll.records) for poll in polls) < limit:
            poll = await self._member.poll(limit, QUIET_S)
            self._joined |= bool(poll.gained)
            brought = bool(poll.records or poll.gained or poll.lost or poll.read)
            if not brought and (polls or time.monotonic() > until):
                break
            if brought:
                polls.append(poll)
        read: dict[int, int] = {}
        for poll in polls:
            read |= poll.read
        records = [record for poll in polls for record in poll.records]
        gained, lost = [g for poll in polls for g in poll.gained], [p for poll in polls for p in poll.lost]
        return Poll(records, gained, lost, read, full=len(records) >= limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._member, name)


class PatientLog:
    """A log whose members are patient."""

    def __init__(self, log: KafkaLog) -> None:
        self._log = log
        self.members: list[Member] = []

    async def member(self, *args: Any) -> PatientMember:
        """Join."""
        member = await self._log.member(*args)
        self.members.append(member)
        return PatientMember(member)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


@pytest.fixture
async def home(open_log: OpenLog, memory: MemoryHome) -> AsyncIterator[Any]:
    """A log on the broker, the stores beside it in memory."""
    log = open_log()
    patient = PatientLog(log)
    yield SimpleNamespace(
        log=patient,
        states=memory.states,
        read_model=memory.read_model,
        dead_letters=log.dead_letters,
        inbox=memory.inbox,
    )
    await asyncio.gather(*(member.close() for member in patient.members))


class TestLog(LogSuite):
    """Topics, appending, reading, stamps."""

    async def test_stamps_never_go_back(self, home: Home) -> None:
        """They are the broker's, whatever the producer's clock says."""
        await home.log.create(TOPIC, 1)
        before_ms = time.time_ns() // 1_000_000
        for number in range(3):
            await home.log.append(TOPIC, [event(f"e-{number}")])
        stamps = [record.stamp_ms for record in await home.log.read(TOPIC, 0, 0, 10)]
        assert stamps == sorted(stamps)
        assert stamps[0] >= before_ms


class TestPoll(PollSuite):
    """What a poll brings."""

    async def test_a_poll_takes_from_every_partition(self, home: Home) -> None:
        """In each, order is kept, and nothing is left out; that they take turns is the basket's."""
        member = await joined(home, "a")
        await home.log.append(TOPIC, [event(f"big-{n}", key=keys_of_partition(0, PARTITIONS, 1)[0]) for n in range(40)])
        small = [key for partition in (1, 2, 3) for key in keys_of_partition(partition, PARTITIONS, 1)]
        await home.log.append(TOPIC, [event(f"small-{key}", key=key) for key in small])
        poll = await member.poll(100, 0)
        assert {record.partition for record in poll.records} == {0, 1, 2, 3}
        assert [id_ for id_ in ids(poll) if id_.startswith("big")] == [f"big-{n}" for n in range(40)]

    async def test_a_poll_with_nothing_to_bring_ends_at_its_time(self, home: Home) -> None:
        """With an empty answer."""
        member = await joined(home, "a")
        assert await member.poll(10, 0.5) == Poll([], [], [], {})


class TestCommit(CommitSuite):
    """One commit, everything in it."""

    async def test_commits_of_one_turn_do_not_fail_each_other(self, home: Home) -> None:
        """Members of several groups commit at once."""
        payment, shipping = await joined(home, "a"), await joined(home, "b", "shipping")
        await asyncio.gather(
            payment.commit(Work([event("e-1")], {0: 1})),
            shipping.commit(Work([event("e-2")], {0: 2})),
            home.log.append(TOPIC, [event("e-3")]),
        )
        written = [r.event.id for p in range(PARTITIONS) for r in await home.log.read(TOPIC, p, 0, 10)]
        assert sorted(written) == ["e-1", "e-2", "e-3"]
        for member in (payment, shipping):
            await member.poll(10, 0)
        assert (await home.log.committed(TOPIC, "payment"))[0] == 1
        assert (await home.log.committed(TOPIC, "shipping"))[0] == 2


class TestDeadLetters(DeadLettersSuite):
    """What could not be handled."""
