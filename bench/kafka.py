"""The order saga on Kafka: `python -m bench.kafka [--json] [--peers FOLDER] [--bootstrap HOST:PORT]`.

On one broker and one Redis, one after the other: bare confluent-kafka loops for the same chain (kafka_raw.py);
choreo's step host beside a bare loop that decodes, validates, encodes and commits the same (kafka_alone.py); Restate
(restate.py) and choreo's chain with tracker and projector, a process a role (kafka_chain.py), in turn; the Faust
tracker alone over the log that the chain has left. Needs redis-server, and Java (Maven once) unless a broker is named.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from bench import restate
from bench.figures import medians, rounded, say
from bench.kafka_alone import steps_beside
from bench.kafka_harness import Harness, harness
from bench.kafka_raw import chain_figures


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Every figure."""
    peers = restate.folder_of(chosen.peers)
    with harness(chosen.bootstrap) as servers:
        # First, for it also warms the broker: what the JVM compiles meanwhile would be counted as its cost.
        bare = chain_figures(servers, chosen.raw_orders, chosen.slow_orders)
        steps = steps_beside(servers, chosen.step_events)
        chain, peer_rounds = [], []
        for number in range(chosen.rounds):
            if peers:
                peer_rounds.append(restate.run(peers, chosen.restate_orders, tuned=True))
            chain.append(_chain(servers, servers.own(f"chain{number}"), chosen))
        tracker = servers.figures(servers.own("replay"), "bench.kafka_alone", "replay", servers.own("chain0"))
    figures = medians(chain)
    peer = medians(peer_rounds) if peer_rounds else None
    return {
        "orders": chosen.orders,
        "rounds": chosen.rounds,
        "cpus": os.cpu_count() or 0,
        "chain": _shown(figures, bare, peer),
        "raw": {name: rounded(value) for name, value in bare.items()},
        "step": {
            **{name: {what: rounded(value) for what, value in one.items()} for name, one in steps.items()},
            "over_bare": rounded(steps["choreo"]["events_s"] / steps["bare"]["events_s"]),
            "cpu_over_bare": rounded(steps["choreo"]["cpu_us"] / steps["bare"]["cpu_us"]),
        },
        "tracker": {name: rounded(value) for name, value in tracker.items()},
        "restate": peer or "skipped",
    }


def _chain(servers: Harness, prefix: str, chosen: argparse.Namespace) -> dict[str, float]:
    """One round on topics of its own."""
    servers.prepare(prefix)
    sizes = ("--orders", str(chosen.orders), "--slow-orders", str(chosen.slow_orders))
    warm = ("--warm-up", str(chosen.warm_up), "--servers", json.dumps(servers.servers))
    return servers.figures(prefix, "bench.kafka_chain", *sizes, *warm)


def _shown(figures: dict[str, float], bare: dict[str, float], peer: dict[str, float] | None) -> dict[str, Any]:
    """The chain's figures: CPU time an order by process apart, and what they are of the others'."""
    named = {name: value for name, value in figures.items() if not name.startswith("cpu_ms.")}
    shown: dict[str, Any] = {**named, "over_raw": rounded(figures["orders_s"] / bare["orders_s"])}
    if peer:
        shown["orders_s_over_restate"] = rounded(figures["orders_s"] / peer["orders_s"])
        ours_us = (figures["cpu_ms"] - figures["cpu_ms.client"]) * 1_000
        # The load a core can carry: this ratio is valid on a shared machine, too. Clients are left out of both.
        shown["restate_cpu_over_ours"] = rounded(peer["cpu_us_an_order"] / ours_us)
    by_process = {name.removeprefix("cpu_ms."): value for name, value in figures.items() if name.startswith("cpu_ms.")}
    return {**shown, "cpu_ms_an_order_by_process": by_process}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--bootstrap", default="", help="a broker that is there; one is started otherwise")
    parser.add_argument("--peers", help=f"folder of the peers; or set {restate.VARIABLE}")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--orders", type=int, default=8_000, help="orders at saturation")
    parser.add_argument("--slow-orders", type=int, default=60, help="orders at 10 a second, for the latency")
    parser.add_argument("--warm-up", type=int, default=500, help="orders that are not measured")
    parser.add_argument("--raw-orders", type=int, default=40_000)
    parser.add_argument("--step-events", type=int, default=20_000)
    parser.add_argument("--restate-orders", type=int, default=4_000)
    chosen = parser.parse_args()
    say(measure(chosen), as_json=chosen.json)


if __name__ == "__main__":
    main()
