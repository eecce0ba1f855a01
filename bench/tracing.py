"""Cost of metrics and traces for an order: `python -m bench.tracing [--json]`.

One process runs the order saga on three files: without metrics and traces, with metrics, and with metrics and the
traces of one run in a hundred (`--share 1`: of every run). Rounds of the three take turns. Spans go to a collector in a
process of its own, whose time is not counted; a round ends when its spans are sent. The figure is CPU time: of each
round the ratio to the one without, and of these the median.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from bench.figures import rounded, say
from bench.flight import LAYOUTS, WARM_UP, saturated, settings_of
from choreo.adapters.otel.tracing import OtelTracing
from choreo.app.metrics import Metrics
from choreo.wiring import App, open_app, run

VARIANTS = ("off", "metrics", "traced")
"""All but "off" have metrics."""


class NoMetrics(Metrics):
    """Counts nothing."""

    def labelled(self, **labels: str) -> Metrics:  # noqa: ARG002 - as in Metrics
        """Return itself."""
        return self

    def add(self, name: str, by: float, **labels: str) -> None:
        """Leave it."""

    def begin(self, name: str, **labels: str) -> None:
        """Leave it."""

    def put(self, name: str, value: float, **labels: str) -> None:
        """Leave it."""

    def observe(self, name: str, values: Iterable[float], **labels: str) -> None:
        """Leave it."""


class Swallow(BaseHTTPRequestHandler):
    """A collector that takes everything and keeps nothing."""

    def do_POST(self) -> None:
        """Read the spans, and say that they are kept."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


@asynccontextmanager
async def collector() -> AsyncIterator[str]:
    """Run the collector in another process; yields its address."""
    command = (sys.executable, "-m", "bench.tracing", "--collector")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        if process.stdout is None or not (port := (await process.stdout.readline()).decode().strip()):
            message = "the collector did not start; see its message above"
            raise RuntimeError(message)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


class Variant(NamedTuple):
    """The saga with, or without, metrics and traces."""

    app: App
    spans: BatchSpanProcessor | None

    async def cpu_us(self, orders: int, prefix: str) -> float:
        """Return the CPU time of this process an order, in µs."""
        before_s = time.process_time()
        await saturated(self.app, orders, prefix)
        if self.spans is not None:
            await asyncio.to_thread(self.spans.force_flush)
        return (time.process_time() - before_s) / orders * 1e6


@asynccontextmanager
async def working(folder: Path, url: str, name: str, share: float) -> AsyncIterator[Variant]:
    """Run every role over a file of its own, with the variant's metrics and traces."""
    spans = BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{url}/v1/traces")) if name == "traced" else None
    tracing = None if spans is None else OtelTracing(spans, ratio=share)
    async with open_app(settings_of(folder, "NORMAL"), tracing=tracing) as app:
        if name == "off":
            app.metrics = NoMetrics()
        stop = asyncio.Event()
        roles = asyncio.create_task(run(app, LAYOUTS["one"][0], stop))
        try:
            yield Variant(app, spans)
        finally:
            stop.set()
            await roles
            if tracing is not None:
                await asyncio.to_thread(tracing.close)


async def measure(orders: int, rounds: int, warm_up: int, share: float) -> dict[str, float]:
    """Return every figure."""
    taken: dict[str, list[float]] = {name: [] for name in VARIANTS}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="choreo-bench-")))
        url = await stack.enter_async_context(collector())
        variants = {
            name: await stack.enter_async_context(working(folder / name, url, name, share)) for name in VARIANTS
        }
        for variant in variants.values():
            await variant.cpu_us(warm_up, "warm")
        for number in range(rounds):
            # Every other round in the reverse order: the first of a round is not always the same.
            for name in VARIANTS[:: 1 if number % 2 == 0 else -1]:
                taken[name].append(await variants[name].cpu_us(orders, f"round-{number}"))
    figures = {f"{name}_cpu_us_an_order": rounded(statistics.median(values)) for name, values in taken.items()}
    for name in VARIANTS[1:]:
        ratios = [one / off for one, off in zip(taken[name], taken["off"], strict=True)]
        figures[f"{name}_overhead_percent"] = rounded((statistics.median(ratios) - 1) * 100)
    return figures


def main() -> None:
    """Print the figures; with `--collector` take spans until the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=2_000, help="orders of a round")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=WARM_UP)
    parser.add_argument("--share", type=float, default=0.01, help="the share of runs that is traced")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--collector", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.collector:
        server = HTTPServer(("127.0.0.1", 0), Swallow)
        sys.stdout.write(f"{server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever()
    say(asyncio.run(measure(chosen.orders, chosen.rounds, chosen.warm_up, chosen.share)), as_json=chosen.json)


if __name__ == "__main__":
    main()
