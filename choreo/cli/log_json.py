"""Log lines as JSON: one object a line, with the ids of the run that a line is about, and without secrets."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from choreo.app.log_context import EXTRA
from choreo.redaction import redact

_PLAIN = (bool, int, float, type(None))


class JsonLines(JsonFormatter):
    """Formats a record of choreo or of a library as one line of JSON.

    Every text is redacted when it has its final form, before it is quoted: quotes and escapes stay whole.
    """

    def __init__(self) -> None:
        """Write time, level, logger, message; then the ids, then fields that the caller gave as `extra`."""
        super().__init__("%(levelname)s %(name)s %(message)s", rename_fields={"levelname": "level", "name": "logger"})

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - logging's hook
        """Return the time of the record in UTC, to the millisecond."""
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Add the time and the ids to the fields of the record."""
        log_data["time"] = self.formatTime(record)
        super().add_fields(log_data, record, message_dict)
        log_data |= log_data.pop(EXTRA, {})

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Return the fields without secrets."""
        return {redact(str(name)): _clean(value) for name, value in log_data.items()}


def _clean(value: Any) -> Any:
    """Return a value as JSON can hold it, its texts without secrets."""
    if isinstance(value, dict):
        return {redact(str(name)): _clean(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(each) for each in value]
    return value if isinstance(value, _PLAIN) else redact(str(value))
