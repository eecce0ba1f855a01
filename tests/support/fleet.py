"""The real processes of the reference flow, as they are deployed: started, killed without warning, started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("inventory", "payment", "shipping", "notification")
TRACKER = "tracker"
FLOWS = "services.order_flow:order"
"""The flows of a fleet that names no others."""
EVERYTHING = "dev"
"""The role of a process that runs all of them."""
ROLES = (*SERVICES, TRACKER, TRACKER)

_STOP_WITHIN_S = 120


@dataclass
class Worker:
    """A running process, and the file of its output."""

    role: str
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def consumer(self) -> str:
        """Return the prefix of its consumers' names in their groups."""
        return f"{self.role}-{self.process.pid}-"

    @property
    def last_words(self) -> str:
        """Return the end of its output."""
        return self.output.read_text(errors="replace")[-1_500:]


class Fleet:
    """One process for each service, two for the tracker."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Start with no process."""
        self.workers: list[Worker] = []
        self._folder = folder
        self._environment = {"CHOREO_FLOWS": FLOWS, **os.environ, **environment, "PYTHONFAULTHANDLER": "1"}
        self._started = 0

    def start(self, role: str, **settings: str) -> Worker:
        """Start one more process of this role; `settings` are added to its environment."""
        self._started += 1
        # Where util-linux has it: a test run that is killed leaves no process behind.
        guard = [found, "--pdeathsig", "KILL"] if (found := shutil.which("setpriv")) else []
        output = self._folder / f"{self._started:03}-{role}.log"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [*guard, sys.executable, "-m", "choreo", *(["run"] if role != EVERYTHING else []), role],
                cwd=ROOT,
                env={**self._environment, **settings},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        worker = Worker(role, process, output)
        self.workers.append(worker)
        return worker

    def freeze(self, worker: Worker) -> None:
        """Let it do nothing until `thaw` or `kill`."""
        worker.process.send_signal(signal.SIGSTOP)

    def thaw(self, worker: Worker) -> None:
        """Let it go on as if nothing had been."""
        worker.process.send_signal(signal.SIGCONT)

    def kill(self, worker: Worker) -> None:
        """End it as a power cut would; when this returns, it is gone."""
        worker.process.kill()
        worker.process.wait()
        self.workers.remove(worker)

    def died(self) -> list[str]:
        """Return the processes that ended unasked, each with its last lines."""
        return [
            f"{worker.role} ended by itself with {worker.process.returncode}: {worker.last_words}"
            for worker in self.workers
            if worker.process.poll() is not None
        ]

    def stop(self, roles: tuple[str, ...]) -> list[str]:
        """Ask these to drain and end; return those that did not, and why."""
        return self.stop_all([worker for worker in self.workers if worker.role in roles])

    def stop_all(self, stopping: Sequence[Worker]) -> list[str]:
        """Return the same for these."""
        for worker in stopping:
            worker.process.send_signal(signal.SIGTERM)
        refused = []
        for worker in stopping:
            try:
                code = worker.process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                code = None
                worker.process.send_signal(signal.SIGABRT)  # it writes where each of its threads is
                worker.process.wait()
            # One that is asked before it can listen to signals ends at once, and has said nothing.
            if code != 0 and not (code == -signal.SIGTERM and not worker.last_words):
                refused.append(f"{worker.role} was asked to stop and ended with {code}: {worker.last_words}")
            else:
                self.workers.remove(worker)
        return refused

    def kill_all(self) -> None:
        """Leave nothing behind in any case."""
        for worker in list(self.workers):
            self.kill(worker)
