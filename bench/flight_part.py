"""Some roles of a round in a process of their own: `python -m bench.flight_part FOLDER SYNCHRONOUS ROLE...`."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from bench.flight import settings_of
from choreo.wiring import open_app, run


async def work(folder: Path, synchronous: str, roles: list[str]) -> None:
    """Run the roles until SIGTERM, which drains."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with open_app(settings_of(folder, synchronous)) as app:
        await run(app, roles, stop)


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
