"""Map each failure to its message on stderr and its exit code. One table from errors to codes."""

from __future__ import annotations

import sys

import typer

from choreo.core.errors import (
    BaggageError,
    ChangelogError,
    ChoreoError,
    ConflictError,
    DeclarationError,
    DecodeError,
    LeaseLostError,
    MissingExtraError,
    NotFoundError,
    ProgressError,
    ProjectError,
    SchemaError,
    SettingsError,
    StorageError,
    UnavailableError,
    VersionError,
    described,
)
from choreo.redaction import redact

PROBLEM, USAGE, UNAVAILABLE, NOT_FOUND, CONFLICT, UNDECIDED = 1, 2, 3, 4, 5, 6
OURS, INTERRUPTED, PIPE_CLOSED = 70, 130, 141
"""70 is EX_SOFTWARE of sysexits.h; a shell shows 130 and 141 for SIGINT and SIGPIPE."""

EXIT_CODES = {
    0: "well",
    PROBLEM: "a problem was found",
    USAGE: "wrong use, settings or declaration",
    UNAVAILABLE: "storage or a needed part is not available",
    NOT_FOUND: "not found",
    CONFLICT: "does not fit the present state",
    UNDECIDED: "unknown, because not all was tried",
    OURS: "a fault of choreo",
    INTERRUPTED: "interrupted",
    PIPE_CLOSED: "the reader of the output left",
}

_CODES: dict[type[ChoreoError], int] = {
    SchemaError: PROBLEM,
    DeclarationError: USAGE,
    SettingsError: USAGE,
    MissingExtraError: USAGE,
    DecodeError: USAGE,
    ProgressError: USAGE,
    BaggageError: USAGE,
    StorageError: UNAVAILABLE,
    ChangelogError: UNAVAILABLE,
    UnavailableError: UNAVAILABLE,
    LeaseLostError: UNAVAILABLE,
    NotFoundError: NOT_FOUND,
    ConflictError: CONFLICT,
    VersionError: CONFLICT,
}


def exit_code_of(error: Exception) -> int:
    """Return the code of the error's class, or of its nearest base class."""
    if isinstance(error, typer.TyperException):
        return USAGE
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), OURS)


def report(error: Exception) -> None:
    """Print the error, its place and the remedy on stderr."""
    if isinstance(error, typer.TyperException):
        error = _usage(error)
    if not isinstance(error, ChoreoError):
        error = ChoreoError(
            described(error),
            remedy="This is a fault of choreo or of the project's own code: call it again with --debug to see where.",
        )
    lines = [f"error: {error.what}"]
    lines += [f"  where: {error.where}"] if error.where else []
    lines += [f"  remedy: {error.remedy}"] if error.remedy else []
    if isinstance(error, ProjectError) and error.__cause__ is not None:
        from choreo.app.failures import look  # noqa: PLC0415 - only a project that cannot be imported needs it

        lines += [f"  at {frame}" for frame in look(error.__cause__).frames]
    sys.stderr.write(redact("\n".join([*lines, ""])))


def _usage(error: typer.TyperException) -> ChoreoError:
    """Return Typer's refusal of the arguments as an error of choreo."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "choreo"
    return SettingsError(error.format_message(), where=path, remedy=f"See `{path} --help`.")
