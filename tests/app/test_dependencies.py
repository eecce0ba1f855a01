"""The report of unusable dependencies: kept until cleared, and logged within a bound."""

from __future__ import annotations

import logging

import pytest

from choreo.app.dependencies import DependencyReports
from choreo.core.errors import StorageError
from choreo.ports.dependencies import Unavailable, report_error
from choreo.testing.clock import VirtualClock


async def test_a_report_keeps_its_first_moment_and_its_last_cause() -> None:
    """The longest absence stands first; a cleared one is gone."""
    clock = VirtualClock()
    reports, began_ms = DependencyReports(clock), clock.now_ms()
    reports.report("redis", "Connection refused.", "Start it.")
    await clock.advance(5)
    reports.report("kafka", "no broker answers", "Start one.")
    report_error(reports, "redis", StorageError("READONLY", where="Redis at db:6379", remedy="Point to the primary."))
    assert reports.all() == [
        Unavailable("redis", began_ms, "Redis at db:6379: READONLY", "Point to the primary."),
        Unavailable("kafka", began_ms + 5_000, "no broker answers", "Start one."),
    ]
    reports.clear("redis")
    reports.clear("never reported")
    assert [one.name for one in reports.all()] == ["kafka"]


async def test_an_absence_of_a_day_is_a_hundred_lines_whatever_its_causes(caplog: pytest.LogCaptureFixture) -> None:
    """A retry each second, each with another cause; its end is one line more."""
    clock = VirtualClock()
    reports = DependencyReports(clock)
    with caplog.at_level(logging.INFO):
        for number in range(86_400):
            reports.report("redis", f"refused for the {number}th time", "Start it.")
            clock.set_back(-1)
        reports.clear("redis")
    assert 50 < len(caplog.records) <= 110
    assert caplog.records[0].levelno == logging.WARNING
    assert caplog.messages[-1] == "redis is available again after 86400.0 s"


def test_a_clock_that_is_set_back_makes_no_negative_age(caplog: pytest.LogCaptureFixture) -> None:
    """Nor does it silence the log."""
    clock = VirtualClock()
    reports = DependencyReports(clock)
    reports.report("redis", "refused", "Start it.")
    clock.set_back(3_600)
    reports.report("redis", "refused", "Start it.")
    assert caplog.messages[-1].startswith("redis is unavailable: ")
    assert len(caplog.messages) == 2


def test_a_process_that_ends_finds_nothing_available_again(caplog: pytest.LogCaptureFixture) -> None:
    """A part that stops leaves its loop without an error: that is no recovery."""
    reports = DependencyReports(VirtualClock())
    with caplog.at_level(logging.INFO):
        reports.report("service payment in order", "the database file was deleted", "Put it back.")
        reports.end()
        reports.clear("service payment in order")
    assert [one.name for one in reports.all()] == ["service payment in order"]
    assert not [line for line in caplog.messages if "available again" in line]
