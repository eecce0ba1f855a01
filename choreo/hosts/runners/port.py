"""Port of runners: an attempt goes in, its result comes out. A simulator may give a host runners of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, NamedTuple, Protocol

from choreo.app.steps.handlers import HandlerSpec
from choreo.app.steps.jobs import AttemptTimedOut, Job
from choreo.core.context import StepContext
from choreo.core.errors import examinable

# One lock for all attempts: it is held for a test and an assignment.
_CLAIM = Lock()


class Runners(Protocol):
    """Run the attempts of one host. All methods are called on the host's loop; none waits."""

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Call these handlers as soon as there is room."""
        ...

    def results(self) -> list[Result]:
        """Return the results since the last call."""
        ...

    @property
    def has_results(self) -> bool:
        """Return whether `results` would return any."""
        ...

    def give_up(self, attempt: Attempt, error: BaseException) -> None:
        """End an attempt with this error, unless it has a result; cancel its handler, or write its thread off."""
        ...

    def idle(self) -> None:
        """Note that no attempt is open: the watchdog may rest until the next `start`."""
        ...

    def close(self) -> None:
        """Cancel waiting handlers and end idle threads; a handler that blocks keeps its thread."""
        ...


RunnersFactory = Callable[[str, int, Callable[[], None]], Runners]
"""Makes the runners of a service (name, handlers of a step at once, wake); `wake` may be called in any thread."""


class Result(NamedTuple):
    """The result of an attempt: a value, or an error."""

    attempt: Attempt
    value: Any = None
    error: BaseException | None = None


class Attempt:
    """A handler about to be called, being called, or given up."""

    __slots__ = (
        "_encode",
        "_reported",
        "cancel",
        "context",
        "failure",
        "given",
        "given_up",
        "job",
        "spec",
        "started_s",
        "suspended",
        "withdrawn",
    )

    def __init__(
        self, job: Job, context: StepContext, encode: Callable[[Any], list[bytes] | None] = lambda _: None
    ) -> None:
        """Take a prepared `job`: the handler's arguments are decoded. `encode` encodes the handler's return value."""
        self.job: Job = job
        self.spec: HandlerSpec = job.spec
        self.given: tuple[Any, ...] = job.given
        self.context: StepContext = context
        self.failure: str = ""
        """Kind of the error that it has ended with."""
        self.withdrawn: bool = False
        """Set to call it off; without effect once the handler is called."""
        self.suspended: bool = False
        """Whether its handler has awaited something."""
        self.started_s: float = 0.0
        """When its handler was called, by the monotonic clock; 0: not yet."""
        self.given_up: bool = False
        """Whether its host has ended it before its handler did."""
        self.cancel: Callable[[], object] | None = None
        """Cancels a handler that waits on an event loop; called in any thread."""
        self._reported = False
        self._encode = encode

    @property
    def timeout_s(self) -> float:
        """Return the time from the handler's call to its return."""
        return self.spec.timeout_ms / 1_000

    def report(self, to: Callable[[Result], object], value: Any = None, error: BaseException | None = None) -> bool:
        """Deliver the result, unless one was delivered before; return whether it was the first."""
        encoded = self._encode(value) if error is None else None
        header = self.context.baggage_header
        baggage = header.text if header.is_changed and error is None else None
        with _CLAIM:
            if self._reported:
                return False
            self._reported = True
            self.job.encoded = encoded
            self.job.baggage = baggage
        to(Result(self, value, None if error is None else examinable(error)))
        return True

    def time_out(self, to: Callable[[Result], object]) -> bool:
        """Give it up; a later result of its handler is dropped."""
        return self.report(to, error=AttemptTimedOut())

    @property
    def reported(self) -> bool:
        """Return whether its result was delivered."""
        return self._reported
