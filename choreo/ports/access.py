"""Authentication: find the caller that a credential belongs to."""

from __future__ import annotations

from typing import Protocol

from choreo.core.access import Caller
from choreo.core.errors import ChoreoError


class UnauthenticatedError(ChoreoError):
    """The credential is missing, wrong, expired or revoked."""


class Authenticator(Protocol):
    """Knows the callers of one kind of credential."""

    @property
    def scheme(self) -> str:
        """Return the name of the kind in the API's description: `apiKey` or `openIdConnect`."""
        ...

    def takes(self, credential: str) -> bool:
        """Return whether a credential is of this kind, by its form alone."""
        ...

    async def caller(self, credential: str) -> Caller:
        """Return the caller.

        Raises UnauthenticatedError; UnavailableError or StorageError where it cannot be decided now.
        """
        ...
