"""Traces and metrics of a process, sent to an OpenTelemetry collector. Needs the extra `otel`."""
