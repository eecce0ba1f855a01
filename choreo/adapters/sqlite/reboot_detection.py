"""Detect a reboot since the file was last used, and find the triggers that are in doubt after it.

Attempt counts are not flushed before the handler runs. The records that led to the attempt are flushed, so that after a
power cut the trigger stands in the log and is processed again. Only the count of attempts is then too low, by an
attempt that may have had its effect. So after a reboot the file notes the log's newest timestamp: nothing is certain
about a trigger up to it. Where the system has no boot id, attempts are flushed before they begin.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from uuid import UUID

from choreo.adapters.sqlite.schema import OFFSET_BITS

NO_DOUBT = -1

# Linux makes one at each boot. A container has its machine's id or a newer one of its own, never an older one.
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_LAST_STAMP = f"""SELECT max(
    (SELECT stamp_ms FROM records WHERE place < (partition_id + 1) << {OFFSET_BITS} ORDER BY place DESC LIMIT 1)
) FROM partitions"""  # noqa: S608 -- our own number
_NOTE = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


def boot_of_machine() -> int:
    """Return the id of the machine's present boot as a number; 0 where the system has none."""
    try:
        return UUID(_BOOT_ID.read_text(encoding="ascii").strip()).int >> 65
    except (OSError, ValueError):
        return 0


def newest_ms(connection: sqlite3.Connection) -> int:
    """Return the newest stamp of any partition, NO_DOUBT where there is no record."""
    ((last_ms,),) = connection.execute(_LAST_STAMP)
    return NO_DOUBT if last_ms is None else int(last_ms)


def doubtful_ms(connection: sqlite3.Connection, boot: int) -> int:
    """Return the timestamp up to which triggers are in doubt under this boot, or NO_DOUBT.

    Runs inside the opening transaction.
    """
    noted = dict(connection.execute("SELECT name, value FROM meta WHERE name IN ('boot', 'doubtful_ms')"))
    doubtful = int(noted.get("doubtful_ms", NO_DOUBT))
    # Without a note the file is new, or its earlier processes flushed every attempt.
    if "boot" not in noted or noted["boot"] == boot:
        if "boot" not in noted and boot:
            connection.execute(_NOTE, ("boot", boot))
        return doubtful
    doubtful = max(doubtful, newest_ms(connection))
    # Leases end by the time since the machine's start, and their holders ended with the old boot.
    connection.execute("DELETE FROM memberships")
    connection.execute("UPDATE attempts SET held_until_ms = 0 WHERE held_until_ms > 0")
    connection.executemany(_NOTE, [("boot", boot), ("doubtful_ms", doubtful)])
    return doubtful
