"""Metrics by OTLP: the numbers of the catalogue under their own names, and OpenTelemetry's names for messaging.

The numbers are read when they are sent, from the same place as `/metrics`: no event is counted twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)

from choreo.adapters.otel.tracing import NANOSECONDS, SCOPE, Resources
from choreo.ports.measures import Measures, Series

PREFIX = "choreo."
MESSAGING: Mapping[str, str] = {"attempt_duration_seconds": "messaging.process.duration"}
"""Metrics that OpenTelemetry has a name for: sent under both."""
_CUMULATIVE = AggregationTemporality.CUMULATIVE


class OtlpMetrics:
    """Sends the numbers of one process."""

    def __init__(self, measures: Measures, exporter: MetricExporter, started_ms: int, *, system: str = "kafka") -> None:
        """Count since `started_ms`; `system` is the kind of the log."""
        self._measures = measures
        self._exporter = exporter
        self._started = started_ms * NANOSECONDS
        self._system = system
        self._resource = Resources().of("choreo")

    def send(self, now_ms: int) -> None:
        """Send the present numbers. Blocks, at most for the exporter's time-out."""
        found = list(self._found(now_ms * NANOSECONDS))
        if found:
            scope = ScopeMetrics(SCOPE, found, "")
            self._exporter.export(MetricsData([ResourceMetrics(self._resource, [scope], "")]))

    def close(self) -> None:
        """End the exporter."""
        self._exporter.shutdown()

    def _found(self, now: int) -> Iterator[Metric]:
        by_name: dict[str, list[Series]] = {}
        for one in self._measures.series():
            by_name.setdefault(one.name, []).append(one)
        for name, found in by_name.items():
            first = found[0]
            if first.kind == "histogram":
                yield from self._histograms(found, now)
                continue
            numbers = [NumberDataPoint(dict(one.labels), self._started, now, one.value) for one in found]
            data = Sum(numbers, _CUMULATIVE, is_monotonic=True) if first.kind == "counter" else Gauge(numbers)
            yield Metric(_own_name(name), first.help, _unit(name), data)

    def _histograms(self, found: list[Series], now: int) -> Iterator[Metric]:
        """Yield a histogram under its own name, and under OpenTelemetry's where it has one."""
        points: dict[str, list[HistogramDataPoint]] = {}
        for one in found:
            for name, labels in ((_own_name(one.name), one.labels), *self._messaging(one.name, one.labels)):
                points.setdefault(name, []).append(self._point(one, labels, now))
        for name, numbers in points.items():
            yield Metric(name, found[0].help, "s", Histogram(numbers, _CUMULATIVE))

    def _point(self, one: Series, labels: Mapping[str, str], now: int) -> HistogramDataPoint:
        nothing: Any = None  # the least and the greatest value are not kept
        count, counts, bounds = sum(one.counts), list(one.counts), list(one.bounds)
        return HistogramDataPoint(
            dict(labels), self._started, now, count, one.value, counts, bounds, min=nothing, max=nothing
        )

    def _messaging(self, name: str, labels: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the name of OpenTelemetry for a histogram, with the labels as its attributes."""
        if name in MESSAGING:
            yield (
                MESSAGING[name],
                {
                    "messaging.system": self._system,
                    "messaging.operation.name": labels["step"],
                    "messaging.destination.name": labels["flow"],
                    "messaging.consumer.group.name": labels["service"],
                },
            )


def otlp_metrics(measures: Measures, endpoint: str, started_ms: int, *, system: str) -> OtlpMetrics:
    """Return a sender of these metrics to a collector."""
    exporter = OTLPMetricExporter(endpoint=f"{endpoint.rstrip('/')}/v1/metrics")
    return OtlpMetrics(measures, exporter, started_ms, system=system)


def _own_name(name: str) -> str:
    return PREFIX + name.removesuffix("_seconds")


def _unit(name: str) -> str:
    return "s" if name.endswith("_seconds") else "1"
