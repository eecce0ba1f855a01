"""A tracker worker as a process of its own, for the tests that kill and stop it.

Usage: faust_worker.py BOOTSTRAP PREFIX FOLDER; prints `owns 0 1 …` whenever partitions were assigned. SIGTERM ends it.
"""

import asyncio
import logging
import re
import signal
import sys
from pathlib import Path

from bench.faust_tracker import tracker
from bench.saga import order
from choreo.adapters.faust.options import FaustOptions
from choreo.adapters.kafka import KafkaLog, KafkaOptions


class Output(logging.Handler):
    """Prints the log lines of the host; assigned partitions as one line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write it."""
        text = record.getMessage()
        owned = re.search(r"owns partitions \[(.*)\]", text)
        line = f"owns {owned[1].replace(',', '')}" if owned else f"{record.levelname} {record.name} {text}"
        print(line, flush=True)  # noqa: T201 -- the test reads it


async def main(bootstrap: str, prefix: str, folder: str) -> None:
    """Track until SIGTERM."""
    log = KafkaLog(KafkaOptions(bootstrap, prefix=prefix))
    options = FaustOptions(bootstrap, Path(folder), prefix=prefix)
    host = tracker(order.definition, log, options)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: asyncio.ensure_future(host.stop()))
    await host.run()
    await log.close()


logging.basicConfig(level=logging.WARNING, handlers=[Output()])
logging.getLogger("choreo").setLevel(logging.INFO)
asyncio.run(main(*sys.argv[1:]))
