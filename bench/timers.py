"""Measure many pending timers: `python -m bench.timers [--json] [--timers N]`.

So many runs on the embedded log wait for a timer of 30 days; the tracker restarts, then virtual time passes in steps.
`begun_s`: runs a second that the tracker took in. `restart_s`: from a new tracker to its first poll with its states.
`fired_s`: timers a second. `early` and `lost` count facts in the log against the moments of their starts; both are 0.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from bench.figures import rounded, say
from choreo import Event, Flow
from choreo.adapters.sqlite.backend import SqliteBackend
from choreo.app.metrics import Metrics
from choreo.app.tracking.worker import TrackerWorker
from choreo.core import ids
from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from choreo.hosts.tracker import POLL_SIZE
from choreo.ports.log import TRACKER_GROUP, Consumer
from choreo.testing.clock import VirtualClock

TIMERS = 1_000_000
AT_ONCE = 10_000
"""Runs that start at one moment; a second lies between two such moments."""
DAYS = 30


class TrialStarted(Event):
    """A customer tries it."""

    trial_id: str


class TrialEnded(Event):
    """The time is over."""

    trial_id: str


def declare() -> Flow:
    """Return the flow: a start, a timer, an end."""
    flow = Flow("trial", key="trial_id", starts=TrialStarted, completes=TrialEnded, services=[])
    flow.timer("trial", on=TrialStarted, after=f"{DAYS}d", emits=TrialEnded)
    return flow


class Tracker:
    """One tracker of the flow, moved by hand."""

    def __init__(self, backend: SqliteBackend, table: FlowTable, clock: VirtualClock) -> None:
        self._backend = backend
        self._worker = TrackerWorker(table, backend.log, backend.states, clock, Metrics(), None)

    async def join(self, name: str) -> None:
        """Become the owner of the partition."""
        self._consumer: Consumer = await self._backend.log.consumer("trial", TRACKER_GROUP, name)
        while not self._worker.owned:
            await self.work()

    async def work(self) -> bool:
        """Poll, fold, and publish what is due; return whether there was anything."""
        poll = await self._consumer.poll(POLL_SIZE, 0)
        for assigned in poll.assigned:
            await self._worker.assign(assigned)
        if poll.records or poll.read:
            await self._worker.work(self._consumer, poll)
        await self._worker.publish_pending(self._consumer)
        return bool(poll.records or poll.assigned)

    async def leave(self) -> None:
        """Give up the partition."""
        await self._consumer.close()


def _starts(first: int, count: int) -> Iterable[Envelope]:
    for number in range(first, first + count):
        key = f"t-{number:08}"
        yield Envelope(id=ids.start("trial", key), type="TrialStarted", key=key, flow="trial")


async def measure(timers: int) -> dict[str, float]:
    """Return the figures of so many timers."""
    clock, table = VirtualClock(), FlowTable(declare().draft())
    with tempfile.TemporaryDirectory() as folder:
        backend = await SqliteBackend.open(Path(folder) / "t.db", clock=clock, synchronous="NORMAL", lease_s=3_600)
        try:
            await backend.log.create("trial", 1)
            tracker = Tracker(backend, table, clock)
            began_s = time.perf_counter()
            await tracker.join("first")
            for first in range(0, timers, AT_ONCE):
                await backend.log.append("trial", list(_starts(first, min(AT_ONCE, timers - first))))
                while await tracker.work():
                    pass
                await clock.advance(1)
            begun_s = time.perf_counter() - began_s
            await tracker.leave()
            return {"begun_s": rounded(timers / begun_s), **await _fired(backend, table, clock, timers)}
        finally:
            await backend.close()


async def _fired(backend: SqliteBackend, table: FlowTable, clock: VirtualClock, timers: int) -> dict[str, float]:
    """Restart the tracker, let all timers come due in steps, and count what the log says."""
    began_s = time.perf_counter()
    tracker = Tracker(backend, table, clock)
    await tracker.join("second")
    restart_s = time.perf_counter() - began_s
    moments = -(-timers // AT_ONCE)
    await clock.advance(DAYS * 86_400 - moments - 1)
    began_s = time.perf_counter()
    for _ in range(moments + 2):
        while await tracker.work():
            pass
        await clock.advance(1)
    fired_s = time.perf_counter() - began_s
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    await tracker.leave()
    early, lost = await _judged(backend, timers)
    return {
        "restart_s": rounded(restart_s),
        "fired_s": rounded(timers / fired_s),
        "early": float(early),
        "lost": float(lost),
        "memory_mb": rounded(memory_mb),
    }


async def _judged(backend: SqliteBackend, timers: int) -> tuple[int, int]:
    """Return how many timers fired before their moment, and how many not once."""
    started: dict[str, int] = {}
    ended: dict[str, list[int]] = {}
    offset = 0
    while records := await backend.log.read("trial", 0, offset, AT_ONCE):
        for record in records:
            if record.event.type == "TrialStarted":
                started[record.event.key] = record.stamp_ms
            elif record.event.type == "TrialEnded":
                ended.setdefault(record.event.key, []).append(record.stamp_ms)
        offset = records[-1].offset + 1
    after_ms = DAYS * 86_400_000
    early = sum(moment < started[key] + after_ms for key, moments in ended.items() for moment in moments)
    return early, timers - sum(len(moments) == 1 for moments in ended.values())


def main(arguments: list[str]) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--timers", type=int, default=TIMERS)
    chosen = parser.parse_args(arguments)
    say(asyncio.run(measure(chosen.timers)), as_json=chosen.json)


if __name__ == "__main__":
    main(sys.argv[1:])
