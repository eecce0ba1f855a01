"""Deferred retries: stop a duplicate of the record that asked for an attempt from starting the next one early.

Memory of this process only, bounded. Deferrals before that are read from the log, see published_outcomes.py.
"""

from __future__ import annotations

from choreo.app.steps.jobs import Job

REMEMBERED_MAX = 10_000


class DeferredRetries:
    """The newest attempt of each job that the tracker will ask for again."""

    def __init__(self) -> None:
        self._failed: dict[tuple[str, str], int] = {}

    def remember(self, job: Job) -> None:
        """Note that the job's newest attempt has failed and that the next one is far off."""
        self._failed[job.inbox_key] = job.attempt
        while len(self._failed) > REMEMBERED_MAX:
            del self._failed[next(iter(self._failed))]

    def stale(self, job: Job) -> bool:
        """Return whether the record that asked for the job is a duplicate: it is older than a deferral since."""
        return bool(self._failed) and not job.redriven and job.failed < self._failed.get(job.inbox_key, 0)

    def forget(self) -> None:
        """Forget all: deferrals of a partition may never have been committed, and its records are read again."""
        self._failed.clear()
