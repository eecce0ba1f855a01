"""The flow's rules in virtual time: what the tracker decides, told as given, when, then. No service runs."""

from choreo.testing import given
from services.flow import task


def test_a_task_that_is_done_completes_the_flow() -> None:
    """The flow completes when its last event is seen and nothing is expected any more."""
    given(task, "TaskOpened").when("TaskDone").then("choreo.FlowCompleted", status="completed")
