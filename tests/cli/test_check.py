"""`choreo check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from choreo.cli.failures import PROBLEM

BROKEN = '''"""A flow whose last event nobody says."""
from choreo import Event, Flow, Service, StepContext

class Begun(Event):
    """Begun."""
    number: str

class Done(Event):
    """Done."""
    number: str

class Ended(Event):
    """Ended."""
    number: str

worker = Service("worker")

@worker.step(on=Begun, emits=Done)
async def work(event: Begun, ctx: StepContext) -> Done:
    return Done(number=event.number)

broken = Flow("broken", key="number", starts=Begun, completes=Ended, services=[worker])
'''


CAUTIOUS = '''"""A flow with a bound on a cycle that it does not have."""
from choreo import Flow
from desk_flow import *

desk = Flow(
    "desk", key="ticket_id", starts=TicketOpened, completes=TicketFiled, services=[seats, archive], deadline="30d",
    max_hops=3,
)
desk.wait(on=SeatTaken, until=TicketClosed, timeout="1d", fails=TicketForgotten)
'''


def findings(answer: Any, part: str) -> list[dict[str, str]]:
    """Return the findings in that part."""
    return [found for found in answer.json["findings"] if found["part"] == part]


def test_a_project_that_is_well_passes(desk: Any) -> None:
    """Flow, topics and schemas are looked at together."""
    desk("schemas", "freeze")
    answer = desk("check", "-o", "json")
    assert answer.code == 0
    assert answer.json["ok"] is True
    assert answer.json["flows"] == ["desk"]
    assert desk("check").out.endswith("flow desk: 0 errors, 0 warnings\n")


def test_warnings_fail_only_a_strict_check(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning does not keep a flow from running."""
    desk("schemas", "freeze")
    monkeypatch.chdir(desk.folder)
    monkeypatch.setenv("CHOREO_FLOWS", "desk_cautious:desk")
    monkeypatch.setenv("CHOREO_TOPICS", str(Path(__file__).parent / "desk" / "topics"))
    (desk.folder / "desk_cautious.py").write_text(CAUTIOUS)
    lenient, strict = desk("check", "-o", "json"), desk("check", "--strict", "-o", "json")
    assert [(found["level"], found["where"]) for found in lenient.json["findings"]] == [("warning", "flow desk")]
    assert (lenient.code, lenient.json["ok"]) == (0, True)
    assert (strict.code, strict.json["ok"]) == (PROBLEM, False)


def test_an_event_without_a_frozen_schema_is_found(desk: Any) -> None:
    """The contract must be in files before it is in the log."""
    answer = desk("check", "-o", "json")
    assert answer.code == PROBLEM
    assert {found["what"] for found in findings(answer, "schemas")} == {"is not frozen"}


def test_an_event_without_a_topic_is_found(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event of the flow stands in its topic's file."""
    topic = (Path(__file__).parent / "desk" / "topics" / "desk.yaml").read_text().replace(", TicketForgotten", "")
    (desk.folder / "desk.yaml").write_text(topic)
    monkeypatch.setenv("CHOREO_TOPICS", str(desk.folder))
    (found,) = findings(desk("check", "-o", "json"), "topics")
    assert found["what"] == "event TicketForgotten of flow desk has no topic"
    assert found["remedy"] == "Add - TicketForgotten."


def test_a_folder_of_topics_that_is_not_there_is_found(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that did not run is no pass."""
    monkeypatch.setenv("CHOREO_TOPICS", str(desk.folder / "nowhere"))
    (found,) = findings(desk("check", "-o", "json"), "topics")
    assert found["what"] == "there is no such folder"


def test_a_project_without_kafka_needs_no_topics(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic is Kafka's; as soon as brokers are named it is asked for, with the command that writes it."""
    monkeypatch.chdir(desk.folder)
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "desk"))
    monkeypatch.setenv("CHOREO_FLOWS", "desk_flow:desk")
    desk("schemas", "freeze")
    assert desk("check").code == 0
    monkeypatch.setenv("CHOREO_KAFKA", "localhost:1")
    (found,) = findings(desk("check", "-o", "json"), "topics")
    assert found["remedy"] == "Write it: choreo topics init."


