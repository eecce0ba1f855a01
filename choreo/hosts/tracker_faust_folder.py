"""A folder of its own for each worker process: the first below a shared one that no living process holds.

A worker that comes back finds the folder it left, with its local copies still warm; two workers never share one.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from choreo.core.errors import StorageError


@contextmanager
def claimed(parent: Path) -> Iterator[Path]:
    """Hold a folder below `parent`, made with its parents, until the block ends or the process does.

    Raises StorageError where folders cannot be made.
    """
    try:
        folder, lock = _claim(parent)
    except OSError as error:
        raise StorageError(
            f"no folder for the tracker's local copies: {error}",
            where=str(parent),
            remedy="Name a folder that this process may write.",
        ) from error
    try:
        yield folder
    finally:
        os.close(lock)


def _claim(parent: Path) -> tuple[Path, int]:
    for number in count():
        folder = parent / str(number)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return folder, lock
    raise AssertionError
