"""The command line as a whole: its help, its exit codes, its errors."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import pytest

from choreo.app.query.read_your_writes import IF_JUST_STARTED
from choreo.cli import program
from choreo.cli.failures import EXIT_CODES, OURS, USAGE, exit_code_of
from choreo.core import errors

TARGETS = {name: row for section in program.COMMANDS.values() for name, row in section.items()}
HEAVY = {"pydantic", "rich", "fastavro", "msgspec", "yaml", "asyncio", "sqlite3", "fastapi"}


def test_help_imports_nothing_heavy() -> None:
    """It answers at once because it loads no command and no library but Typer."""
    code = (
        "import sys; from choreo.cli.program import run; run(['--help']); "
        "print(*(name.partition('.')[0] for name in sys.modules), file=sys.stderr)"
    )
    called = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "Usage: choreo" in called.stdout
    assert not HEAVY & set(called.stderr.split())


@pytest.mark.parametrize("name", TARGETS)
def test_every_command_has_help(desk: Any, name: str) -> None:
    """Every command of the table can be loaded, and its help states its purpose."""
    module, _, attribute = TARGETS[name][0].partition(":")
    assert getattr(importlib.import_module(module), attribute)
    answer = desk(name, "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: choreo {name} ")


def _leaves(name: str) -> list[Any]:
    """Return the commands at the ends of the tree: `dlq list`, not `dlq`."""
    real = program.command().commands[name].make_context(name, [], resilient_parsing=True).command
    return list(getattr(real, "commands", {name: real}).values())


@pytest.mark.parametrize("name", TARGETS)
def test_every_command_speaks_json(name: str) -> None:
    """A program reads any answer with -o json."""
    for command in _leaves(name):
        assert "-o" in {flag for option in command.params for flag in option.opts}, command.name


def test_without_a_command_it_shows_the_help_with_the_exit_codes(desk: Any) -> None:
    """A new user sees everything."""
    answer = desk()
    assert answer.code == 0
    said = " ".join(answer.out.split())
    assert all(f"{code} {meaning}" in said for code, meaning in EXIT_CODES.items())
    assert all(name in said for name in TARGETS)


def test_every_error_of_the_tree_has_an_exit_code() -> None:
    """A new class of error must declare its exit code."""
    classes = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.ChoreoError)
    ]
    unknown = [each for each in classes if exit_code_of(each("what")) == OURS]
    assert unknown == [errors.ChoreoError]


def test_a_failure_is_told_without_a_traceback_and_with_one_under_debug(desk: Any) -> None:
    """--debug may stand anywhere."""
    told = desk("show", "nobody")
    assert told.err.splitlines() == [
        "error: there is no instance 'nobody'",
        "  where: flow desk",
        f"  remedy: {IF_JUST_STARTED}",
    ]
    seen = desk("show", "nobody", "--debug")
    assert seen.code == told.code
    assert seen.err.startswith("Traceback")
    assert seen.err.endswith(told.err)


def break_flow(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the project a flow that raises an error of no class of ours."""
    monkeypatch.setenv("CHOREO_FLOWS", "broken_flow:flow")
    monkeypatch.syspath_prepend(str(desk.folder))
    (desk.folder / "broken_flow.py").write_text(
        "from desk_flow import *\nclass Odd(Flow):\n    definition = property(lambda self: 1 / 0)\n"
        "ends = next(iter(desk._completes))\n"
        "flow = Odd('desk', key='ticket_id', starts=desk._starts, completes=ends, services=desk.services)\n"
    )


def test_a_fault_of_ours_is_told_as_one(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No exception of any kind shows a traceback unasked."""
    break_flow(desk, monkeypatch)
    answer = desk("list")
    assert answer.code == OURS
    assert "error: ZeroDivisionError: division by zero" in answer.err
    assert "--debug" in answer.err
    assert "Traceback" not in answer.err


def test_a_process_that_ends_by_a_fault_of_ours_shows_its_traceback_at_once(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that needed hours to come does not come again under --debug."""
    break_flow(desk, monkeypatch)
    answer = desk("run", "tracker")
    assert answer.code == OURS
    assert "Traceback" in answer.err
    assert "error: ZeroDivisionError: division by zero" in answer.err


def test_version_and_module_are_the_same_program() -> None:
    """`python -m choreo` works where the script is not on the path."""
    called = subprocess.run([sys.executable, "-m", "choreo", "--version"], check=True, capture_output=True, text=True)
    assert called.stdout.startswith("choreo ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("choreo ta", "tail"),
        ("choreo tail de", "desk"),
        ("choreo run se", "seats"),
        ("choreo run tr", "tracker"),
        ("choreo publish desk Ticket", "TicketOpened"),
        ("choreo dlq re", "redrive"),
    ],
)
def test_the_shell_completes(desk: Any, monkeypatch: pytest.MonkeyPatch, words: str, expected: str) -> None:
    """Commands, and the project's own names."""
    monkeypatch.setenv("_CHOREO_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises(SystemExit):
        desk("ignored")
    assert expected in desk.printed().out.split()


def test_completion_in_a_broken_project_is_silent(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell has no place for an error."""
    monkeypatch.setenv("CHOREO_FLOWS", "nowhere:flow")
    monkeypatch.setenv("_CHOREO_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "choreo tail de")
    monkeypatch.setenv("COMP_CWORD", "2")
    with pytest.raises(SystemExit):
        desk("ignored")
    printed = desk.printed()
    assert (printed.out.strip(), printed.err.strip()) == ("", "")


def test_typers_refusals_have_our_form(desk: Any) -> None:
    """Fault, place and remedy, also for a mistyped command."""
    answer = desk("lst")
    assert answer.code == USAGE
    assert "Did you mean 'list'" in answer.err
    assert "remedy: See `choreo --help`." in answer.err
