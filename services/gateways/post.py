"""The post: e-mails, which some customers cannot get, and letters, which everybody gets; each sent once for its key."""

from __future__ import annotations

from services.gateways import behaviour
from services.gateways.books import Books
from services.gateways.errors import RefusedError

_TABLES = """
CREATE TABLE IF NOT EXISTS sent (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, order_id TEXT NOT NULL,
    way TEXT NOT NULL,  -- mail, letter, escalation
    text TEXT NOT NULL
);
"""


class Post:
    """Marks are read from the address, or the order's id: those of `behaviour`, and `unreachable` (gets no e-mail)."""

    def __init__(self, name: str = "post") -> None:
        """Nothing is opened yet; the books have this name."""
        self._books = Books(name, _TABLES)

    def mail(self, *, key: str, order_id: str, text: str, address: str = "") -> str:
        """Send an e-mail; its number. Raises RefusedError, GatewayError, AnswerLostError."""
        marked, call = behaviour.marks(address or order_id), self._books.count_call("mail", key)
        behaviour.before(marked, call)
        if "unreachable" in marked:
            raise RefusedError("the mailbox does not exist")
        number = self._send(key, order_id, "mail", text)
        behaviour.after(marked, call)
        return number

    def letter(self, *, key: str, order_id: str, text: str, way: str = "letter") -> str:
        """Send a letter of this kind; its number."""
        self._books.count_call(way, key)
        return self._send(key, order_id, way, text)

    def _send(self, key: str, order_id: str, way: str, text: str) -> str:
        with self._books.transaction() as db:
            db.execute(
                "INSERT INTO sent (key, order_id, way, text) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (key, order_id, way, text),
            )
            (number,) = db.execute("SELECT number FROM sent WHERE key = ?", (key,)).fetchone()
        return f"{way}-{number}"
