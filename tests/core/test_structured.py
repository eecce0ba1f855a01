"""CloudEvents in structured mode become those of binary mode, exactly; any other body is refused with the reason."""

from __future__ import annotations

import json

import pytest

from choreo.core.structured import binary_of, is_structured

ENVELOPE = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "OrderPlaced"}


def test_attributes_become_headers_and_the_data_stays_as_it_was_written() -> None:
    """Numbers keep their zeros, which a parsed number would lose."""
    text = b'{"specversion": "1.0", "id": "1", "type": "T", "traceparent": "00-a", "choreohops": 3, '
    headers, data = binary_of(text + b'"choreocertain": true, "subject": null, "data": {"amount": 12.50}}')
    assert data == b'{"amount": 12.50}'
    assert headers == {
        "content-type": "application/json", "ce_specversion": "1.0", "ce_id": "1", "ce_type": "T",
        "traceparent": "00-a", "ce_choreohops": "3", "ce_choreocertain": "true",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "data"),
    [
        ({"data": "plain", "datacontenttype": "text/plain"}, b"plain"),
        ({"data": "json text"}, b'"json text"'),
        ({"data_base64": "AP8=", "datacontenttype": "application/avro"}, b"\x00\xff"),
        ({"data": {"a": 1}, "datacontenttype": "application/vnd.shop+json"}, b'{"a": 1}'),
        ({}, b""),
    ],
)
def test_data_is_json_text_or_bytes(given: dict[str, object], data: bytes) -> None:
    """The content type decides."""
    headers, found = binary_of(json.dumps({**ENVELOPE, **given}).encode())
    assert found == data
    assert headers["content-type"] == given.get("datacontenttype", "application/json")


@pytest.mark.parametrize(
    "value",
    [
        b"", b"{", b"[]", b"7", b"\xff", b"{}", b'{"specversion": "0.3"}', b'{"specversion": "1.0", "id": {}}',
        b'{"specversion": "1.0", "id": 1.5}', b'{"specversion": "1.0", "data_base64": "?"}',
        b'{"specversion": "1.0", "datacontenttype": "text/plain", "data": {}}',
    ],
)  # fmt: skip
def test_what_is_no_event_is_told(value: bytes) -> None:
    """Any fault is a ValueError."""
    with pytest.raises(ValueError, match=r"specversion|CloudEvent"):
        binary_of(value)


def test_a_content_type_may_have_parameters() -> None:
    """Upper and lower case are the same; a batch is another type."""
    assert is_structured("Application/CloudEvents+JSON; charset=UTF-8")
    assert not is_structured("application/cloudevents-batch+json")
