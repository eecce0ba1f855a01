"""The rules of a field's declaration beyond its Avro type: bounds, lengths, patterns and the values of a Literal.

A reader with stricter rules than the writer cannot read the records in the log, and Avro does not see it. So the rules
are frozen with the schema, as the property `rules` of a field: by the path to the value (empty for the field itself,
`[]` for an item, `{}` for a value of a map). The rules of a validator function are not seen. Pure.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

from pydantic_core import to_jsonable_python

from choreo.event.types import constraints_in, required_of, without_constraints

Rules: TypeAlias = dict[str, dict[str, Any]]
"""The rules by path: name → value, as in JSON."""

LEAST = ("gt", "ge", "min_length")
MOST = ("lt", "le", "max_length")
CHANGES = ("strip_whitespace", "to_lower", "to_upper")
"""Rules that make another text of a text: a reader with a new one gets other values than were written."""
_NAMES = (*LEAST, *MOST, "multiple_of", "pattern", "uuid_version", *CHANGES)
_FLAGS = {"a": re.ASCII, "i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
_WORDS = {
    "gt": "above {}",
    "ge": "at least {}",
    "lt": "below {}",
    "le": "at most {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
    "multiple_of": "a multiple of {}",
    "pattern": "like {!r}",
    "uuid_version": "a UUID of version {}",
    "strip_whitespace": "without blanks at its ends",
    "to_lower": "in lower case",
    "to_upper": "in upper case",
}


def rules_of(annotation: Any) -> Rules:
    """Return the rules of an annotation; those of a Part stand at its own fields."""
    return {path: found for path, found in _walk(annotation, "") if found}


def _walk(annotation: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    required = required_of(annotation)
    if required is not None:
        yield from _walk(required, path)
        return
    inner, metadata = without_constraints(annotation)
    found: dict[str, Any] = {}
    for one in constraints_in(metadata):
        for name in _NAMES:
            value = getattr(one, name, None)
            if value is not None and value is not False and not (name == "min_length" and value == 0):
                found[name] = _json(_pattern(value) if isinstance(value, re.Pattern) else value)
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if origin is typing.Literal:
        found["values"] = sorted(arguments, key=str)
    yield path, found
    if origin is list:
        yield from _walk(arguments[0], f"{path}[]")
    if origin is dict:
        yield from _walk(arguments[1], f"{path}{{}}")


def _pattern(compiled: re.Pattern[str]) -> str:
    """Return a compiled pattern as text, with its flags, which narrow or widen it."""
    flags = "".join(letter for letter, flag in _FLAGS.items() if compiled.flags & flag)
    return f"(?{flags}){compiled.pattern}" if flags else compiled.pattern


def _json(value: Any) -> Any:
    """Return a bound as JSON holds it; a Decimal, a time and the like as text."""
    return to_jsonable_python(value, fallback=str)


def changed_rules(old: Rules, new: Rules) -> Iterator[tuple[str, str, str]]:
    """Compare the rules of two versions: yield the path, the change, and the remedy if the change is refused."""
    for path in sorted({*old, *new}):
        before, now = old.get(path, {}), new.get(path, {})
        yield from ((path, *change) for change in _values(before.get("values"), now.get("values")))
        for name in _NAMES:
            if before.get(name) != now.get(name):
                yield (path, *_bound(name, before, now))


def _values(old: list[Any] | None, new: list[Any] | None) -> Iterator[tuple[str, str]]:
    """Yield a changed set of a Literal's values.

    A value may not be added or removed, like an enum's symbol: one of the two sides could not read it.
    """
    if old is None or new is None:
        if new is not None:
            yield f"may now be only {_listed(new)}; the log may hold others", "Keep it as it was"
        elif old is not None:
            yield f"may now be other than {_listed(old)}, which older readers refuse", "Add a new field with a default"
        return
    for value in new:
        if value not in old:
            remedy = "Declare a new field with a default, or use str where values come and go"
            yield f"may now be {value!r}, which older readers do not know", remedy
    for value in old:
        if value not in new:
            yield f"may no longer be {value!r}, which the log may hold", f"Put {value!r} back"


def _bound(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str]:
    """Return the change of a bound and its remedy: a wider bound becomes a new version.

    With a narrower one, records in the log could not be read.
    """
    if name not in now:
        return f"need no longer be {_WORDS[name].format(before[name])}", ""
    what = f"must now be {_WORDS[name].format(now[name])}"
    if name in before:
        what += f", before {_WORDS[name].format(before[name])}"
    if _implied(name, before, now[name]):
        return what, ""
    remedy = "Keep the bound as it was and check the new one in the handler, or declare a new event class"
    return f"{what}; the log may hold others", remedy


def _implied(name: str, before: Mapping[str, Any], value: Any) -> bool:
    """Return whether every value that the old declaration allowed fulfils this bound."""
    if name == "pattern":
        return False
    if name == "multiple_of":
        old, new = _number(before.get(name)), _number(value)
        return old is not None and new is not None and new != 0 and old % new == 0
    bound = _number(value)
    if bound is None:
        return False
    if name.endswith("_length"):
        old = _number(before.get(name))
        return old is not None and (old >= bound if name == "min_length" else old <= bound)
    closed, open_, sign = ("ge", "gt", 1) if name in LEAST else ("le", "lt", -1)
    for other in (closed, open_):
        old = _number(before.get(other))
        if old is not None and (old * sign > bound * sign or (old == bound and (name == closed or other == open_))):
            return True
    return False


def _number(value: Any) -> Decimal | None:
    try:
        return None if value is None else Decimal(str(value))
    except InvalidOperation:
        return None  # a time: its text has no known order, so any change of it counts as narrower


def _listed(values: list[Any]) -> str:
    return ", ".join(map(repr, values))
