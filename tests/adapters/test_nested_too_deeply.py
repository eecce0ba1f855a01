"""Files of a project that are nested too deeply to be read: each is refused, with the remedy."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from choreo.adapters import frozen_flows
from choreo.adapters.access import api_keys
from choreo.adapters.avro import frozen
from choreo.adapters.recording import RecordingFile
from choreo.adapters.topics_yaml import load_topic
from choreo.core.definition import load
from choreo.core.errors import ChoreoError
from choreo.settings import load as settings

LIST, OBJECT = "[" * 100_000, '{"a":' * 100_000


def written(folder: Path, name: str, text: str) -> Path:
    """Return the path of a file with this text, which only its owner may read."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    return path


def of_flow(folder: Path, text: str) -> None:
    """Read the frozen flows of a project."""
    written(folder, "schemas/flows/order.1.json", text)
    found = frozen_flows.read(folder / "schemas")
    assert not found.of("order")
    raise found.faults["order", 1]


def of_settings(folder: Path, text: str) -> None:
    """Read a project's settings."""
    written(folder, "pyproject.toml", f"[tool.choreo]\nflows = {text}\n")
    settings()


READ: dict[str, Callable[[Path, str], Any]] = {
    "schema": lambda folder, text: frozen.versions(written(folder, "Placed.1.avsc", text).parent),
    "flow": of_flow,
    "exported flow": lambda _, text: load(f'{{"attributes": [{{"when": {text}'.encode()),
    "topic": lambda folder, text: load_topic(written(folder, "order.yaml", text[:20_000])),
    "keys": lambda folder, text: api_keys.listed(written(folder, "keys.json", text)),
    "recording": lambda folder, text: RecordingFile(written(folder, "log.jsonl", text)),
    "settings": of_settings,
}


@pytest.mark.parametrize("text", [LIST, OBJECT], ids=["list", "object"])
@pytest.mark.parametrize("kind", READ)
def test_a_file_that_is_nested_too_deeply_is_refused(
    kind: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error of the file, not of the program."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ChoreoError) as refused:
        READ[kind](tmp_path, text)
    assert refused.value.remedy
