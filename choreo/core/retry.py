"""The retry policy of a step, as users declare it. Becomes a `RetryRule`; knows nothing of the host that waits."""

from __future__ import annotations

import math
from dataclasses import dataclass

from choreo.core.definition import ATTEMPTS_MAX, RetryRule
from choreo.core.durations import Duration, milliseconds
from choreo.core.errors import DeclarationError


@dataclass(frozen=True)
class Retry:
    """The retry policy of failed attempts; `never` names exceptions for which a retry is useless."""

    initial: Duration = "1s"
    """The wait after the first failed attempt."""
    backoff: float = 2
    """Each wait is this many times the one before."""
    max_interval: Duration = "1m"
    """The longest wait."""
    max_attempts: int = 5
    """Most calls of the handler, the first attempt included."""
    never: tuple[type[BaseException], ...] = ()
    """Exceptions after which another attempt is useless."""
    inline_up_to: Duration = "5s"
    """Longest wait that is kept in the host's memory; a longer one survives restarts as a fact in the log."""

    def rule(self, where: str) -> RetryRule:
        """Return the policy as plain data; raises DeclarationError."""
        if not _number(self.max_attempts, int) or not 1 <= self.max_attempts <= ATTEMPTS_MAX:
            raise DeclarationError(
                f"Retry(max_attempts={self.max_attempts!r:.40})",
                where=where,
                remedy=f"Give at least 1: the first attempt; at most {ATTEMPTS_MAX}.",
            )
        if not _number(self.backoff, int, float) or not 1 <= self.backoff < math.inf:
            raise DeclarationError(
                f"Retry(backoff={self.backoff!r})", where=where, remedy="Give 1 (constant waits) or more."
            )
        if not _exceptions(self.never):
            raise DeclarationError(
                f"Retry(never={self.never!r})", where=where, remedy="Give a tuple of exception classes."
            )
        initial_ms, longest_ms = milliseconds(self.initial, where), milliseconds(self.max_interval, where)
        if initial_ms > longest_ms:
            raise DeclarationError(
                f"Retry(initial={self.initial!r}) is longer than max_interval={self.max_interval!r}",
                where=where,
                remedy="Raise max_interval or lower initial.",
            )
        inline_ms = milliseconds(self.inline_up_to, where)
        return RetryRule(initial_ms, float(self.backoff), longest_ms, self.max_attempts, inline_ms)


def _number(value: object, *kinds: type) -> bool:
    """Return whether a value is a number of these kinds; users ignore type hints, and True is not a number here."""
    return isinstance(value, kinds) and not isinstance(value, bool)


def _exceptions(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(one, type) and issubclass(one, BaseException) for one in value)
