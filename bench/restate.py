"""Restate beside us in the same run: the same saga on its own server and SDK, by its own script.

The peers are laid out in the folder that `--peers` or CHOREO_BENCH_PEERS names: `venv/`, `bench/restate/bench.py` and
Restate's server in `node_modules/`. Where that is absent, the comparison is skipped with a message.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

VARIABLE = "CHOREO_BENCH_PEERS"
CONFIGURATIONS = (("--workers", "1", "--conc", "100"), ("--workers", "2", "--conc", "200"))
"""Its two best ones of those that were tried: an ASGI server of one process, and of two."""
TIMEOUT_S = 180


def folder_of(argument: str | None) -> Path | None:
    """Where the peers are; None if they are not there, which is said on stderr."""
    named = argument or os.environ.get(VARIABLE, "")
    if not named:
        sys.stderr.write(f"Restate is skipped: name the folder of the peers by --peers or {VARIABLE}\n")
        return None
    folder = Path(named)
    if not (folder / "bench/restate/bench.py").exists():
        sys.stderr.write(f"Restate is skipped: {folder} holds no bench/restate/bench.py\n")
        return None
    return folder


def run(folder: Path, orders: int) -> dict[str, float]:
    """One round: its best orders a second of the configurations, and the latencies that came with it."""
    rounds = [_one(folder, orders, configuration) for configuration in CONFIGURATIONS]
    best = max(rounds, key=lambda figures: figures["orders_s"])
    return {name: best[name] for name in ("orders_s", "p50_ms", "p99_ms")}


def _one(folder: Path, orders: int, configuration: tuple[str, ...]) -> dict[str, float]:
    command = [
        str(folder / "venv/bin/python"),
        *("bench.py", "--server", "granian", "--n", str(orders), "--lat", "5"),
        *configuration,
    ]
    done = subprocess.run(
        command,
        cwd=folder / "bench/restate",
        env={**os.environ, "RESULTS": os.devnull},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        message = f"Restate's benchmark gave no figures:\n{done.stderr[-2_000:]}"
        raise RuntimeError(message)
    figures: dict[str, float] = json.loads(lines[-1])
    return figures
