"""The notes beside the offsets of a flow's tracker: they name the log that its states are of."""

from __future__ import annotations

from choreo.adapters.kafka.cluster.log_identity import Origin, first_noted, noted
from choreo.adapters.kafka.cluster.requests import Cluster
from choreo.adapters.kafka.topics.changes import changelog_of, tracker_app
from choreo.core.errors import NotFoundError


async def notes_of_tracker(cluster: Cluster, flow: str) -> list[str]:
    """Return the notes of the tracker's commits, the most reliable first; raises StorageError.

    The changelog's notes outlive the log's topic; the log's are there where the changelog was removed. The changelog
    itself has as many partitions as its log was made with.
    """
    changelog, tracker = changelog_of(flow), tracker_app(flow)
    notes = await _notes(cluster, changelog, tracker)
    if first_noted(notes) is None:
        notes += await _notes(cluster, flow, tracker)
    try:
        notes.append(noted(Origin("", await cluster.partitions(changelog))))
    except NotFoundError:
        return notes
    return notes


async def _notes(cluster: Cluster, topic: str, group: str) -> list[str]:
    try:
        return [commit.note for commit in (await cluster.commits(topic, group)).values()]
    except NotFoundError:
        return []
