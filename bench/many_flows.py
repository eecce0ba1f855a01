"""A project of many small flows, as the benchmark of them runs it: `BENCH_FLOWS` says how many.

Each flow is one step of a service that takes part in all of them.
"""

from __future__ import annotations

import os

from choreo import Event, Flow, Service, StepContext

COUNT = "BENCH_FLOWS"


class TaskGiven(Event):
    """A task to be done."""

    task_id: str


class TaskDone(Event):
    """The task is done."""

    task_id: str


work = Service("work")


@work.step(on=TaskGiven, emits=TaskDone, effect=False)
async def do(event: TaskGiven, _ctx: StepContext) -> TaskDone:
    """Do it."""
    return TaskDone(task_id=event.task_id)


def name(number: int) -> str:
    """Return the name of a flow, which is that of its variable too."""
    return f"flow{number}"


def flows(count: int) -> list[Flow]:
    """Declare so many flows."""
    return [
        Flow(name(number), key="task_id", starts=TaskGiven, completes=TaskDone, services=[work], deadline="1d")
        for number in range(count)
    ]


globals().update({flow.name: flow for flow in flows(int(os.environ.get(COUNT, "0")))})
