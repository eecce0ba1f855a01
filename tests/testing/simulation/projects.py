"""The projects on which the simulator is tried: planted faults are looked for here, and nothing else may be found."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from choreo.settings import load
from choreo.testing import EndedRun, Hooks
from choreo.testing.simulation import kinds
from choreo.testing.simulation.hooks import load_hooks
from choreo.testing.simulation.simulate import Simulation
from choreo.testing.simulation.world import Project
from choreo.wiring import definitions_of
from choreo.wiring.flows import load_flows
from tests.support import changing

ROOT = Path(__file__).parents[3]


def _of(specs: list[str], faults: str) -> Simulation:
    """Return declared flows, with their frozen versions and the hooks of the repository."""
    config = load(time_scale=1, tracebacks=False)
    flows = load_flows(specs)
    project = Project(flows, definitions_of(flows, config), config)
    enabled = kinds.chosen(faults.split(","), project.definitions)
    return Simulation(project, load_hooks(ROOT / "simulation.py", ROOT), enabled)


def order(faults: str = "") -> Simulation:
    """Return the reference flow."""
    return _of(["services.order_flow:order"], faults)


def trip(faults: str = "") -> Simulation:
    """Return the second reference flow, with its child flow and the bridge between them."""
    return _of(["services.travel.trip_flow:trip", "services.travel.ticket_flow:ticket"], faults)


def both(faults: str = "") -> Simulation:
    """Return all flows of the repository in one project."""
    specs = ("services.order_flow:order", "services.travel.trip_flow:trip", "services.travel.ticket_flow:ticket")
    return _of([*specs], faults)


def versions(faults: str = "") -> Simulation:
    """Return a flow with runs of its first version in flight; without other faults each run completes."""
    schemas = Path(tempfile.mkdtemp(prefix="choreo-versions-"))
    atexit.register(shutil.rmtree, schemas, ignore_errors=True)
    changing.Project(1).freeze(schemas)
    changing.Project(2).freeze(schemas)
    config = load(flows=(changing.FLOW,), schemas=schemas, time_scale=1, tracebacks=False)
    flows = load_flows([changing.FLOW])
    project = Project(flows, definitions_of(flows, config), config)
    enabled = kinds.chosen(faults.split(","), project.definitions)
    hooks = Hooks()
    if enabled == [kinds.OLD_VERSION]:

        @hooks.after
        def all_complete(runs: list[EndedRun]) -> list[str]:
            return [f"{run.key} is {run.status}" for run in runs if run.status != "completed"]

    return Simulation(project, hooks, enabled)


PROJECTS: Mapping[str, Callable[[str], Simulation]] = {"order": order, "trip": trip, "both": both, "versions": versions}
"""By name: makes the simulation with these kinds of faults, all with ""."""
