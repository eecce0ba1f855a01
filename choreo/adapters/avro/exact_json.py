"""JSON in which no digit is lost: a decimal number that a float cannot hold reaches its field as its text.

pydantic reads each number with a fraction as a float of 15 to 17 digits, also for a Decimal. Such numbers are rare, so
one search of the text decides whether the JSON is rewritten at all.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any

from pydantic import BaseModel

from choreo.event.exact_text import vanishes
from choreo.event.types import required_of, without_constraints

# A float keeps a number of up to 15 digits with an exponent of two digits exactly.
_LOSSY = re.compile(rb"[0-9.]{16,}|[0-9][eE][+-]?[0-9]{3,}")

_Rewrite = Callable[[Any], Any]


class _Number(str):
    """A number with a fraction or an exponent, as it was written."""

    __slots__ = ()


def exact(model: type[BaseModel], data: bytes) -> bytes:
    """Return the JSON with each number of a Decimal field as text where a float would lose digits of it.

    A number of a float field that a float takes for 0 becomes text too, and is then refused. Unreadable JSON is
    returned unchanged: its reader reports the error.
    """
    if not _LOSSY.search(data):
        return data
    rewrite = _part(model)
    if rewrite is None:
        return data
    try:
        values = json.loads(data.decode(), parse_float=_Number)
        return json.dumps(_plain(rewrite(values))).encode()
    except (ValueError, RecursionError):
        return data


def name_given_twice(data: bytes) -> str:
    """Return the first name that an object in the JSON has twice: of its two values one would be dropped; else ""."""
    try:
        json.loads(data.decode(), parse_float=str, parse_int=str, object_pairs_hook=_once)
    except _TwiceError as error:
        return error.name
    except (ValueError, RecursionError):
        pass  # its reader reports the error
    return ""


class _TwiceError(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return fields


def _plain(value: Any) -> Any:
    """Return the value with its numbers as floats: it belongs to no Decimal field."""
    if isinstance(value, _Number):
        return float(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


@cache
def _part(model: type[BaseModel]) -> _Rewrite | None:
    """Return the function that rewrites the values of a class's JSON; None if the class has none such."""
    known = {
        name: of_field for name, field in model.model_fields.items() if (of_field := _of(field.rebuild_annotation()))
    }
    if not known:
        return None

    def rewrite(values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: known[name](value) if name in known else value for name, value in values.items()}

    return rewrite


def _of(annotation: Any) -> _Rewrite | None:
    annotation, _ = without_constraints(required_of(annotation) or annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Decimal:
        return lambda value: str(value) if isinstance(value, _Number) else value
    if annotation is float:
        return lambda value: str(value) if isinstance(value, _Number) and vanishes(value) else value
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _part(annotation)
    inner = _of(arguments[-1]) if origin in (list, dict) else None
    if inner is None:
        return None
    if origin is list:
        return lambda values: [inner(each) for each in values] if isinstance(values, list) else values
    return lambda values: {key: inner(each) for key, each in values.items()} if isinstance(values, dict) else values
