"""Traces and metrics for a collector, where the settings name one. Without it nothing of OpenTelemetry is imported."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from choreo.app.tracing import AttemptTraces, TrackerTraces
from choreo.core.errors import MissingExtraError, SettingsError
from choreo.ports.tracing import Tracing
from choreo.settings import Settings
from choreo.wiring.backends import SYSTEMS, chosen

if TYPE_CHECKING:
    from choreo.adapters.otel.metrics import OtlpMetrics
    from choreo.adapters.otel.tracing import OtelTracing
    from choreo.wiring import App

INTERVAL_VARIABLE, INTERVAL_MS = "OTEL_METRIC_EXPORT_INTERVAL", 60_000
"""OpenTelemetry's own setting and its default."""


def open_tracing(settings: Settings) -> OtelTracing | None:
    """Return the tracing that the settings ask for. Raises SettingsError, MissingExtraError."""
    if not settings.otlp:
        return None
    if not settings.otlp.startswith(("http://", "https://")):
        raise SettingsError(
            "it is no URL of a collector",
            where="setting otlp",
            remedy="Set CHOREO_OTLP to an address as http://localhost:4318; paths are added to it.",
        )
    try:
        from choreo.adapters.otel.tracing import otlp_tracing  # noqa: PLC0415 - an optional extra
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return otlp_tracing(settings.otlp, ratio=settings.trace_ratio, gap_ms=round(settings.trace_gap_s * 1_000))


def _missing(error: ModuleNotFoundError) -> MissingExtraError:
    return MissingExtraError.of(
        f"sending traces needs {error.name}, which is not installed", where="setting otlp", extra="otel"
    )


def attempt_traces(app: App, flow: str, service: str) -> AttemptTraces | None:
    """Return the maker of spans of a service in a flow; None without tracing."""
    tracing: Tracing | None = app.tracing
    if tracing is None:
        return None
    system = SYSTEMS[chosen(app.settings)]
    return AttemptTraces(tracing, flow, service, system=system, keys=app.settings.log_keys)


def tracker_traces(app: App, flow: str) -> TrackerTraces | None:
    """Return the maker of spans of a flow's tracker; None without tracing."""
    return None if app.tracing is None else TrackerTraces(app.tracing, flow, keys=app.settings.log_keys)


async def send_metrics(app: App, stop: asyncio.Event) -> None:
    """Send the numbers of this process to the collector until `stop`, and once more at the end."""
    if not app.settings.otlp:
        await stop.wait()
        return
    from choreo.adapters.otel.metrics import otlp_metrics  # noqa: PLC0415 - an optional extra

    system = SYSTEMS[chosen(app.settings)]
    sender = otlp_metrics(app.metrics, app.settings.otlp, app.clock.now_ms(), system=system)
    interval_s = _interval_ms(os.environ.get(INTERVAL_VARIABLE, "")) / 1_000
    while not stop.is_set():
        try:
            async with asyncio.timeout(interval_s):
                await stop.wait()
        except TimeoutError:
            await _sent(sender, app)
    await _sent(sender, app)
    sender.close()


async def _sent(sender: OtlpMetrics, app: App) -> None:
    """Send in a thread: a collector that is away holds up nothing."""
    await asyncio.to_thread(sender.send, app.clock.now_ms())


def _interval_ms(text: str) -> int:
    """Return the interval in OpenTelemetry's variable; its default where that has none."""
    return int(text) if text.isascii() and text.isdigit() and int(text) else INTERVAL_MS
