"""The lines on stderr while a role runs."""

import logging

from choreo.cli.log import QUIET_S, Seldom


def logged(name: str, text: str, *values: object, level: int = logging.ERROR) -> logging.LogRecord:
    """Return a record as a library makes it."""
    return logging.LogRecord(name, level, __file__, 1, text, values, None)


def test_a_librarys_complaint_is_not_repeated_at_once() -> None:
    """A client without a broker logs the same line ten times a second; the next line carries the count."""
    now_s = 0.0
    seldom = Seldom(lambda: now_s)
    written = []
    for _ in range(3_000):
        record = logged("aiokafka", "Unable connect to node with id %s", 1)
        if seldom.filter(record):
            written.append(record.getMessage())
        now_s += 0.01
    unable, others = "Unable connect to node with id 1", round(QUIET_S / 0.01) - 1
    assert written == [unable]
    now_s += 1
    later = logged("aiokafka", "Unable connect to node with id %s", 1)
    assert seldom.filter(later)
    assert later.getMessage() == f"{unable} ({others} times more since it was last written)"


def test_what_differs_is_said_and_choreo_always() -> None:
    """Another node, another level of detail, or our own words."""
    seldom = Seldom(lambda: 0.0)
    assert all(seldom.filter(logged("aiokafka", "Unable connect to node with id %s", node)) for node in range(2_000))
    assert all(seldom.filter(logged("faust", "Starting", level=logging.INFO)) for _ in range(3))
    assert all(seldom.filter(logged("choreo.hosts.step.host", "waits")) for _ in range(3))
