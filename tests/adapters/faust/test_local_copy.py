"""The tracker's local copy: its content by partition, and the handling of one that is damaged or of other topics."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from choreo.core.errors import StorageError
from tests.support import required

required.needed("rocksdict", "faust")

from choreo.adapters.faust.local_copy import ASIDE, NAME, OPEN_FILES, DamagedError, LocalCopy  # noqa: E402

ROWS = [(f"key-{number}".encode(), bytes([number % 256]) * 300) for number in range(2_000)]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder with a copy of two partitions, part of it in table files, part in its write-ahead log."""
    local = LocalCopy(tmp_path)
    local.belong_to("log changelog")
    for _ in range(20):
        for partition in (0, 1):
            local.put(partition, ROWS, reached=7)
    local.close()
    LocalCopy(tmp_path).close()
    local = LocalCopy(tmp_path)
    local.put(0, ROWS[:50])
    local.close()
    assert list((tmp_path / NAME).glob("*.sst"))
    return tmp_path


def gone(path: Path) -> None:
    """Delete the file."""
    path.unlink()


def emptied(path: Path) -> None:
    """Leave nothing in it."""
    path.write_bytes(b"")


def halved(path: Path) -> None:
    """Cut it, as a crash of the machine does."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    """Change every hundredth byte, as a bad disk does."""
    data = bytearray(path.read_bytes())
    for place in range(0, len(data), 100):
        data[place] ^= 0xFF
    path.write_bytes(bytes(data))


def a_folder(path: Path) -> None:
    """Put a folder where the file was."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("pattern", ["CURRENT", "MANIFEST-*", "*.sst", "IDENTITY", "OPTIONS-*", "*.log", "LOCK"])
@pytest.mark.parametrize("damage", [gone, emptied, halved, flipped, a_folder])
def test_a_damaged_copy_is_used_or_moved_aside_but_never_ends_the_process(
    folder: Path, pattern: str, damage: Callable[[Path], None]
) -> None:
    """Each kind of file, damaged in each way: the copy opens, and all rows that it lists can be read."""
    hit = [path for path in (folder / NAME).glob(pattern) if path.is_file()]
    for path in hit:
        damage(path)
    assert hit, f"no file {pattern}: the test proved nothing"
    for _ in range(2):
        local = LocalCopy(folder)
        try:
            kept = [dict(local.scan(partition)) for partition in (0, 1)]
            local.put(0, [(b"new", b"state")])
            assert local.read(0, b"new") == b"state"
        except DamagedError:
            continue  # found while it was read: the next one to open it moves it aside
        finally:
            local.close()
        assert bool(local.set_aside) <= (folder / ASIDE).is_dir()
        for partition, rows in enumerate(kept):
            assert all(rows.get(key, stored) == stored for key, stored in ROWS)
            # Missing rows are restored: the copy does not claim to hold them.
            assert len(rows) >= len(ROWS) or local_reached(folder, partition) is None
        return
    pytest.fail("the copy was damaged twice")


def local_reached(folder: Path, partition: int) -> int | None:
    """Return the offset up to which a copy claims to be restored."""
    local = LocalCopy(folder)
    try:
        return local.reached(partition)
    finally:
        local.close()


def test_states_are_kept_by_partition(tmp_path: Path) -> None:
    """Dropping one partition leaves its neighbours and their notes."""
    local = LocalCopy(tmp_path)
    for partition in (0, 1, 2, 256):
        local.put(partition, [(b"a", str(partition).encode())], reached=partition)
    local.drop(1)
    assert {partition: dict(local.scan(partition)) for partition in (0, 1, 2, 256)} == {
        0: {b"a": b"0"},
        1: {},
        2: {b"a": b"2"},
        256: {b"a": b"256"},
    }
    assert [local.reached(partition) for partition in (0, 1, 2, 256)] == [0, None, 2, 256]
    local.close()


def test_a_copy_of_other_topics_is_dropped(tmp_path: Path) -> None:
    """Topics that were made anew have other ids: states of the old ones are not theirs."""
    local = LocalCopy(tmp_path)
    assert local.belong_to("log-1 changelog-1")
    local.put(0, [(b"a", b"1")], reached=3)
    assert local.belong_to("log-1 changelog-1")
    assert local.read(0, b"a") == b"1"
    assert not local.belong_to("log-1 changelog-2")
    assert (local.read(0, b"a"), local.reached(0)) == (None, None)
    local.close()


def test_a_copy_without_room_is_refused_with_the_remedy_and_left_alone(folder: Path) -> None:
    """Where a new copy cannot be made either, the old one may be sound: it is not moved."""
    current = folder / NAME / "CURRENT"
    saved = current.read_bytes()
    current.write_bytes(b"")
    (folder / f"{NAME}.new").write_text("a file, where a folder is to be made")
    shutil.rmtree(folder / ASIDE, ignore_errors=True)
    (folder / f"{NAME}.new").chmod(0o400)
    with pytest.raises(StorageError, match="may write there"):
        LocalCopy(folder)
    current.write_bytes(saved)
    local = LocalCopy(folder)
    assert local.read(0, ROWS[0][0]) == ROWS[0][1]
    local.close()


def test_a_copy_takes_few_descriptors(folder: Path) -> None:
    """However large it grows: fifty flows of eight partitions fit into a soft limit of 1,024."""
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    local = LocalCopy(folder)
    for partition in range(64):
        local.put(partition, ROWS)
    assert len(list(descriptors.iterdir())) - before <= OPEN_FILES
    local.close()
