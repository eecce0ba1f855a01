"""Projects whose roles are processes on one database file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.fleet import Fleet


@pytest.fixture
def in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], Fleet]:
    """Return a function that puts flows on a file of this test's own, and returns their processes-to-be."""

    def put(flows: Sequence[str]) -> Fleet:
        values = {
            "CHOREO_DATABASE": str(tmp_path / "c.db"),
            "CHOREO_FLOWS": ",".join(flows),
            "CHOREO_TOPICS": str(tmp_path / "none"),
            "CHOREO_SCHEMAS": str(tmp_path / "schemas"),
            "CHOREO_PARTITIONS": "4",
        }
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        return Fleet(tmp_path, values)

    return put
