"""Errors of a simulation: user code used something that the simulation cannot own, or nothing is left to happen."""

from __future__ import annotations

from choreo.core.errors import ChoreoError


class SimulationError(ChoreoError):
    """The simulation cannot go on as it was asked to."""


def not_owned(used: str, by: str = "") -> SimulationError:
    """Return the error for a part of the machine that would make a run differ from the next one."""
    return SimulationError(
        f"{used} was used, and a simulation has no threads, sockets or child processes",
        where=by or "code under simulation",
        remedy="Give the code a gateway that answers in memory, or call a plain function, which runs inline.",
    )
