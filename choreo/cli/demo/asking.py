"""Calls of storage that may be away for a moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from choreo.core.errors import StorageError
from choreo.wiring import App

PATIENCE_S = 60
"""A broker's return takes 10 s, Redis's less; an overloaded machine may take longer than either."""
T = TypeVar("T")


async def asked(app: App, call: Callable[[], Awaitable[T]]) -> T:
    """Return storage's answer; ask again while it fails, as any client does: an event has its id before it is sent.

    Raises StorageError where storage has not answered for `PATIENCE_S`.
    """
    until_ms = app.clock.now_ms() + PATIENCE_S * 1_000
    while True:
        try:
            return await call()
        except StorageError:
            if app.clock.now_ms() > until_ms:
                raise
        await app.clock.sleep(0.5)
