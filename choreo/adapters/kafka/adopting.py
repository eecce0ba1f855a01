"""Adopt a topic as a flow's log, where it is another one than positions and states were written for.

Every role of the flow has to be stopped, or to have stopped by itself. Either the new log is begun at its first record,
with no state of the old one; or its records are the same as before, at the same offsets, and only the new id is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from confluent_kafka import KafkaException, TopicPartition

from choreo.adapters.kafka import onlooker
from choreo.adapters.kafka.cluster import Cluster
from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.origin import noted, read_note
from choreo.adapters.kafka.topics import Action, Change, Role, TopicAdmin, changelog_of, tracker_app
from choreo.adapters.kafka.trouble import complaint
from choreo.core.errors import NotFoundError
from choreo.ports.dependencies import NoReports


async def begin_anew(options: KafkaOptions, flow: str, groups: Collection[str]) -> str:
    """Put all groups to the first record of the topic, and delete the changelog; returns the new note.

    Raises ConflictError, before anything is changed for it, where somebody is in a group; StorageError, NotFoundError.
    """
    cluster = Cluster(options, NoReports())
    note = noted(await cluster.origin(flow))
    begins = await cluster.begins(flow, range(await cluster.partitions(flow)))
    for group in (tracker_app(flow), *groups):
        await _move(options, group, flow, {partition: (offset, note) for partition, offset in begins.items()})
    name = changelog_of(flow)
    try:
        count = await cluster.partitions(name)
    except NotFoundError:
        return note
    gone = Change(Action.REMOVE, name, Role.CHANGELOG, "topic", str(count), "", destroys=True)
    await TopicAdmin(options).apply((), [gone], [flow])
    return note


async def keep(options: KafkaOptions, flow: str, groups: Collection[str], reviewed: Callable[[str], str]) -> str:
    """Note the topic's new identity beside every position and state, which stay; returns the new note. Raises as above.

    `reviewed` makes of the tracker's note the one after somebody has looked at what it reports.
    """
    cluster = Cluster(options, NoReports())
    origin = await cluster.origin(flow)
    tracker = tracker_app(flow)
    same: Callable[[str], str] = str
    for topic, group in ((changelog_of(flow), tracker), (flow, tracker), *((flow, group) for group in groups)):
        rewrite = reviewed if group == tracker else same
        try:
            commits = await cluster.commits(topic, group)
        except NotFoundError:
            continue
        places = {
            partition: (commit.offset, noted(origin, rewrite(read_note(commit.note)[1])))
            for partition, commit in commits.items()
        }
        await _move(options, group, topic, places)
    return noted(origin)


async def _move(options: KafkaOptions, group: str, topic: str, places: dict[int, tuple[int, str]]) -> None:
    name = options.name(topic)
    if not places:
        return
    try:
        wanted = [TopicPartition(name, partition, offset, note) for partition, (offset, note) in places.items()]
        await onlooker.move(options, group, wanted)
    except KafkaException as error:
        raise complaint(error, options, f"group {group!r}") from error
