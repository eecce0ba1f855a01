"""The API's description: FastAPI's, with the problem document beside every error and the flows' own events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from choreo.app.limits import DOT_NAMES, KEY_LENGTH_MAX, KEY_PATTERN
from choreo.app.query.flows import Flows
from choreo.core.structured import MEDIA_TYPE as CLOUD_EVENT
from choreo.surfaces.rest.access_control import AccessControl
from choreo.surfaces.rest.error_responses import WHY
from choreo.surfaces.rest.patterns import translate
from choreo.surfaces.rest.problems import MEDIA_TYPE, Problem
from choreo.surfaces.rest.roles import METRICS, OPEN, ROUTES
from choreo.surfaces.rest.structured import EVENTS
from choreo.surfaces.rest.use_cases import UseCases

_STRUCTURED = ".structured"
_PROBLEM = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
SCHEMES: dict[str, dict[str, Any]] = {
    "apiKey": {"type": "http", "scheme": "bearer", "description": "A key that `choreo keys create` has made."},
    "openIdConnect": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of the OpenID Connect provider.",
    },
}
"""The kinds of credentials. Both are sent as `Authorization: Bearer …`."""
_SUPERFLUOUS = ("HTTPValidationError", "ValidationError")


def install(app: FastAPI, use_cases: UseCases) -> None:
    """Install the description of the API; it is made once, at the first request for it."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app, use_cases.flows)
            if use_cases.access is not None:
                _secure(app.openapi_schema, use_cases.access)
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
                operation["requestBody"]["required"] = True  # a missing body counts as empty, but its type is required
            for status, response in operation["responses"].items():
                if status >= "400":
                    response.update(_PROBLEM)
    bodies = dict(_bodies(flows))
    if bodies:
        _describe_events(document, bodies)
    translate(document)
    return document


def _secure(document: dict[str, Any], access: AccessControl) -> None:
    """Name the kinds of credentials, and for each operation whether it needs one and its refusals."""
    document["components"]["securitySchemes"] = {scheme: SCHEMES[scheme] for scheme in access.schemes}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            name = f"{method.upper()} {path}"
            if ROUTES.get(name) is OPEN or (name == METRICS and access.open_metrics):
                operation["security"] = []
                continue
            operation["security"] = [{scheme: []} for scheme in access.schemes]
            for status in (401, 403, 429):
                operation["responses"].setdefault(str(status), {"description": WHY[status], **_PROBLEM})
            if name in ROUTES:
                need = ROUTES[name]
                operation["x-choreo-role"] = need.role.shown


def _describe_events(document: dict[str, Any], bodies: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Describe the events that may be published, in both forms that the route takes."""
    schemas = document["components"]["schemas"]
    for body, parts in bodies.values():
        schemas.update(parts)
        schemas[body["title"]] = body
        structured = _structured(body)
        schemas[structured["title"]] = structured
    for name, suffix, description in (
        ("EventBody", "", schemas["EventBody"]["description"]),
        ("CloudEvent", _STRUCTURED, "An event in structured mode (CloudEvents 1.0, JSON event format)."),
    ):
        titles = [f"{body['title']}{suffix}" for body, _ in bodies.values()]
        one_of = [{"$ref": f"#/components/schemas/{title}"} for title in titles]
        schemas[name] = {"title": name, "description": description, "oneOf": one_of}
    for path, operations in document["paths"].items():
        if path.endswith(EVENTS) and "post" in operations:
            content = operations["post"]["requestBody"]["content"]
            content[CLOUD_EVENT] = {"schema": {"$ref": "#/components/schemas/CloudEvent"}}


def _structured(body: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the CloudEvent that carries the same as this body; see `structured.Structured`."""
    properties = body["properties"]
    text, optional = {"type": "string", "minLength": 1}, {"type": ["string", "null"]}
    run = {"anyOf": [properties["run"], {"type": "null"}]} if "run" in properties else optional
    return {
        "title": f"{body['title']}{_STRUCTURED}",
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "additionalProperties": {"type": ["string", "integer", "boolean", "null"]},
        "properties": {
            "specversion": {"const": "1.0"},
            "id": text,
            "source": text,
            "type": properties["type"],
            "data": properties["fields"],
            "datacontenttype": {"enum": ["application/json", None]},
            **dict.fromkeys(("subject", "time", "dataschema"), optional),
            "choreorun": run,
        },
    }


def _without_empty_default(schema: dict[str, Any]) -> None:
    """Remove an empty default: it stands for "not given", and is no value that a client should send."""
    if schema.get("default") == "":
        del schema["default"]


def _bodies(flows: Flows) -> Iterator[tuple[str, tuple[dict[str, Any], dict[str, Any]]]]:
    """Yield for each event from outside: the body that carries it, and the schemas that the body refers to."""
    for name in flows.names:
        table = flows.table(name)
        for type_ in (table.flow.starts, *sorted(table.outside)):
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
    """Restrict the field that is the flow's key to values that can be keys."""
    if field.get("type") == "string":
        field["minLength"] = max(1, field.get("minLength", 1))
        field["maxLength"] = min(KEY_LENGTH_MAX, field.get("maxLength", KEY_LENGTH_MAX))
        field["pattern"] = field.get("pattern", KEY_PATTERN)
        field["not"] = {"enum": list(DOT_NAMES)}
