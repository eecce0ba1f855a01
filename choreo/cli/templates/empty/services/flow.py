"""The flow on one screen: what starts it, what completes it, which services take part."""

from __future__ import annotations

from choreo import Flow
from schemas.events import TaskDone, TaskOpened
from services.worker import worker

task = Flow("task", key="task_id", starts=TaskOpened, completes=TaskDone, deadline="1d", services=[worker])
