"""A topic that was made again, or got other partitions: nobody works on with what was remembered of the one before."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from choreo.adapters.kafka import KafkaLog, origin
from choreo.adapters.kafka.origin import Origin, check, noted, read_note
from choreo.adapters.kafka.topics import changelog_of, tracker_app
from choreo.cli.failures import CONFLICT, UNAVAILABLE
from choreo.cli.program import run
from choreo.core.errors import LeaseLostError, NotFoundError, ReplacedLogError, StorageError
from choreo.ports.log import Member, Work
from choreo.testing.conformance import TOPIC, event
from tests.adapters.kafka.conftest import OpenLog
from tests.support.redis_server import OwnRedis

DESK = Path(__file__).parents[2] / "cli" / "desk"
"""A small project: flow `desk` with a topic of two partitions, and service `seats`."""
PARTITIONS = 2
WITHIN_S = 40.0


@pytest.fixture
def admin(kafka: str, monkeypatch: pytest.MonkeyPatch) -> AdminClient:
    """Somebody with every right, in a world that is looked at more often than every five seconds."""
    monkeypatch.setattr(origin, "LOOK_S", 0.2)
    return AdminClient({"bootstrap.servers": kafka, "log_level": 2})


async def worked(log: KafkaLog, number: int, topic: str = TOPIC, group: str = "payment") -> Member:
    """A member of the group that has committed as many records."""
    member = await log.member(topic, group, "one")
    done: dict[int, int] = {}
    async with asyncio.timeout(WITHIN_S):
        while sum(done.values()) < number:
            poll = await member.poll(100, 0.2)
            done.update(poll.read)
            if poll.read:
                await member.commit(Work(done=poll.read))
    return member


async def made_again(log: KafkaLog, admin: AdminClient, topic: str = TOPIC) -> None:
    """The topic is deleted, and another one of its name is made."""
    name = log._options.name(topic)
    before = await described(log, topic)
    await asyncio.to_thread(admin.delete_topics([name])[name].result)
    async with asyncio.timeout(WITHIN_S):
        while await described(log, topic) in (before, None):
            try:
                await log._cluster.create(topic, PARTITIONS)
            except NotFoundError:
                await asyncio.sleep(0)


async def described(log: KafkaLog, topic: str) -> Any:
    """The topic as the cluster describes it; None: there is none."""
    try:
        return await log._cluster.origin(topic)
    except NotFoundError:
        return None


async def refused(log: KafkaLog) -> str:
    """What a log answers to everything that would touch the records, which must be one and the same."""
    asked = (
        lambda: log.append(TOPIC, [event("k")]),
        lambda: log.read(TOPIC, 0, 0, 10),
        lambda: log.end(TOPIC, 0),
        lambda: log.member(TOPIC, "payment", "two"),
        lambda: log.member(TOPIC, "shipping", "three"),
        lambda: log.origin(TOPIC),
    )
    said = set()
    for ask in asked:
        with pytest.raises(ReplacedLogError) as caught:
            await ask()
        said.add(str(caught.value))
    (sentence,) = said
    return sentence


async def noted_by_tracker(log: KafkaLog, admin: AdminClient, topic: str = TOPIC) -> None:
    """The tracker has worked this log: a commit in its changelog says so, and outlives the log's topic."""
    options = log._options
    name, group = options.name(changelog_of(topic)), options.name(tracker_app(topic))
    await asyncio.to_thread(admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result)
    note = noted(await log.described(topic), "what it adds")
    tracker = Consumer({"bootstrap.servers": options.bootstrap, "group.id": group})
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                await asyncio.to_thread(tracker.commit, offsets=[TopicPartition(name, 0, 0, note)], asynchronous=False)
                break
            except KafkaException:  # the topic, or the coordinator, is on its way
                await asyncio.sleep(0)
    tracker.close()


async def thrown_out(member: Member) -> None:
    """Poll until the member is told that it is out."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            await member.poll(100, 0.2)


async def test_a_topic_made_again_under_a_member_is_left_alone_by_it_and_by_whoever_comes_after(
    open_log: OpenLog, admin: AdminClient
) -> None:
    """The member is out with what it had in hand; no process reads or writes the new topic, restarted or not."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    await log.append(TOPIC, [event(f"k-{number}") for number in range(20)])
    await noted_by_tracker(log, admin)
    member = await worked(log, 20)
    await made_again(log, admin)
    with pytest.raises(LeaseLostError, match="deleted and made again"):
        await thrown_out(member)
    await member.close()
    sentence = await refused(log)
    assert await refused(open_log()) == sentence, "a process that is started afterwards knows as well"
    assert "choreo topics adopt" in sentence
    fresh = open_log()
    assert sum((await fresh._cluster.ends(TOPIC, range(PARTITIONS))).values()) == 0, "nothing was written"


