"""Notes in a dictionary."""

from __future__ import annotations


class MemoryNotes:
    """`choreo.ports.notes.Notes` in memory."""

    def __init__(self) -> None:
        self._notes: dict[str, str] = {}

    async def get(self, name: str) -> str:
        """Return the note; "" if there is none."""
        return self._notes.get(name, "")

    async def swap(self, name: str, text: str, former: str) -> bool:
        """Replace the note if it is still `former`; return whether it was."""
        if self._notes.get(name, "") != former:
            return False
        self._notes[name] = text
        return True
