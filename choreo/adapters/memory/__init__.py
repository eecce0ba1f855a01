"""The memory twin of the SQLite home: the same behaviour in plain dictionaries, for tests and the simulator."""

from choreo.adapters.memory.home import MemoryHome

__all__ = ["MemoryHome"]
