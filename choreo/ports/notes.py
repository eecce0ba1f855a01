"""Notes: small named texts that outlive a process, such as the progress of a batch. They are no part of the log."""

from __future__ import annotations

from typing import Protocol


class Notes(Protocol):
    """The notes of an installation."""

    async def get(self, name: str) -> str:
        """Return the note; "" if there is none."""
        ...

    async def swap(self, name: str, text: str, former: str) -> bool:
        """Replace the note durably if it is still `former` ("" for none); return whether it was."""
        ...
