"""A failed attempt as data for people: type, message, chain of causes and last frames of an error, within 4 KB.

Knows no step. Whatever the error's class does when it is looked at, something is told.
"""

from __future__ import annotations

import importlib
import logging
import traceback
from pathlib import Path
from typing import Any

import msgspec

from choreo.core.errors import described, printable
from choreo.redaction import redact

FAILURE_BYTES = 4_096
"""Far above what tells where it failed, far below what a record, a screen or a state may hold."""
_FRAMES, _CAUSES, _CHARS = 12, 5, 400
_LEFT_OUT = (str(Path(__file__).parents[1]), "<frozen ", importlib.__file__)

JSON = "application/json"
LOGGER = "choreo.failures"
"""Where each failed attempt is logged with its traceback: a name of its own, so that it can be turned down alone."""


class Failure(msgspec.Struct):
    """What is kept of an error."""

    type: str
    message: str
    causes: list[str] = []
    """What it was raised from or while handling, nearest first."""
    frames: list[str] = []
    """`file:line in function: code`, the innermost last; choreo's own and the import system's are left out."""


def failure_of(error: BaseException) -> bytes:
    """Return the error as JSON of at most `FAILURE_BYTES`, without secrets; the outermost frames go first."""
    failure = look(error)
    while len(data := msgspec.json.encode(failure)) > FAILURE_BYTES:
        if len(failure.frames) > 1:
            failure.frames = failure.frames[1:]
        elif failure.causes:
            failure.causes = failure.causes[:-1]
        else:
            failure.message, failure.frames = printable(failure.message, len(failure.message) // 2), []
    return data


def look(error: BaseException) -> Failure:
    """Take an error apart, without secrets."""
    try:
        return _failure(traceback.TracebackException.from_exception(error))
    except Exception as odd:  # noqa: BLE001 - a user's class may do anything when it is looked at
        logging.getLogger(__name__).debug("an error cannot be looked at: %s", described(odd))
        return Failure(type(error).__name__, _text(described(error)))


def _failure(told: traceback.TracebackException) -> Failure:
    causes: list[str] = []
    cause = _cause(told)
    while cause is not None and len(causes) < _CAUSES:
        causes.append(_text("".join(cause.format_exception_only()).strip()))
        cause = _cause(cause)
    frames = [frame for frame in told.stack if not frame.filename.startswith(_LEFT_OUT)]
    if issubclass(told.exc_type, SyntaxError):
        line = int(told.lineno or 0)
        frames.append(traceback.FrameSummary(str(told.filename), line, "<module>", line=str(told.text)))
    shown = [_frame(frame) for frame in (frames or list(told.stack))[-_FRAMES:]]
    return Failure(_type(told), _text(str(told)), causes, shown)


def _type(told: traceback.TracebackException) -> str:
    kind: Any = told.exc_type
    return _text(
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def _cause(told: traceback.TracebackException) -> traceback.TracebackException | None:
    return told.__cause__ or (None if told.__suppress_context__ else told.__context__)


def _frame(frame: traceback.FrameSummary) -> str:
    return _text(f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line or ''}")


def _text(text: str) -> str:
    return printable(redact(text), _CHARS)
