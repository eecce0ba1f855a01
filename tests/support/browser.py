"""A real Chromium, driven by Playwright: skipped with a message where the machine has none."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support import required

playwright = required.needed("playwright.async_api", "dev")

FLAGS = (
    "--no-sandbox",  # tests may run as root, in a container
    "--host-resolver-rules=MAP *.example 127.0.0.1",  # a name of the tests' own
)


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """Yield a browser that takes every name below .example for this machine; Playwright's own class."""
    path = os.environ.get("CHOREO_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        required.absent("there is no chromium (Debian: apt-get install chromium; or set CHOREO_CHROMIUM)")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            await browser.close()
