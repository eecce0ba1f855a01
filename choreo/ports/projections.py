"""The projector's writes: the read model as a fold of the log, one partition's batch at a time, whole or not at all.

States, views, the index of each key's records and the partition's position change together, so that the read model is
always true up to the position. `ReadModel` reads and drops it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from choreo.ports.read_model import InstanceView

PROJECTOR_GROUP = "projector"
"""The consumer group of the projector. Its offsets are where it reads on; the views have positions of their own."""


class KeyFold(msgspec.Struct, frozen=True):
    """The data needed to fold a key further: its state's bytes, and the attributes of its runs, by run id."""

    key: str
    state: bytes
    attributes: Mapping[str, Mapping[str, str]] = {}


class Projected(msgspec.Struct, frozen=True):
    """The result of folding a partition's records from offset `begins` up to, not including, `position`."""

    topic: str
    partition: int
    begins: int
    position: int
    keys: Sequence[KeyFold] = ()
    views: Sequence[InstanceView] = ()
    history: Mapping[str, Sequence[int]] = {}
    """Offsets of the records of each key, ascending."""


class Projections(Protocol):
    """The store of projectors. Two of them may fold one partition for a while: the same fold gives the same result."""

    async def positions(self, topic: str) -> dict[int, int]:
        """Return the next offset to fold, by partition; absent means 0: nothing was folded, or all was dropped."""
        ...

    async def load(self, topic: str, partition: int, keys: Sequence[str]) -> dict[str, KeyFold]:
        """Return the folds of these keys; an unknown key is absent."""
        ...

    async def save(self, batch: Projected) -> int:
        """Write the batch if the partition's position is where it begins; return the position after that.

        A result other than `batch.position` means that the views were dropped, or that another projector went on: then
        nothing was written, and the caller folds on from there with the result of `load`.
        """
        ...
