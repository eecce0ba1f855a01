"""The metrics of the hosts of one process: the catalogue of their names, and the numbers. Knows no exporter.

A metric's name in Prometheus is `choreo_` and its name here, with `_total` behind a counter's. Units are base units.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from threading import Lock
from typing import Final, NamedTuple, TypeAlias

from choreo.ports.measures import Kind, Series

Labels: TypeAlias = tuple[tuple[str, str], ...]

PREFIX: Final = "choreo_"

SHORT_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Buckets of an attempt: OpenTelemetry's for messaging, and two for slow gateways."""


LONG_S: Final = (0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0)
"""Buckets of a run: from a flow of quick steps to one that waits for a month."""


class Metric(NamedTuple):
    """An entry of the catalogue. `labels` are in the order in which Prometheus shows them."""

    kind: Kind
    help: str
    labels: tuple[str, ...] = ("flow",)
    buckets: tuple[float, ...] = ()


_SERVICE = ("flow", "service")
_STEP = ("flow", "service", "step")

CATALOGUE: Final[Mapping[str, Metric]] = {
    "runs": Metric(
        "gauge", "Runs in the read model by status, completed ones by outcome.", ("flow", "status", "outcome")
    ),
    "dead_letters": Metric("gauge", "Records set aside."),
    "group_lag_records": Metric("gauge", "Records that a group has not finished.", ("flow", "group", "partition")),
    "expected_steps": Metric("gauge", "Open runs by the step that they wait for longest.", ("flow", "step")),
    "expected_oldest_age_seconds": Metric(
        "gauge", "Age of the run that stands longest in a step, wait or undo.", ("flow", "step")
    ),
    "effects": Metric(
        "gauge",
        "Effects of open runs, of the newest 500 of each status; those in doubt a second time.",
        ("flow", "step", "state"),
    ),
    "runs_unbalanced": Metric("gauge", "Compensated runs with an effect that stands, of the newest 100."),
    "runs_without_worker": Metric(
        "gauge", "Open runs of a version that this project's code cannot finish.", ("flow", "version")
    ),
    "timers_overdue": Metric("gauge", "Runs with a timer that is due and of which the log has no fact; 1,000 at most."),
    "timer_oldest_overdue_seconds": Metric("gauge", "How long the oldest of them has been due."),
    "read_model_lag_seconds": Metric("gauge", "Age of the oldest record that the read model does not show."),
    "group_members": Metric("gauge", "Live members of a group.", ("flow", "group")),
    "group_changes": Metric(
        "gauge", "Changes of a group's members and owners within the last five minutes.", ("flow", "group")
    ),
    "group_last_progress_timestamp_seconds": Metric(
        "gauge", "When an offset of a group was last seen to move, or the first look at it.", ("flow", "group")
    ),
    "flows_unanswered": Metric("gauge", "Flows whose numbers a store did not give now.", ("numbers",)),
    "dependency_unavailable": Metric("gauge", "1 while this process cannot use it.", ("dependency",)),
    "dependency_unavailable_seconds": Metric("gauge", "How long it cannot be used.", ("dependency",)),
    "build_info": Metric("gauge", "1; the labels are the versions.", ("version", "python")),
    "jobs": Metric("counter", "Triggers and compensation requests that a service has finished.", _SERVICE),
    "jobs_failed": Metric("counter", "Jobs that ended with a failure.", _SERVICE),
    "attempts": Metric("counter", "Attempts of handlers by their end.", (*_STEP, "outcome")),
    "attempts_in_flight": Metric("gauge", "Attempts under way.", _SERVICE),
    "attempts_held": Metric("counter", "Attempts that another process still holds.", _SERVICE),
    "attempts_retried": Metric("counter", "Attempts that are tried again.", _SERVICE),
    "attempt_duration_seconds": Metric("histogram", "Time in a handler.", _STEP, SHORT_S),
    "attempt_queue_seconds": Metric(
        "histogram", "Time from the trigger's stamp to the beginning of its first attempt.", _STEP, SHORT_S
    ),
    "dead_letters_written": Metric("counter", "Dead letters of this process.", ("flow", "role")),
    "storage_errors": Metric("counter", "Rounds that a store or broker refused.", ("flow", "role")),
    "tracker_events": Metric("counter", "Records that the tracker has folded."),
    "tracker_decisions": Metric("counter", "Facts that the tracker has decided."),
    "tracker_rerouted": Metric("counter", "Records that stood in another partition than their key's."),
    "tracker_published_again": Metric("counter", "Decisions that the log had not acknowledged."),
    "tracker_timers": Metric("counter", "Timer facts."),
    "tracker_restarts": Metric("counter", "Restarts of the tracker's stream processor."),
    "tracker_folded_anew": Metric("counter", "Partitions of lost states that were folded from the log again."),
    "tracker_copies_set_aside": Metric("counter", "Damaged local copies of states that were set aside."),
    "timer_lateness_seconds": Metric("histogram", "Time from a timer's due moment to its fact.", buckets=SHORT_S),
    "runs_started": Metric("counter", "Runs whose start the tracker has read."),
    "runs_ended": Metric("counter", "Runs whose end the tracker has read.", ("flow", "status")),
    "run_duration_seconds": Metric("histogram", "Time from a run's start to its end.", ("flow", "status"), LONG_S),
    "deadlines_passed": Metric(
        "counter", "Deadlines that have passed: of flows, steps and compensations.", ("flow", "kind")
    ),
    "orphans": Metric("counter", "Events from outside that belonged to no run when they were read."),
    "projector_events": Metric("counter", "Records that the projector has folded."),
    "bridge_events": Metric("counter", "Events that the bridge has carried to other flows."),
    "clock_skew_seconds": Metric("gauge", "This machine's clock, ahead of the brokers' stamps.", ()),
    "open_transaction_records": Metric("gauge", "Records behind transactions that stay open.", ()),
}
"""Every metric of choreo. A name that is not here is refused, so that the documentation has them all."""


