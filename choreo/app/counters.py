"""What the hosts of one process have counted so far. Names and numbers; knows neither who counts nor who shows them."""

from __future__ import annotations

from threading import Lock


class Counters:
    """Named numbers: `add` to those that only grow, `put` those that go up and down. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._values: dict[str, float] = {}

    def add(self, name: str, by: float) -> None:
        """Count `by` more; called once per batch, not per event."""
        if by:
            with self._lock:
                self._values[name] = self._values.get(name, 0) + by

    def put(self, name: str, value: float) -> None:
        """Say how much there is at this moment."""
        with self._lock:
            self._values[name] = value

    def read(self) -> dict[str, float]:
        """All of them, by name, as they stand now."""
        with self._lock:
            return dict(sorted(self._values.items()))
