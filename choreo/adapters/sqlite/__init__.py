"""The SQLite home: log, groups, inbox, states, read model and dead letters of one machine in one file."""

from choreo.adapters.sqlite.home import SqliteHome

__all__ = ["SqliteHome"]
