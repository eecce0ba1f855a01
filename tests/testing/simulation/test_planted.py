"""Planted faults of hosts and adapters: each is found at the seed that tests/planted/seeds.csv names.

The unplanted package keeps every promise on the same seeds. Where a change of the code has moved the schedules, a few
seeds more are tried; `python -m tests.testing.simulation.survey` writes the table anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.faulty_copy import PLANTED, answer_in, patches, planted
from tests.testing.detection import PAGE, page
from tests.testing.simulation.projects import PROJECTS
from tests.testing.simulation.search import found
from tests.testing.simulation.survey import Row, known_rows, wanted_rows

MORE = 40
"""Seeds that are tried from the known one on: as many as most faults need from the first seed."""
ROWS = known_rows()


@pytest.mark.parametrize("row", ROWS, ids=[row.fault for row in ROWS])
def test_a_planted_fault_breaks_a_promise(row: Row, tmp_path: Path) -> None:
    """At the known seed, or soon after it."""
    folder = planted(PLANTED / f"{row.fault}.diff", tmp_path)
    words = ("-m", "tests.testing.simulation.search", row.project, row.faults, str(row.seed), str(MORE))
    seed, broken = answer_in(folder, *words)
    assert seed, f"{row.fault} is not found from seed {row.seed} on"
    assert broken


@pytest.mark.parametrize(("project", "faults"), sorted({(row.project, row.faults) for row in ROWS}))
def test_without_a_fault_no_promise_is_broken(project: str, faults: str) -> None:
    """On the same seeds."""
    for seed in sorted({row.seed for row in ROWS if (row.project, row.faults) == (project, faults)}):
        assert found(project, faults, range(seed, seed + 1)) == (0, [])


def test_the_table_has_every_fault_that_the_simulator_is_to_find() -> None:
    """Neither fewer nor more, with the projects of the patches' headers."""
    assert [(row.fault, row.project, row.faults) for row in ROWS] == [
        (row.fault, row.project, row.faults) for row in wanted_rows()
    ]


def test_the_page_has_the_table() -> None:
    """Written by the survey."""
    assert PAGE.read_text() == page({row.fault: row.seed for row in ROWS})


def test_there_are_forty_planted_faults() -> None:
    """Over all tools."""
    assert len(patches()) >= 40


def test_a_dead_letter_survives_a_death_between_it_and_its_outcome() -> None:
    """It was lost: a sibling's failure had stopped the run, and the next owner of the partition found the outcome."""
    assert found("trip", "", range(93, 94)) == (0, [])


@pytest.mark.parametrize(
    ("project", "seed", "index"),
    [("order", 20_073, 73), ("order", 21_997, 197), ("order", 22_766, 166), ("trip", 31_055, 55)],
)
def test_a_service_with_a_lost_inbox_reads_its_gates_again(project: str, seed: int, index: int) -> None:
    """It waited for an idle poll after each refused commit, while its results and leases stood still."""
    assert PROJECTS[project]("").run(seed, index).faults == []
