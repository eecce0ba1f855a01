"""Which timer facts about the right subject count, whatever durations are declared today. Pure.

A timer fact in the log stands: the moment that it carries is the one that was decided. Only a pause that its tracker
had not read makes it void, because the subject's due time has moved since.
"""

from __future__ import annotations

from choreo.core.events import Envelope


def is_timely(event: Envelope, due_ms: int, pause_n: int) -> bool:
    """Return whether a timer fact about the right subject counts.

    `due_ms` is the due time of the subject by the present declaration; `pause_n` the number of the run's newest pause
    or resume. A fact with another due time was decided under another declaration, or before a pause was read.
    """
    return event.due_ms == due_ms or (event.due_ms > 0 and event.pauses == pause_n)
