"""Parts of sentences for people: counted nouns, the name that was probably meant, a fault of one value."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

_WHOLE = frozenset({"int_type", "int_parsing", "int_from_float", "int_parsing_size"})


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 file", "2 files"; `plural` if it is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return "Did you mean X? ", to stand before a remedy; empty if no known name is near."""
    near = difflib.get_close_matches(str(name), sorted(known), 1)
    return f"Did you mean {near[0]}? " if near else ""


def fault_text(found: Mapping[str, Any]) -> str:
    """Return pydantic's error of one value as part of a sentence, without pydantic's own prefixes."""
    kind, text = found["type"], str(found["msg"])
    if kind == "value_error":
        return text.removeprefix("Value error, ")
    if kind == "assertion_error":
        return text.removeprefix("Assertion failed, ")
    if kind == "finite_number":
        return "The number is too large for a float"
    if kind in _WHOLE:
        return "Input should be a valid integer of at most 64 bits"
    return text


def lowered(sentence: str) -> str:
    """Return a sentence as it stands behind a colon."""
    return sentence[:1].lower() + sentence[1:]
