"""Whether the machine may have lost power since the file was last used, and what is in doubt if it has.

That an attempt has begun need not be flushed before its handler is called: what led to it is, so that after a cut the
trigger stands in the log and is worked again. Only the count of attempts is too low then, by an attempt that may have
left its effect. So under another boot of the machine the file notes how far the log goes: of no trigger up to there is
anything certain. Where the system does not tell its boots apart, attempts are flushed before they begin.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from uuid import UUID

from choreo.adapters.sqlite.schema import OFFSET_BITS

NO_DOUBT = -1

# Linux makes one at each boot. Containers see their machine's, or have one of their own, which is never too old.
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_LAST_STAMP = f"""SELECT max(
    (SELECT stamp_ms FROM records WHERE place < (lane + 1) << {OFFSET_BITS} ORDER BY place DESC LIMIT 1)
) FROM lanes"""  # noqa: S608 -- our own number
_NOTE = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


def boot_of_machine() -> int:
    """The machine's present boot as a number; 0 where the system does not say."""
    try:
        return UUID(_BOOT_ID.read_text(encoding="ascii").strip()).int >> 65
    except (OSError, ValueError):
        return 0


def newest_ms(connection: sqlite3.Connection) -> int:
    """Return the newest stamp of any partition, NO_DOUBT where there is no record."""
    ((last_ms,),) = connection.execute(_LAST_STAMP)
    return NO_DOUBT if last_ms is None else int(last_ms)


def doubtful_ms(connection: sqlite3.Connection, boot: int) -> int:
    """Inside the opening transaction: up to which stamp triggers are in doubt, now under this boot; or NO_DOUBT."""
    noted = dict(connection.execute("SELECT name, value FROM meta WHERE name IN ('boot', 'doubtful_ms')"))
    doubtful = int(noted.get("doubtful_ms", NO_DOUBT))
    # Without a note the file is new, or those who wrote it flushed every attempt.
    if "boot" not in noted or noted["boot"] == boot:
        if "boot" not in noted and boot:
            connection.execute(_NOTE, ("boot", boot))
        return doubtful
    doubtful = max(doubtful, newest_ms(connection))
    # Leases end by the time since the machine's start, and whoever had them ended with it.
    connection.execute("DELETE FROM seats")
    connection.execute("UPDATE attempts SET held_until_ms = 0 WHERE held_until_ms > 0")
    connection.executemany(_NOTE, [("boot", boot), ("doubtful_ms", doubtful)])
    return doubtful
