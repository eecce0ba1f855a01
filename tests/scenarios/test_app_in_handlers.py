"""The App's publisher and queries work inside handlers, async and plain: they belong to the loop that opened them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from choreo.core.errors import StorageError
from choreo.settings import load
from choreo.wiring import open_app
from tests.support.asking import FLOW, FOUND, Asked, Asking


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "sqlite"])
async def test_handlers_publish_and_ask_through_the_app(tmp_path: Path, *, memory: bool) -> None:
    """On the handlers' own loop and in threads; a refusal is raised there as its own error."""
    asking = Asking()
    settings = load(flows=("asking_project:flow",), database=tmp_path / "c.db", topics=tmp_path / "none", partitions=2)
    assert await asking.play(settings, memory=memory) == FOUND


async def test_an_app_that_is_closed_says_so(tmp_path: Path) -> None:
    """To a thread that outlives it."""
    Asking()
    settings = load(flows=("asking_project:flow",), database=tmp_path / "c.db", topics=tmp_path / "none")

    async def opened() -> object:
        async with open_app(settings, memory=True) as app:
            return app.publisher

    publisher = await asyncio.to_thread(asyncio.run, opened())
    with pytest.raises(StorageError, match="the App is closed"):
        await publisher.publish(FLOW, Asked(key="late"))
