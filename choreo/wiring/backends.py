"""The table of backends and stores, by the setting that names each. The only place of wiring that knows an adapter.

Another one is a package in `choreo.adapters`, a setting, and a line here. A module is imported only once it is chosen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from choreo.core.definition import FlowDefinition
from choreo.core.errors import SettingsError
from choreo.ports.backend import Backend, BackendOptions, OpenStores
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies
from choreo.settings import Settings

BACKENDS: Mapping[str, str] = {
    "kafka": "choreo.adapters.kafka.backend",
    "database": "choreo.adapters.sqlite.backend",
}
"""The modules with `open_backend`. The first setting that has a value chooses; `database` always has one."""
MEMORY = "choreo.adapters.memory.backend"
SYSTEMS: Mapping[str, str] = {"kafka": "kafka", "database": "sqlite"}
"""The kind of each backend's log, as a span names it."""
STORES: Mapping[str, str] = {
    "redis": "choreo.adapters.redis.stores",
    "postgres": "choreo.adapters.postgres.stores",
}
"""The modules with `open_stores`, for a backend with its log on a server. At most one of the settings has a value."""


async def open_backend(
    settings: Settings,
    flows: Mapping[str, FlowDefinition],
    clock: Clock,
    dependencies: Dependencies,
    put: Callable[[str, float], None],
    *,
    memory: bool,
) -> Backend:
    """Open the backend that the settings name. Raises SettingsError, StorageError, MissingExtraError."""
    name = chosen(settings)
    options = BackendOptions(
        address=str(getattr(settings, name)),
        flows=flows,
        clock=clock,
        dependencies=dependencies,
        put=put,
        environment=os.environ,
        topics=settings.topics,
        schemas=settings.schemas,
        data=settings.data,
        partitions=settings.partitions,
        lease_s=settings.lease_s,
        synchronous=settings.synchronous,
        open_stores=_stores(settings),
    )
    backend: Backend = await _function(MEMORY if memory else BACKENDS[name], "open_backend")(options)
    return backend


def chosen(settings: Settings) -> str:
    """Return the name of the setting that chooses the backend."""
    return next(name for name in BACKENDS if getattr(settings, name))


def _stores(settings: Settings) -> OpenStores | None:
    """Return the function that opens the stores, None where none are set. Raises SettingsError where several are."""
    named = [name for name in STORES if getattr(settings, name)]
    if len(named) > 1:
        raise SettingsError(
            f"{' and '.join(named)} are both set, and inbox and read model have one place",
            where=f"settings {', '.join(named)}",
            remedy=f"Keep one of {', '.join(f'CHOREO_{name.upper()}' for name in named)}.",
        )
    if not named:
        return None
    (name,) = named

    def opened(*parts: Any, **options: Any) -> Any:
        return _function(STORES[name], "open_stores")(getattr(settings, name), *parts, **options)

    return opened


def _function(module: str, name: str) -> Callable[..., Any]:
    """Return a function of an adapter. Raises MissingExtraError where its client library is not installed."""
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found
