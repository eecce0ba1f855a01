"""A flow as an AsyncAPI 3.0 document: its log as a channel, its events as messages, its steps as operations.

Other teams read it to publish and to consume; generators make clients of it. Knows the definition and the JSON schemas
of the events that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from choreo.core.definition import FlowDefinition
from choreo.core.facts import PREFIX

VERSION = "3.0.0"
_BINDING = "0.5.0"
_HEADERS = {
    "ce_specversion": "Version of CloudEvents: 1.0.",
    "ce_id": "Id of the event, unique within its source.",
    "ce_source": "The producer.",
    "ce_type": "Type of the event.",
    "ce_time": "When it was published (RFC 3339).",
    "ce_choreorun": "Id of the run: the id of its start event.",
    "ce_choreostep": "The step that emitted it.",
    "ce_causationid": "Id of the event that it answers.",
}
_REQUIRED = ["ce_specversion", "ce_id", "ce_source", "ce_type"]
_ID = re.compile(r"[^A-Za-z0-9_-]+")


def asyncapi(flow: FlowDefinition, schemas: Mapping[str, Mapping[str, Any]], partitions: int) -> dict[str, Any]:
    """Return the document; `schemas` gives the JSON schema of each event type, `partitions` those of a new topic."""
    messages = {type_: _message(flow, type_, schema) for type_, schema in schemas.items()}
    parts: dict[str, Any] = {}
    for message in messages.values():
        parts |= message["payload"].pop("$defs", {})
    channel = {
        "address": flow.name,
        "title": f"The log of flow {flow.name}",
        "description": f"Every event of every run, keyed by {flow.key}, beside the facts of choreo ({PREFIX}*).",
        "messages": {type_: {"$ref": f"#/components/messages/{type_}"} for type_ in messages},
        "bindings": {"kafka": {"topic": flow.name, "partitions": partitions, "bindingVersion": _BINDING}},
    }
    return {
        "asyncapi": VERSION,
        "info": {"title": f"Flow {flow.name}", "version": f"{flow.version}.0.0", "description": _about(flow)},
        "defaultContentType": "application/json",
        "channels": {flow.name: channel},
        "operations": dict(_operations(flow, frozenset(messages))),
        "components": {"messages": messages, "schemas": parts},
    }


def _about(flow: FlowDefinition) -> str:
    ends = " or ".join(flow.ends)
    failed = f" A run that was undone says {flow.fails}." if flow.fails else ""
    return f"A run starts with {flow.starts} and completes with {ends}.{failed} Version {flow.version} of the flow."


def _message(flow: FlowDefinition, type_: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the message of an event: its payload, the headers of CloudEvents in binary mode, and the key."""
    payload = {name: value for name, value in schema.items() if name != "title"}
    summary = str(schema.get("description", "")).strip().split("\n", 1)[0]
    key = dict(schema.get("properties", {}).get(flow.key, {"type": "string"}))
    headers = {
        "type": "object",
        "required": _REQUIRED,
        "properties": {
            name: {"type": "string", "description": about, **({"const": type_} if name == "ce_type" else {})}
            for name, about in _HEADERS.items()
        },
    }
    return {
        "name": type_,
        "title": type_,
        **({"summary": summary} if summary else {}),
        "contentType": "application/json",
        "headers": headers,
        "payload": payload,
        "correlationId": {"description": "The run.", "location": "$message.header#/ce_choreorun"},
        "bindings": {"kafka": {"key": key, "bindingVersion": _BINDING}},
    }


def _operations(flow: FlowDefinition, known: frozenset[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the operations of every step, and of those who publish events from outside."""
    for step in flow.steps:
        name, tags = f"step-{step.name}", [{"name": step.service}]
        does = f"Step {step.name}"
        yield _operation(flow, f"{name}-receive", "receive", f"{does} reacts.", step.triggers, tags)
        if outcomes := [type_ for type_ in (*step.emits, *step.fails) if type_ in known]:
            yield _operation(flow, f"{name}-send", "send", f"{does} emits or fails.", outcomes, tags)
        if step.compensation and step.compensation.emits:
            yield _operation(
                flow,
                f"{name}-undo",
                "send",
                f"The effect of step {step.name} is undone.",
                step.compensation.emits,
                tags,
            )
    outside = [flow.starts, *(type_ for wait in flow.waits for type_ in wait.answers), *flow.movers_outside]
    tags = [{"name": "outside"}]
    yield _operation(flow, "outside-receive", "receive", "Events from outside.", list(dict.fromkeys(outside)), tags)
    said = [flow.fails, *(type_ for wait in flow.waits for type_ in (wait.late, *wait.says))]
    if said := [type_ for type_ in dict.fromkeys(said) if type_]:
        yield _operation(flow, "tracker-send", "send", "Events of the tracker.", said, [{"name": "tracker"}])


def _operation(
    flow: FlowDefinition, name: str, action: str, summary: str, types: Sequence[str], tags: Sequence[Mapping[str, str]]
) -> tuple[str, dict[str, Any]]:
    messages = [{"$ref": f"#/channels/{flow.name}/messages/{type_}"} for type_ in types]
    channel = {"$ref": f"#/channels/{flow.name}"}
    return _ID.sub("-", name), {
        "action": action,
        "channel": channel,
        "summary": summary,
        "tags": list(tags),
        "messages": messages,
    }
