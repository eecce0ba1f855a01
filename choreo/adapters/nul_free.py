"""Text without NUL characters, for databases that end a text at one, or refuse it."""

from __future__ import annotations


def escaped(text: str) -> str:
    """Return the text with NUL written as ESC 0, and ESC as ESC 1."""
    return text.replace("\x1b", "\x1b1").replace("\0", "\x1b0") if "\0" in text or "\x1b" in text else text


def unescaped(text: str) -> str:
    """Return the text from its escaped form."""
    return text.replace("\x1b0", "\0").replace("\x1b1", "\x1b") if "\x1b" in text else text
