"""`choreo topics adopt`: a topic that was made again becomes the log of its flow."""

import asyncio

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from choreo.adapters.kafka import KafkaLog
from choreo.adapters.kafka.adoption import begin_anew
from choreo.adapters.kafka.cluster.log_identity import Origin, identified, noted, read_note, successor
from choreo.adapters.kafka.topics import changelog_of, tracker_app
from choreo.cli.failures import CONFLICT, UNAVAILABLE
from choreo.core import ids
from choreo.core.events import Record
from choreo.core.identity import identified as event_of
from choreo.ports.log import Consumer
from choreo.ports.projections import PROJECTOR_GROUP
from tests.adapters.kafka.conftest import Command, OpenLog
from tests.adapters.kafka.remade import PARTITIONS, made_again, noted_by_tracker, worked
from tests.support.cluster import cluster_of
from tests.support.patience import PATIENCE_S


def opens(member_id: str) -> tuple[str, ...]:
    """Return the arguments of the command that starts a run with this key."""
    return ("publish", "desk", "TicketOpened", "--key", member_id)


async def test_a_topic_that_was_adopted_is_worked_from_its_first_record(
    open_log: OpenLog, admin: AdminClient, choreo: Command
) -> None:
    """Not while a consumer of the old log is in a group; afterwards REST view and services use the new one."""
    # given a service that has read three events of a log that was made again
    log = open_log()
    await log.create("desk", PARTITIONS)
    for number in range(3):
        assert await choreo(*opens(f"t-{number}")) == 0
    await noted_by_tracker(log, admin, "desk")
    consumer = await worked(log, 3, "desk", "seats")
    await made_again(log, admin, "desk")
    # when it is adopted
    assert await choreo("topics", "adopt") == CONFLICT
    assert await choreo(*opens("t-3")) == UNAVAILABLE, "a refusal changes nothing"
    await consumer.close()
    assert await choreo("topics", "adopt") == 0
    # then
    assert await choreo(*opens("t-3")) == 0
    fresh = open_log()
    assert sum((await cluster_of(fresh).ends("desk", range(PARTITIONS))).values()) == 1
    assert await fresh.partitions(changelog_of("desk")) == PARTITIONS
    await (await worked(fresh, 1, "desk", "seats")).close()


async def test_a_topic_that_was_restored_keeps_what_is_known_of_its_records(
    open_log: OpenLog, admin: AdminClient, choreo: Command, kafka: str
) -> None:
    """The changelog stays, noted for the new topic; a service lost its offsets with the old one, and reads all."""
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
            restored.produce(log.options.name("desk"), b"as it was", partition=partition)
    assert await asyncio.to_thread(restored.flush, PATIENCE_S) == 0
    assert await choreo(*opens("t-3")) == UNAVAILABLE
    # when
    assert await choreo("topics", "adopt", "--same-records") == 0
    # then
    assert await choreo(*opens("t-3")) == 0
    fresh = open_log()
    assert await fresh.described(changelog_of("desk")) == changelog
    (commit,) = (await cluster_of(fresh).commits(changelog_of("desk"), tracker_app("desk"))).values()
    assert read_note(commit.note) == (await fresh.described("desk"), "what it adds")
    await (await worked(fresh, 4, "desk", "seats")).close()


async def unnamed(log: KafkaLog, kafka: str, topic: str = "desk") -> str:
    """Let a foreign producer, which sets no id, write to partition 0; return the id that the event is known by."""
    offset = await log.end(topic, 0)
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(log.options.name(topic), b"{}", b"k", headers={"ce_type": "TicketOpened"}, partition=0)
    assert await asyncio.to_thread(producer.flush, PATIENCE_S) == 0
    (record,) = await log.read(topic, 0, offset, 1)
    return event_of(record).id


async def test_events_without_an_id_are_others_in_the_log_that_was_adopted(
    open_log: OpenLog, admin: AdminClient, choreo: Command, kafka: str
) -> None:
    """Their ids are derived from positions, which the old log had too; in a first log they are as they always were."""
    first = open_log()
    await first.create("desk", PARTITIONS)
    old = await unnamed(first, kafka)
    assert old == ids.foreign("desk", 0, 0)
    assert await choreo(*opens("t-0")) == 0  # the store remembers the log
    await made_again(first, admin, "desk")
    # when
    assert await choreo("topics", "adopt") == 0
    # then every way of reading gives the new id, also after the changelog was made anew
    log_id = (await first.described("desk")).topic_id
    fresh = open_log()
    new = await unnamed(fresh, kafka)
    assert new == ids.foreign("desk", 0, 0, log_id) != old
    consumer = await fresh.consumer("desk", "seats", "one")
    polled = await polled_one(consumer)
    assert event_of(polled).id == new
    assert (await fresh.origin("desk")).log_id == log_id
    await consumer.close()
    # and once more: the same
    assert await choreo("topics", "adopt") == 0
    assert (await open_log().origin("desk")).log_id == log_id


