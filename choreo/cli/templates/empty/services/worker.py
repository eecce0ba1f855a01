"""The one service: it does the task. Rename it, and add steps that react to its events."""

from __future__ import annotations

from choreo import Service, StepContext
from schemas.events import TaskDone, TaskOpened

worker = Service("worker")


@worker.step(on=TaskOpened, emits=TaskDone, timeout="30s", effect=False)
async def work(event: TaskOpened, ctx: StepContext) -> TaskDone:
    """Do the task. A step that leaves an effect behind drops `effect=False` and declares a compensation."""
    return TaskDone(task_id=event.task_id)
