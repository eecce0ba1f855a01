"""Build a call of `choreo publish` that can be copied, with a value for each field an event requires. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

# Example values of the string formats; any other string field gets a value made of its own name.
_BY_FORMAT = {
    "date": "2025-01-31",
    "date-time": "2025-01-31T12:00:00Z",
    "time": "12:00:00",
    "duration": "PT1H",
    "uuid": "00000000-0000-4000-8000-000000000001",
    "email": "name@example.com",
    "uri": "https://example.com",
}
_BY_TYPE = {"integer": 1, "number": 1, "boolean": True, "null": None}


def publish_call(flow: str, event_class: Any) -> str:
    """Return the command line that publishes one such event; its values only have the right types."""
    schema = event_class.model_json_schema()
    parts = schema.get("$defs", {})
    words = ["choreo", "publish", flow, event_class.event_type]
    for name in schema.get("required", ()):
        value = _example(name, schema["properties"][name], parts)
        words += ["--field", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)


def _example(name: str, declared: Mapping[str, Any], parts: Mapping[str, Any]) -> Any:
    """Return an example value of a field with this JSON schema."""
    examples = declared.get("examples") or declared.get("enum")
    if examples:
        return examples[0]
    if "$ref" in declared:
        return _example(name, parts[declared["$ref"].rpartition("/")[2]], parts)
    if "anyOf" in declared:
        return _example(name, declared["anyOf"][0], parts)
    match declared.get("type"):
        case "array":
            return [_example(name, declared.get("items", {}), parts)]
        case "object":
            properties = declared.get("properties", {})
            return {each: _example(each, properties[each], parts) for each in declared.get("required", ())}
        case kind:
            text = _BY_FORMAT.get(declared.get("format", ""), f"{name.removesuffix('_id')}-1")
            return _BY_TYPE.get(str(kind), text)
