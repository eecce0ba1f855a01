"""The contributors' map: its picture is drawn from the imports of today, and every path that it names exists."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
_PATH = re.compile(r"`((?:choreo|docs|tests|services|schemas|topics|bench)/[^`\s]*)`")
_MEMBER = re.compile(r"`(\w+(?:\.\w+)?)`\s+in\s+`(choreo/[^`\s]+\.py)`")
_NAME = re.compile(r"`(?:\w+\.)?((?!py`)\w+)`")
"""A name in a recipe; of `Flow.wait` the method. No file's."""
_ORDERED = re.compile(r"^\d+\.", re.MULTILINE)


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    """Return the script that draws."""
    spec = importlib.util.spec_from_file_location("draw_imports", ROOT / "docs" / "draw_imports.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_drawn_from_the_imports_of_today(drawing: ModuleType) -> None:
    """Draw it again with `python docs/draw_imports.py`."""
    assert drawing.PICTURE.read_text() == drawing.picture()


def test_an_import_that_a_chain_implies_is_left_out(drawing: ModuleType) -> None:
    """Only the longest way is drawn, and no package is unreachable for it."""
    edges = {("cli", "wiring"), ("wiring", "core"), ("cli", "core"), ("cli", "settings")}
    assert drawing.reduced(edges) == edges - {("cli", "core")}


def test_every_package_has_a_box_in_the_row_of_its_layer(drawing: ModuleType) -> None:
    """A package that is new is in the picture, at the height of its layer."""
    folders = {path.name for path in (ROOT / "choreo").iterdir() if (path / "__init__.py").exists()}
    rows = drawing.rows()
    assert folders <= {name for row in rows for name in row}
    assert all(f">{name}<" in drawing.picture() or f">{name}/" in drawing.picture() for name in folders)


def test_every_path_that_the_map_names_exists() -> None:
    """Files and folders; a renamed one is renamed here too."""
    paths = set(_PATH.findall(PAGE))
    assert len(paths) > 40
    assert {path for path in paths if not (ROOT / path).exists()} == set()


def test_every_function_and_field_that_the_map_places_in_a_file_stands_there() -> None:
    """`RetryRule.delay_ms` in `choreo/core/definition.py`: class and method by their names."""
    places = _MEMBER.findall(PAGE)
    assert len(places) >= 4
    for name, path in places:
        text = (ROOT / path).read_text()
        for part in name.split("."):
            assert re.search(rf"\b(?:def|class) {part}\b", text), f"{path} has no {name}"


def test_every_name_in_a_recipe_stands_in_a_file_that_the_recipe_names() -> None:
    """A recipe whose field, list or example was renamed is renamed, too."""
    recipes = [line for line in PAGE.split("## Where do I add …")[1].splitlines() if line.startswith("| **")]
    assert len(recipes) >= 8
    for recipe in recipes:
        paths = [ROOT / path for path in _PATH.findall(recipe)]
        files = [file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])]
        text = "\n".join(file.read_text() for file in files)
        for name in _NAME.findall(recipe):
            assert re.search(rf"\b{name}\b", text), f"no file of this recipe has {name}: {recipe[:40]}"


def test_a_record_crosses_at_most_twelve_stages() -> None:
    """From Kafka to its outcome: a stage more is a reason to join two."""
    way = PAGE.split("## From a Kafka record to its outcome")[1].split("\n## ")[0]
    assert 1 <= len(_ORDERED.findall(way)) <= 12
