"""Files of a project are written whole or not at all, also on a full disk."""

from __future__ import annotations

import errno
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from choreo import Event
from choreo.adapters import frozen_flows
from choreo.adapters.avro import frozen
from choreo.adapters.recording import Export, Head
from choreo.adapters.whole_files import write_whole
from choreo.core.errors import SchemaError
from services.order_flow import order

ROOT = Path(__file__).parents[2]


class Long(Event):
    """An event with a contract that does not fit on a full disk."""

    order_id: str


def names(folder: Path) -> list[str]:
    """Return the names in a folder."""
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def full() -> Iterator[Callable[[int], None]]:
    """Yield a function that lets no file of this process grow beyond so many bytes."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_contract_that_does_not_fit_leaves_nothing(tmp_path: Path, full: Callable[[int], None]) -> None:
    """An empty file would keep every process of the project from starting."""
    full(10)
    with pytest.raises(SchemaError, match="cannot be written: File too large") as refused:
        frozen.freeze([Long], tmp_path / "schemas")
    assert refused.value.where.endswith("Long.1.avsc")
    with pytest.raises(SchemaError, match="cannot be written: File too large"):
        frozen_flows.freeze(order.definition, frozen_flows.read(tmp_path), tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    full(resource.RLIM_INFINITY)
    assert [path.name for path in frozen.freeze([Long], tmp_path / "schemas")] == ["Long.1.avsc"]


def test_a_file_that_was_there_keeps_its_content(tmp_path: Path, full: Callable[[int], None]) -> None:
    """And its mode; a new one never replaces another."""
    path = tmp_path / "order.json"
    path.write_text("before")
    path.chmod(0o640)
    full(10)
    with pytest.raises(OSError, match=str(path)):
        write_whole(path, "after" * 10)
    assert (path.read_text(), names(tmp_path)) == ("before", ["order.json"])
    write_whole(path, "after")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("after", 0o640)
    with pytest.raises(FileExistsError):
        write_whole(path, "again", new=True)
    assert (path.read_text(), names(tmp_path)) == ("after", ["order.json"])


def test_a_recording_that_does_not_fit_leaves_nothing(tmp_path: Path, full: Callable[[int], None]) -> None:
    """Its part is removed, also where the rest of it cannot be written."""
    head = Head(recording=1, flow="order", version=1, partitions=1, positions={}, keys=[], as_of_ms=0)
    full(10)
    with pytest.raises(OSError, match="File too large") as refused, Export(tmp_path / "log.jsonl", head):
        pass
    assert (refused.value.errno, names(tmp_path)) == (errno.EFBIG, [])


def test_an_export_that_does_not_fit_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    """On the command line: not a fault of the program, and no traceback."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)); from choreo.cli.program import run;"
        "sys.exit(run(['flow', 'export', 'order', '--to', sys.argv[1]]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "order.json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, "cannot be written" in ran.stderr, "  remedy: Free disk space" in ran.stderr) == (
        2,
        True,
        True,
    )
    assert names(tmp_path) == []
