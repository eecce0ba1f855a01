"""The changes between two versions of a schema, and whether readers of each still read the other (FULL).

Works on schemas as JSON; knows no files and no classes. In FULL compatibility the rule is the same in both directions,
so one walk finds all changes: only a field with a default may be added or removed, and a type never changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from choreo.adapters.avro.schema import definitions
from choreo.event.rules import changed_rules
from choreo.event.types import AvroType


class Change(NamedTuple):
    """One difference between a frozen version and the present one."""

    field: str
    """The path to the field, such as `items[].price`; empty for the event itself."""
    what: str
    remedy: str
    """How to make the change compatible; empty where it is compatible."""


_KEEP_TYPE = "Keep the type and add a new field with a default beside it, or declare a new event class"


def changes(frozen: dict[str, Any], present: dict[str, Any]) -> list[Change]:
    """Return every difference, in the order of the present fields; documentation does not count."""
    return list(_records(frozen, present, "", _Names(frozen), _Names(present)))


class _Names:
    """The named types of one schema: after its definition a type is referred to by its name."""

    def __init__(self, schema: AvroType) -> None:
        self._types = definitions(schema)

    def resolved(self, schema: AvroType) -> AvroType:
        """Return the definition of a named type; anything else unchanged; `{"type": "string"}` as "string"."""
        if isinstance(schema, str):
            return self._types.get(schema, schema)
        if isinstance(schema, dict) and len(schema) == 1:
            return schema["type"]
        return schema


def _records(
    frozen: dict[str, Any], present: dict[str, Any], path: str, old_names: _Names, new_names: _Names
) -> Iterator[Change]:
    """Yield the changes of a record's fields."""
    old_fields = {field["name"]: field for field in frozen["fields"]}
    new_fields = {field["name"]: field for field in present["fields"]}
    for name, field in new_fields.items():
        at = f"{path}.{name}" if path else name
        if name in old_fields:
            yield from _types(old_fields[name]["type"], field["type"], at, old_names, new_names)
            yield from _rules(old_fields[name], field, at)
            yield from _defaults(old_fields[name], field, at)
        elif "default" in field:
            yield Change(at, "was added", "")
        else:
            yield Change(
                at,
                "was added without a default, so events written before lack it",
                f"Give {name} a default (or | None = None)",
            )
    for name, field in old_fields.items():
        if name not in new_fields:
            at = f"{path}.{name}" if path else name
            if "default" in field:
                yield Change(at, "was removed", "")
            else:
                yield Change(
                    at, "was removed though it had no default, so older readers miss it", f"Put {name} back as it was"
                )
    yield from _order([name for name in old_fields if name in new_fields], [*new_fields], path)


def _order(old: list[str], new: list[str], at: str) -> Iterator[Change]:
    """Yield a changed order: fields and symbols are written in it, so readers must know the new schema."""
    kept = [name for name in new if name in old]
    if kept != old:
        yield Change(at, f"stands in another order: {', '.join(kept)}; before {', '.join(old)}", "")


def _rules(old: dict[str, Any], new: dict[str, Any], at: str) -> Iterator[Change]:
    """Yield the changes of a field's rules beyond its type."""
    for path, what, remedy in changed_rules(old.get("rules", {}), new.get("rules", {})):
        yield Change(f"{at}{path}", what, remedy)


def _defaults(old: dict[str, Any], new: dict[str, Any], at: str) -> Iterator[Change]:
    """Yield the changes of a default, which may be added, removed or changed: the field's bytes stay the same."""
    if ("default" in old, old.get("default")) != ("default" in new, new.get("default")):
        yield Change(at, "has another default", "")


def _types(old: AvroType, new: AvroType, at: str, old_names: _Names, new_names: _Names) -> Iterator[Change]:
    """Yield the changes between two types."""
    old, new = old_names.resolved(old), new_names.resolved(new)
    if isinstance(old, list) and isinstance(new, list):
        yield from _unions(old, new, at, old_names, new_names)
    elif not (isinstance(old, dict) and isinstance(new, dict)) or _kind(old) != _kind(new):
        if old != new:
            yield Change(at, f"changed from {_shown(old, old_names)} to {_shown(new, new_names)}", _KEEP_TYPE)
    elif old["type"] == "record":
        yield from _records(old, new, at, old_names, new_names)
    elif old["type"] == "enum":
        yield from _symbols(old["symbols"], new["symbols"], at)
    elif old["type"] == "array":
        yield from _types(old["items"], new["items"], f"{at}[]", old_names, new_names)
    elif old["type"] == "map":
        yield from _types(old["values"], new["values"], f"{at}{{}}", old_names, new_names)


def _unions(old: list[Any], new: list[Any], at: str, old_names: _Names, new_names: _Names) -> Iterator[Change]:
    """Yield the changes between two unions.

    Branches are matched by their kind; their order only decides how the default is written.
    """
    old_kinds = {_kind(old_names.resolved(branch)): branch for branch in old}
    new_kinds = {_kind(new_names.resolved(branch)): branch for branch in new}
    if old_kinds.keys() != new_kinds.keys():
        yield Change(at, f"changed from {_shown(old, old_names)} to {_shown(new, new_names)}", _KEEP_TYPE)
        return
    for kind, branch in new_kinds.items():
        yield from _types(old_kinds[kind], branch, at, old_names, new_names)


def _symbols(old: list[str], new: list[str], at: str) -> Iterator[Change]:
    """Yield the changes of an enum's symbols, which may not be added or removed.

    A reader without a symbol cannot read it, and a symbol is a number in the bytes.
    """
    for symbol in new:
        if symbol not in old:
            remedy = "Declare a new field with a default, or use str where values come and go"
            yield Change(at, f"may now be {symbol!r}, which older readers do not know", remedy)
    for symbol in old:
        if symbol not in new:
            yield Change(at, f"may no longer be {symbol!r}, which the log may hold", f"Put {symbol!r} back")
    yield from _order([symbol for symbol in old if symbol in new], new, at)


def _kind(schema: AvroType) -> tuple[Any, ...]:
    """Return the parts that two comparable types share: the type, its name, its meaning and its digits."""
    if not isinstance(schema, dict):
        return (schema,)
    return tuple(schema.get(part) for part in ("type", "name", "logicalType", "precision", "scale"))


def _shown(schema: AvroType, names: _Names) -> str:
    """Return a short description of a type."""
    schema = names.resolved(schema)
    if isinstance(schema, list):
        return " or ".join(_shown(branch, names) for branch in schema)
    if not isinstance(schema, dict):
        return str(schema)
    if schema.get("logicalType") == "decimal":
        return f"decimal({schema['precision']}, {schema['scale']})"
    if schema["type"] == "array":
        return f"list of {_shown(schema['items'], names)}"
    if schema["type"] == "map":
        return f"map of {_shown(schema['values'], names)}"
    return str(schema.get("name") or schema.get("logicalType") or schema["type"])
