"""The end of one child in the event of a join."""

from __future__ import annotations

from choreo.event.event import Part


class ChildResult(Part):
    """How one child has ended: `completed`, `compensated`, `stuck` or `terminated`. `place` counts from 0."""

    place: int
    key: str
    outcome: str
    reason: str
