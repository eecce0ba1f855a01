"""The questions to the group when states are restored, and the answers."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from choreo.core.errors import StorageError
from tests.support import required

required.needed("faust", "faust")

from aiokafka.errors import IllegalStateError, KafkaConnectionError  # noqa: E402 - without the extra all is skipped
from faust.types import TP  # noqa: E402

from choreo.adapters.faust.application import FetchThread, TrackerApp  # noqa: E402
from choreo.adapters.faust.options import FaustOptions  # noqa: E402

OURS = {TP("order", 0), TP("order", 1), TP("changelog", 0)}


class Consumer:
    """Has partitions 0 and 1; answers, unless something comes between."""

    def __init__(self, between: Exception | None = None) -> None:
        self._between = between

    def assignment(self) -> set[TP]:
        """Return the assigned partitions."""
        return OURS

    async def seek_to_committed(self) -> dict[TP, int | None]:
        """Return committed offsets."""
        if self._between is not None:
            raise self._between
        return {TP("order", 0): 9, TP("order", 1): None}


async def assigned(folder: Path, consumer: Consumer) -> Any:
    """Return the application's answer with this consumer."""
    options, nothing = FaustOptions("b:1", folder), None
    app = TrackerApp.of("order", options, folder, 2, owner=nothing, local=nothing)  # type: ignore[arg-type]
    app.consumer = consumer
    return await app.assigned()


async def test_each_partition_has_its_committed_offset(tmp_path: Path) -> None:
    """A partition without an offset begins at 0; where the log begins and ends, another client is asked.

    Faust's own client answers behind the fetch that is under way, seconds later.
    """
    assert await assigned(tmp_path, Consumer()) == {0: 9, 1: 0}


async def test_a_group_that_shares_its_partitions_anew_meanwhile_is_no_fault(tmp_path: Path) -> None:
    """Faust restores once more and asks again."""
    assert await assigned(tmp_path, Consumer(IllegalStateError("No current assignment for partition"))) is None


async def test_a_cluster_that_is_away_is_something_to_wait_for(tmp_path: Path) -> None:
    """The session ends, the worker goes on."""
    with pytest.raises(StorageError, match="no answer about committed offsets: KafkaConnectionError"):
        await assigned(tmp_path, Consumer(KafkaConnectionError("gone")))


class Ending:
    """A service that reports its end to the loop that started it, and fails."""

    def __init__(self, parent_loop: asyncio.AbstractEventLoop) -> None:
        self.parent_loop = parent_loop

    def _start_thread(self) -> None:
        raise RuntimeError("Event loop is closed")


@pytest.mark.parametrize(("closed", "reports"), [(True, 0), (False, 1)])
def test_a_fetching_thread_that_outlives_its_loop_ends_without_a_report(
    closed: bool, reports: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen cluster holds the thread beyond the end of its process's work; any other error is shown."""
    shown: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    loop = asyncio.new_event_loop()
    if closed:
        loop.close()
    thread = FetchThread(Ending(loop))
    thread.start()
    thread.join()
    loop.close()
    assert len(shown) == reports
