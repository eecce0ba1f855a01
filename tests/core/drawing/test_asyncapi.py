"""The AsyncAPI document: valid by the official schema of AsyncAPI 3.0.0 (Apache-2.0, kept beside this file)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from choreo import Flow
from choreo.cli.schemas import event_classes
from choreo.core.drawing.asyncapi import asyncapi
from services.order_flow import order
from services.travel.trip_flow import trip

SCHEMA = json.loads(gzip.decompress(Path(__file__).with_name("asyncapi-3.0.0.json.gz").read_bytes()))
VALIDATOR = Draft7Validator(SCHEMA)


def document(flow: Flow) -> dict[str, Any]:
    """Return the document of a flow, as the command makes it."""
    classes = event_classes([flow])
    schemas = {each.event_type: each.model_json_schema(ref_template="#/components/schemas/{model}") for each in classes}
    whole: dict[str, Any] = json.loads(json.dumps(asyncapi(flow.definition, schemas, 8)))
    return whole


def references(value: Any) -> Iterator[str]:
    """Yield every reference in a document."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name == "$ref":
                yield each
            else:
                yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


@pytest.mark.parametrize("flow", [order, trip], ids=lambda flow: flow.name)
def test_the_document_is_valid(flow: Flow) -> None:
    """By the official schema, and each of its references leads somewhere."""
    whole = document(flow)
    assert [error.message for error in VALIDATOR.iter_errors(whole)] == []
    found = list(references(whole))
    assert len(found) > 20
    for reference in found:
        here = whole
        for name in reference.removeprefix("#/").split("/"):
            here = here[name]


def test_the_schema_refuses_a_document_that_is_wrong() -> None:
    """A check that cannot fail is none."""
    whole = document(order)
    next(iter(whole["operations"].values()))["action"] = "emit"
    assert not VALIDATOR.is_valid(whole)


def test_the_document_tells_who_emits_and_who_reacts() -> None:
    """Every event is a message with the flow's key; every step has its operations; outside events have theirs."""
    whole = document(order)
    definition = order.definition
    messages = whole["components"]["messages"]
    assert messages.keys() == definition.types == whole["channels"]["order"]["messages"].keys()
    for type_, message in messages.items():
        assert message["headers"]["properties"]["ce_type"]["const"] == type_
        assert definition.key in message["payload"]["properties"]
    charge = whole["operations"]["step-payment-charge-send"]
    assert charge["action"] == "send"
    assert [each["$ref"].rpartition("/")[2] for each in charge["messages"]] == ["PaymentCharged", "PaymentDeclined"]
    outside = whole["operations"]["outside-receive"]["messages"]
    assert [each["$ref"].rpartition("/")[2] for each in outside] == ["OrderPlaced", "ShipmentPicked"]
