"""`choreo run`: the parts of a project in processes of their own."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from choreo.cli.failures import INTERRUPTED
from choreo.cli.running import OPEN_FILES_MAX


def started(*arguments: str, soft_limit: int = 0) -> subprocess.Popen[str]:
    """Start a process that writes its role to stderr; with a soft limit of open files, if one is given."""
    command = [sys.executable, "-m", "choreo", "run", *arguments]
    if soft_limit:
        command = ["/bin/sh", "-c", f'ulimit -S -n {soft_limit}; exec "$@"', "sh", *command]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    assert "running" in process.stderr.readline()
    return process


def wait_for(type_: str) -> None:
    """Return when such an event stands in the log."""
    called = [sys.executable, "-m", "choreo", "tail", "--from", "start", "--type", type_, "-o", "json"]
    with subprocess.Popen(called, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as following:
        assert following.stdout
        assert json.loads(following.stdout.readline())["type"] == type_
        following.send_signal(signal.SIGINT)
    assert following.returncode == INTERRUPTED


@pytest.fixture
def parts(desk: Any) -> Iterator[Any]:
    """Yield both services and the tracker, each in its own process."""
    assert str(desk.folder) in os.environ["CHOREO_DATABASE"]
    processes = [started(role, "--log-level", "error") for role in ("seats", "archive", "tracker")]
    yield desk
    for process in processes:
        process.send_signal(signal.SIGTERM)
    told = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], told
    assert all(text.startswith("stopping:") and text.count("\n") == 1 for text in told), told


def test_processes_on_one_file_carry_an_instance_to_its_end(parts: Any) -> None:
    """They share nothing but the log; SIGTERM ends each in order, with exit code 0."""
    assert parts("publish", "desk", "TicketOpened", "--key", "t-1").code == 0
    wait_for("SeatTaken")
    assert parts("publish", "desk", "TicketClosed", "--key", "t-1").code == 0
    assert parts("show", "t-1", "--watch").code == 0
    shown = parts("show", "t-1", "-o", "json").json
    assert shown["status"] == "completed"
    assert [row["type"] for row in shown["timeline"] if row["kind"] == "done"] == ["SeatTaken", "TicketFiled"]


def test_one_process_may_have_several_roles(desk: Any) -> None:
    """Both services and the tracker; a role that is named twice runs once."""
    assert desk("publish", "desk", "TicketOpened", "--key", "t-1").code == 0
    process = started("seats", "archive", "tracker", "seats", "--log-level", "error")
    wait_for("SeatTaken")
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[1].startswith("stopping:")
    assert process.returncode == 0


def test_a_process_may_open_as_many_files_as_the_machine_lets_it(desk: Any) -> None:
    """The soft limit that a login shell gives is raised to the hard one: fifty flows need more than 1,024."""
    assert desk.folder
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    process = started("seats", soft_limit=128)
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max open files"))
    assert int(line.split()[3]) == min(hard, OPEN_FILES_MAX)


def test_a_process_is_stopped_by_control_c_too(desk: Any) -> None:
    """The first signal drains."""
    assert desk.folder.is_dir()
    process = started("tracker")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("role", ["seats", "tracker", "projector"])
def test_a_part_that_cannot_join_its_group_ends_and_says_why(desk: Any, role: str) -> None:
    """It does not wait for its own end: its supervisor can start it again, or read the error."""
    assert desk.folder.is_dir()
    # A wrong setting needs no broker to be refused.
    wrong = {
        **os.environ,
        "CHOREO_KAFKA": "localhost:9",
        "CHOREO_REDIS": "redis://localhost:9",
        "CHOREO_KAFKA_PORT": "1",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "choreo", "run", role],
        env=wrong, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert 'No such configuration property: "port"' in ended.stderr


def test_a_project_without_crossing_events_needs_no_bridge(desk: Any) -> None:
    """Its sentence says how to declare one."""
    ended = desk("run", "bridge")
    assert ended.code == 2
    assert "no flow of this project has anything for another one's log" in ended.err
    assert "flow.carries(Event, to=other)" in ended.err
