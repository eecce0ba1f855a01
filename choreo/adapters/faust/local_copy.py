"""The tracker's local copy of its states: one RocksDB for all partitions of a worker and flow.

The copy is a cache of the changelog. A damaged copy is moved aside and restored; a copy of other topics is dropped.
One database, and not one for each partition, because each takes six descriptors. Knows neither Faust nor Kafka.
"""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from choreo.core.errors import MissingExtraError, StorageError

try:
    from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch
except ImportError as _missing:
    raise MissingExtraError.of(
        "RocksDB is not installed", where="choreo.adapters.faust.local_copy", extra="faust"
    ) from _missing

_log = logging.getLogger(__name__)

NAME, ASIDE = "states", "states.damaged"
"""Directories of the copy, and of the last damaged one."""
OPEN_FILES = 32
"""Table files kept open; RocksDB holds ten of this number back. Two million states need about as many."""
_CACHE_BYTES = 64 << 20
"""Cached blocks of all flows of a process together."""
_BUFFER_BYTES = 8 << 20
_META = b"\xff\xff\xff\xff"
"""Prefix of the copy's notes about itself: no partition has this number."""
_ORIGIN = _META + b"origin"


class DamagedError(StorageError):
    """The local copy cannot be read or written: it is opened anew, and restored where it is damaged."""


@cache
def _block_cache() -> Any:
    return Cache(_CACHE_BYTES)


def _options() -> Any:
    tables = BlockBasedOptions()
    tables.set_bloom_filter(10, block_based=False)
    tables.set_block_cache(_block_cache())
    options = Options(raw_mode=True)
    options.create_if_missing(create_if_missing=True)
    options.set_max_open_files(OPEN_FILES)
    options.set_write_buffer_size(_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_keep_log_file_num(2)
    options.set_block_based_table_factory(tables)
    return options


class LocalCopy:
    """States by partition and key, and how far each partition of the changelog was restored."""

    def __init__(self, data_dir: Path) -> None:
        """Open the copy in `data_dir`; a damaged one is moved aside. Raises StorageError where none can be opened."""
        self._path = data_dir / NAME
        self._aside = data_dir / ASIDE
        self._db: Any = None
        self.set_aside: str = ""
        """Why the copy was moved aside when it was opened; "": it was not."""
        try:
            self._db = _opened(self._path)
            # The first and the last block are read: a table that is gone or cut shows here.
            self._read_ends()
        except Exception as error:  # noqa: BLE001 - the library raises nothing narrower
            self._replace(error)

    def read(self, partition: int, key: bytes) -> bytes | None:
        """Return the stored state. Raises DamagedError, as all methods do."""
        try:
            found: bytes | None = self._db.get(_prefix(partition) + key)
        except Exception as error:
            raise self._damaged(error) from error
        return found

    def scan(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield every key and stored state of the partition."""
        prefix = _prefix(partition)
        try:
            for key, stored in self._db.items(from_key=prefix):
                if not key.startswith(prefix):
                    return
                yield key[len(prefix) :], stored
        except GeneratorExit:
            raise
        except Exception as error:
            raise self._damaged(error) from error

    def put(self, partition: int, rows: Sequence[tuple[bytes, bytes]], reached: int | None = None) -> None:
        """Write states, and with them how far the changelog was restored."""
        prefix = _prefix(partition)
        batch = WriteBatch(raw_mode=True)
        for key, stored in rows:
            batch.put(prefix + key, stored)
        if reached is not None:
            batch.put(_META + prefix, str(reached).encode())
        self._write(batch)

    def reached(self, partition: int) -> int | None:
        """Return the last offset of the changelog that the copy holds; None: nothing was restored."""
        try:
            found: bytes | None = self._db.get(_META + _prefix(partition))
        except Exception as error:
            raise self._damaged(error) from error
        return None if found is None else int(found)

    def drop(self, partition: int) -> None:
        """Forget the states of a partition, and how far it was restored."""
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(_prefix(partition), _prefix(partition + 1))
        batch.delete(_META + _prefix(partition))
        self._write(batch)

    def belong_to(self, origin: str) -> bool:
        """Drop all states unless they are of this `origin`, the ids of log and changelog; False if any were dropped."""
        noted: bytes | None = self._db.get(_ORIGIN)
        if noted == origin.encode():
            return True
        was_empty = noted is None and next(iter(self._db.items()), None) is None
        if not was_empty:
            self.close()
            shutil.rmtree(self._path, ignore_errors=True)
            self._db = _opened(self._path)
        batch = WriteBatch(raw_mode=True)
        batch.put(_ORIGIN, origin.encode())
        self._write(batch)
        return was_empty

    @property
    def is_closed(self) -> bool:
        """Return whether `close` was called."""
        return self._db is None

    def close(self) -> None:
        """Release the files."""
        database, self._db = self._db, None
        if database is not None:
            with suppress(Exception):  # a damaged one may fail to write its memory
                database.close()
            del database
            gc.collect()

    def _write(self, batch: Any) -> None:
        try:
            self._db.write(batch)
        except Exception as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> DamagedError:
        """Return the error to raise; mark a corrupt copy, so that the next process to open it moves it aside."""
        if "orruption" in str(error) or "No such file" in str(error):
            with suppress(OSError):
                (self._path / "CURRENT").write_bytes(b"")
        return DamagedError(
            f"the local copy of the states failed: {error}",
            where=str(self._path),
            remedy="It is opened again; check that the disk has room, and that no other program writes there.",
        )

    def _read_ends(self) -> None:
        for backwards in (False, True):
            next(iter(self._db.items(backwards=backwards)), None)

    def _replace(self, error: Exception) -> None:
        """Move the copy aside and begin an empty one; where that does not open either, put the first one back."""
        self.close()
        if not self._path.exists() or "lock hold by" in str(error):
            raise self._unusable(error) from error
        spare = self._path.with_name(NAME + ".new")
        try:
            shutil.rmtree(spare, ignore_errors=True)
            _opened(spare).close()
        except Exception as second:  # noqa: BLE001 - no room, no permission: the first copy may be sound
            raise self._unusable(second) from error
        if self._aside.is_dir():
            shutil.rmtree(self._aside, ignore_errors=True)
        self._path.rename(self._aside)
        spare.rename(self._path)
        self._db = _opened(self._path)
        self.set_aside = str(error)
        _log.warning("local copy %s is damaged: moved to %s, restored from the changelog: %s", self._path, ASIDE, error)

    def _unusable(self, error: Exception) -> StorageError:
        return StorageError(
            f"the local copy of the states cannot be opened: {error}",
            where=str(self._path),
            remedy="Check that the disk has room and that this process may write there.",
        )


def _opened(path: Path) -> Any:
    return Rdict(str(path), options=_options())


def _prefix(partition: int) -> bytes:
    return partition.to_bytes(4, "big")
