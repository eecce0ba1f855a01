"""How fast flows are simulated: `python -m bench.simulate [--json] [--seeds N]`.

`seeds_s`, `orders_s`: seeds and starts of the order flow a second of CPU time and of real time, all kinds of faults
enabled; `virtual_ratio`: virtual seconds a real one; `turns_s`: callbacks of the simulated processes a second.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from choreo import settings
from choreo.testing.simulation import kinds
from choreo.testing.simulation.hooks import load_hooks
from choreo.testing.simulation.simulate import Simulation
from choreo.testing.simulation.world import Project
from choreo.wiring import definitions_of
from choreo.wiring.flows import load_flows

SEEDS = 200
"""As many as CI runs in at most two minutes."""


def simulation() -> Simulation:
    """Return the simulation of the order flow with every kind of fault."""
    config = settings.load(time_scale=1, tracebacks=False)
    flows = {"order": load_flows(["services.order_flow:order"])["order"]}
    project = Project(flows, definitions_of(flows, config), config)
    return Simulation(project, load_hooks(None, Path(__file__).parents[1]), kinds.chosen([], project.definitions))


def measured(count: int) -> dict[str, float]:
    """Return the figures of so many seeds."""
    simulated = simulation()
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    outcomes = [simulated.run(seed, seed) for seed in range(count)]
    real_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    return {
        "seeds": count,
        "failing": sum(bool(outcome.faults) for outcome in outcomes),
        "real_s": round(real_s, 2),
        "cpu_s": round(cpu_s, 2),
        "seeds_s": round(count / real_s, 2),
        "seeds_cpu_s": round(count / cpu_s, 2),
        "orders_s": round(sum(outcome.runs for outcome in outcomes) / real_s, 2),
        "turns_s": round(sum(outcome.turns for outcome in outcomes) / real_s),
        "virtual_ratio": round(sum(outcome.virtual_s for outcome in outcomes) / real_s),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds to run")
    arguments = parser.parse_args()
    figures = measured(arguments.seeds)
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:14} {value:>14,}")


if __name__ == "__main__":
    main()