async def test_partitions_that_were_added_stop_whoever_works_the_topic(open_log: OpenLog, admin: AdminClient) -> None:
    """Keys lie elsewhere in a log with more partitions."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    await log.append(TOPIC, [event("k")])
    await noted_by_tracker(log, admin)
    member = await worked(log, 1)
    name = log._options.name(TOPIC)
    await asyncio.to_thread(admin.create_partitions([NewPartitions(name, PARTITIONS + 1)])[name].result)
    with pytest.raises(LeaseLostError, match="has 3 partitions, and was made with 2"):
        await thrown_out(member)
    await member.close()
    assert "was made with 2" in await refused(open_log())


async def test_a_group_that_knows_the_log_is_enough(open_log: OpenLog, admin: AdminClient) -> None:
    """No tracker has noted it: the group's own commits tell a member that is started afterwards, and it says so."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    await log.append(TOPIC, [event("k")])
    await (await worked(log, 1)).close()
    name = log._options.name(TOPIC)
    await asyncio.to_thread(admin.create_partitions([NewPartitions(name, PARTITIONS + 1)])[name].result)
    fresh = open_log()
    await until(lambda: has_partitions(fresh, PARTITIONS + 1))
    member = await fresh.member(TOPIC, "payment", "two")
    for _ in range(2):
        with pytest.raises(ReplacedLogError, match="was made with 2"):
            await thrown_out(member)
    await member.close()


async def has_partitions(log: KafkaLog, number: int) -> bool:
    """Whether the cluster has heard of them."""
    return (await log.described(TOPIC)).partitions == number


async def test_a_store_that_knows_the_log_is_enough(open_log: OpenLog, kafka: str, admin: AdminClient) -> None:
    """Where all topics were made again, no commit is left: what was kept beside the views and outcomes tells."""
    known: dict[str, str] = {}

    async def recall(topic: str, note: str) -> str:
        return known.setdefault(topic, note)

    log = open_log(recall=recall)
    await log.create(TOPIC, PARTITIONS)
    await log.append(TOPIC, [event("k")])
    await made_again(log, admin)
    sentence = await refused(open_log(recall=recall))
    assert "deleted and made again" in sentence
    known.clear()
    assert await open_log(recall=recall).append(TOPIC, [event("k")]), "somebody has chosen"


async def test_a_store_that_is_away_is_asked_again(open_log: OpenLog, admin: AdminClient) -> None:
    """Work on the log does not wait for it, and what it knows counts as soon as it says so."""
    answers: list[str] = []

    async def recall(_: str, note: str) -> str:
        if not answers:
            raise StorageError("away")
        return answers[0] or note

    log = open_log(recall=recall)
    await log.create(TOPIC, PARTITIONS)
    await log.append(TOPIC, [event("k")])
    answers.append(noted(Origin("another", PARTITIONS)))
    await until(lambda: is_refused(log))
    answers[0] = ""
    await until(lambda: is_answered(log))


async def is_refused(log: KafkaLog) -> bool:
    """Whether the log is another one, as far as is known."""
    try:
        await log.end(TOPIC, 0)
    except ReplacedLogError:
        return True
    return False


async def is_answered(log: KafkaLog) -> bool:
    """Whether the log is worked."""
    return not await is_refused(log)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a fact; fails after far longer than it takes."""
    async with asyncio.timeout(WITHIN_S):
        while not await true():
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.05)


async def test_partitions_that_the_changelog_does_not_have_were_added(open_log: OpenLog, admin: AdminClient) -> None:
    """Nobody has noted anything yet: the changelog has as many partitions as its log was made with."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS + 1)
    name = log._options.name(changelog_of(TOPIC))
    await asyncio.to_thread(admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result)
    await until(lambda: is_there(log, changelog_of(TOPIC)))
    assert "was made with 2" in await refused(open_log())


async def is_there(log: KafkaLog, topic: str) -> bool:
    """Whether the cluster has heard of the topic."""
    try:
        return bool(await log.described(topic))
    except NotFoundError:
        return False


Command = Callable[..., Awaitable[int]]


