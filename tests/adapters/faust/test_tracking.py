"""The tracker on a real broker: workers that die, freeze and come back; every state is the fold of the log."""

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from choreo.adapters.faust import session_watch
from choreo.adapters.faust.application import StateTable, TrackerApp
from choreo.core import facts
from choreo.core.errors import ChangelogError, SettingsError
from choreo.core.identity import identified
from choreo.core.partition import partition_of
from choreo.hosts.tracker import TrackerHost
from tests.support import required
from tests.support.faust_orders import FLOW, PARTITIONS, Harness, orders, table, tracking, until
from tests.support.kafka import Broker
from tests.support.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
ORDERS = 300
ORDERS_AT_ONCE = 20
KILLS = 3
FROZEN_S = float(os.environ.get("CHOREO_FROZEN_S", "15"))
"""Longer than a session lasts (10 s), so that others have taken over long before the frozen worker wakes up."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Yield a broker of this module's own, which may be stopped."""
    with required.broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
async def harness(broker: Broker, tmp_path: Path) -> AsyncIterator[Harness]:
    """Yield topics of this test's own."""
    harness = Harness(broker.bootstrap, tmp_path / "states")
    await harness.make()
    yield harness
    await harness.log.close()


class Worker:
    """A worker process."""

    def __init__(self, harness: Harness, folder: Path) -> None:
        """Start it."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._output = folder.with_suffix(".log")
        with self._output.open("ab") as stream:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    str(ROOT / "tests/support/faust_worker.py"),
                    harness.bootstrap,
                    harness.prefix,
                    str(folder),
                ],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=stream,
                stderr=stream,
            )

    @property
    def output(self) -> str:
        """Return its output so far."""
        return self._output.read_text(errors="replace")

    async def owns(self, number: int) -> bool:
        """Return whether so many partitions are assigned to it."""
        assert self.process.poll() is None, self.output
        owned = [line.split()[1:] for line in self.output.splitlines() if line.startswith("owns")]
        return bool(owned) and len(owned[-1]) == number

    async def owns_all(self) -> bool:
        """Return whether all partitions are assigned to it."""
        return await self.owns(PARTITIONS)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Let it end in order."""
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    """Yield processes that are gone after the test in any case."""
    started: list[Worker] = []
    yield started
    for worker in started:
        worker.kill()


async def feed(harness: Harness, places: Iterator[int], over: asyncio.Event) -> None:
    """Publish orders without a pause until it is over."""
    while not over.is_set():
        await harness.append(orders(next(places), ORDERS_AT_ONCE))


async def test_states_survive_kills_and_the_loss_of_every_local_copy(
    harness: Harness, tmp_path: Path, workers: list[Worker]
) -> None:
    """Killed at work, its folder deleted, started elsewhere: the states are the fold of the log from its beginning."""
    hits = 0
    places = itertools.count(step=ORDERS_AT_ONCE)
    for round_ in range(KILLS):
        workers.append(Worker(harness, tmp_path / f"worker-{round_}"))
        await until(workers[-1].owns_all, "the worker owns everything")
        before = await harness.committed()
        over = asyncio.Event()
        feeding = asyncio.create_task(feed(harness, places, over))

        async def is_at_work(before: int = before) -> bool:
            return await harness.committed() > before

        await until(is_at_work, "the worker is at work")
        length = await harness.length()
        workers[-1].kill()
        over.set()
        await feeding
        shutil.rmtree(workers[-1].folder)
        hits += await harness.committed() < length
    assert hits, "no kill hit work in flight: the run proved nothing"
    workers.append(Worker(harness, tmp_path / "last"))
    await until(harness.settled, "everything is read and published")
    assert workers[-1].stop() == 0, workers[-1].output
    await harness.check()


