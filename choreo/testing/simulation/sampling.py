"""Sample events by the types of their fields, by chance of a seed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from choreo.core.errors import SettingsError, described

_FORMATS = {
    "date": "2026-01-02",
    "date-time": "2026-01-02T12:00:00Z",
    "time": "12:00:00",
    "duration": "PT1H",
    "uuid": "00000000-0000-4000-8000-000000000001",
    "email": "name@example.com",
    "uri": "https://example.com",
}
_NUMBER_MAX, _NUMBER_SMALL = 1_000, 9


def sampled(event_class: type[Any], chance: Random, fields: Mapping[str, Any]) -> Any:
    """Return an event of this class: the given fields, and a value by its type for each other required one.

    Raises SettingsError with the remedy where the class refuses the values.
    """
    schema: Mapping[str, Any] = event_class.model_json_schema()
    parts = schema.get("$defs", {})
    made = {
        name: fields[name] if name in fields else _value(name, schema["properties"][name], parts, chance)
        for name in schema.get("required", ())
    }
    made |= {name: value for name, value in fields.items() if name in schema["properties"]}
    try:
        return event_class.model_validate(made)
    except ValueError as error:
        raise SettingsError(
            f"no {event_class.__name__} can be made by the types of its fields: {described(error)}",
            where="choreo simulate",
            remedy=f"Make it in a hook: @hooks.makes({event_class.__name__}), in simulation.py.",
        ) from error


def _value(name: str, declared: Mapping[str, Any], parts: Mapping[str, Any], chance: Random) -> Any:
    """Return a value of a field with this JSON schema."""
    options = declared.get("examples") or declared.get("enum")
    if options:
        return chance.choice(options)
    if "$ref" in declared:
        return _value(name, parts[declared["$ref"].rpartition("/")[2]], parts, chance)
    if "anyOf" in declared:
        return _value(name, declared["anyOf"][0], parts, chance)
    return declared["const"] if "const" in declared else _plain(name, declared, parts, chance)


def _plain(name: str, declared: Mapping[str, Any], parts: Mapping[str, Any], chance: Random) -> Any:
    kind = declared.get("type")
    if kind == "array":
        least = declared.get("minItems", 0)
        size = chance.randint(least, max(least, min(declared.get("maxItems", 3), 3)))
        return [_value(name, declared.get("items", {}), parts, chance) for _ in range(size)]
    if kind == "object":
        properties = declared.get("properties", {})
        return {each: _value(each, properties[each], parts, chance) for each in declared.get("required", ())}
    if kind in ("integer", "number"):
        return _number(declared, chance)
    if kind == "boolean":
        return chance.choice((False, True))
    return None if kind == "null" else _text(name, declared, chance)


def _text(name: str, declared: Mapping[str, Any], chance: Random) -> str:
    if "format" in declared:
        return _FORMATS.get(declared["format"], name)
    text = f"{name.removesuffix('_id')}-{chance.randint(1, 9)}".ljust(declared.get("minLength", 0), "x")
    return text[: declared.get("maxLength", len(text))]


def _number(declared: Mapping[str, Any], chance: Random) -> int:
    least = declared.get("minimum", declared.get("exclusiveMinimum", -1) + 1)
    most = declared.get("maximum", declared.get("exclusiveMaximum", max(least, 0) + _NUMBER_MAX) - 1)
    width = chance.choice((_NUMBER_SMALL, _NUMBER_MAX))  # limits of a project are often below most of its numbers
    return chance.randint(int(least), max(int(least), int(min(most, least + width))))
