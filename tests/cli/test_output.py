"""How answers are printed: for people on a terminal, for programs in a pipe."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from choreo.cli.failures import PIPE_CLOSED
from choreo.cli.output import plain

CHOREO = [sys.executable, "-m", "choreo"]


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """Return the bytes that a terminal gets, as text."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*CHOREO, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment},
    )
    os.close(theirs)
    sent = b""
    try:
        while chunk := os.read(ours, 4_096):
            sent += chunk
    except OSError:  # how Linux reports that the other end was closed
        os.close(ours)
    assert process.wait() == 0
    return sent.decode()


def test_a_terminal_gets_colours_unless_it_wants_none(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR is respected."""
    desk.opened("t-1")
    desk("pause", "t-1")
    desk.fold()
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = on_a_terminal("list")
    assert "\x1b[33m" in coloured
    assert "\x1b[33m" not in on_a_terminal("list", NO_COLOR="1")
    assert "paused" in coloured


def test_a_reader_that_leaves_ends_it_quietly(desk: Any) -> None:
    """`choreo … | head` is no failure that needs a traceback."""

    async def many(app: Any) -> None:
        for number in range(200):
            await app.publisher.publish("desk", {"ticket_id": f"t-{number}"}, type_="TicketOpened")

    desk.within(many)
    process = subprocess.Popen(
        [*CHOREO, "tail", "--from", "start", "--no-follow", "-o", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pipesize=4_096,  # it is not done before the reader has left
    )
    assert process.stdout
    assert process.stderr
    assert json.loads(process.stdout.readline())["type"] == "TicketOpened"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == PIPE_CLOSED


def test_a_stdout_of_few_characters_gets_the_others_as_escapes(desk: Any, tmp_path: Path) -> None:
    """A key in Greek does not end a program that writes to an ASCII pipe."""
    assert tmp_path == desk.folder
    desk("publish", "desk", "TicketOpened", "--key", "λ-1")
    called = subprocess.run(
        [*CHOREO, "tail", "--from", "start", "--no-follow"],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert rb"\u03bb-1" in called.stdout


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\nb", r"a\nb"), ("\x1b[31m", r"\x1b[31m"), ("\u202eabc", r"\u202eabc"), ("λ ü 漢", "λ ü 漢"), (7, "7")],
)
def test_control_characters_are_shown_not_sent(text: object, shown: str) -> None:
    """Letters of every script pass; control characters of a terminal do not."""
    assert plain(text) == shown
