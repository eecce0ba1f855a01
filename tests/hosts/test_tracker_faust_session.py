"""What a worker of the tracker asks the group when its states are restored, and what it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from choreo.core.errors import StorageError
from tests.support import required

required.needed("faust", "faust")

from aiokafka.errors import IllegalStateError, KafkaConnectionError  # noqa: E402 - without the extra all is skipped
from faust.types import TP  # noqa: E402

from choreo.hosts.tracker_faust import TrackerApp  # noqa: E402
from choreo.hosts.tracker_faust_options import FaustOptions  # noqa: E402

OURS = {TP("order", 0), TP("order", 1), TP("changelog", 0)}


class Consumer:
    """Has partitions 0 and 1; answers, unless something comes between."""

    def __init__(self, between: Exception | None = None) -> None:
        self._between = between

    def assignment(self) -> set[TP]:
        """What it has."""
        return OURS

    async def highwaters(self, *tps: TP) -> dict[TP, int]:
        """Ends."""
        return dict.fromkeys(tps, 20)

    async def earliest_offsets(self, *tps: TP) -> dict[TP, int]:
        """Starts."""
        return dict.fromkeys(tps, 5)

    async def seek_to_committed(self) -> dict[TP, int | None]:
        """Committed offsets."""
        if self._between is not None:
            raise self._between
        return {TP("order", 0): 9, TP("order", 1): None}


async def assigned(folder: Path, consumer: Consumer) -> Any:
    """What the application is told by this consumer."""
    options, nothing = FaustOptions("b:1", folder), None
    app = TrackerApp.of("order", options, folder, 2, owner=nothing, local=nothing)  # type: ignore[arg-type]
    app.consumer = consumer
    return await app.assigned()


async def test_each_partition_has_its_committed_offset_and_its_span(tmp_path: Path) -> None:
    """Nothing before the log's first record; a partition without an offset begins there."""
    assert await assigned(tmp_path, Consumer()) == ({0: 9, 1: 0}, {0: (9, 20), 1: (5, 20)})


async def test_a_group_that_shares_its_partitions_anew_meanwhile_is_no_fault(tmp_path: Path) -> None:
    """Faust restores once more and asks again."""
    assert await assigned(tmp_path, Consumer(IllegalStateError("No current assignment for partition"))) is None


async def test_a_cluster_that_is_away_is_something_to_wait_for(tmp_path: Path) -> None:
    """The session ends, the worker goes on."""
    with pytest.raises(StorageError, match="the cluster does not say how far it is: KafkaConnectionError"):
        await assigned(tmp_path, Consumer(KafkaConnectionError("gone")))
