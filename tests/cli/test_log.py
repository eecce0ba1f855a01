"""What stands on stderr while a role runs."""

import logging

from choreo.cli.log import QUIET_S, Seldom


def said(name: str, text: str, *values: object, level: int = logging.ERROR) -> logging.LogRecord:
    """A record as a library makes it."""
    return logging.LogRecord(name, level, __file__, 1, text, values, None)


def test_a_librarys_complaint_is_not_repeated_at_once() -> None:
    """A client without a broker says the same ten times a second; how often is said with the next."""
    now_s = 0.0
    seldom = Seldom(lambda: now_s)
    written = []
    for _ in range(3_000):
        record = said("aiokafka", "Unable connect to node with id %s", 1)
        if seldom.filter(record):
            written.append(record.getMessage())
        now_s += 0.01
    unable, others = "Unable connect to node with id 1", round(QUIET_S / 0.01) - 1
    assert written == [unable]
    now_s += 1
    later = said("aiokafka", "Unable connect to node with id %s", 1)
    assert seldom.filter(later)
    assert later.getMessage() == f"{unable} ({others} times more since it was last written)"


def test_what_differs_is_said_and_choreo_always() -> None:
    """Another node, another level of detail, or our own words."""
    seldom = Seldom(lambda: 0.0)
    assert all(seldom.filter(said("aiokafka", "Unable connect to node with id %s", node)) for node in range(2_000))
    assert all(seldom.filter(said("faust", "Starting", level=logging.INFO)) for _ in range(3))
    assert all(seldom.filter(said("choreo.hosts.step", "waits")) for _ in range(3))
