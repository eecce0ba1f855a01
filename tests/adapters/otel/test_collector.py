"""A process with `CHOREO_OTLP` sends traces and metrics by OTLP over HTTP; another loads nothing of OpenTelemetry."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from choreo.core import trace_ids
from choreo.core.errors import SettingsError
from choreo.settings import load
from choreo.wiring.telemetry import open_tracing
from tests.support.patience import PATIENCE_S

DESK = Path(__file__).parents[2] / "cli" / "desk"
CHOREO = (sys.executable, "-m", "choreo")
KINDS: dict[str, Any] = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}


class Collector(ThreadingHTTPServer):
    """Takes OTLP requests and keeps them, decoded."""

    def __init__(self) -> None:
        self.received: Queue[Any] = Queue()
        super().__init__(("127.0.0.1", 0), _Receiver)

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Keep a request."""
        body = self.rfile.read(int(self.headers["content-length"]))
        assert isinstance(self.server, Collector)
        self.server.received.put(KINDS[self.path].FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Yield a collector on the loopback."""
    server = Collector()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the small project as the current folder."""
    folder = shutil.copytree(DESK, tmp_path / "desk", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    return folder


def test_a_process_sends_its_spans_and_numbers(project: Path, collector: Collector) -> None:
    """The receiver speaks the protocol with the SDK's own messages: names, ids, resource, the numbers of attempts."""
    assert project.is_dir()
    settings = {"CHOREO_OTLP": collector.url, "OTEL_METRIC_EXPORT_INTERVAL": "500", "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with subprocess.Popen((*CHOREO, "dev", "--no-rest"), env=os.environ | settings, stdout=subprocess.DEVNULL) as dev:
        subprocess.run((*CHOREO, "publish", "desk", "TicketOpened", "--key", "t-1"), check=True, capture_output=True)
        spans: dict[str, Any] = {}
        numbers: dict[str, Any] = {}
        while not ("seats.take desk" in spans and "messaging.process.duration" in numbers):
            request = collector.received.get(timeout=PATIENCE_S)
            if isinstance(request, ExportTraceServiceRequest):
                for one in request.resource_spans:
                    named = {each.key: each.value.string_value for each in one.resource.attributes}
                    found = (span for scope in one.scope_spans for span in scope.spans)
                    spans |= {span.name: (named["service.name"], span) for span in found}
            else:
                scopes = (scope for one in request.resource_metrics for scope in one.scope_metrics)
                numbers |= {metric.name: metric for scope in scopes for metric in scope.metrics}
        dev.send_signal(signal.SIGTERM)
    assert dev.returncode == 0
    service, span = spans["seats.take desk"]
    attributes = {each.key: each.value.string_value for each in span.attributes}
    assert service == "seats"
    assert span.trace_id.hex() == trace_ids.trace_id(attributes["choreo.run"])
    assert span.end_time_unix_nano >= span.start_time_unix_nano > 0
    (point,) = numbers["messaging.process.duration"].histogram.data_points
    assert (point.count, sum(point.bucket_counts), point.HasField("min")) == (1, 1, False)
    (attempts,) = numbers["choreo.attempts"].sum.data_points
    assert (attempts.as_int or attempts.as_double) == 1


def test_without_a_collector_nothing_is_loaded(project: Path) -> None:
    """No module of OpenTelemetry is imported by the process of a service."""
    assert project.is_dir()
    code = """
import asyncio, sys
from choreo.settings import load
from choreo.wiring import hosts_of, open_app
async def main():
    async with open_app(load(), memory=True) as app:
        assert hosts_of(app, ["seats", "tracker"])
        assert app.tracing is None
asyncio.run(main())
print(sorted(name for name in sys.modules if name.startswith("opentelemetry")))
"""
    ran = subprocess.run((sys.executable, "-c", code), check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"


def test_an_address_that_is_no_url_is_refused() -> None:
    """A host and a port alone would be taken for a scheme."""
    with pytest.raises(SettingsError, match="setting otlp") as refused:
        open_tracing(load(otlp="localhost:4318"))
    assert "CHOREO_OTLP" in str(refused.value)
