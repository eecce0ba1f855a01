"""Functions for the numbers of every benchmark: medians, percentiles, CPU time of processes, and printing."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that at least this share of the values does not exceed; nan of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("nan")


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure over the rounds."""
    return {name: rounded(statistics.median(one[name] for one in rounds)) for name in rounds[0]}


def rounded(value: float) -> float:
    """Three digits after the point below a hundred, none from there on: more is noise."""
    return round(value, 3) if abs(value) < 100 else float(round(value))


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used; nan where there is no /proc."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return float("nan")
    user, system = stat.read_text(encoding="ascii").rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def say(figures: Mapping[str, Any], *, as_json: bool) -> None:
    """Print them: one JSON document, or a line for each figure."""
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        sys.stdout.writelines(_lines(figures, ""))


def _lines(figures: Mapping[str, Any], indent: str) -> Iterable[str]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}\n"
            yield from _lines(value, indent + "  ")
        else:
            shown = f"{value:,}" if isinstance(value, int | float) else str(value)
            yield f"{indent}{name:<{34 - len(indent)}} {shown:>14}\n"