@pytest.fixture
def choreo(kafka: str, open_log: OpenLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Run a command in the small project, on this test's topics and a Redis of its own; returns its exit code."""
    redis = OwnRedis(tmp_path)
    redis.start()
    monkeypatch.chdir(DESK)
    monkeypatch.setenv("CHOREO_KAFKA", kafka)
    monkeypatch.setenv("CHOREO_KAFKA_TOPIC_PREFIX", open_log()._options.prefix)
    monkeypatch.setenv("CHOREO_REDIS", redis.url)
    monkeypatch.setenv("CHOREO_DATA", str(tmp_path / "tracker"))
    yield lambda *arguments: asyncio.to_thread(run, arguments)
    redis.stop()


def opens(ticket: str) -> tuple[str, ...]:
    """Return the arguments of the command that starts a run with this key."""
    return ("publish", "desk", "TicketOpened", "--key", ticket)


async def test_a_topic_that_was_adopted_is_worked_from_its_first_record(
    open_log: OpenLog, admin: AdminClient, choreo: Command
) -> None:
    """Not while a member of the old log is in a group; afterwards doors and services work the new one."""
    # given a service that has read three events of a log that was made again
    log = open_log()
    await log.create("desk", PARTITIONS)
    for number in range(3):
        assert await choreo(*opens(f"t-{number}")) == 0
    await noted_by_tracker(log, admin, "desk")
    member = await worked(log, 3, "desk", "seats")
    await made_again(log, admin, "desk")
    assert await choreo(*opens("t-3")) == UNAVAILABLE
    # when it is adopted
    assert await choreo("topics", "adopt") == CONFLICT
    assert await choreo(*opens("t-3")) == UNAVAILABLE, "a refusal changes nothing"
    await member.close()
    assert await choreo("topics", "adopt") == 0
    # then
    assert await choreo(*opens("t-3")) == 0
    fresh = open_log()
    assert sum((await fresh._cluster.ends("desk", range(PARTITIONS))).values()) == 1
    assert await fresh.partitions(changelog_of("desk")) == PARTITIONS
    await (await worked(fresh, 1, "desk", "seats")).close()


async def test_a_topic_that_was_restored_keeps_what_is_known_of_its_records(
    open_log: OpenLog, admin: AdminClient, choreo: Command, kafka: str
) -> None:
    """The changelog stays, noted for the new topic; a service, whose positions went with the old one, reads all."""
    # given a log that was made again with the records that it had
    log = open_log()
    await log.create("desk", PARTITIONS)
    for number in range(3):
        assert await choreo(*opens(f"t-{number}")) == 0
    await noted_by_tracker(log, admin, "desk")
    await (await worked(log, 3, "desk", "seats")).close()
    stood = await log.committed("desk", "seats")
    changelog = await log.described(changelog_of("desk"))
    await made_again(log, admin, "desk")
    restored = Producer({"bootstrap.servers": kafka})
    for partition, offset in stood.items():
        for _ in range(offset):
            restored.produce(log._options.name("desk"), b"as it was", partition=partition)
    assert await asyncio.to_thread(restored.flush, WITHIN_S) == 0
    assert await choreo(*opens("t-3")) == UNAVAILABLE
    # when
    assert await choreo("topics", "adopt", "--same-records") == 0
    # then
    assert await choreo(*opens("t-3")) == 0
    fresh = open_log()
    assert await fresh.described(changelog_of("desk")) == changelog
    (commit,) = (await fresh._cluster.commits(changelog_of("desk"), tracker_app("desk"))).values()
    assert read_note(commit.note) == (await fresh.described("desk"), "what it adds")
    await (await worked(fresh, 4, "desk", "seats")).close()


@pytest.mark.parametrize("more", ["", "inbox-1", "a|b|c"])
def test_a_note_is_read_as_it_was_written(more: str) -> None:
    """Whatever stands beside the origin in it."""
    assert read_note(noted(Origin("abc/def", 8), more)) == (Origin("abc/def", 8), more)


@pytest.mark.parametrize("note", ["", "inbox-1", "some|thing", "a/b|c", "/|", "|"])
def test_a_note_of_somebody_else_has_no_origin(note: str) -> None:
    """It is kept whole."""
    assert read_note(note) == (None, note)


def test_a_broker_that_knows_no_ids_is_taken_at_its_word() -> None:
    """Only the number of partitions can be compared then."""
    check(TOPIC, Origin("", 2), Origin("a", 2))
    check(TOPIC, Origin("a", 2), Origin("", 2))
    with pytest.raises(ReplacedLogError):
        check(TOPIC, Origin("", 2), Origin("", 3))
