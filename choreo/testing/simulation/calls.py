"""The calls of handlers in one seed, and the promises that each must keep when it begins.

Knows processes by name, and the inboxes of the modelled Redis; nothing of plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from choreo.hosts.runners.port import Attempt

Place = tuple[str, str]
"""A call's key in the inbox: the id of a trigger, request or redrive, and the step."""


class Calls:
    """Watches the calls of all processes."""

    def __init__(
        self,
        is_alive: Callable[[str], bool],
        has_outcome: Callable[[str, Place], bool],
        loses_leases: Callable[[], bool],
    ) -> None:
        """Ask `is_alive` about a process, `has_outcome` about a service's inbox.

        `loses_leases`: whether a lease may have ended while its process works, because renewals did not come through,
        or because the inbox was emptied.
        """
        self.faults: list[str] = []
        """The sentences of broken promises."""
        self.called: set[tuple[str, str]] = set()
        """(run, step) of every forward call."""
        self._is_alive = is_alive
        self._has_outcome = has_outcome
        self._loses_leases = loses_leases
        self._open: dict[int, tuple[str, Attempt]] = {}
        self._keys: dict[Place, str] = {}
        self._slots: dict[tuple[str, str], str] = {}
        """By (run, step), of steps that run once in a run: the trigger of the first call."""
        self._returned: dict[Place, str] = {}
        """The process in which a call has returned, and was not given up before."""
        self._numbers = 0

    @contextmanager
    def watched(self, process: str, service: str, attempt: Attempt) -> Iterator[None]:
        """Check a call that begins now; it is open until the block ends."""
        self._begin(process, service, attempt)
        if not attempt.spec.undo:
            self.called.add((attempt.job.event.run, attempt.spec.step))
        number = self._numbers = self._numbers + 1
        self._open[number] = (process, attempt)
        try:
            yield
            if not attempt.reported:
                self._returned[attempt.job.inbox_key] = process
        finally:
            self._open.pop(number, None)

    def _begin(self, process: str, service: str, attempt: Attempt) -> None:
        job, place = attempt.job, attempt.job.inbox_key
        name = f"{'undo of ' if attempt.spec.undo else ''}{attempt.spec.step} of {job.event.key}, run {job.event.run}"
        for other, running in self._open.values():
            if not self._is_alive(other) or running.reported:
                continue
            if other == process and running.job.queue_key == job.queue_key:
                self.faults.append(f"promise 7: {name} is called in {process} while another call of it runs there")
            elif running.job.inbox_key == place and other != process and not self._loses_leases():
                self.faults.append(f"promise 2: {name} is called in {process} while its call in {other} runs")
        if self._has_outcome(service, place) and not self._loses_leases():
            self.faults.append(f"promise 2: {name} is called in {process} although its outcome is recorded")
        if attempt.spec.once and not attempt.spec.undo and not job.redriven:
            first = self._slots.setdefault((job.event.run, attempt.spec.step), job.event.id)
            if first != job.event.id and not self._loses_leases():
                self.faults.append(f"promise 2: {name} is called for event {job.event.id} after {first}")
        before = self._returned.get(place)
        if before is not None and self._is_alive(before) and not self._loses_leases():
            self.faults.append(f"promise 2: {name} is called in {process} although its call in {before} has returned")
        known = self._keys.setdefault(place, attempt.context.idempotency_key)
        if known != attempt.context.idempotency_key:
            self.faults.append(f"promise 2: {name} is called with another idempotency key than before")
