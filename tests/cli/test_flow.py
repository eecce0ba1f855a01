"""`choreo flow`."""

from __future__ import annotations

from typing import Any

from choreo.core.definition import load


def test_an_exported_flow_can_be_loaded(desk: Any) -> None:
    """The printed text is all that a tracker needs."""
    definition = load(desk("flow", "export").out.encode())
    assert [step.name for step in definition.steps] == ["seats.take", "archive.file"]


def test_the_picture_names_every_step(desk: Any) -> None:
    """Drawn from the same definition."""
    drawn = desk("flow", "mermaid", "desk").out
    assert drawn.startswith("flowchart TD\n")
    assert "seats.take" in drawn


def test_either_is_written_to_a_file(desk: Any) -> None:
    """For the documentation, and for a deployment."""
    path = desk.folder / "desk.mmd"
    assert desk("flow", "mermaid", "--to", str(path)).out == ""
    assert path.read_text() == desk("flow", "mermaid").out


def test_the_picture_comes_as_json_too(desk: Any) -> None:
    """With the flow's name."""
    answer = desk("flow", "mermaid", "-o", "json").json
    assert answer["flow"] == "desk"
    assert answer["mermaid"].startswith("flowchart TD")


def test_a_version_of_a_flow_is_frozen_once(desk: Any) -> None:
    """The check compares and writes nothing."""
    path = desk.folder / "schemas" / "flows" / "desk.1.json"
    unfrozen = desk("flow", "freeze", "--check", "-o", "json")
    assert (unfrozen.code, unfrozen.json["problems"][0]["what"], path.exists()) == (1, "is not frozen", False)
    assert desk("flow", "freeze").out == f"wrote {path}\n1 file written; commit it.\n"
    assert desk("flow", "freeze", "desk").out == "Every flow is frozen as it is.\n"
    assert desk("flow", "freeze", "--check").out == "1 flow equals its frozen version.\n"
    assert load(path.read_bytes()) == load(desk("flow", "export").out.encode())


def test_a_changed_flow_needs_a_new_version(desk: Any) -> None:
    """The file that stands for the runs in flight is not overwritten."""
    desk("flow", "freeze")
    path = desk.folder / "schemas" / "flows" / "desk.1.json"
    path.write_text(path.read_text().replace('"SeatTaken"', '"SeatGiven"'))
    before = path.read_bytes()
    answer = desk("flow", "freeze")
    assert answer.code == 1
    assert "flow desk, step seats.take: emits has SeatGiven no more since version 1 was frozen" in answer.err
    assert "Declare version=2" in answer.err
    assert desk("flow", "freeze", "--check").code == 1
    assert path.read_bytes() == before


def test_the_picture_comes_as_svg(desk: Any) -> None:
    """In a file, or in JSON with the flow's name."""
    path = desk.folder / "desk.svg"
    assert desk("flow", "svg", "--to", str(path)).out == ""
    assert path.read_text().startswith("<svg ")
    assert desk("flow", "svg", "-o", "json").json == {"flow": "desk", "svg": path.read_text().rstrip("\n")}


def test_the_log_is_described_for_other_teams(desk: Any) -> None:
    """With the partitions of the topic's file, and the schemas of the events' parts."""
    answer = desk("flow", "asyncapi").json
    assert answer["asyncapi"] == "3.0.0"
    assert answer["channels"]["desk"]["bindings"]["kafka"]["partitions"] >= 1
    assert set(answer["components"]["schemas"]) == {"Line"}
    assert "step-seats-take-send" in answer["operations"]
