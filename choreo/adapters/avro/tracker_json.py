"""Domain events that the tracker makes itself: the key as text, and a reason in words.

The event's class may have the key as a number, and a reason that is one of a few values. The tracker's text is fitted
to it: with an event that no service could read, the step on it would never run.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import from_json


def made_by_tracker(model: type[BaseModel], data: bytes) -> BaseModel:
    """Return the event in the tracker's JSON; raises ValidationError where the class needs more than key and reason."""
    values = from_json(data)
    try:
        return model.__pydantic_validator__.validate_python(values)  # type: ignore[no-any-return]
    except ValidationError:
        needed = {name for name, field in model.model_fields.items() if field.is_required()}
        if not isinstance(values, dict) or needed - values.keys() or values.keys() - model.model_fields.keys():
            raise
        return model.model_construct(**{name: _fitted(model.model_fields[name], text) for name, text in values.items()})


def _fitted(field: FieldInfo, text: Any) -> Any:
    """Return the value of the field's type that has this text; the text itself if there is none."""
    adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
    for form in (text, _json(text)):
        try:
            return adapter.validate_python(form)
        except ValidationError:
            continue
    return text


def _json(text: Any) -> Any:
    try:
        return from_json(text)
    except (ValueError, TypeError):
        return text
