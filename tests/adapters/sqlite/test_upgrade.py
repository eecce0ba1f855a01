"""A file of the version before is folded again: its lists and counts are empty until then, and complete afterwards."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from msgspec.structs import replace

from choreo.adapters.sqlite import SqliteBackend
from choreo.core.attributes import OUTCOME
from choreo.ports.read_model import Filter
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import TOPIC
from choreo.testing.conformance.read_model import filled, standing

WITHOUT_PLACES = (
    "DROP TRIGGER instance_placed; DROP TRIGGER instance_left; DROP TRIGGER instance_came; DROP TRIGGER instance_gone;"
    "DROP INDEX instances_standing; DROP INDEX instances_due; ALTER TABLE instances DROP COLUMN due_ms;"
    "ALTER TABLE instances DROP COLUMN place; ALTER TABLE instances DROP COLUMN since_ms;"
)
"""Takes away that which a file of version 7 lacks: the places of runs and their counts."""


async def test_a_file_without_the_places_of_runs(tmp_path: Path) -> None:
    """The tracker's offsets are gone, so that it begins at 0; nothing is counted twice."""
    path, clock = tmp_path / "choreo.db", VirtualClock()
    ended = replace(standing(1, ""), status="completed", keys={OUTCOME: "delivered"})
    backend = await SqliteBackend.open(path, clock=clock)
    await filled(backend, ended, standing(2, "pay.charge"))
    assert await backend.read_model.outcomes(TOPIC) == {"delivered": 1}
    await backend.close()
    with sqlite3.connect(path) as connection:
        connection.executescript(
            f"{WITHOUT_PLACES} DROP TABLE notes; UPDATE meta SET value = 7 WHERE name = 'schema_version'"
        )
    connection.close()
    later = await SqliteBackend.open(path, clock=clock)
    model = later.read_model
    assert (await model.instances(Filter(), 10)).items == []
    assert (await model.counts(TOPIC), await model.outcomes(TOPIC), await model.positions(TOPIC)) == ({}, {}, {})
    await filled(later, ended, standing(2, "pay.charge"))
    assert await model.counts(TOPIC) == {"completed": 1, "running": 1}
    assert await model.outcomes(TOPIC) == {"delivered": 1}
    assert await model.standing(TOPIC, ["pay.charge"]) == {"pay.charge": 1}
    assert [view.key for view in await model.oldest(TOPIC, "pay.charge", 10)] == ["o-2"]
    await later.close()
