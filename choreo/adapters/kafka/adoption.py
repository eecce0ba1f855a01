"""Adopt a topic as a flow's log, where offsets and states were written for another topic.

Every role of the flow has to be stopped, or to wait. Either the new log is begun at its first record, with no state
of the old one; or its records are the same as before, at the same offsets, and only the new id is noted.

Nothing is changed before every group is known to be empty. An interrupted call leaves the log refused, because its
caller notes the new id in the store last; a second call repeats the same steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from confluent_kafka import ConsumerGroupState, KafkaException, TopicPartition

from choreo.adapters.kafka.cluster import group_requests
from choreo.adapters.kafka.cluster.admin import Admin
from choreo.adapters.kafka.cluster.log_identity import Origin, identified, noted, origins_in, read_note, successor
from choreo.adapters.kafka.cluster.requests import Cluster
from choreo.adapters.kafka.errors import complaint
from choreo.adapters.kafka.groups.conditions import missing_in
from choreo.adapters.kafka.log import notes_of_tracker
from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.reader import Place, Readers
from choreo.adapters.kafka.records import event_of
from choreo.adapters.kafka.topics import Action, Change, Role, TopicAdmin, changelog_of, tracker_app
from choreo.core.errors import ConflictError, NotFoundError
from choreo.core.identity import is_foreign
from choreo.ports.dependencies import NoReports

_WITH_MEMBERS = {
    ConsumerGroupState.STABLE,
    ConsumerGroupState.PREPARING_REBALANCING,
    ConsumerGroupState.COMPLETING_REBALANCING,
}
_LOOKED_AT, _PIECE = 1_000, 100
"""Records of each partition that are searched for choreo's own facts, to detect a copied log; a piece may be large."""


async def begin_anew(options: KafkaOptions, flow: str, groups: Collection[str], remembered: str) -> str:
    """Set all groups to the first record of the topic, and delete the changelog; return the new note.

    `remembered` is the note in the store. Raises ConflictError, before anything is changed, where a group has
    members; StorageError, NotFoundError.
    """
    cluster = Cluster(options, NoReports())
    moved = (tracker_app(flow), *groups)
    await _refuse_members(options, moved)
    note = noted(await _succeeding(options, cluster, flow, remembered))
    begins = await cluster.begins(flow, range(await cluster.partitions(flow)))
    for group in moved:
        await _move(options, group, flow, {partition: (offset, note) for partition, offset in begins.items()})
    name = changelog_of(flow)
    try:
        count = await cluster.partitions(name)
    except NotFoundError:
        return note
    removal = Change(Action.REMOVE, name, Role.CHANGELOG, "topic", str(count), "", destroys=True)
    await TopicAdmin(options).apply((), [removal], [flow])
    return note


async def keep(
    options: KafkaOptions, flow: str, groups: Collection[str], remembered: str, reviewed: Callable[[str], str]
) -> str:
    """Note the topic's new id beside every offset and state, which stay; return the new note.

    Raises as `begin_anew`. `reviewed` returns the rest of a note without its missing records, because somebody has
    seen the report of them.
    """
    cluster = Cluster(options, NoReports())
    tracker = tracker_app(flow)
    await _refuse_members(options, (tracker, *groups))
    known = origins_in([remembered, *await notes_of_tracker(cluster, flow)])
    origin = await cluster.origin(flow)
    origin = origin._replace(log_id=known[0].log_id) if known else origin
    for topic, group in ((changelog_of(flow), tracker), (flow, tracker), *((flow, group) for group in groups)):
        try:
            commits = await cluster.commits(topic, group)
        except NotFoundError:
            continue
        places = {
            partition: (commit.offset, noted(origin, reviewed(missing_in(read_note(commit.note)[1])[0])))
            for partition, commit in commits.items()
        }
        await _move(options, group, topic, places)
    return noted(origin)


async def _refuse_members(options: KafkaOptions, groups: Collection[str]) -> None:
    """Raise ConflictError where one of these groups has members: its offsets could not be moved."""
    admin = Admin(options)
    client = admin.client
    names = {options.name(group): group for group in groups}
    try:
        # Every broker is asked, not the coordinators: see `group_requests`.
        request = client.list_consumer_groups(states=_WITH_MEMBERS, request_timeout=options.request_s)
        listed = await asyncio.wrap_future(request)
        for error in listed.errors or ():
            raise error
    except KafkaException as error:
        raise admin.complaint(client, error, "the list of groups") from error
    busy = sorted(names[group.group_id] for group in listed.valid or () if group.group_id in names)
    if busy:
        raise ConflictError(
            f"these groups have members: {', '.join(busy)}",
            where="consumer groups",
            remedy="Stop every role of the flow first, and wait for the session timeout where a process was killed.",
        )


async def _succeeding(options: KafkaOptions, cluster: Cluster, flow: str, remembered: str) -> Origin:
    """Return the topic's origin as the successor of the remembered log of the flow."""
    now = await cluster.origin(flow)
    known = origins_in([remembered, *await notes_of_tracker(cluster, flow)])
    if not known or any(was.topic_id == now.topic_id for was in known):
        return identified(now, known)
    return successor(now, known[0], is_copy=await _is_copy(options, cluster, flow, now.partitions))


async def _is_copy(options: KafkaOptions, cluster: Cluster, flow: str, partitions: int) -> bool:
    """Return whether choreo's own facts stand among the first records."""
    readers = Readers(options)
    try:
        for number, begin in (await cluster.begins(flow, range(partitions))).items():
            offset = begin
            while offset < begin + _LOOKED_AT:
                found = await readers.read(Place(options.name(flow), number, offset), _PIECE)
                events = [event_of(each.headers() or (), each.key(), each.value(), flow) for each in found]
                if any(event.id and event.causation and not is_foreign(event) for event in events):
                    return True
                if len(found) < _PIECE:
                    break
                offset = (found[-1].offset() or 0) + 1
    except KafkaException as error:
        raise complaint(error, options, f"topic {flow!r}") from error
    finally:
        await readers.close()
    return False


async def _move(options: KafkaOptions, group: str, topic: str, places: dict[int, tuple[int, str]]) -> None:
    name = options.name(topic)
    if not places:
        return
    try:
        wanted = [TopicPartition(name, partition, offset, note) for partition, (offset, note) in places.items()]
        await group_requests.move(options, group, wanted)
    except KafkaException as error:
        raise complaint(error, options, f"group {group!r}") from error
