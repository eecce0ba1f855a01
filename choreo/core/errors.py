"""The error tree. Every error a user meets says what is wrong, where, and the remedy.

An expected outcome of a business step is an event, never one of these.
"""

from __future__ import annotations

DISTRIBUTION = "choreo-kafka"
"""The name of choreo on the package index, where `choreo` is another project."""


class ChoreoError(Exception):
    """Root of everything choreo raises; `what` happened, `where`, and the `remedy` in one sentence each."""

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        """Keep the three parts apart, so that a door (CLI, REST) can show them in its own form."""
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(self.sentence)

    @property
    def sentence(self) -> str:
        """The three parts as one line."""
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


class DecodeError(ChoreoError):
    """A record cannot be read as the event it says it is."""


class StorageError(ChoreoError):
    """The log or a store could not be read or written (full disk, damaged file, wrong version)."""


class ReplacedLogError(StorageError):
    """The log is another one than positions and states were written for: work on it stands until somebody chooses."""


class LostStorageError(StorageError):
    """The store was deleted or replaced while it was in use: the process must end, for nothing it writes is kept."""


class LeaseLostError(ChoreoError):
    """This member no longer owns the partition it tried to commit for; its work is dropped, the new owner does it."""


class NotFoundError(ChoreoError):
    """What was asked for is not there."""


class ConflictError(ChoreoError):
    """What was asked for does not fit the present state of the instance."""


class UnavailableError(ChoreoError):
    """A part that is needed for this answer is away for now; trying again later is right."""


class MissingExtraError(ChoreoError):
    """An optional part of choreo is not installed; the remedy is the command that installs its extra."""

    @classmethod
    def of(cls, what: str, *, where: str, extra: str) -> MissingExtraError:
        """Return the error for an extra of the distribution."""
        return cls(what, where=where, remedy=f"Install the extra: pip install '{DISTRIBUTION}[{extra}]'.")


class NonRetryableError(Exception):
    """Raised by a handler to say: trying again is useless. The step has failed, in doubt (DESIGN.md 5)."""


DESCRIBED_MAX = 1_000
"""Characters of a foreign error's text that are kept: a sentence for people, never a dump."""


def described(error: BaseException) -> str:
    """Return an error in one line: its class and its text, whatever the class's own `__str__` does."""
    if isinstance(error, ChoreoError):
        return error.sentence
    name = type(error).__name__
    try:
        text = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as odd:  # noqa: BLE001 - a user's own __str__ may raise anything
        text = f"its text cannot be made: {type(odd).__name__}"
    text = printable(text, DESCRIBED_MAX)
    return f"{name}: {text}" if text else name


def printable(text: str, most: int) -> str:
    """Return a text as a header or a file can hold it: no halves of surrogate pairs, no more than `most` characters."""
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return text.encode(errors="replace").decode()