async def polled_one(consumer: Consumer) -> Record:
    """Poll until a record comes."""
    async with asyncio.timeout(PATIENCE_S):
        while not (poll := await consumer.poll(1, 0.2)).records:
            continue
    return poll.records[0]


async def test_a_copy_of_a_log_keeps_its_ids(
    open_log: OpenLog, admin: AdminClient, choreo: Command, kafka: str
) -> None:
    """Facts of choreo's own stand in it, and refer to them."""
    first = open_log()
    await first.create("desk", PARTITIONS)
    old = await unnamed(first, kafka)
    assert await choreo(*opens("t-0")) == 0
    await made_again(first, admin, "desk")
    copied = Producer({"bootstrap.servers": kafka})
    name = first.options.name("desk")
    copied.produce(name, b"{}", b"k", headers={"ce_type": "TicketOpened"}, partition=0)
    fact = {"ce_type": "SeatTaken", "ce_id": "f-1", "ce_source": "choreo/seats", "ce_causationid": old}
    copied.produce(name, b"{}", b"k", headers=fact, partition=0)
    assert await asyncio.to_thread(copied.flush, PATIENCE_S) == 0
    assert await choreo("topics", "adopt") == 0
    (record,) = await open_log().read("desk", 0, 0, 1)
    assert event_of(record).id == old


async def test_nothing_is_moved_while_one_of_the_groups_has_members(
    open_log: OpenLog, admin: AdminClient, choreo: Command
) -> None:
    """All groups are looked at before the first is moved: those without consumers stay where they are, too."""
    log = open_log()
    await log.create("desk", PARTITIONS)
    assert await choreo(*opens("t-0")) == 0
    await noted_by_tracker(log, admin, "desk")
    consumer = await worked(log, 1, "desk", "seats")
    before = {group: await cluster_of(log).commits("desk", group) for group in (PROJECTOR_GROUP, tracker_app("desk"))}
    for way in ((), ("--same-records",)):
        assert await choreo("topics", "adopt", *way) == CONFLICT
    assert {group: await cluster_of(log).commits("desk", group) for group in before} == before
    assert await log.partitions(changelog_of("desk")) == PARTITIONS
    await consumer.close()


async def test_an_adoption_that_was_cut_short_is_repeated(
    open_log: OpenLog, admin: AdminClient, choreo: Command, kafka: str
) -> None:
    """Groups were moved and the changelog is gone: the log is refused until it is adopted, which ends the same."""
    log = open_log()
    await log.create("desk", PARTITIONS)
    assert await choreo(*opens("t-0")) == 0
    await noted_by_tracker(log, admin, "desk")
    was = noted(await log.origin("desk"))
    await made_again(log, admin, "desk")
    note = await begin_anew(log.options, "desk", [PROJECTOR_GROUP, "seats"], was)
    assert await choreo(*opens("t-1")) == UNAVAILABLE
    assert await choreo("topics", "adopt") == 0
    assert await choreo(*opens("t-1")) == 0
    fresh = open_log()
    assert noted(Origin(*(await fresh.described("desk"))[:2], read_note(note)[0].log_id)) == note  # type: ignore[union-attr]
    (commit, *_) = (await cluster_of(fresh).commits("desk", "seats")).values()
    assert commit.note == note


async def test_a_topic_that_was_made_again_before_any_role_ran_is_refused(
    open_log: OpenLog, admin: AdminClient, choreo: Command
) -> None:
    """The store beside the log remembers the topic of the first command."""
    log = open_log()
    await log.create("desk", PARTITIONS)
    assert await choreo(*opens("t-0")) == 0
    await made_again(log, admin, "desk")
    assert await choreo(*opens("t-0")) == UNAVAILABLE
    assert sum((await cluster_of(open_log()).ends("desk", range(PARTITIONS))).values()) == 0


A, B, C = Origin("a", 2), Origin("b/+b", 2, "b/+b"), Origin("c", 2)


def test_a_log_id_is_that_of_the_topic_or_of_the_log_it_copies() -> None:
    """A first log has none; a copy has its original's."""
    assert identified(Origin("b/+b", 2), [A, B]) == B
    assert identified(A, []) == A
    assert successor(C, A, is_copy=False).log_id == "c"
    assert successor(C, B, is_copy=False).log_id == "c"
    assert successor(C, B, is_copy=True).log_id == "b/+b"
    assert successor(C, A, is_copy=True).log_id == ""


def test_a_note_holds_the_log_id() -> None:
    """Beside the rest of its output."""
    assert read_note(noted(B, "inbox-1")) == (B, "inbox-1")
