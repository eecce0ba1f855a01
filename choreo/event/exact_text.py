"""Texts that pydantic would read as a value other than the written one: such a text is refused, never cut or guessed.

Python reads "1_000" and the digits of every script as numbers, and cuts a time finer than microseconds. The checks run
before pydantic's own; they are put into a class's core schema once, when the class is declared.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from pydantic_core import PydanticCustomError, SchemaValidator, ValidationError, core_schema

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z")
# Seven digits of a second; or a number of seconds or milliseconds, which pydantic would cut too.
_TOO_FINE = re.compile(r"[.,][0-9]{7}|\A\s*[+-]?[0-9]+[.,][0-9]")

_INNER = (
    "schema",
    "items_schema",
    "keys_schema",
    "values_schema",
    "lax_schema",
    "strict_schema",
    "json_schema",
    "python_schema",
)


def is_number(text: str) -> bool:
    """Return whether the text is a number as JSON writes one."""
    return _NUMBER.match(text) is not None


def is_too_fine(text: str) -> bool:
    """Return whether a text of a time is finer than microseconds."""
    return _TOO_FINE.search(text) is not None


def exact_schema(schema: Any, owner: type[Any]) -> Any:
    """Return the core schema of a class with a check before each number and time; nested classes have their own."""
    if not isinstance(schema, dict) or (schema.get("type") == "model" and schema["cls"] is not owner):
        return schema
    copy: Any = {**schema}
    for name in _INNER:
        if name in copy:
            copy[name] = exact_schema(copy[name], owner)
    if isinstance(copy.get("fields"), dict):
        copy["fields"] = {name: exact_schema(field, owner) for name, field in copy["fields"].items()}
    kind = copy["type"]
    if kind not in _PYTHON:
        return copy
    in_python = core_schema.no_info_before_validator_function(_PYTHON[kind], copy)
    # A function gets JSON's texts as Python's texts, which strict mode refuses: so the function makes the value itself.
    in_json = core_schema.no_info_before_validator_function(_JSON[kind], copy) if kind in _JSON else copy
    return core_schema.json_or_python_schema(in_json, in_python)


def _number(value: Any) -> Any:
    if isinstance(value, str) and not is_number(value):
        raise PydanticCustomError("number_text", "{text} is no number: write digits, as JSON has them", _shown(value))
    return value


def _moment(value: Any) -> Any:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    cut = is_too_fine(text) if isinstance(text, str) else isinstance(value, (float, Decimal)) and value % 1 != 0
    if cut:
        message = "{text} is finer than microseconds or no text of a moment: write such as 2026-01-01T12:00:00.123456Z"
        raise PydanticCustomError("moment_too_fine", message, _shown(value))
    return value


def _shown(value: Any) -> dict[str, Any]:
    return {"text": f"{value!r:.60}"}


def _decimal_in_json(value: Any) -> Any:
    if isinstance(value, str):
        return Decimal(_number(value))
    return value if isinstance(value, bool) or not isinstance(value, (int, float)) else Decimal(str(value))


def _moment_in_json(value: Any) -> Any:
    if not isinstance(_moment(value), str):
        return value
    try:
        return _MOMENT.validate_python(value)
    except ValidationError:
        return value  # pydantic reports the error of the field


_MOMENT = SchemaValidator(core_schema.datetime_schema())

_PYTHON: dict[str, Callable[[Any], Any]] = {
    "int": _number,
    "float": _number,
    "decimal": _number,
    "datetime": _moment,
    "date": _moment,
}
_JSON: dict[str, Callable[[Any], Any]] = {"decimal": _decimal_in_json, "datetime": _moment_in_json}
