"""A PostgreSQL server of the tests' own: in a temporary folder, as a user without rights, on a free port.

Needs the server's programs (Debian: postgresql). Knows nothing of choreo.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.required import absent, needed

psycopg = needed("psycopg", "postgres")

MISSING = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
USER, PASSWORD, DATABASE = "choreo", "pl4nted-s3cret", "postgres"
_UNPRIVILEGED = ("postgres", "nobody")
"""PostgreSQL refuses to run as root."""
_templates: dict[str, Path] = {}
"""Files of an empty cluster by their owner: to make them takes seconds."""


class OwnPostgres:
    """A server that can be stopped, frozen, started again with its data, emptied, and copied to a standby."""

    def __init__(self) -> None:
        """Create its files; nothing is started yet."""
        self._programs = _programs()
        self._user = next((name for name in _UNPRIVILEGED if _exists(name)), "") if os.getuid() == 0 else ""
        self._folder = Path(tempfile.mkdtemp(prefix="choreo-postgres-"))
        self._data = self._folder / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        if self._user:
            shutil.chown(self._folder, self._user)

    @property
    def url(self) -> str:
        """Return the address of its database, with the password."""
        return self.address(self.port)

    def address(self, port: int, password: str = PASSWORD) -> str:
        """Return the address of its database through another port."""
        return f"postgresql://{USER}:{password}@127.0.0.1:{port}/{DATABASE}"

    def create(self) -> None:
        """Make an empty database cluster: a copy of the first one that this test run has made."""
        template = _templates.get(self._user)
        if template is not None:
            _copied(template, self._data)
            return
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            "initdb", "--auth=scram-sha-256", f"--username={USER}", f"--pwfile={password}", "--encoding=UTF8",
            "--locale=C", "--no-sync", "-D", str(self._data),
        )  # fmt: skip
        kept = Path(tempfile.mkdtemp(prefix="choreo-postgres-template-"))
        atexit.register(shutil.rmtree, kept, ignore_errors=True)
        _copied(self._data, kept / "data")
        _templates[self._user] = kept / "data"

    def copy(self, primary: OwnPostgres) -> None:
        """Make this a standby of a running server, with all its data."""
        self._run("pg_basebackup", "-R", "-c", "fast", "-D", str(self._data), "-d", primary.url)

    def start(self, *settings: str) -> None:
        """Run it, and return when it answers; settings are `name=value`."""
        # A process that is killed loses nothing that the kernel has: only a machine that fails needs fsync.
        chosen = ("fsync=off", "listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories=", *settings)
        options = [part for each in chosen for part in ("-c", each)]
        command = [*self._as_user(), self._programs["postgres"], "-D", str(self._data), *options]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        until_s = time.monotonic() + PATIENCE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until_s:
                pytest.fail(f"PostgreSQL did not start: {(self._folder / 'server.log').read_text()[-1_000:]}")

    def stop(self) -> None:
        """End it at once, as a crash would: acknowledged writes are in its write-ahead log."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGQUIT)
            process.wait()

    def remove(self) -> None:
        """Stop it and delete its files."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def freeze(self) -> None:
        """Let every process of it hang: it takes connections and statements, and answers nothing."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, with all that was sent meanwhile."""
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def query(self, statement: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Return the rows of a statement, none where it has none."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def _pids(self) -> list[int]:
        assert self._process is not None
        found = [self._process.pid]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            if parent == self._process.pid:
                found.append(int(stat.parent.name))
        return found

    def _as_user(self) -> list[str]:
        """Return the command prefix that runs a program as the unprivileged user, and kills it with the test run."""
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            return []
        user = [f"--reuid={self._user}", f"--regid={pwd.getpwnam(self._user).pw_gid}", "--clear-groups"]
        return [setpriv, "--pdeathsig", "KILL", *(user if self._user else [])]

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user(), self._programs[program], *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=self._folder)

    def _answers(self) -> bool:
        try:
            self.query("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def running_postgres() -> Iterator[OwnPostgres]:
    """Yield a server with an empty database, which runs; it is removed at the end."""
    server = OwnPostgres()
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.remove()


def _programs() -> dict[str, str]:
    """Return the server's programs: on the path, or where Debian puts those of a version."""
    places = [*sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True), os.environ.get("PATH", "")]
    found = {}
    for name in ("postgres", "initdb", "pg_basebackup"):
        program = next((at for place in places if (at := shutil.which(name, path=place))), None)
        if program is None:
            absent(MISSING)
        found[name] = program
    return found


def _copied(folder: Path, to: Path) -> None:
    """Copy a folder with its owner and rights."""
    subprocess.run([shutil.which("cp") or "cp", "-a", str(folder), str(to)], check=True, timeout=60)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