def series(name: str) -> str:
    """Return the name of a metric's number in Prometheus: with its prefix, and the suffix that a counter has."""
    return f"{PREFIX}{name}_total" if CATALOGUE[name].kind == "counter" else PREFIX + name


class Distribution:
    """The numbers of a histogram: how many values fell into each bucket, and their sum."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts: list[int] = [0] * (len(bounds) + 1)
        self.sum: float = 0.0

    def add(self, values: Iterable[float]) -> None:
        """Count values; a negative one, of clocks that differ, counts as 0."""
        for value in values:
            self.counts[bisect_left(self._bounds, value)] += 1
            self.sum += max(0.0, value)


class _Numbers:
    def __init__(self) -> None:
        self.lock: AbstractContextManager[bool] = Lock()
        self.values: dict[tuple[str, Labels], float] = {}
        self.distributions: dict[tuple[str, Labels], Distribution] = {}


class Metrics:
    """Named numbers with labels. `add` is for those that only grow, `put` for others. Safe between threads."""

    def __init__(self, numbers: _Numbers | None = None, labels: Labels = ()) -> None:
        """Count for a whole process; `labelled` makes the metrics of one host of it."""
        self._numbers = numbers or _Numbers()
        self._labels = labels
        self._keys: dict[tuple[str, ...], tuple[str, Labels]] = {}

    def labelled(self, **labels: str) -> Metrics:
        """Return metrics that count into the same numbers with these labels, where the catalogue has them."""
        return Metrics(self._numbers, (*self._labels, *labels.items()))

    @property
    def labels(self) -> dict[str, str]:
        """Return the labels that its numbers have by themselves."""
        return dict(self._labels)

    def add(self, name: str, by: float, **labels: str) -> None:
        """Count `by` more; called once per batch, not per event."""
        if by:
            key = self._key(name, labels)
            with self._numbers.lock:
                self._numbers.values[key] = self._numbers.values.get(key, 0) + by

    def begin(self, name: str, **labels: str) -> None:
        """Show a counter as 0 from now on: Prometheus sees no increase in one that begins with its first event."""
        key = self._key(name, labels)
        with self._numbers.lock:
            self._numbers.values.setdefault(key, 0)

    def put(self, name: str, value: float, **labels: str) -> None:
        """Set the number to its present value."""
        key = self._key(name, labels)
        with self._numbers.lock:
            self._numbers.values[key] = value

    def observe(self, name: str, values: Iterable[float], **labels: str) -> None:
        """Count values of a histogram; called once per batch and step."""
        key = self._key(name, labels)
        with self._numbers.lock:
            found = self._numbers.distributions.get(key)
            if found is None:
                found = self._numbers.distributions[key] = Distribution(CATALOGUE[name].buckets)
            found.add(values)

    def read(self) -> dict[str, float]:
        """Return the sum of each number over its labels."""
        sums: dict[str, float] = {}
        with self._numbers.lock:
            for (name, _), value in self._numbers.values.items():
                sums[name] = sums.get(name, 0) + value
        return dict(sorted(sums.items()))

    def numbers(self) -> list[tuple[str, dict[str, str], float]]:
        """Return each number with its labels."""
        with self._numbers.lock:
            return [(name, dict(labels), value) for (name, labels), value in sorted(self._numbers.values.items())]

    def distributions(self) -> list[tuple[str, dict[str, str], list[int], float]]:
        """Return each histogram with its labels, the counts by bucket, and the sum."""
        with self._numbers.lock:
            found = sorted(self._numbers.distributions.items(), key=lambda item: item[0])
            return [(name, dict(labels), list(each.counts), each.sum) for (name, labels), each in found]

    def series(self) -> Iterator[Series]:
        """Yield everything as an exporter needs it, without the prefix."""
        for name, labels, value in self.numbers():
            entry = CATALOGUE[name]
            yield Series(name, entry.help, entry.kind, labels, value)
        for name, labels, counts, total in self.distributions():
            entry = CATALOGUE[name]
            yield Series(name, entry.help, entry.kind, labels, total, counts, entry.buckets)

    def _key(self, name: str, labels: Mapping[str, str]) -> tuple[str, Labels]:
        place = (name, *labels.values())  # a name is always used with the same labels, in one order
        key = self._keys.get(place)
        if key is None:
            given = {**dict(self._labels), **labels}
            key = self._keys[place] = name, tuple((label, given.get(label, "")) for label in CATALOGUE[name].labels)
        return key
