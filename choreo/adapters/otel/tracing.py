"""Tracing by OpenTelemetry's SDK: spans with given ids, a sampler by ratio on the trace id, one resource a service."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link as OtelLink
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from choreo.core.trace_ids import SpanId, chance
from choreo.ports.tracing import Link, Span

SCOPE = InstrumentationScope("choreo")
NANOSECONDS = 1_000_000


class OtelTracing:
    """See `choreo.ports.tracing.Tracing`."""

    def __init__(self, processor: SpanProcessor, *, ratio: float = 1.0, gap_ms: int = 900_000) -> None:
        """Give spans to `processor`: of this share of the runs, each as a whole."""
        self._processor = processor
        self._ratio = ratio
        self._resources = Resources()
        self.gap_ms: int = gap_ms

    def samples(self, run: str) -> bool:
        """Return whether spans of this run are recorded: the half decides that all its trace ids share."""
        return self._ratio >= 1 or chance(run) < self._ratio

    def export(self, spans: Sequence[Span]) -> None:
        """Queue these spans; the queue drops what it cannot hold."""
        for span in spans:
            self._processor.on_end(_readable(span, self._resources.of(span.service)))

    def close(self) -> None:
        """Send the queued spans, and end."""
        self._processor.shutdown()


def otlp_tracing(endpoint: str, *, ratio: float, gap_ms: int) -> OtelTracing:
    """Return tracing that sends spans to a collector, in batches from a thread of its own."""
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    return OtelTracing(BatchSpanProcessor(exporter), ratio=ratio, gap_ms=gap_ms)


class Resources:
    """The resource of each service of this process; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have precedence."""

    def __init__(self) -> None:
        """Look at the machine once."""
        self._base = Resource.create()
        self._is_named = not str(self._base.attributes.get(SERVICE_NAME, "")).startswith("unknown_service")
        self._known: dict[str, Resource] = {}

    def of(self, service: str) -> Resource:
        """Return the resource of a service."""
        known = self._known.get(service)
        if known is None:
            own = Resource({} if self._is_named else {SERVICE_NAME: service})
            known = self._known[service] = self._base.merge(own)
        return known


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    attributes = {**span.attributes, **({"error.type": span.error} if span.error else {})}
    return ReadableSpan(
        span.name,
        _context(span.at),
        None if span.parent is None else _context(span.parent, is_remote=True),
        resource,
        attributes,
        (),
        [_link(link) for link in span.links],
        SpanKind.CONSUMER if span.is_attempt else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
        start_time=round(span.start_ms * NANOSECONDS),
        end_time=round(span.end_ms * NANOSECONDS),
        instrumentation_scope=SCOPE,
    )


def _link(link: Link) -> OtelLink:
    return OtelLink(_context(link.to, is_remote=True), {"choreo.link": link.kind})


def _context(place: SpanId, *, is_remote: bool = False) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if place.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(place.trace, 16), int(place.span, 16), is_remote, flags)
