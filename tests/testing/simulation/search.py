"""Run seeds of a project until one breaks a promise, from the root of the repository.

python -m tests.testing.simulation.search PROJECT FAULTS FIRST COUNT

`FAULTS`: the kinds of faults, separated by commas; "" for all. Prints JSON: the place of the package, the seed (0: none
of these breaks a promise), the broken promises.
"""

from __future__ import annotations

import json
import sys
import warnings

import choreo
from tests.testing.simulation.projects import PROJECTS


def found(project: str, faults: str, seeds: range) -> tuple[int, list[str]]:
    """Return the first of these seeds that breaks a promise, and the sentences; 0 where none does."""
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    simulation = PROJECTS[project](faults)
    for seed in seeds:
        outcome = simulation.run(seed, seed)
        if outcome.faults:
            return seed, outcome.faults
    return 0, []


if __name__ == "__main__":
    project, faults, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    sys.stdout.write(json.dumps([choreo.__file__, *found(project, faults, range(first, first + count))]))
