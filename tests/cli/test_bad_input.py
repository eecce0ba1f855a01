"""Bad input to the command line: the message, the remedy and the exit code."""

from __future__ import annotations

import sys
from typing import Any

import pytest

CONFLICT, NOT_FOUND, UNAVAILABLE, USAGE, PROBLEM = 5, 4, 3, 2, 1

START = ("publish", "desk", "TicketOpened")

CASES: list[tuple[str, tuple[str, ...], int, str]] = [
    ("no such command", ("nonsense",), USAGE, "No such command 'nonsense'"),
    ("no such option", ("list", "--nonsense"), USAGE, "No such option: --nonsense"),
    ("an argument is missing", ("show",), USAGE, "Missing argument 'key'"),
    ("an argument too many", ("show", "t-1", "t-2"), USAGE, "(t-2)"),
    ("a command below is missing", ("dlq",), USAGE, "Missing command"),
    ("no such form of output", ("list", "-o", "xml"), USAGE, "'xml' is not one of"),
    ("a limit that is no number", ("list", "--limit", "many"), USAGE, "Invalid value for '--limit'"),
    ("a limit of nothing", ("list", "--limit", "0"), USAGE, "Invalid value for '--limit'"),
    ("no such status", ("list", "--status", "sleeping"), USAGE, "'sleeping' is no status"),
    ("a filter without a value", ("list", "--attr", "priority"), USAGE, "'priority' is no filter"),
    ("a time that is none", ("list", "--since", "yesterday"), USAGE, "'yesterday' is no time"),
    ("a foreign cursor", ("list", "--cursor", "garbage"), NOT_FOUND, "cursor"),
    ("no such flow in a list", ("list", "nowhere"), NOT_FOUND, "there is no flow 'nowhere'"),
    ("no such flow in a tail", ("tail", "nowhere"), NOT_FOUND, "there is no flow 'nowhere'"),
    ("no such flow to publish to", ("publish", "nowhere", "X"), NOT_FOUND, "there is no flow 'nowhere'"),
    ("no such event", ("publish", "desk", "TicketLost"), USAGE, "'TicketLost' is no event of this flow"),
    (
        "an event that a step makes",
        ("publish", "desk", "SeatTaken", "--key", "t-1"),
        CONFLICT,
        "published by seats.take",
    ),
    ("a required field is missing", START, USAGE, "TicketOpened.ticket_id"),
    ("a field that is not known", (*START, "--key", "t", "--field", "colour=red"), USAGE, "TicketOpened.colour"),
    ("a field without a value", (*START, "--field", "priority"), USAGE, "'priority' is no field"),
    ("a field twice", (*START, "--field", "ticket_id=1", "--field", "ticket_id=2"), USAGE, "ticket_id is given twice"),
    ("a word for a number", (*START, "--field", "priority=high"), USAGE, "'high' is neither a number nor JSON"),
    ("a number with a fraction", (*START, "--key", "t", "--field", "priority=1.5"), USAGE, "TicketOpened.priority"),
    ("a part that lacks a field", (*START, "--key", "t", "--field", 'lines=[{"sku": "a"}]'), USAGE, "lines.0.quantity"),
    ("JSON that is none", (*START, "--json", "{ticket"), USAGE, "is not JSON"),
    ("JSON that is no object", (*START, "--json", "[1]"), USAGE, "is JSON, but no object"),
    ("JSON with a name twice", (*START, "--json", '{"ticket_id": "a", "ticket_id": "b"}'), USAGE, "is given twice"),
    ("JSON with NaN", (*START, "--json", '{"ticket_id": "a", "priority": NaN}'), USAGE, "NaN is no number of JSON"),
    ("JSON that is nested too deeply", (*START, "--json", "[" * 100_000), USAGE, "is not JSON"),
    ("a misspelt field", (*START, "--key", "t", "--field", "priorty=1"), USAGE, "Did you mean priority?"),
    ("a misspelt field of a part", (*START, "--field", 'lines=[{"sku": "a", "quantty": 1}]'), USAGE, "mean quantity?"),
    ("a number beyond 64 bits", (*START, "--key", "t", "--field", f"priority={2**70}"), USAGE, "TicketOpened.priority"),
    ("bytes that are no text", ("show", "a\udcff"), USAGE, "holds bytes that are no text"),
    ("a field of bytes that are no text", (*START, "--field", "ticket_id=\udcff"), USAGE, "bytes that are no text"),
    ("an attribute of two values", ("list", "--attr", "a=1", "--attr", "a=2"), USAGE, "a is given twice"),
    ("nothing on stdin", (*START, "--json", "-"), USAGE, "is not JSON"),
    ("two keys", (*START, "--key", "t-1", "--field", "ticket_id=t-2"), USAGE, "not about the given key 't-1'"),
    ("a key with a control character", (*START, "--key", "a\x00b"), USAGE, "control character"),
    ("a key that is too long", (*START, "--key", "k" * 1_000), USAGE, "1000 characters"),
    ("no such run", ("publish", "desk", "TicketClosed", "--key", "t", "--run", "r"), NOT_FOUND, "there is no run 'r'"),
    ("no such instance", ("show", "t-1"), NOT_FOUND, "there is no instance 't-1'"),
    ("no such instance to watch", ("show", "t-1", "--watch"), NOT_FOUND, "there is no instance 't-1'"),
    ("no such instance to pause", ("pause", "t-1"), NOT_FOUND, "there is no such instance"),
    ("no such letter", ("dlq", "show", "nothing"), NOT_FOUND, "nothing"),
    ("no letter named", ("dlq", "redrive"), USAGE, "no dead letter is named"),
    ("letters named and all", ("dlq", "redrive", "x", "--all"), USAGE, "exclude each other"),
    ("no such service", ("run", "kitchen"), NOT_FOUND, "no service 'kitchen'"),
    ("no such flow to draw", ("flow", "mermaid", "nowhere"), NOT_FOUND, "there is no flow 'nowhere'"),
    ("a file that cannot be written", ("flow", "export", "--to", "/no/such/folder/x"), USAGE, "cannot be written"),
    ("no such flow to rebuild", ("projections", "rebuild", "nowhere"), NOT_FOUND, "there is no flow 'nowhere'"),
    ("a name with a slash", ("new", "a/b"), USAGE, "'a/b' cannot be a project's name"),
    ("a name that begins with a digit", ("new", "1shop"), USAGE, "cannot be a project's name"),
    ("a name in capitals", ("new", "Shop"), USAGE, "cannot be a project's name"),
    ("no name", ("new", ""), USAGE, "'' cannot be a project's name"),
    ("our own name", ("new", "choreo"), USAGE, "not choreo itself"),
    ("a folder that is not empty", ("new", "topics"), CONFLICT, "is there already, and not empty"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_bad_input_is_refused_with_a_remedy(desk: Any, arguments: tuple[str, ...], code: int, message: str) -> None:
    """The message names the fault, the remedy the next action; nothing is printed on stdout."""
    answer = desk(*arguments)
    assert answer.code == code
    assert answer.err.startswith("error: ")
    assert message in answer.err
    assert "  remedy: " in answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err


SETTINGS: list[tuple[str, dict[str, str], int, str]] = [
    ("a number that is none", {"CHOREO_PARTITIONS": "many"}, USAGE, "setting partitions"),
    ("too many partitions", {"CHOREO_PARTITIONS": "100000"}, USAGE, "setting partitions"),
    ("no such mode", {"CHOREO_SYNCHRONOUS": "SOMETIMES"}, USAGE, "setting synchronous"),
    ("time that stands still", {"CHOREO_TIME_SCALE": "0"}, USAGE, "setting time_scale"),
    ("time without end", {"CHOREO_TIME_SCALE": "1e-9"}, USAGE, "setting time_scale"),
    ("a lease without end", {"CHOREO_LEASE_S": "inf"}, USAGE, "setting lease_s"),
    ("the home of nobody", {"CHOREO_DATABASE": "~nobody-at-all/x.db"}, USAGE, "setting database"),
    ("a setting of bytes", {"CHOREO_REDIS": "redis://\udcff"}, USAGE, "bytes that are no text"),
    ("a flow without its name", {"CHOREO_FLOWS": "desk_flow"}, USAGE, "it names no flow"),
    ("a module that is not there", {"CHOREO_FLOWS": "nowhere:flow"}, USAGE, "it cannot be imported"),
    ("a name that is not there", {"CHOREO_FLOWS": "desk_flow:counter"}, USAGE, "has no 'counter'"),
    ("something that is no flow", {"CHOREO_FLOWS": "desk_flow:seats"}, USAGE, "not a Flow"),
    ("the same flow twice", {"CHOREO_FLOWS": "desk_flow:desk,desk_flow:desk"}, USAGE, "two flows are called 'desk'"),
    ("a database that is a folder", {"CHOREO_DATABASE": "."}, UNAVAILABLE, "remedy"),
    ("a database that is none", {"CHOREO_DATABASE": "desk_flow.py"}, UNAVAILABLE, "remedy"),
]


@pytest.mark.parametrize(
    ("environment", "code", "message"), [row[1:] for row in SETTINGS], ids=[r[0] for r in SETTINGS]
)
def test_bad_settings_are_refused_with_a_remedy(
    desk: Any, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], code: int, message: str
) -> None:
    """A setting is named with the value it got."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    answer = desk("list")
    assert answer.code == code
    assert message in answer.err
    assert "  remedy: " in answer.err
    assert "Traceback" not in answer.err


BROKEN = ["None.nothing", "raise SystemExit(3)", "raise RecursionError", "def f(:", "1 / 0", "import nowhere_at_all"]


@pytest.mark.parametrize("code", BROKEN)
def test_an_error_in_a_module_of_the_project_is_shown_as_that(
    desk: Any, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """With the lines of the project that failed; the error does not claim that the flow is missing."""
    monkeypatch.setenv("CHOREO_FLOWS", "broken_flow:flow")
    monkeypatch.syspath_prepend(str(desk.folder))
    monkeypatch.delitem(sys.modules, "broken_flow", raising=False)
    (desk.folder / "broken_flow.py").write_text(f"x = 1\n{code}\n")
    answer = desk("list")
    assert answer.code == USAGE
    assert "cannot be imported" in answer.err
    assert "has no 'flow'" not in answer.err
    assert code in answer.err or "nowhere_at_all" in answer.err
    assert desk("list", "--debug").code == USAGE


def test_an_error_of_a_modules_own_getattr_is_shown_as_that(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module may make its names when they are asked for."""
    monkeypatch.setenv("CHOREO_FLOWS", "lazy_flow:flow")
    monkeypatch.syspath_prepend(str(desk.folder))
    monkeypatch.delitem(sys.modules, "lazy_flow", raising=False)
    (desk.folder / "lazy_flow.py").write_text("def __getattr__(name):\n    raise RuntimeError(f'no {name} today')\n")
    answer = desk("list")
    assert answer.code == USAGE
    assert "its own code failed with RuntimeError: no flow today" in answer.err


@pytest.mark.parametrize("text", ["tool = 5", "[tool]\nchoreo = 5", "[[tool.choreo]]", "[tool.choreo", "\x00"])
def test_a_pyproject_that_is_none_is_refused(desk: Any, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A number, a list or nonsense stands where the settings are expected."""
    project = desk.folder / "elsewhere"
    project.mkdir()
    (project / "pyproject.toml").write_text(text)
    monkeypatch.chdir(project)
    answer = desk("list")
    assert (answer.code, "  remedy: " in answer.err) == (USAGE, True), answer.err


def test_outside_of_a_project_it_says_how_to_begin(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thing a new user does wrong."""
    monkeypatch.chdir(desk.folder)
    answer = desk("list")
    assert answer.code == USAGE
    assert "no flow is named" in answer.err
    assert "choreo new" in answer.err


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ((("pause", "t-1"), ("pause", "t-1")), "paused already"),
        ((("resume", "t-1"),), "not paused"),
        ((("cancel", "t-1"), ("cancel", "t-1")), "compensating already"),
        ((("terminate", "t-1", "--reason", "x"), ("pause", "t-1")), "has ended: terminated"),
        ((("undo", "retry", "t-1", "seats.take"),), "is open"),
        ((("undo", "resolve", "t-1", "seats.take", "--reason", "x"),), "goes forward"),
        ((("publish", "desk", "TicketOpened", "--key", "t-1", "--field", "priority=9"),), "with other fields"),
    ],
)
def test_what_does_not_fit_the_state_is_a_conflict(desk: Any, calls: tuple[tuple[str, ...], ...], message: str) -> None:
    """Exit code 5, and the remedy."""
    desk.opened("t-1", seated=True)
    *before, last = calls
    for call in before:
        assert desk(*call).code == 0
        desk.fold()
    answer = desk(*last)
    assert answer.code == CONFLICT
    assert message in answer.err
    assert "  remedy: " in answer.err


def test_a_required_reason_is_asked_for(desk: Any) -> None:
    """An action that ends a run by force stays in the log with its reason."""
    desk.opened("t-1")
    answer = desk("terminate", "t-1")
    assert answer.code == USAGE
    assert "a reason is required" in answer.err


def test_a_new_project_does_not_touch_a_file_of_its_name(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is overwritten."""
    monkeypatch.chdir(desk.folder)
    (desk.folder / "shop").write_text("mine")
    assert desk("new", "shop").code == CONFLICT
    assert (desk.folder / "shop").read_text() == "mine"
