"""Convert `--field NAME=VALUE` to the event class's types: text stays text, everything else is read as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from choreo.app.exact_json import read
from choreo.core.errors import SettingsError


def of_pairs(event_class: Any, pairs: Iterable[str]) -> dict[str, Any]:
    """Return the fields in these NAME=VALUE pairs; raises SettingsError on an invalid or repeated pair."""
    schema = event_class.model_json_schema()
    fields: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise SettingsError(
                f"{pair!r} is no field", where="--field", remedy="Write NAME=VALUE, such as order_id=o-1."
            )
        if name in fields:
            raise SettingsError(f"{name} is given twice", where="--field", remedy="Keep one of the two.")
        declared = schema.get("properties", {}).get(name, {})
        fields[name] = text if _takes_text(declared, schema.get("$defs", {})) else _json(name, text)
    return fields


def _takes_text(declared: Mapping[str, Any], parts: Mapping[str, Any]) -> bool:
    """Return whether the field accepts a JSON string; true for an unknown field, which is refused by name later."""
    if "$ref" in declared:
        return _takes_text(parts.get(declared["$ref"].rpartition("/")[2], {}), parts)
    if "anyOf" in declared:
        return any(_takes_text(form, parts) for form in declared["anyOf"])
    return bool(declared.get("type", "string") == "string")


def _json(name: str, text: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise SettingsError(
            f"{text!r} is neither a number nor JSON",
            where=f"--field {name}",
            remedy="""Write a number, true, or JSON: 'items=[{"sku": "A", "quantity": 1}]'.""",
        ) from error
