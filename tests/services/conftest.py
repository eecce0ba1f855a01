"""Books of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the outside systems' books, empty."""
    monkeypatch.setenv("CHOREO_BOOKS_DIR", str(tmp_path / "books"))
    monkeypatch.delenv("CHOREO_TIME_SCALE", raising=False)
    return tmp_path / "books"
