"""Frozen versions of flows: written once, compared, and refused when a file cannot be trusted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from choreo.adapters.frozen_flows import check, freeze, path_of, read
from choreo.core.definition import export, load
from choreo.core.errors import SchemaError
from tests.core.order import PICKED
from tests.core.plain import HOUR_MS, PICK

LONGER = replace(PICKED, waits=(replace(PICK, timeout_ms=2 * HOUR_MS),))
SHORTER = replace(PICKED, waits=(replace(PICK, timeout_ms=HOUR_MS // 2),))


def test_a_frozen_version_loads_back_to_the_same_flow(tmp_path: Path) -> None:
    """The file is flow JSON: the loader of exported flows reads it too."""
    path = freeze(replace(PICKED, version=3), read(tmp_path), tmp_path)
    assert path == tmp_path / "flows" / "order.3.json"
    assert read(tmp_path).of("order")[3].definition == replace(PICKED, version=3) == load(path.read_bytes())
    assert check(replace(PICKED, version=3), read(tmp_path), tmp_path) == []
    assert freeze(replace(PICKED, version=3), read(tmp_path), tmp_path) is None


def test_a_compatible_change_is_written_into_the_file_of_its_version(tmp_path: Path) -> None:
    """Until then the check names it, with the command."""
    freeze(PICKED, read(tmp_path), tmp_path)
    (problem,) = check(LONGER, read(tmp_path), tmp_path)
    assert problem.mends
    assert "timeout is 2h, it was 1h since version 1 was frozen; runs in flight can bear it" in problem.error.sentence
    assert freeze(LONGER, read(tmp_path), tmp_path) == path_of("order", 1, tmp_path)
    assert read(tmp_path).of("order")[1].definition == LONGER


def test_a_change_that_runs_in_flight_cannot_bear_needs_a_new_version(tmp_path: Path) -> None:
    """The file stays as it is; the remedy names the number. Both versions then stand side by side."""
    freeze(PICKED, read(tmp_path), tmp_path)
    with pytest.raises(SchemaError, match="promised more time") as refused:
        freeze(SHORTER, read(tmp_path), tmp_path)
    assert refused.value.where == "flow order, wait.Picked"
    assert refused.value.remedy.startswith("Declare version=2 and freeze it; keep the old steps")
    freeze(replace(SHORTER, version=2), read(tmp_path), tmp_path)
    assert {n: each.definition for n, each in read(tmp_path).of("order").items()} == {
        1: PICKED,
        2: replace(SHORTER, version=2),
    }


def test_a_version_never_goes_back(tmp_path: Path) -> None:
    """A deployment of an older checkout is noticed."""
    freeze(replace(PICKED, version=2), read(tmp_path), tmp_path)
    with pytest.raises(SchemaError, match=r"version=1 is declared, and version 2 is frozen.*Declare version=2"):
        freeze(PICKED, read(tmp_path), tmp_path)


def test_several_changes_are_one_error_with_a_line_each(tmp_path: Path) -> None:
    """Nobody mends them one by one."""
    freeze(PICKED, read(tmp_path), tmp_path)
    with pytest.raises(SchemaError, match=r"2 changes\n  - flow order: completes is") as refused:
        freeze(replace(SHORTER, completes="Picked"), read(tmp_path), tmp_path)
    assert "wait.Picked: timeout is 30m" in refused.value.sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "cannot be read as a flow"),
        (b"[]", "is no JSON of a flow"),
        (b'{"format": 1, "name": "order"}', "cannot be read as a flow: Object missing required field"),
        (export(PICKED)[:-40], "cannot be read as a flow"),
        (export(PICKED).replace(b'"order"', b'"other"'), "holds version 1 of flow other"),
        (export(replace(PICKED, version=2)), "holds version 2 of flow order"),
        (json.dumps({"format": 2, **json.loads(export(PICKED))}).encode(), "its format is 2, and this choreo knows 1"),
        (export(PICKED).replace(b'"bars"', b'"asks": "twice", "bars"'), "it has steps[0].compensation.asks, which"),
        (export(PICKED).replace(b'"timeout_ms": 3600000', b'"timeout_ms": -1'), "$.waits[0].timeout_ms is -1"),
        (b"\xff", "cannot be read as a flow"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_a_fault_beside_the_others(tmp_path: Path, text: bytes, sentence: str) -> None:
    """Damaged, of a newer choreo, or of another version: named with its path; the other versions stay readable."""
    freeze(replace(PICKED, version=2), read(tmp_path), tmp_path)
    path_of("order", 1, tmp_path).write_bytes(text)
    frozen = read(tmp_path)
    assert list(frozen.of("order")) == [2]
    assert sentence in frozen.faults["order", 1].sentence
    assert str(path_of("order", 1, tmp_path)) in frozen.faults["order", 1].sentence
    assert [each.mends for each in check(replace(PICKED, version=2), frozen, tmp_path)] == [False]


def test_a_file_without_a_version_in_its_name_is_a_fault(tmp_path: Path) -> None:
    """It would never be found."""
    freeze(PICKED, read(tmp_path), tmp_path)
    (tmp_path / "flows" / "order.json").write_bytes(export(PICKED))
    assert "this name has no flow and version" in read(tmp_path).faults["order", 0].sentence


def test_no_folder_means_that_nothing_is_frozen(tmp_path: Path) -> None:
    """A flow without versions needs none."""
    assert read(tmp_path / "nowhere").numbers("order") == []
    assert check(PICKED, read(tmp_path), tmp_path)[0].error.what == "is not frozen"
