"""A topic that was made again, or got other partitions: notes of the one before are used no more."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from choreo.adapters.kafka import KafkaLog
from choreo.adapters.kafka.cluster.log_identity import Origin, check, noted, read_note
from choreo.adapters.kafka.topics import changelog_of
from choreo.core.errors import LeaseLostError, NotFoundError, ReplacedLogError, StorageError
from choreo.ports.log import Consumer
from choreo.testing.conformance import TOPIC, event
from tests.adapters.kafka.conftest import OpenLog
from tests.adapters.kafka.remade import PARTITIONS, made_again, noted_by_tracker, worked
from tests.support.cluster import cluster_of
from tests.support.patience import PATIENCE_S


async def refused(log: KafkaLog) -> str:
    """Return the log's one error for every call that would touch the records."""
    asked = (
        lambda: log.append(TOPIC, [event("k")]),
        lambda: log.read(TOPIC, 0, 0, 10),
        lambda: log.end(TOPIC, 0),
        lambda: log.consumer(TOPIC, "payment", "two"),
        lambda: log.consumer(TOPIC, "shipping", "three"),
        lambda: log.origin(TOPIC),
    )
    said = set()
    for ask in asked:
        with pytest.raises(ReplacedLogError) as caught:
            await ask()
        said.add(str(caught.value))
    (sentence,) = said
    return sentence


async def thrown_out(consumer: Consumer) -> None:
    """Poll until the consumer learns that it is no longer in the group."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await consumer.poll(100, 0.2)


async def test_a_topic_made_again_under_a_member_is_left_alone_by_it_and_by_whoever_comes_after(
    open_log: OpenLog, admin: AdminClient
) -> None:
    """The consumer leaves with its open records; no process reads or writes the new topic, restarted or not."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    await log.append(TOPIC, [event(f"k-{number}") for number in range(20)])
    await noted_by_tracker(log, admin)
    consumer = await worked(log, 20)
    await made_again(log, admin)
    with pytest.raises(LeaseLostError, match="deleted and made again"):
        await thrown_out(consumer)
    await consumer.close()
    sentence = await refused(log)
    assert await refused(open_log()) == sentence, "a process that is started afterwards knows as well"
    assert "choreo topics adopt" in sentence
    fresh = open_log()
    assert sum((await cluster_of(fresh).ends(TOPIC, range(PARTITIONS))).values()) == 0, "nothing was written"


async def test_partitions_that_were_added_stop_whoever_works_the_topic(open_log: OpenLog, admin: AdminClient) -> None:
    """Keys lie elsewhere in a log with more partitions."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    await log.append(TOPIC, [event("k")])
    await noted_by_tracker(log, admin)
    consumer = await worked(log, 1)
    name = log.options.name(TOPIC)
    await asyncio.to_thread(admin.create_partitions([NewPartitions(name, PARTITIONS + 1)])[name].result)
    with pytest.raises(LeaseLostError, match="has 3 partitions, and was made with 2"):
        await thrown_out(consumer)
    await consumer.close()
    assert "was made with 2" in await refused(open_log())


async def test_a_group_that_knows_the_log_is_enough(open_log: OpenLog, admin: AdminClient) -> None:
    """No tracker has noted it: a consumer that starts afterwards sees it from the group's commits, and reports it."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    await log.append(TOPIC, [event("k")])
    await (await worked(log, 1)).close()
    name = log.options.name(TOPIC)
    await asyncio.to_thread(admin.create_partitions([NewPartitions(name, PARTITIONS + 1)])[name].result)
    fresh = open_log()
    await until(lambda: has_partitions(fresh, PARTITIONS + 1))
    consumer = await fresh.consumer(TOPIC, "payment", "two")
    for _ in range(2):
        with pytest.raises(ReplacedLogError, match="was made with 2"):
            await thrown_out(consumer)
    await consumer.close()


async def has_partitions(log: KafkaLog, number: int) -> bool:
    """Return whether the cluster has heard of them."""
    return (await log.described(TOPIC)).partitions == number


async def test_a_store_that_knows_the_log_is_enough(open_log: OpenLog, kafka: str, admin: AdminClient) -> None:
    """Where all topics were made again, no commit is left: the identity beside the views and outcomes shows it."""
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
    """Work on the log does not wait for it, and its answer counts as soon as it comes."""
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
    """Return whether the log is another one, as far as is known."""
    try:
        await log.end(TOPIC, 0)
    except ReplacedLogError:
        return True
    return False


async def is_answered(log: KafkaLog) -> bool:
    """Return whether the log is worked."""
    return not await is_refused(log)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a fact; fails after far longer than it takes."""
    async with asyncio.timeout(PATIENCE_S):
        while not await true():
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.05)


async def test_partitions_that_the_changelog_does_not_have_were_added(open_log: OpenLog, admin: AdminClient) -> None:
    """Nobody has noted anything yet: the changelog has as many partitions as its log was made with."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS + 1)
    name = log.options.name(changelog_of(TOPIC))
    await asyncio.to_thread(admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result)
    await until(lambda: is_there(log, changelog_of(TOPIC)))
    assert "was made with 2" in await refused(open_log())


async def is_there(log: KafkaLog, topic: str) -> bool:
    """Return whether the cluster has heard of the topic."""
    try:
        return bool(await log.described(topic))
    except NotFoundError:
        return False


@pytest.mark.parametrize("more", ["", "inbox-1", "a|b|c"])
def test_a_note_is_read_as_it_was_written(more: str) -> None:
    """Other text may stand beside the origin in the note."""
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
