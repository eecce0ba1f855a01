"""Counters that several threads share."""

from __future__ import annotations

from threading import Thread

from choreo.app.counters import Counters


def test_what_grows_is_added_and_what_goes_up_and_down_is_put() -> None:
    """Nothing counted is nothing shown."""
    counters = Counters()
    counters.add("handled", 2)
    counters.add("handled", 3)
    counters.add("failed", 0)
    counters.put("lag", 7)
    counters.put("lag", 1)
    assert counters.read() == {"handled": 5, "lag": 1}


def test_no_count_is_lost_between_threads() -> None:
    """Each host of a process counts in its own time."""
    counters = Counters()
    threads = [Thread(target=lambda: [counters.add("handled", 1) for _ in range(1_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.read() == {"handled": 4_000}