async def test_a_worker_that_was_frozen_while_others_took_over_harms_no_state(
    harness: Harness, tmp_path: Path, workers: list[Worker]
) -> None:
    """It wakes up with a batch under way, may deliver old states, and is put right."""
    workers += [Worker(harness, tmp_path / "first")]
    await until(workers[0].owns_all, "the first owns everything")
    feeding = asyncio.create_task(harness.append(orders(0, ORDERS)))
    await until(harness.moved, "the first is at work")
    workers[0].process.send_signal(signal.SIGSTOP)
    await feeding
    workers += [Worker(harness, tmp_path / "second")]
    await until(workers[1].owns_all, "the second has taken over")
    await harness.append(orders(ORDERS, ORDERS))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), max(0.0, FROZEN_S - 10))
    workers[0].process.send_signal(signal.SIGCONT)
    await until(lambda: workers[1].owns(PARTITIONS // 2), "they share the partitions again")
    await harness.append(orders(2 * ORDERS, ORDERS))
    await until(harness.settled, "everything is read and published")
    await harness.check()


async def test_two_workers_share_the_partitions_and_one_takes_over_from_the_other(
    harness: Harness, tmp_path: Path, workers: list[Worker]
) -> None:
    """Each works its half; when one leaves, the other restores its states and goes on."""
    workers += [Worker(harness, tmp_path / name) for name in ("first", "second")]
    for worker in workers:
        await until(lambda worker=worker: worker.owns(PARTITIONS // 2), "each has its half")
    await harness.append(orders(0, ORDERS))
    await until(harness.settled, "everything is read and published")
    assert workers[0].stop() == 0, workers[0].output
    await until(workers[1].owns_all, "the other has all")
    await harness.append(orders(ORDERS, ORDERS))
    await until(harness.settled, "everything is read and published")
    await harness.check()


async def test_a_worker_whose_partitions_never_come_is_made_anew(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faust lost its way in a rebalance: it is in its group, the cluster answers, and nothing is worked."""
    monkeypatch.setattr(session_watch, "CHECK_S", 0.5)
    given_s, made, recovered = session_watch.ASSIGNED_S, TrackerApp.of, StateTable.on_recovery_completed
    times = itertools.count(1)

    async def lost_the_first_time(table: StateTable, *partitions: Any) -> None:
        if next(times) == 1:
            monkeypatch.setattr(session_watch, "ASSIGNED_S", 0.5)
            await asyncio.Event().wait()
        await recovered(table, *partitions)

    def patient_again(*given: Any) -> TrackerApp:
        monkeypatch.setattr(session_watch, "ASSIGNED_S", given_s)
        return made(*given)

    monkeypatch.setattr(StateTable, "on_recovery_completed", lost_the_first_time)
    monkeypatch.setattr(TrackerApp, "of", patient_again)
    await harness.append(orders(0, ORDERS_AT_ONCE))
    async with tracking(harness) as host:
        await until(harness.settled, "everything is read and published")
        assert next(times) > 2
        assert host.metrics.read()["tracker_restarts"]
    await harness.check()


async def test_a_state_that_cannot_be_written_ends_the_process_before_its_offset_is_committed(harness: Harness) -> None:
    """The changelog takes no record: the uncommitted batch is worked again by the next process."""
    entry = ConfigEntry("max.message.bytes", "1", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, harness.changelog, incremental_configs=[entry])
    admin = harness.admin()
    await asyncio.to_thread(admin.incremental_alter_configs([resource])[resource].result)
    await harness.append(orders(0, 1))
    with pytest.raises(ChangelogError, match="Start the process again"):
        await asyncio.wait_for(harness.host().run(), PATIENCE_S)
    assert await harness.committed() == 0


async def test_a_broker_that_goes_away_is_waited_for(harness: Harness, broker: Broker) -> None:
    """The worker neither ends nor loses a state while the broker is away."""
    async with tracking(harness):
        await harness.append(orders(0, ORDERS))
        await until(harness.moved, "the worker is at work")
        broker.stop()
        broker.start()
        await harness.append(orders(ORDERS, 10))
        await until(harness.settled, "everything is read and published")
    await harness.check()


async def test_a_worker_that_is_told_to_stop_ends_although_the_cluster_hangs(
    harness: Harness, broker: Broker, tmp_path: Path, workers: list[Worker]
) -> None:
    """Faust's own thread goes on asking to leave the group for longer; the process does not wait for it."""
    workers += [Worker(harness, tmp_path / "first")]
    await until(workers[0].owns_all, "it owns everything")
    broker.freeze()
    try:
        assert workers[0].stop() == 0, workers[0].output
    finally:
        broker.thaw()
    assert "Traceback" not in workers[0].output


async def test_a_broker_that_is_not_there_yet_is_waited_for(broker: Broker, harness: Harness) -> None:
    """The worker may be started before the broker."""
    broker.stop()
    async with tracking(harness) as host:
        await until(lambda: _restarted(host), "it has tried in vain")
        broker.start()
        await harness.append(orders(0, 10))
        await until(harness.settled, "everything is read and published")
    await harness.check()


async def _restarted(host: TrackerHost) -> bool:
    return host.metrics.read().get("tracker_restarts", 0) > 0


async def test_timers_are_published_by_the_owner_also_after_a_restart_that_restored_them(harness: Harness) -> None:
    """The next owner of the partition publishes a deadline that passes while no tracker runs."""
    flow = table.flow.scaled(1_000)
    start = orders(0, 1)[0]
    async with tracking(harness, flow):
        await harness.append([start])
        await until(harness.moved, "the start is read")
    shutil.rmtree(harness.folder)
    async with tracking(harness, flow):
        await until(lambda: _published(harness, facts.STEP_DEADLINE_PASSED), "the deadline has passed")
        await until(lambda: _published(harness, facts.COMPENSATION_STARTED), "the run is turned")


async def _published(harness: Harness, type_: str) -> bool:
    return [record.event.type for record in await harness.records()].count(type_) == 1


async def test_a_record_that_is_no_event_becomes_a_dead_letter(harness: Harness) -> None:
    """A record without key, one without headers and a tombstone are set aside, and the work goes on."""
    producer = harness.producer()
    topic = harness.prefix + FLOW
    producer.produce(topic, key=None, value=b"{}", headers={"ce_type": "OrderPlaced"}, partition=0)
    producer.produce(topic, key=b"o-1", value=b"no event", partition=0)
    producer.produce(topic, key=b"o-2", value=None, partition=0)
    producer.produce(topic, key=b"\xff", value=b"", headers={"ce_type": "OrderPlaced"}, partition=0)
    producer.flush()
    await harness.append(orders(0, 10))
    async with tracking(harness):
        await until(lambda: _dead_letters(harness, 4), "all four are set aside")
        await until(harness.all_read, "everything is read")


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_records_of_any_codec_are_tracked(harness: Harness, codec: str) -> None:
    """Faust's client has its codecs only where their libraries are installed: the extra names them."""
    producer = Producer({"bootstrap.servers": harness.bootstrap, "compression.type": codec, "linger.ms": 50})
    starts = orders(0, 20)
    for start in starts:
        where = partition_of(start.key, PARTITIONS)
        producer.produce(harness.prefix + FLOW, b"{}" * 200, start.key, where, headers={"ce_type": start.type})
    producer.flush()
    async with tracking(harness):
        await until(harness.all_read, "everything is read")
    assert set(harness.kept()) == {start.key for start in starts}


async def _dead_letters(harness: Harness, number: int) -> bool:
    return await harness.log.dead_letters.count(FLOW) == number


async def test_a_record_in_the_wrong_partition_is_published_again_in_its_own(harness: Harness) -> None:
    """A producer with another partitioner: the tracker puts it right, once."""
    start = orders(0, 1)[0]
    topic = harness.prefix + FLOW
    wrong = (partition_of(start.key, PARTITIONS) + 1) % PARTITIONS
    producer = harness.producer()
    producer.produce(topic, key=start.key, headers={"ce_type": start.type, "ce_id": start.id}, partition=wrong)
    producer.flush()
    async with tracking(harness) as host:
        await until(lambda: _stands(harness, start.key, times=2), "it stands in its own partition too")
        await until(harness.all_read, "everything is read")
        assert host.metrics.read()["tracker_rerouted"] == 1
    assert set(harness.kept()) == {start.key}
    assert len({identified(record).id for record in await harness.records() if record.event.type == start.type}) == 1


async def _stands(harness: Harness, key: str, times: int) -> bool:
    """Return whether the key's first event stands so often in the log, by its id as every reader knows it."""
    known = [identified(record).id for record in await harness.records() if record.event.key == key]
    return bool(known) and known.count(known[0]) == times


async def test_topics_that_do_not_fit_are_refused_with_the_remedy(broker: Broker, tmp_path: Path) -> None:
    """Without a changelog nothing is tracked."""
    harness = Harness(broker.bootstrap, tmp_path / "states")
    await harness.make(with_changelog=False)
    with pytest.raises(SettingsError, match="choreo topics apply"):
        await asyncio.wait_for(harness.host().run(), PATIENCE_S)
    await harness.log.close()
