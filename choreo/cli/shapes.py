"""The JSON of instances, events and dead letters: the names of the REST view, times in RFC 3339, null where none is.

Pure. Made here anew because the command line works without the `web` extra; a test holds the two together.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from choreo.app.publish import Receipt
from choreo.app.query import Instance
from choreo.app.query_history import HistoryRow
from choreo.app.query_positions import token_of
from choreo.app.query_timeline import TimelineRow
from choreo.app.query_words import moment
from choreo.core.events import to_headers
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.read_model import InstanceView

_DURATIONS = frozenset({"at_ms", "took_ms"})


def of_receipt(receipt: Receipt) -> dict[str, Any]:
    """What was written, and where."""
    return {**msgspec.to_builtins(receipt), "position": token_of(receipt.position)}


def of_summary(row: InstanceView) -> dict[str, Any]:
    """One run as a list shows it."""
    values: dict[str, Any] = _timed(msgspec.structs.asdict(row))
    del values["detail"]
    return {**values, "attributes": dict(row.attributes)}


def of_instance(instance: Instance) -> dict[str, Any]:
    """One run with all that is known of it."""
    detail = _timed(msgspec.to_builtins(instance.detail))
    return {
        **of_summary(instance.row),
        "version": detail["version"],
        "deadline": detail["due"],
        "paused": detail["paused"],
        "ended": detail["ended"],
        "next_due": _moment(instance.detail.next_due_ms),
        "next_timer": instance.next_timer,
        "waiting_for": instance.waiting_for,
        "expected": detail["expected"],
        "waits": [_without(wait, "name") for wait in detail["waits"]],
        "ledger": [_without(effect, "opened") for effect in detail["ledger"]],
        "runs": instance.runs,
    }


def of_timeline(row: TimelineRow) -> dict[str, Any]:
    """One line of an instance's story."""
    return _without(_timed(msgspec.to_builtins(row)), "run")


def of_event(row: HistoryRow) -> dict[str, Any]:
    """One event with its fields."""
    return _without(_timed(msgspec.to_builtins(row)), "topic")


def of_letter(letter: DeadLetter) -> dict[str, Any]:
    """One dead letter as a list shows it."""
    return {
        "id": letter.id,
        "flow": letter.topic,
        "position": token_of(letter.position),
        "key": letter.record.event.key,
        "type": letter.record.event.type,
        "service": letter.service,
        "step": letter.step,
        "cause": letter.cause,
        "set_aside": _moment(letter.set_aside_ms),
        "redriven": letter.redriven,
    }


def of_letter_and_record(letter: DeadLetter) -> dict[str, Any]:
    """One dead letter with its record."""
    event = letter.record.event
    return {**of_letter(letter), "headers": to_headers(event), "data_base64": base64.b64encode(event.data).decode()}


def _timed(value: Any) -> Any:
    """Every `…_ms` that is a moment under its plain name, as text."""
    if isinstance(value, list):
        return [_timed(each) for each in value]
    if not isinstance(value, dict):
        return value
    timed = {}
    for name, each in value.items():
        if name.endswith("_ms") and name not in _DURATIONS:
            timed[name.removesuffix("_ms")] = _moment(each)
        elif name in ("fields", "failure"):
            timed[name] = each  # the user's own words
        else:
            timed[name] = _timed(each)
    return timed


def _moment(time_ms: int) -> str | None:
    return moment(time_ms) if time_ms else None


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}
