"""Claim a data directory for one worker process: the first below a shared one that no living process holds.

A restarted worker finds the directory that it left, with its local copies still warm; two workers never share one.
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
    """Hold a directory below `parent`, made with its parents, until the block ends or the process does.

    Raises StorageError where directories cannot be made.
    """
    try:
        data_dir, lock = _claim(parent)
    except OSError as error:
        raise StorageError(
            f"no directory for the tracker's local copies: {error}",
            where=str(parent),
            remedy="Name a directory that this process may write.",
        ) from error
    try:
        yield data_dir
    finally:
        os.close(lock)


def _claim(parent: Path) -> tuple[Path, int]:
    for number in count():
        data_dir = parent / str(number)
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return data_dir, lock
    raise AssertionError
