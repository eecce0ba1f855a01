"""Find code of the user's in an event class: validators, which may change a value, and serializers, which may hide it.

Read from pydantic's schema of the class, so that each way of declaring one is seen, in parts and `Annotated` too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_NOT_THE_USERS = ("choreo.event", "pydantic", "pydantic_core")


def has_own_code(schema: Any) -> bool:
    """Return whether code of the user's runs when an object with this core schema is made."""
    return any(
        node.get("post_init") or node.get("custom_init") or _is_function(node)
        for node in _nodes(schema, "serialization")
    )


def own_serializer(schema: Any) -> str:
    """Return a word for the first code of the user's that decides how a value is shown; empty if there is none."""
    for node in _nodes(schema):
        if node.get("computed_fields"):
            return "a computed field"
        written = node.get("serialization")
        if isinstance(written, dict) and _is_function(written):
            return "a serializer"
    return ""


def _is_function(node: dict[str, Any]) -> bool:
    function = node.get("function")
    called = function.get("function") if isinstance(function, dict) else function
    if not str(node.get("type", "")).startswith("function-") or called is None:
        return False
    return not str(getattr(called, "__module__", "")).startswith(_NOT_THE_USERS)


def _nodes(schema: Any, *skipped: str) -> Iterator[dict[str, Any]]:
    """Yield every mapping in a core schema, but for those under the skipped names."""
    if isinstance(schema, dict):
        yield schema
        for name, inner in schema.items():
            if name not in skipped and name != "metadata":
                yield from _nodes(inner, *skipped)
    elif isinstance(schema, list | tuple):
        for inner in schema:
            yield from _nodes(inner, *skipped)
