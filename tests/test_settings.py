"""Settings that name a place: `~` is the home folder wherever the setting is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from choreo.core.errors import SettingsError
from choreo.settings import load

PLACES = ("database", "data", "schemas", "topics")


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("written", ["environment", "pyproject.toml"])
def test_a_tilde_is_the_home_folder(name: str, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell has looked at a settings file, nor at a quoted variable; another path stays as it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/ann")
    if written == "environment":
        monkeypatch.setenv(f"CHOREO_{name.upper()}", "~/choreo/here")
    else:
        Path("pyproject.toml").write_text(f'[tool.choreo]\n{name} = "~/choreo/here"\n')
    assert getattr(load(), name) == Path("/ann/choreo/here")
    assert getattr(load(**{name: Path("there/~")}), name) == Path("there/~")


def test_the_home_of_nobody_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal names the setting, the value and the remedy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHOREO_DATABASE", "~nobody-of-that-name/choreo.db")
    with pytest.raises(SettingsError) as refused:
        load()
    assert refused.value.where == "setting database"
    assert "~nobody-of-that-name/choreo.db" in refused.value.what
    assert "CHOREO_DATABASE" in refused.value.remedy
