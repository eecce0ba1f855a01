"""The events of the flow: facts, past tense. Each carries what later steps need.

Change a class compatibly only (`choreo schemas check`), then freeze it (`choreo schemas freeze`).
"""

from __future__ import annotations

from choreo import Event


class TaskOpened(Event):
    """Somebody asked for something: an instance of the flow starts."""

    task_id: str


class TaskDone(Event):
    """It is done: the flow is complete."""

    task_id: str
