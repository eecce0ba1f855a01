"""`choreo flow`."""

from __future__ import annotations

from typing import Any

from choreo.core.definition import load


def test_an_exported_flow_can_be_loaded(desk: Any) -> None:
    """What is printed is all that a tracker needs."""
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
