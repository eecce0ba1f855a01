"""The projects on which the simulator is tried: planted faults are looked for here, and nothing else may be found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from choreo.settings import load
from choreo.testing.simulation import kinds
from choreo.testing.simulation.hooks import load_hooks
from choreo.testing.simulation.simulate import Simulation
from choreo.testing.simulation.world import Project
from choreo.wiring import definitions_of
from choreo.wiring.flows import load_flows

ROOT = Path(__file__).parents[3]


def order(faults: str = "") -> Simulation:
    """Return the reference flow, with the hooks of the repository."""
    config = load(time_scale=1, tracebacks=False)
    flows = load_flows(["services.order_flow:order"])
    project = Project(flows, definitions_of(flows, config), config)
    enabled = kinds.chosen(faults.split(","), project.definitions)
    return Simulation(project, load_hooks(ROOT / "simulation.py", ROOT), enabled)


PROJECTS: Mapping[str, Callable[[str], Simulation]] = {"order": order}
"""By name: makes the simulation with these kinds of faults, all with ""."""
