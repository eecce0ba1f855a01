"""A key of 100,000 events and a flow of 64 partitions in the Faust tracker: `python -m bench.kafka_history [--json]`.

As in bench.kafka_million the log is written first and the worker, a process of its own, started after. Of the long key:
events a second of its first 10,000 against its last 10,000. Of the partitions: whole orders over 64 against 8.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from bench.figures import rounded, say
from bench.kafka_harness import FLOW, PARTITIONS, Harness, harness
from bench.kafka_million import lived, log_of, rate
from bench.kafka_raw import pour
from bench.saga import order
from choreo.adapters.kafka.records import message_of
from choreo.core import facts, ids
from choreo.core.events import Envelope

MANY = 64
KEY = "long"


def long_history(events: int) -> Iterator[Envelope]:
    """One run that an operator pauses and resumes so often: each event changes its state."""
    run = ids.start(FLOW, KEY)
    yield Envelope(id=run, type=order.definition.starts, key=KEY, flow=FLOW)
    for number in range(1, events):
        type_ = facts.FLOW_PAUSED if number % 2 else facts.FLOW_RESUMED
        yield Envelope(ids.of_run("pause", run, number), type_, KEY, FLOW, run=run, source="choreo/bench", n=number)


def long_key(servers: Harness, events: int, part: int) -> dict[str, float]:
    """Return the events a second at the beginning and at the end of a key's history."""
    prefix = servers.own("history")
    servers.prepare(prefix)
    pour(servers, prefix + FLOW, (message_of(event) for event in long_history(events)))
    _, first, young, before, old = lived(servers, prefix, part, events - part, events)
    return {"young_events_s": rate(first, young), "old_events_s": rate(before, old)}


def many_partitions(servers: Harness, orders: int, partitions: int) -> float:
    """Return the events a second of whole orders in a flow of so many partitions."""
    declared = servers.folder / "topics" / f"{FLOW}.yaml"
    text = declared.read_text(encoding="utf-8")
    declared.write_text(text.replace(f"partitions: {PARTITIONS}\n", f"partitions: {partitions}\n"), encoding="utf-8")
    prefix = servers.own(f"over-{partitions}")
    servers.prepare(prefix)
    declared.write_text(text, encoding="utf-8")
    events = list(log_of("o", orders))
    pour(servers, prefix + FLOW, map(message_of, events))
    _, first, last = lived(servers, prefix, len(events))
    return rate(first, last)


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return every figure."""
    with harness(chosen.bootstrap) as servers:
        key = long_key(servers, chosen.events, min(10_000, chosen.events // 4))
        few, many = (many_partitions(servers, chosen.orders, number) for number in (PARTITIONS, MANY))
    return {
        "events_of_the_key": chosen.events,
        **{name: rounded(value) for name, value in key.items()},
        "old_over_young": rounded(key["old_events_s"] / key["young_events_s"]),
        f"events_s_over_{PARTITIONS}_partitions": rounded(few),
        f"events_s_over_{MANY}_partitions": rounded(many),
        "many_over_few": rounded(many / few),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--bootstrap", default="", help="a broker that is there; one is started otherwise")
    parser.add_argument("--events", type=int, default=100_000, help="of the one key")
    parser.add_argument("--orders", type=int, default=5_000, help="whole orders over few and over many partitions")
    chosen = parser.parse_args()
    say(measure(chosen), as_json=chosen.json)


if __name__ == "__main__":
    main()
