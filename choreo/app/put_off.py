"""Which attempts this host has put off for long: a twin of what called for one of them must not start the next early.

Memory of this process only, bounded. What was put off before it is read from the log, see seen.py.
"""

from __future__ import annotations

from choreo.app.jobs import Job

REMEMBERED_MAX = 10_000


class PutOff:
    """The last attempt of each job that the tracker was told to call for again."""

    def __init__(self) -> None:
        self._failed: dict[tuple[str, str], int] = {}

    def remember(self, job: Job) -> None:
        """The job's last attempt has failed, and the next one is far off."""
        self._failed[job.begun_as] = job.attempt
        while len(self._failed) > REMEMBERED_MAX:
            del self._failed[next(iter(self._failed))]

    def stale(self, job: Job) -> bool:
        """Whether what called for the job is a twin: it does not know of an attempt that was put off since."""
        return bool(self._failed) and not job.redriven and job.failed < self._failed.get(job.begun_as, 0)

    def forget(self) -> None:
        """What was said for a partition may never have been committed: its records are read anew."""
        self._failed.clear()
