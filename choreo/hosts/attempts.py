"""One attempt of one job while a runner has it, and what came of it. Knows nothing of logs or inboxes."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, NamedTuple

from choreo.app.duties import Duty
from choreo.app.jobs import Job
from choreo.app.steps import AttemptTimedOut
from choreo.core.context import StepContext

# One lock for all attempts: it is held for a test and an assignment.
_CLAIM = Lock()


class Result(NamedTuple):
    """What came of an attempt: a value, or an error."""

    attempt: Attempt
    value: Any = None
    error: BaseException | None = None


class Attempt:
    """A handler about to be called, being called, or given up."""

    __slots__ = ("_reported", "_seal", "context", "duty", "given", "job", "started_s", "suspended", "withdrawn")

    def __init__(
        self, job: Job, context: StepContext, seal: Callable[[Any], list[bytes] | None] = lambda _: None
    ) -> None:
        """`job` is prepared: what its handler is given is decoded. `seal` encodes what the handler returns."""
        self.job: Job = job
        self.duty: Duty = job.duty
        self.given: Any = job.given
        self.context: StepContext = context
        self.withdrawn: bool = False
        """Set to call it off; it has effect until the handler is called."""
        self.suspended: bool = False
        """Whether its handler has waited for something."""
        self.started_s: float = 0.0
        """When its handler was called, by the monotonic clock; 0: not yet."""
        self._reported = False
        self._seal = seal

    @property
    def timeout_s(self) -> float:
        """From the handler's call to its return."""
        return self.duty.timeout_ms / 1_000

    def report(self, to: Callable[[Result], object], value: Any = None, error: BaseException | None = None) -> bool:
        """Hand in what came of it, unless something was handed in before: who is late is not heard."""
        sealed = self._seal(value) if error is None else None
        with _CLAIM:
            if self._reported:
                return False
            self._reported = True
            self.job.sealed = sealed
        to(Result(self, value, error))
        return True

    def time_out(self, to: Callable[[Result], object]) -> bool:
        """Give it up; what its handler still does is not heard."""
        return self.report(to, error=AttemptTimedOut())

    @property
    def reported(self) -> bool:
        """Whether its result is in."""
        return self._reported
