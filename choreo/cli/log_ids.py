"""The ids of the host, run and attempt that a log record is about."""

from __future__ import annotations

import logging

from choreo.app.log_context import EXTRA, fields_now
from choreo.redaction import MASK


class Ids(logging.Filter):
    """Gives each record the ids of the host, run and attempt that it is about; masks business keys without `keys`."""

    def __init__(self, *, keys: bool) -> None:
        """Let `keys` of instances be written, or not."""
        super().__init__()
        self._keys = keys

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the ids; every record passes."""
        fields = {**fields_now(), **getattr(record, EXTRA, {})}
        key = fields.get("key")
        if key and not self._keys:
            fields["key"] = MASK
            record.msg, record.args = record.getMessage().replace(repr(key), repr(MASK)), ()
        setattr(record, EXTRA, fields)
        return True
