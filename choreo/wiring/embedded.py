"""The embedded home: one SQLite file, or this process's memory."""

from __future__ import annotations

from collections.abc import Iterable

from choreo.adapters.clock import SteadyClock
from choreo.adapters.memory.home import MemoryHome
from choreo.adapters.sqlite.home import SqliteHome
from choreo.adapters.topics_yaml import load_topics
from choreo.ports.dependencies import Dependencies
from choreo.settings import Settings


async def open_embedded(
    settings: Settings, flows: Iterable[str], clock: SteadyClock, dependencies: Dependencies, *, memory: bool
) -> SqliteHome | MemoryHome:
    """The home with a topic for each flow; raises SettingsError, StorageError."""
    home: SqliteHome | MemoryHome
    if memory:
        home = MemoryHome(clock, lease_s=settings.lease_s)
    else:
        home = await SqliteHome.open(
            settings.database,
            synchronous=settings.synchronous,
            clock=clock,
            lease_s=settings.lease_s,
            dependencies=dependencies,
            observe=clock.observe,
        )
    try:
        topics = load_topics(settings.topics) if settings.topics.is_dir() else {}
        for name in flows:
            await home.log.create(name, topics[name].partitions if name in topics else settings.partitions)
    except BaseException:
        await home.close()
        raise
    return home
