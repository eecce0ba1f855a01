"""Texts that pydantic would read as a value other than the written one: such a text is refused, never cut or guessed.

Python reads "1_000" and the digits of every script as numbers, and cuts a time finer than microseconds. The checks run
before pydantic's own; they are put into a class's core schema once, when the class is declared.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic_core import PydanticCustomError, SchemaValidator, ValidationError, core_schema

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z")
# Seven digits of a second; or a number, of which pydantic would guess whether it counts seconds or milliseconds.
_TOO_FINE = re.compile(r"[.,][0-9]{7}|\A\s*[+-]?[0-9]+([.,][0-9]+)?\s*\Z")

_MANTISSA = re.compile("[eE]")
_WHOLE = re.compile(r"-?[0-9]{1,300}\Z")
_FLOAT_MAX = 2**1023
"""Larger whole numbers are refused as too large."""

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
    """Return whether a text of a time is finer than microseconds, or only a number."""
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


def vanishes(text: str) -> bool:
    """Return whether the text is a number other than 0 that a float takes for 0."""
    return is_number(text) and float(text) == 0 and any(digit in "123456789" for digit in _MANTISSA.split(text)[0])


def _float(value: Any) -> Any:
    """Refuse a whole number that a float rounds, and a number that it takes for 0."""
    if isinstance(value, str):
        _number(value)
        _require_above_zero(value)
    whole = int(value) if isinstance(value, str) and _WHOLE.match(value) else value
    if type(whole) is int and abs(whole) < _FLOAT_MAX and float(whole) != whole:
        message = "a float cannot hold {text} exactly: declare an int or a Decimal"
        raise PydanticCustomError("float_rounded", message, _shown(value))
    return value


def _require_above_zero(text: str) -> None:
    if vanishes(text):
        raise PydanticCustomError("float_too_small", "{text} is too small for a float", _shown(text))


def _moment(value: Any) -> Any:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    cut = is_too_fine(text) if isinstance(text, str) else isinstance(value, (int, float, Decimal))
    if cut:
        message = "{text} is finer than microseconds or no text of a moment: write such as 2026-01-01T12:00:00.123456Z"
        raise PydanticCustomError("moment_too_fine", message, _shown(value))
    return value


def _shown(value: Any) -> dict[str, Any]:
    return {"text": f"{value!r:.60}"}


def _decimal_in_json(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return Decimal(_number(value))
        except InvalidOperation as error:  # an exponent of more than 18 digits
            message = "{text} is beyond every Decimal"
            raise PydanticCustomError("decimal_too_large", message, _shown(value)) from error
    return value if isinstance(value, bool) or not isinstance(value, (int, float)) else Decimal(str(value))


def _float_in_json(value: Any) -> Any:
    """Return JSON's value of a float; a text is refused, here or by pydantic."""
    if isinstance(value, str):
        _require_above_zero(value)
        return value
    return _float(value)


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
    "float": _float,
    "decimal": _number,
    "datetime": _moment,
    "date": _moment,
}
_JSON: dict[str, Callable[[Any], Any]] = {
    "decimal": _decimal_in_json,
    "datetime": _moment_in_json,
    "float": _float_in_json,
}
