"""Metrics that several threads share."""

from __future__ import annotations

import re
from threading import Thread

import pytest

from choreo.app.metrics import CATALOGUE, Metrics


def test_what_grows_is_added_and_what_goes_up_and_down_is_put() -> None:
    """Nothing counted is nothing shown."""
    metrics = Metrics()
    metrics.add("jobs", 2)
    metrics.add("jobs", 3)
    metrics.add("jobs_failed", 0)
    metrics.put("clock_skew_seconds", 7)
    metrics.put("clock_skew_seconds", 1)
    assert metrics.read() == {"clock_skew_seconds": 1, "jobs": 5}


def test_a_counter_that_an_alert_watches_begins_with_zero() -> None:
    """An increase is a difference: without the 0 before it the first event would raise no alert."""
    metrics = Metrics().labelled(flow="order")
    metrics.begin("orphans")
    assert metrics.numbers() == [("orphans", {"flow": "order"}, 0)]
    metrics.add("orphans", 2)
    metrics.begin("orphans")
    assert metrics.numbers() == [("orphans", {"flow": "order"}, 2)]


def test_a_host_counts_under_its_labels_as_far_as_the_catalogue_has_them() -> None:
    """A label that a metric does not have would split its number."""
    whole = Metrics()
    first = whole.labelled(flow="order", service="payment", role="payment")
    first.add("jobs", 2)
    first.add("attempts", 1, step="payment.charge", outcome="done")
    whole.labelled(flow="trip", service="payment").add("jobs", 3)
    assert whole.read() == {"attempts": 1, "jobs": 5}
    assert whole.numbers() == [
        ("attempts", {"flow": "order", "service": "payment", "step": "payment.charge", "outcome": "done"}, 1),
        ("jobs", {"flow": "order", "service": "payment"}, 2),
        ("jobs", {"flow": "trip", "service": "payment"}, 3),
    ]


def test_a_histogram_counts_each_value_in_its_bucket() -> None:
    """A bound belongs to its bucket; a negative value, of clocks that differ, is in the first one and adds nothing."""
    metrics = Metrics()
    metrics.observe("timer_lateness_seconds", [0.005, 0.006, -1.0, 61.0], flow="order")
    ((name, labels, counts, total),) = metrics.distributions()
    assert (name, labels) == ("timer_lateness_seconds", {"flow": "order"})
    assert (counts[0], counts[1], counts[-1], sum(counts)) == (2, 1, 1, 4)
    assert total == pytest.approx(61.011)


def test_a_name_that_is_not_in_the_catalogue_is_refused() -> None:
    """So the documentation has every metric."""
    with pytest.raises(KeyError):
        Metrics().add("unknown", 1)


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_keeps_the_rules_of_prometheus(name: str) -> None:
    """Base units, no unit in a label, no suffix that an exporter adds, and buckets for histograms alone."""
    metric = CATALOGUE[name]
    assert re.fullmatch(r"[a-z][a-z_]*[a-z]", name)
    assert not name.endswith(("_total", "_ms", "_milliseconds", "_count", "_sum", "_bucket"))
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(metric.buckets)
    assert metric.help.endswith(".")
    assert not {"key", "run", "le", "entry"} & set(metric.labels), "labels without a bound"


def test_no_count_is_lost_between_threads() -> None:
    """Each host of a process counts in its own time."""
    metrics = Metrics()
    threads = [Thread(target=lambda: [metrics.add("jobs", 1) for _ in range(1_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.read() == {"jobs": 4_000}
