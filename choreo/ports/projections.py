"""What the projector writes: the read model as a fold of the log, one partition's batch at a time, all at once or not.

States, views, the index of each key's records and the partition's position change together, so that what is read is
always true up to the position. `ReadModel` is how it is read, and dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from choreo.ports.read_model import InstanceView

PROJECTOR_GROUP = "projector"
"""The consumer group of the projector. Its offsets say where to read on; how far views are true stands with them."""


class KeyFold(msgspec.Struct, frozen=True):
    """What is kept of a key to fold it further: its state's bytes, and the attributes of the runs in it, by run id."""

    key: str
    state: bytes
    attributes: Mapping[str, Mapping[str, str]] = {}


class Projected(msgspec.Struct, frozen=True):
    """What folding a partition's records from offset `begins` up to, not including, `position` came to."""

    topic: str
    partition: int
    begins: int
    position: int
    keys: Sequence[KeyFold] = ()
    views: Sequence[InstanceView] = ()
    history: Mapping[str, Sequence[int]] = {}
    """Offsets of the records of each key, ascending."""


class Projections(Protocol):
    """Written by projectors. Two of them may fold one partition for a while: the same fold gives the same."""

    async def positions(self, topic: str) -> dict[int, int]:
        """The next offset to fold, by partition; absent means 0: nothing was folded, or all was dropped."""
        ...

    async def load(self, topic: str, partition: int, keys: Sequence[str]) -> dict[str, KeyFold]:
        """What is kept of these keys; a key that was never met is absent."""
        ...

    async def save(self, batch: Projected) -> int:
        """Make the batch true if the partition stands where it begins; returns where the partition stands then.

        Anything else than `batch.position` says that it was dropped, or that another projector went on: nothing was
        written, and what follows is folded from there with what `load` gives.
        """
        ...
