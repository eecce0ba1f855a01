"""`CHOREO_LOG=json`: the lines of real processes carry the ids of the run that they are about, and no secret."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from choreo.app.log_context import about
from choreo.cli.log_ids import Ids
from choreo.cli.log_json import JsonLines
from choreo.core import trace_ids
from choreo.core.events import Envelope
from choreo.redaction import redact

DESK = Path(__file__).parent / "desk"
HANDLER = "return SeatTaken(ticket_id=event.ticket_id)"
FAILING = """
    import logging
    logging.getLogger("shop").warning("looks for a seat", extra={"row": 7})
    raise RuntimeError("no seat: redis://ada:pa55w0rd-hunter2@seats/0")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the small project with a handler that logs and fails, as the current folder."""
    folder = shutil.copytree(DESK, tmp_path / "desk", ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "desk_flow.py"
    text = module.read_text()
    assert HANDLER in text
    module.write_text(text.replace(HANDLER, FAILING.strip()))
    monkeypatch.chdir(folder)
    return folder


def lines(*command: str, **settings: str) -> Iterator[dict[str, Any]]:
    """Start choreo with JSON lines, publish a ticket, and yield each line on stderr; SIGTERM ends the process.

    Its stderr is closed by then: a process whose reader has gone must stop all the same.
    """
    environment = os.environ | {"CHOREO_LOG": "json"} | settings
    choreo = (sys.executable, "-m", "choreo")
    called = (*choreo, "publish", "desk", "TicketOpened", "--key", "t-1")
    with subprocess.Popen((*choreo, *command), stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr
        subprocess.run(called, check=True, capture_output=True)
        try:
            for line in process.stderr:
                if line.startswith("{"):
                    yield json.loads(line)
        finally:
            process.stderr.close()
            process.send_signal(signal.SIGTERM)


def first(found: Iterator[dict[str, Any]], logger: str) -> dict[str, Any]:
    """Return the first line of this logger."""
    line = next(line for line in found if line["logger"] == logger)
    found.close()  # type: ignore[attr-defined]
    return line


@pytest.mark.parametrize("command", [("run", "seats"), ("dev", "--no-rest"), ("dev", "--no-rest", "--reload")])
def test_the_line_of_a_failing_handler_names_its_run(project: Path, command: tuple[str, ...]) -> None:
    """A process of one role, of all roles, and a process that another one starts; the secret is masked."""
    line = first(lines(*command), "choreo.failures")
    run = line["run"]
    assert project.is_dir()
    assert {name: line[name] for name in ("level", "flow", "role", "key", "step", "attempt")} == {
        "level": "WARNING", "flow": "desk", "role": "seats", "key": "t-1", "step": "seats.take", "attempt": 1,
    }  # fmt: skip
    assert line["trace_id"] == trace_ids.trace_id(run)
    assert "RuntimeError" in line["message"]
    assert "hunter2" not in json.dumps(line)


def test_a_handlers_own_line_names_its_run(project: Path) -> None:
    """Also a field that the handler gives; keys are masked where they may not be written."""
    line = first(lines("run", "seats", CHOREO_LOG_KEYS="0"), "shop")
    assert project.is_dir()
    assert (line["message"], line["row"], line["flow"], line["key"]) == ("looks for a seat", 7, "desk", "***")
    assert line["trace_id"] == trace_ids.trace_id(line["run"])


def test_a_masked_key_does_not_stand_in_the_message() -> None:
    """The line of a failed attempt names the key in its text, too."""
    event = Envelope("e", "Placed", "ada@example.org", "order", run="r")
    record = logging.LogRecord("choreo.failures", 30, __file__, 1, "key %r, attempt %d", (event.key, 1), None)
    vars(record).update(about(event, "a.b", 1))
    assert Ids(keys=False).filter(record)
    assert "ada" not in JsonLines().format(record)


def test_a_form_that_nobody_knows_is_refused(project: Path) -> None:
    """The message names the setting and its values."""
    ran = subprocess.run(
        (sys.executable, "-m", "choreo", "run", "seats"),
        env=os.environ | {"CHOREO_LOG": "xml"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert project.is_dir()
    assert ran.returncode == 2
    assert "setting log" in ran.stderr
    assert "'text' or 'json'" in ran.stderr


@pytest.mark.parametrize("secret", ['hun"ter2', "hunter2\\", "hunter2'é", "x\nhunter2"])
def test_masking_leaves_a_line_of_json_whole(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret with quotes or escapes, in a message, an exception and a field: none is left, every line can be read."""
    monkeypatch.setattr(redact, "_known", frozenset())
    monkeypatch.setattr(redact, "_pattern", None)
    redact.learn({"redis_password": secret})
    try:
        int(f"token={secret}")
    except ValueError:
        record = logging.LogRecord("lib", 40, __file__, 1, "url http://a:%s@b/?x=1", (secret,), sys.exc_info())
    record.field = {"secret": [secret, 1, None]}
    text = JsonLines().format(record)
    line = json.loads(text)
    assert "\n" not in text
    assert "ter2" not in text
    assert line["field"] == {"secret": ["***", 1, None]}
