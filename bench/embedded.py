"""The order saga on the embedded log: `python -m bench.embedded [--json] [--peers FOLDER]`.

Orders a second at saturation and the latency of one order at 10 a second, tracker and read model on, in one process
and over several; beside it in the same run a bare SQLite loop (raw.py) and Restate (restate.py). Rounds of all of them
take turns, so that a machine that slows down slows all; medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench import raw, restate
from bench.figures import medians, rounded, say
from bench.flight import LAYOUTS, WARM_UP
from bench.flight_http import HTTP_LAYOUTS, http_flight

SYNCHRONOUS = ("FULL", "NORMAL")


def _flown(synchronous: str, layout: str, chosen: argparse.Namespace) -> dict[str, float]:
    """One round in a fresh process."""
    command = [
        *(sys.executable, "-m", "bench.flight", "--layout", layout, "--synchronous", synchronous),
        *("--orders", str(chosen.orders), "--slow-orders", str(chosen.slow_orders)),
        *("--warm-up", str(chosen.warm_up)),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Every figure."""
    peers = restate.folder_of(chosen.peers)
    rounds: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for _ in range(chosen.rounds):
        for synchronous in SYNCHRONOUS:
            for layout in LAYOUTS:
                flown = _flown(synchronous, layout, chosen)
                rounds[synchronous, layout].append(flown)
            for layout in HTTP_LAYOUTS:
                over_http = http_flight(layout, synchronous, chosen.orders, chosen.slow_orders, chosen.warm_up)
                rounds[synchronous, layout].append(asyncio.run(over_http))
            with tempfile.TemporaryDirectory(prefix="choreo-bench-") as folder:
                bare = raw.orders_s(Path(folder), synchronous, chosen.raw_orders)
            rounds[synchronous, "raw"].append({"orders_s": bare})
        if peers:
            for tuned in (True, False):
                peer = "restate tuned" if tuned else "restate"
                rounds["", peer].append(restate.run(peers, chosen.restate_orders, tuned=tuned))
    found = {name: medians(taken) for name, taken in rounds.items()}
    peer = found.get(("", "restate tuned"))
    return {
        "orders": chosen.orders,
        "rounds": chosen.rounds,
        "cpus": os.cpu_count() or 0,
        **{synchronous: _beside(synchronous, found, peer) for synchronous in SYNCHRONOUS},
        "restate_tuned": peer or "skipped",
        "restate": found.get(("", "restate"), "skipped"),
    }


def _beside(
    synchronous: str, found: dict[tuple[str, str], dict[str, float]], peer: dict[str, float] | None
) -> dict[str, Any]:
    """The figures at one setting: the best layout's, each layout's, and what they are of the others'."""
    layouts = {layout: found[synchronous, layout] for layout in LAYOUTS}
    best = max(layouts, key=lambda layout: layouts[layout]["orders_s"])
    bare = found[synchronous, "raw"]["orders_s"]
    figures: dict[str, Any] = {
        "orders_s": layouts[best]["orders_s"],
        "layout": best,
        "p50_ms": layouts["one"]["p50_ms"],
        "p99_ms": layouts["one"]["p99_ms"],
        **{layout: found[synchronous, layout] for layout in HTTP_LAYOUTS},
        "raw_orders_s": bare,
        "over_raw": rounded(layouts[best]["orders_s"] / bare),
    }
    if peer:
        figures["orders_s_over_restate"] = rounded(layouts[best]["orders_s"] / peer["orders_s"])
        over_http = max(found[synchronous, layout]["orders_s"] for layout in HTTP_LAYOUTS)
        figures["http_orders_s_over_restate"] = rounded(over_http / peer["orders_s"])
        # The load a core can carry: this ratio is valid on a shared machine, too.
        figures["restate_cpu_over_ours"] = rounded(peer["cpu_us_an_order"] / layouts[best]["cpu_us_an_order"])
    return figures | {"processes": layouts}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--peers", help=f"folder of the peers; or set {restate.VARIABLE}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--orders", type=int, default=10_000, help="orders at saturation")
    parser.add_argument("--slow-orders", type=int, default=50, help="orders at 10 a second, for the latency")
    parser.add_argument("--warm-up", type=int, default=WARM_UP, help="orders that are not measured")
    parser.add_argument("--raw-orders", type=int, default=50_000)
    parser.add_argument("--restate-orders", type=int, default=4_000)
    chosen = parser.parse_args()
    say(measure(chosen), as_json=chosen.json)


if __name__ == "__main__":
    main()
