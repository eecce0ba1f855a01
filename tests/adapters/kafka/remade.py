"""A topic that is deleted and made again under a log, and the consumers of the one before."""

import asyncio
from typing import Any

from confluent_kafka import Consumer as ClientConsumer
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from choreo.adapters.kafka import KafkaLog
from choreo.adapters.kafka.cluster.log_identity import noted
from choreo.adapters.kafka.topics import changelog_of, tracker_app
from choreo.core.errors import NotFoundError
from choreo.ports.log import CommitBatch, Consumer
from choreo.testing.conformance import TOPIC
from tests.support.cluster import cluster_of
from tests.support.patience import PATIENCE_S

PARTITIONS = 2


async def worked(log: KafkaLog, number: int, topic: str = TOPIC, group: str = "payment") -> Consumer:
    """Return a consumer of the group that has committed as many records."""
    consumer = await log.consumer(topic, group, "one")
    done: dict[int, int] = {}
    async with asyncio.timeout(PATIENCE_S):
        while sum(done.values()) < number:
            poll = await consumer.poll(100, 0.2)
            done.update(poll.read)
            if poll.read:
                await consumer.commit(CommitBatch(done=poll.read))
    return consumer


async def made_again(log: KafkaLog, admin: AdminClient, topic: str = TOPIC) -> None:
    """Delete the topic, and create another one of its name."""
    name = log.options.name(topic)
    before = await described(log, topic)
    await asyncio.to_thread(admin.delete_topics([name])[name].result)
    async with asyncio.timeout(PATIENCE_S):
        while await described(log, topic) in (before, None):
            try:
                await cluster_of(log).create(topic, PARTITIONS)
            except NotFoundError:
                await asyncio.sleep(0)


async def described(log: KafkaLog, topic: str) -> Any:
    """Return the topic as the cluster describes it; None: there is none."""
    try:
        return await cluster_of(log).origin(topic)
    except NotFoundError:
        return None


async def noted_by_tracker(log: KafkaLog, admin: AdminClient, topic: str = TOPIC) -> None:
    """Note that the tracker has worked this log: a commit in its changelog, which outlives the log's topic."""
    options = log.options
    name, group = options.name(changelog_of(topic)), options.name(tracker_app(topic))
    await asyncio.to_thread(admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result)
    note = noted(await log.described(topic), "what it adds")
    tracker = ClientConsumer({"bootstrap.servers": options.bootstrap, "group.id": group})
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await asyncio.to_thread(tracker.commit, offsets=[TopicPartition(name, 0, 0, note)], asynchronous=False)
                break
            except KafkaException:  # the topic, or the coordinator, is on its way
                await asyncio.sleep(0)
    tracker.close()
