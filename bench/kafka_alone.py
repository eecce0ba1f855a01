"""One role alone, in a process of its own that measures itself: `python -m bench.kafka_alone step|replay …`.

`step`: choreo's step host, or with `--bare` the loop of kafka_raw that decodes, validates, encodes and commits the
same; both handle the same backlog, which bench.kafka pours in while they wait. `replay`: the Faust tracker folds a log
that a run has left, under an application of its own. The first events handled are not measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient, NewTopic

from bench.faust_tracker import tracker
from bench.kafka_chain import starts
from bench.kafka_harness import FLOW, PARTITIONS, Harness
from bench.kafka_raw import READY, STEP_IN, STEP_OUT, WARM_UP, make_topics, pour
from bench.saga import inventory, order
from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.faust.options import TABLE, FaustOptions
from choreo.adapters.kafka import KafkaLog, KafkaOptions
from choreo.adapters.kafka.options import settings_of as kafka_settings
from choreo.adapters.kafka.records import message_of
from choreo.adapters.kafka.topics import CHANGELOG_CONFIG
from choreo.settings import load
from choreo.wiring import open_app, run

LOOK_S = 0.02
PATIENCE_S = 120


class Replay(FaustOptions, frozen=True):
    """A second tracker on the same log: with a group and a changelog of its own."""

    def application(self, flow: str) -> str:
        """The application's id."""
        return f"{self.prefix}replay-{flow}"

    def changelog(self, flow: str) -> str:
        """The topic behind the table, as Faust names it."""
        return f"{self.application(flow)}-{TABLE}-changelog"


async def measured(count: Callable[[], float], first: float, last: float) -> dict[str, float]:
    """Events a second, and CPU time an event of this process, between two counts."""
    marks = [(count(), time.perf_counter(), time.process_time())]
    until = time.monotonic() + PATIENCE_S
    for goal in (first, last):
        while count() < goal:
            await asyncio.sleep(LOOK_S)
            if time.monotonic() > until:
                sys.exit(f"{count()} of {last} events within {PATIENCE_S} s")
        marks.append((count(), time.perf_counter(), time.process_time()))
    # At sizes that measure nothing one batch reaches both goals: then it is all since the beginning.
    before = marks[1] if marks[1][0] < marks[2][0] else marks[0]
    events, wall_s, used_s = (after - earlier for earlier, after in zip(before, marks[2], strict=True))
    return {"events_s": events / wall_s, "cpu_us": used_s / max(1, events) * 1e6}


async def step(events: int) -> dict[str, float]:
    """The step host over Kafka and Redis; says when it has handled the first events."""
    async with open_app(load()) as app:
        stop_ = asyncio.Event()
        task = asyncio.create_task(run(app, [inventory.name], stop_))
        handled = _counter(app.metrics.read, "jobs")
        await measured(handled, 0, 1)
        print(READY, flush=True)
        figures = await measured(handled, 2 * WARM_UP, 2 * WARM_UP + events)
        stop_.set()
        await task
    return figures


async def replay(prefix: str) -> dict[str, float]:
    """The tracker over the log of this prefix, from its first record to its last."""
    settings = load()
    log = KafkaLog(KafkaOptions.of(settings.kafka, kafka_settings({"CHOREO_KAFKA_TOPIC_PREFIX": prefix})))
    options = Replay(settings.kafka, Path(settings.data) / "replay", prefix=prefix)
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    name = options.changelog(FLOW)
    admin.create_topics([NewTopic(name, PARTITIONS, 1, config=dict(CHANGELOG_CONFIG))])[name].result()
    length = sum([await log.end(FLOW, partition) for partition in range(PARTITIONS)])
    await _until_known(log, name.removeprefix(prefix))
    host = tracker(order.definition, log, options)
    task = asyncio.create_task(host.run())
    count = _counter(host.metrics.read, "tracker_events")
    figures = await measured(count, min(WARM_UP, length // 4), length)
    await host.stop()
    await task
    await log.close()
    return {"events": length, **figures}


async def _until_known(log: KafkaLog, topic: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            await log.partitions(topic)
        except Exception:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(LOOK_S)
        else:
            return


def _counter(read: Callable[[], dict[str, float]], name: str) -> Callable[[], float]:
    return lambda: read().get(name, 0)


def steps_beside(harness: Harness, events: int) -> dict[str, dict[str, float]]:
    """Choreo's step and the bare one, one after the other, with the same backlog."""
    ours, bare = harness.own("step"), harness.own("bare")
    harness.prepare(ours)
    make_topics(harness, [bare + name for name in (STEP_IN, STEP_OUT)])
    return {
        "choreo": _poured(harness, ours, FLOW, ("-m", "bench.kafka_alone", "step", str(events)), events),
        "bare": _poured(harness, bare, STEP_IN, ("-m", "bench.kafka_raw", "step", str(events)), events),
    }


def _poured(harness: Harness, prefix: str, topic: str, command: tuple[str, ...], events: int) -> dict[str, float]:
    with harness.running(prefix, {"step": command}) as processes:
        said = processes["step"].stdout
        assert said is not None  # noqa: S101 - it was started with a pipe
        pour(harness, prefix + topic, _messages("warm", WARM_UP))
        for line in said:
            if line.strip() == READY:
                break
        # More than is counted: a batch's end is not at a round number.
        pour(harness, prefix + topic, _messages("o", 2 * WARM_UP + events))
        figures: dict[str, float] = json.loads(said.readline())
    return figures


def _messages(prefix: str, number: int) -> Iterator[tuple[bytes, bytes, Any]]:
    return map(message_of, starts(AvroCodec(), number, prefix))


def main() -> None:
    """Run one role and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("step", "replay"))
    parser.add_argument("what", help="how many events, or the prefix of the log")
    chosen = parser.parse_args()
    figures = asyncio.run(step(int(chosen.what)) if chosen.role == "step" else replay(chosen.what))
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
