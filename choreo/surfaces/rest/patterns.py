"""Translate patterns for the API's description: JSON Schema uses those of JavaScript (ECMA-262), with Unicode.

An event class may use more than that, as pydantic's engine allows. A pattern with an equivalent is translated; another
is left out of the description, and still checked.
"""

from __future__ import annotations

import re
from typing import Any

_ESCAPE = re.compile(r"\\(x\{[0-9A-Fa-f]+\}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_GROUP = re.compile(r"\(\?P<([A-Za-z_]\w*)>")
_ENDS = {"A": "^", "z": "$", "Z": "$"}
_KNOWN = frozenset("dDsSwWbBnrtvfcukpPx0123456789") | frozenset("^$\\.*+?()[]{}|/")
_FOREIGN = re.compile(r"\(\?(?![:=!]|<[=!A-Za-z_])|\[\[:|&&|[*+?}]\+")
"""Inline flags, comments, atomic groups, POSIX classes, sets of classes, possessive quantifiers."""


def ecma(pattern: str) -> str | None:
    """Return the pattern in JavaScript's syntax; None where it has no equivalent."""
    translated = _GROUP.sub(r"(?<\1>", _ESCAPE.sub(_escape, pattern))
    unescaped = re.sub(r"\\.", "", translated, flags=re.DOTALL)
    return None if "\\!" in translated or _FOREIGN.search(unescaped) else translated


def _escape(found: re.Match[str]) -> str:
    r"""Return one escape; `\!`, which is invalid, where it has no equivalent."""
    escape = found[1]
    if len(escape) > 1:
        return f"\\u{{{escape.strip('xU{}').lstrip('0') or '0'}}}"
    if escape in _ENDS:
        return _ENDS[escape]
    if escape in _KNOWN:
        return found[0]
    return "\\!" if escape.isalnum() else f"\\u{{{ord(escape):x}}}"


def translate(schema: Any) -> None:
    """Translate every pattern in a description, in place."""
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            pattern = ecma(schema.pop("pattern"))
            if pattern is not None:
                schema["pattern"] = pattern
        for part in schema.values():
            translate(part)
    elif isinstance(schema, list):
        for part in schema:
            translate(part)
