"""Fold own decisions in the transaction that appends them, where no other record stands between: this saves a commit.

Only a transport that appends in the transaction of the commit asks for it (`ports.log.CommitBatch.follow`).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from choreo.app.tracking.fold import Batch, Followed, PartitionFold
from choreo.core.events import Record
from choreo.ports.log import CommitBatch


class ReadBack:
    """The own decisions of the batches of one commit."""

    def __init__(self, work: CommitBatch, batches: Sequence[tuple[PartitionFold, Batch]]) -> None:
        """Keep the batches; their decisions are in the outputs of `work`."""
        self.followed: dict[int, Followed] = {}
        """By partition: the change, as the call of `follow` that was last found it."""
        self._work = work
        self._batches = batches

    def follow(self, records: Sequence[Record]) -> CommitBatch:
        """Return the work with the change by these records, which were just appended; see `CommitBatch.follow`."""
        self.followed = {}
        for fold, batch in self._batches:
            partition = fold.partition
            if partition not in self._work.done:
                continue
            own = [record for record in records if record.partition == partition]
            followed = fold.follow(batch, self._work.done[partition], own)
            if followed is not None:
                self.followed[partition] = followed
        return self._with_followed() if self.followed else self._work

    def _with_followed(self) -> CommitBatch:
        work = self._work
        states = {(row.partition, row.key): row for row in work.states}
        views = {(view.partition, view.key, view.run): view for view in work.views}
        for followed in self.followed.values():
            states.update(((row.partition, row.key), row) for row in followed.rows)
            views.update(((view.partition, view.key, view.run), view) for view in followed.views)
        done = {**work.done, **{partition: followed.position for partition, followed in self.followed.items()}}
        return replace(work, states=list(states.values()), views=list(views.values()), done=done)
