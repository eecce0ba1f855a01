"""One browser for all tests of the page, one server for each module; a test has a context of its own where it acts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.surfaces.web.harness import Site, Watched, site_in, watched


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Return a site with a run in each state, and a dead letter."""
    folder: Path = tmp_path_factory.mktemp("page")
    async with site_in(folder) as own:
        await own.play()
        yield own


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Any]:
    """Return a real Chromium."""
    from tests.support.browser import chromium  # skips where a part is missing

    async with chromium() as own:
        yield own


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Any) -> AsyncIterator[Watched]:
    """Return a page of the browser that fails the test on any fault in it."""
    async with watched(browser) as own:
        yield own
