"""A redis-server of the tests' own: started on a free port, stopped, frozen and started again with its data."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.required import absent

MISSING = "redis-server is not installed (Debian: apt-get install redis-server)"


class OwnRedis:
    """A server with an append-only file in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Start with no process."""
        program = shutil.which("redis-server")
        if program is None:
            absent(MISSING)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *settings: str) -> None:
        """Run it, and return when it answers."""
        # On a busy disk `everysec` puts off the write itself, and a server that is killed has lost it.
        keeps = ("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--repl-diskless-sync-delay", "0")
        self._launch_and_wait(*keeps, *settings)

    def start_sentinel(self, name: str, primary: int) -> None:
        """Run it as a sentinel that watches the primary on this port, and promotes a replica within two seconds."""
        config = self._folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor {name} 127.0.0.1 {primary} 1\n"
            f"sentinel down-after-milliseconds {name} 300\nsentinel failover-timeout {name} 2000\n"
        )
        self._launch_and_wait(str(config), "--sentinel")

    def cli(self, *command: str) -> str:
        """Return the answer to one command, as text."""
        program = shutil.which("redis-cli")
        assert program is not None  # beside the server in every package
        done = subprocess.run(
            [program, "-p", str(self.port), *command], capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    def launch(self, *arguments: str) -> None:
        """Run it, and return at once; a configuration file comes first."""
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        config, rest = (arguments[:1], arguments[1:]) if not arguments[0].startswith("--") else ((), arguments)
        # Where util-linux has it: a test run that is killed leaves no server behind.
        guard = [found, "--pdeathsig", "KILL"] if (found := shutil.which("setpriv")) else []
        self._process = subprocess.Popen(
            [*guard, self._program, *config, *where, *rest],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _launch_and_wait(self, *arguments: str) -> None:
        """Run it until it answers: a connection of another process may hold its port for a moment."""
        until_s = time.monotonic() + PATIENCE_S
        self.launch(*arguments)
        while not self._answers():
            if time.monotonic() > until_s:
                pytest.fail(f"redis-server did not answer on port {self.port} within {PATIENCE_S} s")
            if self._process is not None and self._process.poll() is not None:
                self.launch(*arguments)

    @property
    def pid(self) -> int:
        """Return its process; 0 while it is not started."""
        return self._process.pid if self._process else 0

    def stop(self) -> None:
        """Kill it, as a machine that fails would; acknowledged writes are in its file."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Lose its file, while it is stopped."""
        assert self._process is None
        shutil.rmtree(self._folder / "appendonlydir")

    def freeze(self) -> None:
        """Let it hang: it takes connections and commands, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, with all that was sent meanwhile."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        """Return whether it answers PONG or asks for a login; while it still reads its file it answers otherwise."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.1) as line:
                line.sendall(b"PING\r\n")
                return line.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False
