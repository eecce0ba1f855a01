"""The auditor's input, read from the embedded backend by plain SQL.

The module from_kafka.py reads it from the Kafka backend.
Shares no code with choreo, and neither does the rest of this folder: code under test must not check itself.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOG = """
SELECT partition, offset, stamp_ms, id, type, key, run, step, causation, entry, certain, data, headers
FROM log WHERE topic = ? ORDER BY partition, offset
"""


@dataclass(frozen=True)
class Fact:
    """A record of the log: its plain columns, and the needed headers."""

    partition: int
    offset: int
    stamp_ms: int
    id: str
    type: str
    key: str
    run: str
    step: str
    causation: str
    entry: str
    certain: bool
    data: bytes
    trigger: str = ""
    round: int = 0
    outcome: int = -1
    due_ms: int = 0
    reason: str = ""
    parent: tuple[Any, ...] = ()
    """Of a child's start: flow, key, run, step, trigger and place in its parent."""
    is_foreign: bool = False
    """Its producer knows nothing of choreo: it set no id, no run and no causation."""

    @property
    def where(self) -> str:
        """Return the record as a sentence names it."""
        return f"{self.type} at {self.partition}/{self.offset}"


@dataclass(frozen=True)
class Evidence:
    """All that is known of a run of the system, besides the gateways' books."""

    log: Sequence[Fact]
    dead_letters: Sequence[tuple[int, int, str, str]]
    """(partition, offset, service, cause) of every dead letter."""
    shown: Mapping[str, str]
    """Run → the status that people see."""
    attempts: Sequence[tuple[str, str, str, int]]
    """(run, trigger, step, attempts begun), as the services' inboxes counted them."""


def read(path: Path, flow: str = "order") -> Evidence:
    """Return all that one file has of a flow."""
    with opened(path) as db:
        return Evidence(facts(db, flow), dead_letters(db), shown(db, flow), attempts(db))


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield the file, for reading only."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as db:
        yield db


def facts(db: sqlite3.Connection, flow: str = "order") -> list[Fact]:
    """Return every record that can be read; one with unreadable headers has the type "unreadable"."""
    return [_fact(row) for row in db.execute(_LOG, (flow,))]


def dead_letters(db: sqlite3.Connection) -> list[tuple[int, int, str, str]]:
    """Return (partition, offset, service, cause) of every dead letter."""
    return db.execute("SELECT partition, offset, service, cause FROM dead_letters ORDER BY number").fetchall()


def shown(db: sqlite3.Connection, flow: str = "order") -> dict[str, str]:
    """Run → the status that people see."""
    return dict(db.execute("SELECT run, status FROM instances WHERE flow = ?", (flow,)))


def attempts(db: sqlite3.Connection) -> list[tuple[str, str, str, int]]:
    """Return (run, trigger, step, attempts begun) of every row of every inbox."""
    return db.execute("SELECT run, trigger, step, begun FROM attempts").fetchall()


def _fact(row: tuple[Any, ...]) -> Fact:
    *plain, headers = row
    try:
        more = json.loads(headers)
        kept = {name: more[name] for name in ("trigger", "round", "outcome", "due_ms", "reason") if name in more}
        if "parent" in more:
            kept["parent"] = tuple(json.loads(more["parent"]))
    except (ValueError, TypeError):
        plain[4], kept = "unreadable", {}
    plain[10] = plain[10] == 1
    return Fact(*plain, **kept)
