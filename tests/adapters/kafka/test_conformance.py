"""The log on Kafka passes the log's suites and the dead letters', on a real broker.

The suites know a clock that stands still; a fact about time, or about the order of answers, has a test of its own here.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from choreo.adapters.kafka import KafkaLog
from choreo.adapters.memory import MemoryBackend
from choreo.ports.log import CommitBatch, Consumer, Poll
from choreo.testing.conformance import TOPIC, Backend, event, keys_of_partition
from choreo.testing.conformance.consumer import PARTITIONS, CommitSuite, PollSuite, ids, joined
from choreo.testing.conformance.dead_letters import DeadLettersSuite
from choreo.testing.conformance.log import LogSuite
from tests.adapters.kafka.conftest import OpenLog
from tests.support.patience import PATIENCE_S

QUIET_S = 0.6
"""Nothing came for so long: a broker on a busy machine pauses for less."""


class PatientConsumer:
    """A consumer whose poll collects records until a poll returns none.

    The suites poll once and look; a broker answers when it answers.
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._joined = False

    async def poll(self, limit: int, timeout_s: float) -> Poll:
        """Poll as the port defines, but not before there was time for an answer."""
        until = time.monotonic() + (timeout_s if self._joined else PATIENCE_S)
        polls: list[Poll] = []
        while sum(len(poll.records) for poll in polls) < limit:
            poll = await self._consumer.poll(limit, QUIET_S)
            self._joined |= bool(poll.assigned)
            brought = bool(poll.records or poll.assigned or poll.revoked or poll.read)
            if not brought and (polls or time.monotonic() > until):
                break
            if brought:
                polls.append(poll)
        read: dict[int, int] = {}
        for poll in polls:
            read |= poll.read
        records = [record for poll in polls for record in poll.records]
        assigned, lost = [g for poll in polls for g in poll.assigned], [p for poll in polls for p in poll.revoked]
        return Poll(records, assigned, lost, read, full=len(records) >= limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


class PatientLog:
    """A log with patient consumers."""

    def __init__(self, log: KafkaLog) -> None:
        self._log = log
        self.consumers: list[Consumer] = []

    async def consumer(self, *args: Any) -> PatientConsumer:
        """Join."""
        consumer = await self._log.consumer(*args)
        self.consumers.append(consumer)
        return PatientConsumer(consumer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


@pytest.fixture
async def backend(open_log: OpenLog, memory: MemoryBackend) -> AsyncIterator[Any]:
    """Yield a log on the broker, the stores beside it in memory."""
    log = open_log()
    patient = PatientLog(log)
    yield SimpleNamespace(
        log=patient,
        states=memory.states,
        read_model=memory.read_model,
        dead_letters=log.dead_letters,
        inbox=memory.inbox,
    )
    await asyncio.gather(*(consumer.close() for consumer in patient.consumers))


class TestLog(LogSuite):
    """Topics, appending, reading, stamps."""

    async def test_stamps_never_go_back(self, backend: Backend) -> None:
        """They are the broker's, with any clock of the producer."""
        await backend.log.create(TOPIC, 1)
        before_ms = time.time_ns() // 1_000_000
        for number in range(3):
            await backend.log.append(TOPIC, [event(f"e-{number}")])
        stamps = [record.stamp_ms for record in await backend.log.read(TOPIC, 0, 0, 10)]
        assert stamps == sorted(stamps)
        assert stamps[0] >= before_ms


class TestPoll(PollSuite):
    """The records that a poll returns."""

    async def test_a_poll_takes_from_every_partition(self, backend: Backend) -> None:
        """In each, order is kept, and nothing is left out; the fetch buffer lets them take turns."""
        consumer = await joined(backend, "a")
        await backend.log.append(
            TOPIC, [event(f"big-{n}", key=keys_of_partition(0, PARTITIONS, 1)[0]) for n in range(40)]
        )
        small = [key for partition in (1, 2, 3) for key in keys_of_partition(partition, PARTITIONS, 1)]
        await backend.log.append(TOPIC, [event(f"small-{key}", key=key) for key in small])
        poll = await consumer.poll(100, 0)
        assert {record.partition for record in poll.records} == {0, 1, 2, 3}
        assert [id_ for id_ in ids(poll) if id_.startswith("big")] == [f"big-{n}" for n in range(40)]

    async def test_a_poll_without_records_ends_at_its_timeout(self, backend: Backend) -> None:
        """With an empty answer."""
        consumer = await joined(backend, "a")
        assert await consumer.poll(10, 0.5) == Poll([], [], [], {})


class TestCommit(CommitSuite):
    """One commit, everything in it."""

    async def test_commits_made_together_do_not_fail_each_other(self, backend: Backend) -> None:
        """Members of several groups commit at once."""
        payment, shipping = await joined(backend, "a"), await joined(backend, "b", "shipping")
        await asyncio.gather(
            payment.commit(CommitBatch([event("e-1")], {0: 1})),
            shipping.commit(CommitBatch([event("e-2")], {0: 2})),
            backend.log.append(TOPIC, [event("e-3")]),
        )
        written = [r.event.id for p in range(PARTITIONS) for r in await backend.log.read(TOPIC, p, 0, 10)]
        assert sorted(written) == ["e-1", "e-2", "e-3"]
        for consumer in (payment, shipping):
            await consumer.poll(10, 0)
        assert (await backend.log.committed(TOPIC, "payment"))[0] == 1
        assert (await backend.log.committed(TOPIC, "shipping"))[0] == 2


class TestDeadLetters(DeadLettersSuite):
    """The records that could not be handled."""
