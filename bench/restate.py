"""Restate beside us in the same run: the same saga on its own server and SDK, by its own script.

The peers are laid out in the folder that `--peers` or CHOREO_BENCH_PEERS names: `venv/`, `bench/restate/bench.py` and
Restate's server in `node_modules/`. Where that is absent, the comparison is skipped with a message.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

VARIABLE = "CHOREO_BENCH_PEERS"
CONFIGURATIONS = (("--workers", "1", "--conc", "100"), ("--workers", "2", "--conc", "200"))
"""Its two best ones of those that were tried: an ASGI server of one process, and of two."""
TUNED = ("--env", "RESTATE_DEFAULT_NUM_PARTITIONS=1")
"""Its default of 24 partitions is made for larger machines: on two cores one carries up to twice as much."""
TIMEOUT_S = 180


def folder_of(argument: str | None) -> Path | None:
    """Return the folder of the peers; None, with a line on stderr, if it is not there."""
    named = argument or os.environ.get(VARIABLE, "")
    if not named:
        sys.stderr.write(f"Restate is skipped: name the folder of the peers by --peers or {VARIABLE}\n")
        return None
    folder = Path(named)
    if not (folder / "bench/restate/bench.py").exists():
        sys.stderr.write(f"Restate is skipped: {folder} holds no bench/restate/bench.py\n")
        return None
    return folder


def run(folder: Path, orders: int, *, tuned: bool) -> dict[str, float]:
    """One round: its best orders a second of the configurations, and what came with it; its client's CPU left out.

    Its clients call by HTTP and are answered at an order's end.
    """
    rounds = [_one(folder, orders, (*configuration, *(TUNED if tuned else ()))) for configuration in CONFIGURATIONS]
    best = max(rounds, key=lambda figures: figures["orders_s"])
    cpu_s = best["cpu_server"] + best["cpu_worker"]
    figures = {name: best[name] for name in ("orders_s", "p50_ms", "p99_ms")}
    return figures | {"cpu_us_an_order": cpu_s / orders * 1e6}


def _one(folder: Path, orders: int, configuration: tuple[str, ...]) -> dict[str, float]:
    command = [
        str(folder / "venv/bin/python"),
        *("bench.py", "--server", "granian", "--n", str(orders), "--lat", "5"),
        *configuration,
    ]
    running = subprocess.Popen(
        command,
        cwd=folder / "bench/restate",
        env={**os.environ, "RESULTS": os.devnull},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said, complaint = running.communicate(timeout=TIMEOUT_S)
    finally:
        # Its application server leaves workers behind, which would hold the port against the next round.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
    lines = [line for line in said.splitlines() if line.startswith("{")]
    if not lines:
        message = f"Restate's benchmark gave no figures:\n{complaint[-2_000:]}"
        raise RuntimeError(message)
    figures: dict[str, float] = json.loads(lines[-1])
    return figures