def test_a_flow_in_flow_py_needs_no_setting(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder and one file are a project; without it the remedy names all ways."""
    monkeypatch.chdir(desk.folder)
    monkeypatch.delenv("CHOREO_FLOWS", raising=False)
    monkeypatch.delitem(sys.modules, "flow", raising=False)
    assert "declare a Flow in flow.py" in desk("check").err
    (desk.folder / "flow.py").write_text(BROKEN)
    assert desk("check", "-o", "json").json["flows"] == ["broken"]
    del sys.modules["flow"]


def test_every_mistake_of_a_flow_is_listed_with_its_remedy(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the place; the exit code reports the failure."""
    monkeypatch.chdir(desk.folder)
    monkeypatch.setenv("CHOREO_FLOWS", "broken_declaration:broken")
    (desk.folder / "broken_declaration.py").write_text(BROKEN)
    answer = desk("check", "-o", "json")
    assert answer.code == PROBLEM
    assert any("Ended" in found["what"] and found["remedy"] for found in findings(answer, "flow"))
    assert "Ended" in desk("check").out


CIRCLE = """
from choreo import Event, Flow, Service, StepContext

class Asked(Event):
    key: str

class Answered(Event):
    key: str

desk = Service("desk")

@desk.step(on=Asked, emits=Answered, effect=False)
def answer(event: Asked, ctx: StepContext) -> Answered:
    return Answered(key=event.key)

def again(event: Answered) -> Asked:
    return Asked(key=f"{event.key}-again")

round = Flow("round", key="key", starts=Asked, completes=Answered, services=[desk])
round.carries(Answered, to=round, makes=again)
"""


def test_flows_that_start_each_other_for_ever_are_found(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence has the way of the circle; with a bound it is no mistake."""
    monkeypatch.chdir(desk.folder)
    for name, text in (("endless", CIRCLE), ("bounded", CIRCLE.replace("starts=", "max_hops=9, starts="))):
        (desk.folder / f"{name}.py").write_text(text)
    monkeypatch.setenv("CHOREO_FLOWS", "endless:round")
    (found,) = findings(desk("check", "-o", "json"), "flow")
    assert "round → round is a circle that has no bound" in found["what"]
    monkeypatch.setenv("CHOREO_FLOWS", "bounded:round")
    assert findings(desk("check", "-o", "json"), "flow") == []


def test_a_declaration_that_cannot_be_imported_is_a_finding(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finding is a result of the check, and no failure of the check."""
    monkeypatch.chdir(desk.folder)
    monkeypatch.setenv("CHOREO_FLOWS", "bad_name:flow")
    (desk.folder / "bad_name.py").write_text('from choreo import Service\nService("")\n')
    answer = desk("check", "-o", "json")
    assert answer.code == PROBLEM
    assert len(findings(answer, "flow")) == 1


def test_a_flow_that_differs_from_its_frozen_version_is_found(desk: Any) -> None:
    """As long as no version is frozen, the flow is free; a damaged file is a finding, not the end of the check."""
    desk("schemas", "freeze")
    desk("flow", "freeze")
    assert desk("check").code == 0
    path = desk.folder / "schemas" / "flows" / "desk.1.json"
    frozen = path.read_text()
    path.write_text(frozen.replace('"timeout_ms": 86400000', '"timeout_ms": 172800000'))
    (found,) = findings(desk("check", "-o", "json"), "versions")
    assert (found["where"], found["what"].partition(" since")[0]) == (
        "flow desk, wait.TicketClosed",
        "timeout is 1d, it was 2d",
    )
    path.write_text(frozen[:-20])
    (found,) = findings(desk("check", "-o", "json"), "versions")
    assert found["where"] == str(path)
    assert "Restore it from version control" in found["remedy"]


def test_a_code_is_explained(desk: Any) -> None:
    """By its number, as the documentation has it; an unknown one is named."""
    answer = desk("check", "--explain", "c301")
    assert answer.code == 0
    assert answer.out.startswith("C301: An effect has no way back from a failure (error)\n")
    assert "@payment.step(" in answer.out
    assert desk("check", "--explain", "C301", "-o", "json").json["title"] == "An effect has no way back from a failure"
    answer = desk("check", "--explain", "C300")
    assert answer.code != 0
    assert "there is no code 'C300'" in answer.err


def test_an_exported_flow_is_checked_without_its_code(desk: Any) -> None:
    """A file that is no flow is a finding beside the others."""
    desk("flow", "export", "--to", str(desk.folder / "desk.json"))
    text = (desk.folder / "desk.json").read_text()
    (desk.folder / "bad.json").write_text(text.replace('"timeout_ms": 86400000', '"timeout_ms": 0'))
    (desk.folder / "none.json").write_text(text[:-40])
    files = [str(desk.folder / name) for name in ("desk.json", "bad.json", "none.json", "nowhere.json")]
    answer = desk("check", *files, "-o", "json")
    assert answer.code == PROBLEM
    assert [(found["code"], Path(found["file"]).name) for found in answer.json["findings"]] == [
        ("C401", "bad.json"),
        ("C003", "none.json"),
        ("C003", "nowhere.json"),
    ]
    assert desk("check", files[0]).code == 0


def cautious(desk: Any, monkeypatch: pytest.MonkeyPatch, settings: str) -> Any:
    """Return the check's JSON for a flow with one warning, with these settings."""
    desk("schemas", "freeze")
    monkeypatch.chdir(desk.folder)
    monkeypatch.setenv("CHOREO_FLOWS", "desk_cautious:desk")
    monkeypatch.setenv("CHOREO_TOPICS", str(Path(__file__).parent / "desk" / "topics"))
    (desk.folder / "desk_cautious.py").write_text(CAUTIOUS)
    (desk.folder / "pyproject.toml").write_text(f"[tool.choreo.check]\nignore = [{settings}]\n")
    return desk("check", "--strict", "-o", "json")


def test_a_warning_is_suppressed_with_a_reason(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a strict check passes; the warning and its reason stay in the answer."""
    answer = cautious(desk, monkeypatch, '{code = "C209", where = "desk", reason = "a cycle comes soon"}')
    assert (answer.code, answer.json["findings"]) == (0, [])
    ((finding, reason),) = [(each["finding"]["code"], each["reason"]) for each in answer.json["suppressed"]]
    assert (finding, reason) == ("C209", "a cycle comes soon")
    assert "1 suppressed" in desk("check").out
    desk("flow", "export", "--to", "desk.json")
    (desk.folder / "desk.json").write_text(
        (desk.folder / "desk.json").read_text().replace('"hops_max": 3', '"hops_max": 0')
    )
    assert desk("check", "desk.json", "-o", "json").json["findings"] == []


@pytest.mark.parametrize(
    ("settings", "codes"),
    [
        ('{code = "C209", where = "desk", reason = " "}', ["C001", "C209"]),
        ('{code = "C209", where = "desk"}', ["C001", "C209"]),
        ('{code = "C209", where = "", reason = "so"}', ["C001", "C209"]),
        ('{code = "C999", where = "desk", reason = "so"}', ["C001", "C209"]),
        ('{code = "C301", where = "desk", reason = "so"}', ["C001", "C209"]),
        ('{code = "C209", where = "other", reason = "so"}', ["C209", "C002"]),
        ('{code = "C209", where = "desk", reason = "so", more = 1}', ["C001", "C209"]),
        ("3", ["C001", "C209"]),
    ],
)
def test_a_suppression_that_says_too_little_is_a_finding(
    settings: str, codes: list[str], desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It suppresses nothing; one that fits nothing is reported, too."""
    answer = cautious(desk, monkeypatch, settings)
    assert answer.code == PROBLEM
    assert [found["code"] for found in answer.json["findings"]] == codes


def test_a_finding_has_the_line_of_its_declaration(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a step its function, of a flow its line, of an event its class."""
    monkeypatch.chdir(desk.folder)
    monkeypatch.setenv("CHOREO_FLOWS", "broken_place:broken")
    text = BROKEN.replace("emits=Done)", "emits=Done, timeout='5s', deadline='6s')")
    (desk.folder / "broken_place.py").write_text(text)
    found = {each["code"]: each for each in desk("check", "-o", "json").json["findings"]}
    lines = text.splitlines()
    assert lines[found["C425"]["line"] - 1].startswith("@worker.step(")
    assert lines[found["C202"]["line"] - 1].startswith("broken = Flow(")
    assert lines[found["C701"]["line"] - 1].startswith("class ")
    assert {each["file"] for each in found.values()} == {"broken_place.py"}


def test_a_declaration_that_fails_has_the_line_that_failed(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the project's own line, not one of choreo's."""
    monkeypatch.chdir(desk.folder)
    monkeypatch.setenv("CHOREO_FLOWS", "bad_line:flow")
    (desk.folder / "bad_line.py").write_text('from choreo import Service\n\nService("a b")\n')
    (found,) = desk("check", "-o", "json").json["findings"]
    assert (found["code"], found["file"], found["line"]) == ("C101", "bad_line.py", 3)


WAITING = """
from choreo import After, Event, Flow, Service, StepContext

class Begun(Event):
    number: str

class Done(Event):
    number: str

class Signed(Event):
    number: str

class Late(Event):
    number: str

class Told(Event):
    number: str

class Over(Event):
    number: str

worker = Service("worker")

@worker.step(on=Signed, emits=Done)
async def work(event: Signed, ctx: StepContext) -> Done:
    return Done(number=event.number)

flow = Flow("waiting", key="number", starts=Begun, completes=Done, services=[worker])
flow.wait(on=Begun, until=Signed, timeout="1d", fails=Late, escalate=After("2d", emits=Told))
flow.timer("pause", on=Begun, after="5d", emits=Over, moved_by=Begun)
"""


def test_waits_and_timers_have_the_line_of_their_call(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found in the source, because a wait has no function."""
    monkeypatch.chdir(desk.folder)
    monkeypatch.setenv("CHOREO_FLOWS", "waiting_places:flow")
    (desk.folder / "waiting_places.py").write_text(WAITING)
    lines = WAITING.splitlines()
    found = {each["code"]: each for each in desk("check", "-o", "json").json["findings"] if each["part"] == "flow"}
    assert lines[found["C413"]["line"] - 1].startswith("flow.wait(")
    assert lines[found["C407"]["line"] - 1].startswith('flow.timer("pause"')


def test_a_topic_has_its_file_and_line(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the error of the file names it."""
    monkeypatch.chdir(desk.folder)
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "desk"))
    monkeypatch.setenv("CHOREO_FLOWS", "desk_flow:desk")
    topic = (Path(__file__).parent / "desk" / "topics" / "desk.yaml").read_text()
    (desk.folder / "topics").mkdir()
    (desk.folder / "topics" / "desk.yaml").write_text(topic.replace("partitions: ", "partitions: many #", 1))
    monkeypatch.setenv("CHOREO_TOPICS", "topics")
    (found,) = findings(desk("check", "-o", "json"), "topics")
    line = next(number for number, text in enumerate(topic.splitlines(), 1) if text.startswith("partitions"))
    assert (found["code"], found["file"], found["line"]) == ("C606", "topics/desk.yaml", line)
