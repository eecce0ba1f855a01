"""The memory backend: it behaves as the SQLite backend, in plain dictionaries, for tests and the simulator."""

from choreo.adapters.memory.backend import MemoryBackend

__all__ = ["MemoryBackend"]
