"""The API's description: FastAPI's, with the problem document beside every error and the flows' own events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from choreo.app.publish_keys import DOT_NAMES, KEY_LENGTH_MAX, KEY_PATTERN
from choreo.app.query_flows import Flows
from choreo.surfaces.rest.patterns import translate
from choreo.surfaces.rest.problems import MEDIA_TYPE, Problem

_PROBLEM = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_SUPERFLUOUS = ("HTTPValidationError", "ValidationError")


def install(app: FastAPI, flows: Flows) -> None:
    """Let the app describe itself so; made once, when it is first asked for."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app, flows)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign] # FastAPI's documented way to extend the description


def _described(app: FastAPI, flows: Flows) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schemas = document["components"]["schemas"]
    _, problem = models_json_schema([(Problem, "serialization")], ref_template="#/components/schemas/{model}")
    schemas.update(problem["$defs"])
    for name in _SUPERFLUOUS:
        schemas.pop(name, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                _without_empty_default(parameter["schema"])
            if "requestBody" in operation:
                operation["requestBody"]["required"] = True  # none is taken as empty, but its type must be said
            for status, response in operation["responses"].items():
                if status >= "400":
                    response.update(_PROBLEM)
    bodies = dict(_bodies(flows))
    if bodies:
        for body, parts in bodies.values():
            schemas.update(parts)
            schemas[body["title"]] = body
        schemas["EventBody"] = {
            "title": "EventBody",
            "description": schemas["EventBody"]["description"],
            "oneOf": [{"$ref": f"#/components/schemas/{body['title']}"} for body, _ in bodies.values()],
        }
    translate(document)
    return document


def _without_empty_default(schema: dict[str, Any]) -> None:
    """Empty is our way to say "not given"; it is no value that a client should send."""
    if schema.get("default") == "":
        del schema["default"]


def _bodies(flows: Flows) -> Iterator[tuple[str, tuple[dict[str, Any], dict[str, Any]]]]:
    """For each event that may come from outside: the body that carries it, and the schemas it refers to."""
    for name in flows.names:
        table = flows.table(name)
        for type_ in (table.flow.starts, *sorted(table.satisfies)):
            event_class = flows.classes[name].get(type_)
            if event_class is None or not hasattr(event_class, "model_json_schema"):
                continue
            fields = event_class.model_json_schema(ref_template=f"#/components/schemas/{name}.{{model}}")
            parts = {f"{name}.{part}": schema for part, schema in fields.pop("$defs", {}).items()}
            _as_a_key(fields["properties"][table.flow.key])
            body = {
                "title": f"{name}.{type_}.body",
                "type": "object",
                "required": ["type", "fields"],
                "additionalProperties": False,
                "properties": {
                    "type": {"const": type_},
                    "fields": fields,
                    **({} if type_ == table.flow.starts else {"run": {"type": "string", "maxLength": 100}}),
                },
            }
            yield f"{name}/{type_}", (body, parts)


def _as_a_key(field: dict[str, Any]) -> None:
    """The field that is the flow's key must also be able to be one."""
    if field.get("type") == "string":
        field["minLength"] = max(1, field.get("minLength", 1))
        field["maxLength"] = min(KEY_LENGTH_MAX, field.get("maxLength", KEY_LENGTH_MAX))
        field["pattern"] = field.get("pattern", KEY_PATTERN)
        field["not"] = {"enum": list(DOT_NAMES)}
