"""Planted faults: each patch in tests/planted is applied to a copy of the package, and `verify` finds its fault."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from choreo.testing.verification.moves import budget_of
from choreo.testing.verification.verify import explored
from tests.support.faulty_copy import answer_in, breaks, files_of, patches, planted
from tests.testing.verification.flows import CHILDREN, FLOWS

_TOOL = re.compile(r"^tools: .*\bverify \((?P<flow>\w+) --with (?P<moves>\S+)\)", re.MULTILINE)
_VERIFY = """
import json, sys
import choreo
from choreo.testing.verification.moves import budget_of
from choreo.testing.verification.verify import explored
from tests.testing.verification.flows import CHILDREN, FLOWS
report = explored(FLOWS[sys.argv[1]], (), budget_of(sys.argv[2]), children=CHILDREN)
print(json.dumps([choreo.__file__, report.verdict, report.broken, len(report.timeline)]))
"""


class Fault(NamedTuple):
    """A patch, and the exploration that finds its fault."""

    patch: Path
    flow: str
    moves: str


def faults() -> list[Fault]:
    """Return the planted faults that verify finds, by their headers."""
    found = []
    for patch in patches():
        text = patch.read_text()
        assert breaks(patch)
        assert re.search(r"^tools: \S", text, re.MULTILINE), f"{patch.name} does not name the tools that find it"
        tool = _TOOL.search(text)
        if tool is not None:
            found.append(Fault(patch, tool["flow"], tool["moves"]))
    return found


FAULTS = faults()


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.patch.stem for fault in FAULTS])
def test_a_planted_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    """By the moves in its header, with a timeline."""
    folder = planted(fault.patch, tmp_path)
    verdict, broken, lines = answer_in(folder, "-c", _VERIFY, fault.flow, fault.moves)
    assert (verdict, bool(broken), lines > 0) == ("broken", True, True)


@pytest.mark.parametrize(("flow", "moves"), sorted({(fault.flow, fault.moves) for fault in FAULTS}))
def test_without_the_fault_every_promise_holds(flow: str, moves: str) -> None:
    """The same flow with the same moves, in the package as it is."""
    report = explored(FLOWS[flow], (), budget_of(moves), children=CHILDREN)
    assert (report.verdict, report.broken) == ("holds", "")


def test_there_are_faults_of_core_hosts_and_inbox() -> None:
    """A folder that was moved would leave a test without a case."""
    assert len(FAULTS) >= 24
    assert {"core", "app", "adapters"} <= {name.split("/")[1] for fault in FAULTS for name in files_of(fault.patch)}
