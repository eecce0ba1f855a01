"""Notes as rows."""

from __future__ import annotations

from choreo.adapters.sqlite.database import Database
from choreo.adapters.sqlite.writer import Writer


class SqliteNotes:
    """`choreo.ports.notes.Notes` in a file. Everything raises StorageError when that cannot be used."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def get(self, name: str) -> str:
        """Return the note; "" if there is none."""
        rows = self._database.query("SELECT text FROM notes WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else ""

    async def swap(self, name: str, text: str, former: str) -> bool:
        """Replace the note durably if it is still `former`; return whether it was."""
        return await self._writer.write(lambda: self._swap(name, text, former))

    def _swap(self, name: str, text: str, former: str) -> bool:
        run = self._database.connection.execute
        if not former:
            return run("INSERT INTO notes VALUES (?, ?) ON CONFLICT DO NOTHING", (name, text)).rowcount > 0
        return run("UPDATE notes SET text = ? WHERE name = ? AND text = ?", (text, name, former)).rowcount > 0
