"""Find code of the user's in an event class: validators, which may change a value, and serializers, which may hide it.

Read from pydantic's schema of the class, so that each way of declaring one is seen, in parts and `Annotated` too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_UNREADABLE = {
    "is-instance": "InstanceOf",
    "is-subclass": "type[...]",
    "any": "SkipValidation",
    "json": "Json",
    "import": "ImportString",
}
"""Nodes of pydantic's schema that take a value whose stored form they do not take."""
_CHANGES = ("strip_whitespace", "to_lower", "to_upper")

_NOT_THE_USERS = ("choreo.event", "pydantic", "pydantic_core")


def has_own_code(schema: Any) -> bool:
    """Return whether code of the user's runs when an object with this core schema is made."""
    return any(
        node.get("post_init") or node.get("custom_init") or _is_function(node) or any(map(node.get, _CHANGES))
        for node in _nodes(schema, "serialization")
    )


def unreadable(schema: Any) -> str:
    """Return the name of a mark under which a value is read by another rule than it was given; empty if none is."""
    for node in _nodes(schema, "serialization"):
        if node.get("type") in _UNREADABLE:
            return _UNREADABLE[node["type"]]
        if str(node.get("type", "")).startswith("function-") and _module(node) == "pydantic.types":
            return "Base64 or another encoding"
    return ""


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
    module = _module(node)
    return (
        str(node.get("type", "")).startswith("function-")
        and module is not None
        and not module.startswith(_NOT_THE_USERS)
    )


def _module(node: dict[str, Any]) -> str | None:
    """Return the module of the function that a node calls; None where it calls none."""
    function = node.get("function")
    called = function.get("function") if isinstance(function, dict) else function
    return None if called is None else str(getattr(called, "__module__", ""))


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
