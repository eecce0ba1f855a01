"""The questions to the group when states are restored, and the answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from choreo.core.errors import StorageError
from choreo.ports.state import StateRow
from tests.support import required

required.needed("faust", "faust")

from aiokafka.errors import IllegalStateError, KafkaConnectionError  # noqa: E402 - without the extra all is skipped
from faust.tables.recovery import Recovery  # noqa: E402
from faust.types import TP  # noqa: E402
from mode.services import ServiceTask  # noqa: E402

from choreo.adapters.faust.application import ClientThread, FetchThread, TrackerApp  # noqa: E402
from choreo.adapters.faust.local_copy import LocalCopy  # noqa: E402
from choreo.adapters.faust.options import FaustOptions  # noqa: E402
from choreo.adapters.faust.stored_state import pack  # noqa: E402

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


class Message(NamedTuple):
    """A record of the changelog."""

    partition: int
    offset: int
    key: bytes
    value: bytes


class Owner:
    """Notes its calls."""

    def __init__(self) -> None:
        self.restored_keys: set[bytes] = set()
        self.handovers = 0

    def restored(self, _: int, rows: Mapping[bytes, bytes]) -> None:
        """Note the keys."""
        self.restored_keys |= rows.keys()

    async def recovered(self) -> None:
        """Count the call."""
        self.handovers += 1


def state(position: int) -> bytes:
    """Return a stored state of this position."""
    return pack(StateRow("order", 0, "", position, b"", 0))


def test_a_restore_loses_no_record_when_faust_drops_its_queue(tmp_path: Path) -> None:
    """A rebalance drops what Faust has queued: all of a fetch is restored before Faust sees its last record."""
    options, owner, local = FaustOptions("b:1", tmp_path), Owner(), LocalCopy(tmp_path)
    app = TrackerApp.of("order", options, tmp_path, 2, owner, local)  # type: ignore[arg-type]
    changelog = TP("changelog", 0)
    fetches = [[Message(0, 3 * fetch + n, b"o-%d" % (3 * fetch + n), state(n)) for n in range(3)] for fetch in range(3)]
    assert [app.restore(changelog, fetch).offset for fetch in fetches] == [2, 5, 8]
    keys = {message.key for fetch in fetches for message in fetch}
    assert {key for key in keys if local.read(0, key)} == owner.restored_keys == keys
    assert local.reached(0) == 8
    assert app.tables.recovery.active_offsets[changelog] == 7, "Faust takes the last record itself"
    assert app.restore(changelog, [Message(0, 9, b"o-9", state(9))]).offset == 9
    assert local.reached(0) == 9
    local.close()


def test_a_restore_keeps_the_state_with_the_highest_position(tmp_path: Path) -> None:
    """A former owner may still write an older one, in the same fetch or a later one."""
    options, local = FaustOptions("b:1", tmp_path), LocalCopy(tmp_path)
    app = TrackerApp.of("order", options, tmp_path, 2, Owner(), local)  # type: ignore[arg-type]
    changelog = TP("changelog", 0)
    app.restore(changelog, [Message(0, n, b"o-1", state(position)) for n, position in enumerate((4, 9, 7))])
    assert local.read(0, b"o-1") == state(9)
    app.restore(changelog, [Message(0, 3, b"o-1", state(8))])
    assert local.read(0, b"o-1") == state(9)
    local.close()


@pytest.mark.parametrize(("generation", "handovers"), [(3, 0), (4, 1)])
async def test_a_restore_that_a_rebalance_has_overtaken_hands_nothing_over(
    generation: int, handovers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faust calls its end all the same, while the partitions of now are not restored yet."""
    options, owner, local = FaustOptions("b:1", tmp_path), Owner(), LocalCopy(tmp_path)
    app = TrackerApp.of("order", options, tmp_path, 2, owner, local)  # type: ignore[arg-type]
    app.consumer_generation_id = 4

    async def hand_over(_: Recovery, __: int) -> None:
        await owner.recovered()

    monkeypatch.setattr(Recovery, "on_recovery_completed", hand_over)
    await app.tables.recovery.on_recovery_completed(generation)
    assert owner.handovers == handovers
    local.close()


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


async def test_faust_has_no_timers_beside_the_trackers_own(tmp_path: Path) -> None:
    """Figures that nobody reads and wake-ups of the awake were a large part of the idle CPU of many flows."""
    local = LocalCopy(tmp_path)
    app = TrackerApp.of("order", FaustOptions("b:1", tmp_path), tmp_path, 2, Owner(), local)  # type: ignore[arg-type]
    parts = (type(app.monitor), ClientThread)
    tasks = [task for part in parts for task in vars(part).values() if isinstance(task, ServiceTask)]
    assert len(tasks) == 2
    for task in tasks:
        assert await task.fun(app.monitor) is None, "it ends at once"
    local.close()


class Fetching:
    """A client of aiokafka, as far as its waits are concerned."""

    def __init__(self) -> None:
        self._fetcher = self

    def _ensure_consumer(self) -> Fetching:
        return self


def test_a_live_client_rests_as_long_as_its_fetch_may_take() -> None:
    """Its loop looks around five times a second otherwise; a restore's looks stay as they are."""
    client, wait = Fetching(), cast("Any", ClientThread.fetch_wait_ms)
    for wait_ms, rest_s in ((5_000, 5.0), (50, 0.2), (1_500, 1.5)):
        wait.fset(client, wait_ms)
        assert vars(client) == {"_fetcher": client, "_fetch_max_wait_ms": wait_ms, "_fetcher_timeout": rest_s}
