"""Measure the cost of an event for a key with a long history: `python -m bench.key_history [--json] [--events N]`.

One key's events are folded one by one as a tracker does that writes after each: decode, react, encode. For each kind of
long history: microseconds an event at the beginning and at the end, their ratio, and the bytes of the state at both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice

from choreo.core import facts, ids
from choreo.core.definition import FlowDefinition, StepDefinition, WaitDefinition
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.state import KeyState, decode, encode

EVENTS = 100_000
WARM = 4_000
"""Events before the first sample: every bounded memory is full, and Python has met every path."""
SAMPLE = 2_000


def _step(name: str, on: str, *emits: str) -> StepDefinition:
    return StepDefinition(name, "poll", on, emits, (), 30_000, 3_600_000, effect=False)


FLOW = FlowDefinition(
    name="poll",
    key="id",
    starts="Opened",
    completes="Closed",
    steps=(
        _step("poll.ask", "Opened", "Asked"),
        _step("poll.count", "Asked", "Counted"),
        _step("poll.again", "Counted", "Asked", "Closed"),
        _step("poll.invite", "Opened", "Invited"),
        _step("poll.hear", "Voted", "Invited"),
    ),
    waits=(WaitDefinition("wait.Voted", on="Invited", until="Voted", timeout_ms=3_600_000, fails="NotVoted"),),
    deadline_ms=0,
    hops_max=10 * EVENTS,
)
"""Two cycles: one of steps that may return several events, one through a wait."""
RUN = ids.start("poll", "k")


def loop() -> Iterator[Envelope]:
    """A run that comes round and round: each lap two outcomes."""
    trigger, hops = RUN, 0
    step, type_ = "poll.ask", "Asked"
    while True:
        id_ = ids.outcome(trigger, step)
        yield _event(type_, id_, step=step, causation=trigger, hops=hops)
        trigger, hops = id_, hops + 1
        step, type_ = ("poll.count", "Counted") if type_ == "Asked" else ("poll.again", "Asked")


def waits() -> Iterator[Envelope]:
    """A run that waits again and again: each lap an event from outside, and an outcome that opens the next wait."""
    trigger, hops = RUN, 0
    step = "poll.invite"
    for voted in foreign():
        yield _event("Invited", ids.outcome(trigger, step), step=step, causation=trigger, hops=hops)
        yield voted
        trigger, hops, step = ids.of_source(voted.source, voted.id, "k"), hops + 2, "poll.hear"


def foreign() -> Iterator[Envelope]:
    """Events from outside, of one type, each with its own id and no run."""
    number = 0
    while True:
        number += 1
        yield Envelope(f"v-{number}", "Voted", "k", "poll", source="elsewhere")


def pauses() -> Iterator[Envelope]:
    """An operator who pauses and resumes."""
    number = 0
    while True:
        number += 1
        type_ = facts.FLOW_PAUSED if number % 2 else facts.FLOW_RESUMED
        yield _event(type_, ids.of_run("pause", RUN, number), n=number)


def _event(type_: str, id_: str, **fields: object) -> Envelope:
    return Envelope(id_, type_, "k", "poll", run=RUN, source="choreo/bench", **fields)  # type: ignore[arg-type]


KINDS: dict[str, Callable[[], Iterator[Envelope]]] = {
    "loop": loop,
    "waits": waits,
    "foreign": foreign,
    "pauses": pauses,
}


def measure(kind: str, events: int) -> dict[str, float]:
    """Fold one key's history and return its figures."""
    table, stored = FlowTable(FLOW), encode(KeyState())
    start = Envelope(RUN, "Opened", "k", "poll", source="choreo/bench")
    costs: list[float] = []
    sizes: list[int] = []
    for offset, event in enumerate([start, *islice(KINDS[kind](), events)]):
        record = Record("poll", 0, offset, 1_767_225_600_000 + offset, event)
        begun = time.perf_counter()
        state, _ = react(table, decode(stored), record)
        stored = encode(state)
        costs.append(time.perf_counter() - begun)
        sizes.append(len(stored))
    young, old = (statistics.median(part) * 1e6 for part in (costs[WARM : WARM + SAMPLE], costs[-SAMPLE:]))
    return {
        f"{kind}_young_us": round(young, 1),
        f"{kind}_old_us": round(old, 1),
        f"{kind}_ratio": round(old / young, 2),
        f"{kind}_young_bytes": sizes[WARM],
        f"{kind}_old_bytes": sizes[-1],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--events", type=int, default=EVENTS)
    given = parser.parse_args()
    found: dict[str, float] = {}
    for kind in KINDS:
        found |= measure(kind, given.events)
    if given.json:
        json.dump(found, sys.stdout)
        return
    for name, value in found.items():
        print(f"{name:24} {value:>10}")


if __name__ == "__main__":
    main()
