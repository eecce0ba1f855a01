"""CloudEvents in structured mode: attributes and data in one JSON object (CloudEvents 1.0, JSON event format).

Each event is converted to binary mode at the edge, so that no other module knows structured mode.
"""

from __future__ import annotations

import msgspec

from choreo.core.events import SENT_ON

MEDIA_TYPE = "application/cloudevents+json"
_JSON = "application/json"

_TEXTS = frozenset({"id", "source", "type", "specversion", "datacontenttype", "dataschema", "subject", "time"})
"""Attributes of the specification: each is a text, while an extension may also be a number or a boolean."""

_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str | int | bool).decode
_text_only = msgspec.json.Decoder(str).decode
_bytes = msgspec.json.Decoder(bytes).decode


def is_structured(content_type: str) -> bool:
    """Return whether a value of this content type holds an event in structured mode."""
    return content_type.partition(";")[0].strip().lower() == MEDIA_TYPE


def binary_of(value: bytes) -> tuple[dict[str, str], bytes]:
    """Return the event's headers in binary mode, and its data as it was written; raises ValueError."""
    try:
        parts = _object(value)
        headers = {"content-type": _JSON}
        for name, raw in parts.items():
            if name not in ("data", "data_base64") and bytes(raw) != b"null":
                headers[_header(name)] = _text_only(raw) if name in _TEXTS else _text_of(raw)
        if headers.get("ce_specversion") != "1.0":
            message = "its specversion is not 1.0"
            raise ValueError(message)
        return headers, _data(parts, headers["content-type"])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"it is no CloudEvent in JSON: {error}"
        raise ValueError(message) from error


def _header(name: str) -> str:
    if name == "datacontenttype":
        return "content-type"
    return name if name in SENT_ON else f"ce_{name}"


def _text_of(raw: msgspec.Raw) -> str:
    value = _text(raw)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _data(parts: dict[str, msgspec.Raw], content_type: str) -> bytes:
    """Return the bytes of the data: JSON exactly as written, so that no number changes; else text or base64."""
    if "data_base64" in parts:
        return _bytes(parts["data_base64"])
    raw = bytes(parts.get("data", b""))
    kind = content_type.partition(";")[0].strip().lower()
    if raw and kind != _JSON and not kind.endswith("+json"):
        return str(_text(parts["data"])).encode()
    return raw
