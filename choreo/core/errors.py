"""The error tree. Every error that a user sees names the fault (`what`), its place (`where`), and the `remedy`.

An expected outcome of a business step is an event, never one of these.
"""

from __future__ import annotations

from typing import TypeAlias

Faults: TypeAlias = tuple[tuple[str, str], ...]
"""Each fault as (where, what)."""

DISTRIBUTION = "choreo-kafka"
"""The name of choreo on the package index, where `choreo` is another project."""


class ChoreoError(Exception):
    """Root of all errors of choreo; `what` happened, `where`, and the `remedy` in one sentence each."""

    def __init__(self, what: str, *, where: str = "", remedy: str = "", code: str = "") -> None:
        """Keep the three parts apart, so that the CLI and REST can show them in their own form.

        `code` is that of the finding that `choreo check` makes of it.
        """
        self.what = what
        self.where = where
        self.remedy = remedy
        self.code = code
        super().__init__(self.sentence)

    @property
    def sentence(self) -> str:
        """Return the three parts as one line."""
        place = f"{self.where}: " if self.where else ""
        cure = f". {self.remedy}" if self.remedy else ""
        return f"{place}{self.what}{cure}"


class DeclarationError(ChoreoError):
    """A flow, service, step or event class is declared wrong; it does not start."""


class SettingsError(ChoreoError):
    """A setting, file or command-line value is missing or wrong."""


class ProjectError(SettingsError):
    """The project's own code raised an error while it was imported; the cause is that error."""


class SchemaError(ChoreoError):
    """An event class does not fit its frozen contract, or a contract file cannot be read."""


class VersionError(SchemaError):
    """A run is of a version of its flow that this process has no definition of."""


class DecodeError(ChoreoError):
    """A record cannot be read as an event of its type."""

    def __init__(self, what: str, *, where: str = "", remedy: str = "", faults: Faults = ()) -> None:
        """Keep the parts; `faults`: each fault as (where, what), if one event has several."""
        super().__init__(what, where=where, remedy=remedy)
        self.faults = faults


class StorageError(ChoreoError):
    """The log or a store could not be read or written (full disk, damaged file, wrong version)."""


class ReplacedLogError(StorageError):
    """The log is not the one that positions and states were written for: work on it waits until an operator decides."""


class LostStorageError(StorageError):
    """The store was deleted or replaced while it was in use: the process must end, because its writes are lost."""


class ChangelogError(ChoreoError):
    """A state was not written to the tracker's changelog: the process must end and process its record again."""


class SkippedError(StorageError):
    """Records were not delivered, or are not being delivered: the consumer is opened again."""


class LeaseLostError(ChoreoError):
    """This consumer no longer owns the partition of its commit; its work is dropped, the new owner repeats it."""


class NotFoundError(ChoreoError):
    """The requested object does not exist."""


class ConflictError(ChoreoError):
    """The request does not fit the present state of the instance."""


class UnavailableError(ChoreoError):
    """A part that is needed for this answer is away for now; a later request may succeed."""


class MissingExtraError(ChoreoError):
    """An optional part of choreo is not installed; the remedy is the command that installs its extra."""

    @classmethod
    def of(cls, what: str, *, where: str, extra: str) -> MissingExtraError:
        """Return the error for an extra of the distribution."""
        return cls(what, where=where, remedy=f"Install the extra: pip install '{DISTRIBUTION}[{extra}]'.")


class ProgressError(ChoreoError):
    """A handler has reported progress that cannot be stored: it is too large, or not JSON."""


class BaggageError(ChoreoError):
    """Baggage was set that its header cannot carry: too large, no text, or a name that is none."""


class NonRetryableError(Exception):
    """Raised by a handler for an error that a retry cannot mend. The step has failed, in doubt."""


DESCRIBED_MAX = 1_000
"""Most characters of a foreign error's text: a sentence for people, never a dump."""


def described(error: BaseException) -> str:
    """Return an error in one line: its class and its text, even if the class's own `__str__` fails."""
    if isinstance(error, ChoreoError):
        return error.sentence
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as odd:  # noqa: BLE001 - a user's own __str__ may raise anything
        text = f"its text cannot be made: {type(odd).__name__}"
    text = printable(text, DESCRIBED_MAX)
    return f"{name}: {text}" if text else name


def examinable(error: BaseException) -> BaseException:
    """Return the error, or a plain one that names it where its class fails when it is examined.

    `isinstance` and `except` clauses read attributes of an error, and its class may raise anything there.
    """
    try:
        for name in ("__class__", "args", "__cause__", "__context__", "__traceback__"):
            getattr(error, name)
    except BaseException as odd:  # noqa: BLE001 - the class is the user's
        return RuntimeError(f"{type(error).__name__}, which cannot be examined: {type(odd).__name__}")
    return error


def printable(text: str, most: int) -> str:
    """Return a text as a header or a file can hold it: no halves of surrogate pairs, at most `most` characters."""
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return text.encode(errors="replace").decode()
