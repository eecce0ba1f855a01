"""The SQLite backend: log, consumer groups, inbox, states, read model and dead letters of one machine in one file."""

from choreo.adapters.sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend"]
