"""`make docs`: the site is built without a warning, needs nothing from elsewhere, and its reference is complete."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from choreo.cli.program import COMMANDS
from choreo.settings import Settings

ROOT = Path(__file__).parents[2]
# In a page: the addresses that the browser loads by itself. A link that a reader follows may lead anywhere.
_LOADED = re.compile(r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?((?:https?:)?//[^"'> ]+)""")
_STYLED = re.compile(
    r"""<link\b(?=[^>]*rel=["']?(?:stylesheet|preconnect|preload|icon))[^>]*href=["']?((?:https?:)?//[^"'> ]+)"""
)
_IMPORTED = re.compile(r"""(?:url\(|@import\s+)["']?((?:https?:)?//[^"')]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built site; the build is strict, and has no network."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={
            **os.environ,
            "NO_MKDOCS_2_WARNING": "1",
            "http_proxy": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return folder


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    """No font, script, style or image of another host."""
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 20
    found = {at for page in pages for rule in (_LOADED, _STYLED, _IMPORTED) for at in rule.findall(page.read_text())}
    assert found == set()


@pytest.mark.parametrize("module", ["choreo", "choreo.testing"])
def test_every_public_name_is_in_the_reference(site: Path, module: str) -> None:
    """With its docstring; `__all__` lists the names."""
    page = (site / "reference" / "python.html").read_text()
    assert {name for name in importlib.import_module(module).__all__ if f'id="{module}.{name}"' not in page} == set()


def test_every_setting_is_in_the_reference(site: Path) -> None:
    """From the docstrings of the settings themselves."""
    page = (site / "reference" / "settings.html").read_text()
    assert {name for name in Settings.model_fields if f'id="choreo.settings.Settings.{name}"' not in page} == set()


def test_every_command_is_in_the_reference(site: Path) -> None:
    """With the help that it prints."""
    page = (site / "reference" / "commands.html").read_text()
    names = [name for of_section in COMMANDS.values() for name in of_section]
    assert {name for name in names if f"Usage: choreo {name} " not in page} == set()
