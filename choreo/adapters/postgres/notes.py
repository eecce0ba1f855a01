"""Notes as rows beside those about the origins of logs; a topic's name has no space."""

from __future__ import annotations

from choreo.adapters.postgres.server import PostgresServer

_GET = "SELECT note FROM choreo.origins WHERE topic = %s"
_ADD = "INSERT INTO choreo.origins VALUES (%s, %s) ON CONFLICT DO NOTHING"
_SWAP = "UPDATE choreo.origins SET note = %s WHERE topic = %s AND note = %s"


class PostgresNotes:
    """`choreo.ports.notes.Notes` in PostgreSQL. Everything raises StorageError when that cannot be used."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    async def get(self, name: str) -> str:
        """Return the note; "" if there is none."""
        rows = await self._server.ask(_GET, (_row(name),))
        return str(rows[0][0]) if rows else ""

    async def swap(self, name: str, text: str, former: str) -> bool:
        """Replace the note durably if it is still `former`; return whether it was."""
        if not former:
            return await self._server.execute(_ADD, (_row(name), text)) > 0
        return await self._server.execute(_SWAP, (text, _row(name), former)) > 0


def _row(name: str) -> str:
    return f"note {name}"
