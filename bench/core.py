"""How fast the pure core folds: `python -m bench.core [--json] [--open N]`.

`react_events_s`: events through `react` alone, states kept. `tracker_events_s_empty`, `_full`: the tracker's use case
(load, fold, encode, write) over a SQLite store that is empty, and one that holds N open instances. The baseline beside
them is a fold that does nothing but decode and count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bench.saga import declined, order
from choreo.adapters.clock import SystemClock
from choreo.adapters.sqlite.backend import SqliteBackend
from choreo.app.tracking.fold import PartitionFold
from choreo.core import facts, ids
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.state import KeyState, decode, encode
from choreo.core.timers import next_due
from choreo.ports.log import CommitBatch, Consumer
from choreo.ports.state import StateRow

ORDERS = 4_000
ROUNDS = 5
BATCH = 1_000
SPREAD = 241
"""4,000 orders times this is about a million: the orders' keys are spread over all open ones'."""
_NOW_MS = 1_767_225_600_000


def history(table: FlowTable, key: str, number: int) -> list[Record]:
    """The whole log of one order, as its services and the tracker would write it."""
    pending = [Envelope(id=ids.start(table.flow.name, key), type=table.flow.starts, key=key, flow=table.flow.name)]
    state = KeyState()
    records: list[Record] = []
    while pending:
        event = pending.pop(0)
        record = Record(table.flow.name, 0, len(records), _NOW_MS + len(records), event)
        records.append(record)
        state, decisions = react(table, state, record)
        pending += [*_outcomes(table, event, number), *decisions]
    return records


def _outcomes(table: FlowTable, event: Envelope, number: int) -> list[Envelope]:
    common: dict[str, Any] = {"key": event.key, "flow": event.flow, "run": event.run or event.id, "causation": event.id}
    if event.type == facts.COMPENSATION_REQUESTED:
        undo = table.steps[event.step].compensation
        type_ = undo.emits[0] if undo else ""
        return [Envelope(id=ids.undo(event.entry), type=type_, step=event.step, entry=event.entry, round=1, **common)]
    outcomes = []
    for step in table.triggers.get(event.type, ()):
        bad = bool(step.fails) and declined(number)
        type_ = step.fails[0] if bad else step.emits[0]
        outcomes.append(
            Envelope(id=ids.outcome(event.id, step.name), type=type_, step=step.name, certain=bad, **common)
        )
    return outcomes


def _rates(work: Callable[[], int], rounds: int) -> float:
    rates = []
    for _ in range(rounds):
        begun = time.perf_counter()
        events = work()
        rates.append(events / (time.perf_counter() - begun))
    return statistics.median(rates)


def react_rate(table: FlowTable, logs: list[list[Record]], rounds: int) -> float:
    """Events a second through `react`, every state kept."""

    def work() -> int:
        for records in logs:
            state = KeyState()
            for record in records:
                state, _ = react(table, state, record)
        return sum(map(len, logs))

    return _rates(work, rounds)


def baseline_rate(table: FlowTable, logs: list[list[Record]], rounds: int) -> float:
    """Events a second through a loop that decodes a state, counts and encodes it again: what storing costs alone."""
    state = KeyState()
    for record in logs[0]:
        state, _ = react(table, state, record)
    data = encode(state)

    def work() -> int:
        for records in logs:
            for _ in records:
                encode(decode(data))
        return sum(map(len, logs))

    return _rates(work, rounds)


async def tracker_rates(
    table: FlowTable, logs: list[list[Record]], open_instances: int, rounds: int
) -> tuple[float, float]:
    """Events a second of the tracker's use case over an empty store and over one with so many open instances."""
    with tempfile.TemporaryDirectory() as folder:
        rates = []
        for number, filled in enumerate((0, open_instances)):
            backend = await SqliteBackend.open(Path(folder) / f"{number}.db", synchronous="NORMAL", clock=SystemClock())
            try:
                await backend.log.create(table.flow.name, 1)
                consumer = await backend.log.consumer(table.flow.name, "tracker", "bench")
                await consumer.poll(1, 0)
                await _fill(table, consumer, logs[0][0], filled)
                rates.append(await _tracked(table, backend, consumer, logs, rounds))
            finally:
                await backend.close()
        return rates[0], rates[1]


async def _fill(table: FlowTable, consumer: Consumer, start: Record, instances: int) -> None:
    state, _ = react(table, KeyState(), start)
    data, due_ms = encode(state), next_due(state)
    for begin in range(0, instances, 10_000):
        rows = [
            StateRow(table.flow.name, 0, _key(number), 0, data, due_ms)
            for number in range(begin, min(begin + 10_000, instances))
        ]
        await consumer.commit(CommitBatch(states=rows))
        await consumer.poll(1, 0)


async def _tracked(
    table: FlowTable, backend: SqliteBackend, consumer: Consumer, logs: list[list[Record]], rounds: int
) -> float:
    rates = []
    for round_ in range(rounds):
        tracker = PartitionFold(table, 0, 1, lambda _: {})
        records = _interleaved(logs, round_)
        begun = time.perf_counter()
        for index in range(0, len(records), BATCH):
            part = records[index : index + BATCH]
            missing = tracker.missing(part)
            tracker.put(await backend.states.load(table.flow.name, 0, missing), missing)
            batch = tracker.fold(part, _NOW_MS)
            await consumer.commit(CommitBatch(states=batch.states, views=batch.views))
            tracker.trim()
        rates.append(len(records) / (time.perf_counter() - begun))
    return statistics.median(rates)


def _key(number: int) -> str:
    """The key of an open instance; the lower digits first, so that neighbours in time lie far apart in the index."""
    return f"o-{number:08}"[::-1]


def _interleaved(logs: list[list[Record]], round_: int) -> list[Record]:
    """The orders' events as a partition holds them: many orders at once, offsets rising.

    The keys are new, and lie all over the index among those of the open instances.
    """
    records: list[Record] = []
    keys = {log[0].event.key: _key(place * SPREAD) + f"-{round_}" for place, log in enumerate(logs)}
    for group in range(0, len(logs), 200):
        window = logs[group : group + 200]
        for place in range(max(map(len, window))):
            for log in window:
                if place < len(log):
                    event = log[place].event
                    renamed = replace(event, key=keys[event.key])
                    records.append(Record(log[place].topic, 0, len(records), log[place].stamp_ms, renamed))
    return records


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--open", type=int, default=1_000_000, help="open instances in the full store")
    parser.add_argument("--orders", type=int, default=ORDERS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    table = FlowTable(order.definition)
    logs = [history(table, f"o-{number}", number) for number in range(arguments.orders)]
    empty, full = asyncio.run(tracker_rates(table, logs, arguments.open, arguments.rounds))
    figures = {
        "events_an_order": round(sum(map(len, logs)) / arguments.orders, 2),
        "react_events_s": round(react_rate(table, logs, arguments.rounds)),
        "baseline_codec_events_s": round(baseline_rate(table, logs, arguments.rounds)),
        "tracker_events_s_empty": round(empty),
        "tracker_events_s_full": round(full),
        "open_instances": arguments.open,
        "full_over_empty": round(full / empty, 3),
    }
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        sys.stdout.writelines(f"{name:28} {value:>14,}\n" for name, value in figures.items())


if __name__ == "__main__":
    main()
