"""The table of planted faults that the simulator finds, and the tool that measures it anew.

python -m tests.testing.simulation.survey [FAULT …] searches from seed 1 on, and writes tests/planted/seeds.csv and
docs/detection.md.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.support.faulty_copy import PLANTED, environment, patches, planted
from tests.testing.detection import PAGE, page

TABLE = PLANTED / "seeds.csv"
SEEDS_MAX = 2_000
COLUMNS = ("fault", "project", "faults", "seed", "broken")
_TOOL = re.compile(r"^tools: .*\bsimulate \((?P<project>\w+)(?: --faults (?P<faults>[\w,-]+))?\)", re.MULTILINE)


class Row(NamedTuple):
    """A fault, where it is looked for, and the first seed that finds it: so many seeds are needed from 1 on."""

    fault: str
    project: str
    faults: str
    seed: int
    broken: str
    """The first sentence that the simulator says."""


def known_rows() -> list[Row]:
    """Return the rows of the table."""
    with TABLE.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [Row(fault, project, faults, int(seed), broken) for fault, project, faults, seed, broken in rows]


def wanted_rows() -> list[Row]:
    """Return a row without a seed for each patch whose header names the simulator."""
    found = ((patch, _TOOL.search(patch.read_text())) for patch in patches())
    return [Row(patch.stem, tool["project"], tool["faults"] or "", 0, "") for patch, tool in found if tool]


def measured(row: Row) -> Row:
    """Return the row with the first seed that finds its fault. Raises LookupError where none does."""
    with tempfile.TemporaryDirectory() as name:
        folder = planted(PLANTED / f"{row.fault}.diff", Path(name))
        answer = subprocess.run(
            [sys.executable, "-m", "tests.testing.simulation.search", row.project, row.faults, "1", str(SEEDS_MAX)],
            cwd=folder,
            env=environment(folder),
            capture_output=True,
            text=True,
            check=True,
        )
    _, seed, broken = json.loads(answer.stdout)
    if not seed:
        message = f"{row.fault} is not found in {SEEDS_MAX} seeds"
        raise LookupError(message)
    return row._replace(seed=seed, broken=_general(broken[0]))


def _general(sentence: str) -> str:
    """Return the sentence without the ids of runs."""
    return re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b", "…", sentence)


def main(names: list[str]) -> None:
    """Measure these faults, or those that the table lacks, and write the table."""
    known = {row.fault: row for row in known_rows()} if TABLE.exists() else {}
    for row in wanted_rows():
        before = known.get(row.fault)
        if row.fault in names or before is None or before[1:3] != row[1:3]:
            known[row.fault] = measured(row)
            sys.stderr.write(f"{known[row.fault]}\n")
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(known[row.fault] for row in wanted_rows())
    PAGE.write_text(page({row.fault: row.seed for row in known_rows()}))


if __name__ == "__main__":
    main(sys.argv[1:])
