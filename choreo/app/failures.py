"""A failed attempt as data for people: type, message, chain of causes and last frames of an error, within 4 KB.

Knows no step. An error is described also if its class raises while it is examined.
"""

from __future__ import annotations

import importlib
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from choreo.core.errors import described, printable
from choreo.redaction import redact_part

FAILURE_BYTES = 4_096
"""Far above the size of a useful traceback, far below the limits of a record, a screen or a state."""
_FRAMES, _CAUSES, _MEMBERS, _CHARS = 12, 5, 8, 400
_LEFT_OUT = (str(Path(__file__).parents[1]), "<frozen ", importlib.__file__)

JSON = "application/json"
LOGGER = "choreo.failures"
"""Logger of each failed attempt with its traceback: a name of its own, so that its level can be set separately."""


class Failure(msgspec.Struct):
    """The data kept of an error."""

    type: str
    message: str
    causes: list[str] = []
    """The errors it was raised from or while handling, nearest first."""
    members: list[str] = []
    """The errors in a group, with those of inner groups, and the place of each."""
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
        elif failure.members:
            failure.members = failure.members[:-1]
        else:
            failure.message, failure.frames = printable(failure.message, len(failure.message) // 2), []
    return data


def look(error: BaseException) -> Failure:
    """Describe an error, without secrets."""
    try:
        return _failure(traceback.TracebackException.from_exception(error))
    except BaseException as odd:  # noqa: BLE001 - a user's class may do anything when it is looked at
        logging.getLogger(__name__).debug("an error cannot be looked at: %s", described(odd))
        return Failure(type(error).__name__, _text(described(error)))


def _failure(report: traceback.TracebackException) -> Failure:
    causes: list[str] = []
    members = list(_unfolded(report))
    cause = _cause(report)
    while cause is not None and len(causes) < _CAUSES:
        causes.append(_text("".join(cause.format_exception_only()).strip()))
        members += _unfolded(cause)
        cause = _cause(cause)
    frames = [frame for frame in report.stack if not frame.filename.startswith(_LEFT_OUT)]
    if issubclass(report.exc_type, SyntaxError):
        line = int(report.lineno or 0)
        frames.append(traceback.FrameSummary(str(report.filename), line, "<module>", line=str(report.text)))
    shown = [_frame(frame) for frame in (frames or list(report.stack))[-_FRAMES:]]
    return Failure(_type(report), _text(str(report)), causes, list(_members(members)), shown)


def _members(members: list[traceback.TracebackException]) -> Iterator[str]:
    """Describe the errors in groups, first to last; where there are too many, say how many more there are."""
    for member in members[:_MEMBERS]:
        place = [frame for frame in member.stack if not frame.filename.startswith(_LEFT_OUT)][-1:]
        yield _text("".join(member.format_exception_only()).strip() + "".join(f", {_frame(one)}" for one in place))
    if len(members) > _MEMBERS:
        yield f"and {len(members) - _MEMBERS} more"


def _unfolded(report: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    """Yield the errors in a group, those of inner groups in their place."""
    for member in report.exceptions or ():
        if member.exceptions:
            yield from _unfolded(member)
        else:
            yield member


def _type(report: traceback.TracebackException) -> str:
    kind: Any = report.exc_type
    return _text(
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def _cause(report: traceback.TracebackException) -> traceback.TracebackException | None:
    return report.__cause__ or (None if report.__suppress_context__ else report.__context__)


def _frame(frame: traceback.FrameSummary) -> str:
    return _text(f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line or ''}")


def _text(text: str) -> str:
    return printable(redact_part(text), _CHARS)
