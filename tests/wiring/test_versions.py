"""Frozen versions of a project's flows when its roles start."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from msgspec.structs import replace

from choreo.adapters.frozen_flows import freeze, path_of, read
from choreo.core.errors import SchemaError
from choreo.core.flow_table import FlowTable
from choreo.wiring.versions import with_frozen
from tests.core.order import ORDER, PICKED

SECOND = replace(PICKED, version=2)


def test_a_flow_without_frozen_versions_stays_as_it_is(tmp_path: Path) -> None:
    """It costs nothing."""
    assert with_frozen(ORDER, read(tmp_path), tmp_path) is ORDER


def test_a_flow_gets_its_frozen_versions(tmp_path: Path) -> None:
    """The present version is the declared one, also where its file lags behind by a compatible change."""
    freeze(ORDER, read(tmp_path), tmp_path)
    freeze(SECOND, read(tmp_path), tmp_path)
    longer = replace(SECOND, deadline_ms=2 * SECOND.deadline_ms)
    table = FlowTable(with_frozen(longer, read(tmp_path), tmp_path))
    assert (table.of(1).flow, table.of(2).flow.deadline_ms) == (ORDER, longer.deadline_ms)


def test_a_flow_that_breaks_its_frozen_version_does_not_start(tmp_path: Path) -> None:
    """The error is that of the check."""
    freeze(ORDER, read(tmp_path), tmp_path)
    with pytest.raises(SchemaError, match=r"it is new since version 1 was frozen.*Declare version=2"):
        with_frozen(replace(PICKED, version=1), read(tmp_path), tmp_path)


def test_versions_of_a_flow_share_its_key_and_start(tmp_path: Path) -> None:
    """By both every reader finds the runs of all versions in one log."""
    freeze(ORDER, read(tmp_path), tmp_path)
    with pytest.raises(SchemaError, match=r"key is number, and it is order_id in version 1.*another name"):
        with_frozen(replace(SECOND, key="number"), read(tmp_path), tmp_path)


def test_a_damaged_file_is_reported_and_its_version_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The process starts: the other runs go on."""
    freeze(ORDER, read(tmp_path), tmp_path)
    freeze(SECOND, read(tmp_path), tmp_path)
    path_of("order", 1, tmp_path).write_text("{")
    with caplog.at_level(logging.ERROR):
        table = FlowTable(with_frozen(SECOND, read(tmp_path), tmp_path))
    assert (table.knows(1), table.knows(2), table.is_versioned) == (False, True, True)
    assert str(path_of("order", 1, tmp_path)) in caplog.text
