"""A tracker worker as a process of its own, for the tests that kill and stop it.

Usage: faust_worker.py BOOTSTRAP PREFIX FOLDER; says `owns 0 1 …` whenever it was given partitions. SIGTERM ends it.
"""

import asyncio
import logging
import re
import signal
import sys
from pathlib import Path

from bench.saga import order
from choreo.adapters.clock import SystemClock
from choreo.adapters.kafka import KafkaLog, KafkaOptions
from choreo.adapters.kafka.records import event_of
from choreo.hosts.tracker_faust_host import FaustTracker
from choreo.hosts.tracker_faust_options import FaustOptions


class Says(logging.Handler):
    """Puts what the host logs on the output; partitions as one line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write it."""
        text = record.getMessage()
        owned = re.search(r"owns partitions \[(.*)\]", text)
        line = f"owns {owned[1].replace(',', '')}" if owned else f"{record.levelname} {record.name} {text}"
        print(line, flush=True)  # noqa: T201 -- the test reads it


async def main(bootstrap: str, prefix: str, folder: str) -> None:
    """Track until asked to stop."""
    log = KafkaLog(KafkaOptions(bootstrap, prefix=prefix))
    options = FaustOptions(bootstrap, Path(folder), prefix=prefix)
    host = FaustTracker(order.definition, log, log.dead_letters, SystemClock(), options=options, read=event_of)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: asyncio.ensure_future(host.stop()))
    await host.run()
    await log.close()


logging.basicConfig(level=logging.WARNING, handlers=[Says()])
logging.getLogger("choreo").setLevel(logging.INFO)
asyncio.run(main(*sys.argv[1:]))
