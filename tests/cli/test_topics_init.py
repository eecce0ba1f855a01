"""`choreo topics init`: a file for each flow that has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from choreo.adapters.topics_yaml import FOREVER, load_topics

ODD_NAMES = ["shop", "a: b", "it's", "- x", "#1", "null", "läden", 'a "b" \\n']


@pytest.fixture
def bare(desk: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the small project, with its folder of topics not made yet."""
    monkeypatch.setenv("CHOREO_TOPICS", str(desk.folder / "topics"))
    return desk


def test_the_written_file_passes_the_check(bare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key, events, partitions and dead letters are those of the flow."""
    monkeypatch.setenv("CHOREO_PARTITIONS", "12")
    bare("schemas", "freeze")
    made = bare("topics", "init", "--owner", "desk team", "-o", "json")
    assert [Path(path).name for path in made.json["written"]] == ["desk.yaml"]
    topic = load_topics(bare.folder / "topics")["desk"]
    assert (topic.key, topic.partitions, topic.owner) == ("ticket_id", 12, "desk team")
    assert (topic.retention_ms, topic.dead_letters.name) == (FOREVER, "desk.dead-letters")
    assert bare("check").code == 0


def test_a_file_that_is_there_stays_as_it_is(bare: Any) -> None:
    """Also in a file of another name: the topic inside counts."""
    bare("topics", "init")
    file = bare.folder / "topics" / "desk.yaml"
    edited = file.read_text().replace("partitions: 2", "partitions: 3")
    file.unlink()
    (bare.folder / "topics" / "other.yaml").write_text(edited)
    assert bare("topics", "init").out == "Every flow has its topic.\n"
    assert [path.name for path in (bare.folder / "topics").iterdir()] == ["other.yaml"]


@pytest.mark.parametrize("owner", ODD_NAMES)
def test_an_owner_is_kept_as_it_is_written(bare: Any, owner: str) -> None:
    """YAML would read some of these as other types without quotes."""
    assert bare("topics", "init", "--owner", owner).code == 0
    assert load_topics(bare.folder / "topics")["desk"].owner == owner


def test_a_folder_that_cannot_be_made_is_said(bare: Any) -> None:
    """With the place and the remedy."""
    (bare.folder / "topics").write_text("a file")
    answer = bare("topics", "init")
    assert answer.code != 0
    assert "CHOREO_TOPICS" in answer.err
