"""The README: its files are a project (test_pages follows it word for word), and its table of settings is complete."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.reader import blocks_of

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def test_the_readme_has_a_contract_services_a_flow_and_a_test() -> None:
    """The files that a reader copies are a whole project."""
    files = [block.argument for block in blocks_of(README) if block.kind == "snippet"]
    assert files == ["schemas.py", "services.py", "flow.py", "test_flow.py"]


def test_the_settings_table_names_every_setting() -> None:
    """A setting that is not in the README is not documented; one that is not a setting is a lie."""
    from choreo.settings import Settings

    table = README.read_text().split("## Settings")[1].split("##")[0]
    named = {name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert named == set(Settings.model_fields)
