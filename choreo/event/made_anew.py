"""Find the values that a class made itself, anew for each object (`default_factory=uuid4`), because none was given.

Two readers of a record that lacks such a value would make two values, and an attempt that is repeated another one. So
a producer's object may have them, because they are written with it; a record of the log may not lack them.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

from pydantic import BaseModel

from choreo.event.defaults import made_each_time
from choreo.event.types import required_of, without_constraints

Path: TypeAlias = tuple[str | int, ...]
_Look: TypeAlias = Callable[[Any], Iterator[Path]]


def made_anew(value: BaseModel) -> list[Path]:
    """Return the path to each field that the class has filled in anew, parts and their lists included."""
    look = _of_class(type(value))
    return list(look(value)) if look is not None else []


def without(fields: Mapping[str, Any], paths: Sequence[Path]) -> dict[str, Any]:
    """Return fields as JSON holds them, without the values at these paths."""
    kept: dict[str, Any] = dict(fields)
    for head, *rest in paths:
        name = str(head)
        if not rest:
            kept.pop(name, None)
        elif name in kept:
            kept[name] = _inner_without(kept[name], tuple(rest))
    return kept


def _inner_without(value: Any, path: Path) -> Any:
    if isinstance(value, Mapping):
        return without(value, [path])
    head, *rest = path
    if not isinstance(value, list) or not isinstance(head, int) or head >= len(value):
        return value
    return [*value[:head], _inner_without(value[head], tuple(rest)), *value[head + 1 :]]


@cache
def _of_class(model: type[BaseModel]) -> _Look | None:
    """Return the search in an object of this class; None if it makes nothing anew."""
    own = frozenset(name for name, field in model.model_fields.items() if made_each_time(field))
    looks = {
        name: look
        for name, field in model.model_fields.items()
        if (look := _of_annotation(field.rebuild_annotation())) is not None
    }
    if not own and not looks:
        return None

    def search(value: Any) -> Iterator[Path]:
        made = own - value.model_fields_set
        for name in sorted(made):
            yield (name,)
        for name, look in looks.items():
            if name not in made:
                yield from ((name, *path) for path in look(getattr(value, name)))

    return search


def _of_annotation(annotation: Any) -> _Look | None:
    required = required_of(annotation)
    if required is not None:
        inner = _of_annotation(required)
        return None if inner is None else (lambda value: iter(()) if value is None else inner(value))
    annotation, _ = without_constraints(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _of_class(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    each = _of_annotation(arguments[-1]) if origin in (list, dict) else None
    if each is None:
        return None
    if origin is list:
        return lambda values: ((n, *path) for n, value in enumerate(values) for path in each(value))
    return lambda values: ((name, *path) for name, value in values.items() for path in each(value))
