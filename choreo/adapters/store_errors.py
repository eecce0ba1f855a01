"""Errors of the servers beside a log, raised by their adapters and handled there."""

from __future__ import annotations

from choreo.core.errors import StorageError


class UnfitError(StorageError):
    """The server or its user is not fit for choreo, and waiting does not change it."""


class LossError(StorageError):
    """The server may have lost writes since the last call: everything that depends on them must learn it first."""
