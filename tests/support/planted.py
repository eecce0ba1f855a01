"""Secrets that a test plants in settings, and how it looks for them in the output."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from urllib.parse import quote, quote_plus


def forms_of(secret: str) -> dict[str, str]:
    """Return how libraries show a text that they were given."""
    return {
        "plain": secret,
        "percent-encoded": quote(secret, safe=""),
        "percent-encoded but slashes": quote(secret),
        "as in a form": quote_plus(secret),
        "as Python's literal": repr(secret)[1:-1],
        "as JSON": json.dumps(secret)[1:-1],
        "in base64": base64.b64encode(secret.encode()).decode(),
    }


def leaks(text: str, secrets: Mapping[str, str]) -> list[str]:
    """Return the lines that show one of these secrets, whole or a piece of it."""
    pieces = {
        piece: name
        for name, secret in secrets.items()
        for form in forms_of(secret).values()
        for piece in (form, *re.findall(r"\w{5,}", secret))
    }
    return [
        f"{name}: {line}" for line in text.splitlines() for piece, name in pieces.items() if piece and piece in line
    ]
