"""Counters of the hosts of one process. Names and numbers; knows neither their writers nor their readers."""

from __future__ import annotations

from threading import Lock


class Counters:
    """Named numbers: `add` for those that only grow, `put` for those that go up and down. Safe between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._values: dict[str, float] = {}

    def add(self, name: str, by: float) -> None:
        """Count `by` more; called once per batch, not per event."""
        if by:
            with self._lock:
                self._values[name] = self._values.get(name, 0) + by

    def put(self, name: str, value: float) -> None:
        """Set the number to its present value."""
        with self._lock:
            self._values[name] = value

    def read(self) -> dict[str, float]:
        """Return all numbers by name."""
        with self._lock:
            return dict(sorted(self._values.items()))
