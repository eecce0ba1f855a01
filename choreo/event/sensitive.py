"""Fields whose values not every reader may see: `text: Annotated[str, Sensitive()]`, in an event or a part of one.

The mark changes nothing in the log or the schema: the REST view shows such values as `…` to viewers and publishers.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel

from choreo.event.types import constraints_in, required_of, without_constraints

HIDDEN = "…"
"""Shown in place of a value."""

EACH = "*"
"""In a mask: every item of a list, and every value of a map."""

Mask: TypeAlias = Mapping[str, "Mask | None"]
"""Field → the mask of the part that it holds; None: its whole value is hidden. Other fields are shown."""


@dataclass(frozen=True)
class Sensitive:
    """Marks a field in `Annotated`: only operators and admins see its value over REST."""


def mask_of(cls: type[Any]) -> Mask:
    """Return the mask of an event class or a part; empty where nothing of it is hidden."""
    if not issubclass(cls, BaseModel):
        return {}
    found = {name: _of(field.rebuild_annotation()) for name, field in cls.model_fields.items()}
    return {name: mask for name, mask in found.items() if mask is None or mask}


def is_sensitive(annotation: Any) -> bool:
    """Return whether the annotation, or a part of it, is marked as a whole."""
    return _of(annotation) is None


def masked(value: Any, mask: Mask | None) -> Any:
    """Return a value as JSON with the hidden fields in it replaced."""
    if mask is None:
        return HIDDEN
    if EACH in mask:
        if isinstance(value, list):
            return [masked(each, mask[EACH]) for each in value]
        if isinstance(value, dict):
            return {name: masked(each, mask[EACH]) for name, each in value.items()}
        return value
    if not isinstance(value, dict):
        return value
    return {name: masked(each, mask[name]) if name in mask else each for name, each in value.items()}


def _of(annotation: Any) -> Mask | None:
    """Return the mask of a field by its annotation."""
    inner, metadata = without_constraints(annotation)
    if any(one is Sensitive or isinstance(one, Sensitive) for one in constraints_in(metadata)):
        return None
    required = required_of(inner)
    if required is not None:
        return _of(required)
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if origin in (list, dict):
        mask = _of(arguments[-1])
        return {EACH: mask} if mask is None or mask else {}
    return mask_of(inner) if isinstance(inner, type) else {}
