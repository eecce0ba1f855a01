"""The contract of an event class, as data: its Avro schema as it is frozen in a file, derived from the annotations.

Knows the classes' fields and their defaults; no frozen file, no bytes except those of defaults.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from choreo.core.errors import described
from choreo.event.defaults import default_json, has_default, null_first
from choreo.event.rules import CHANGES, rules_of
from choreo.event.types import AvroType, Place, avro_type, require_name, required_of


def declaration_of(model: type[BaseModel], name: str) -> dict[str, Any]:
    """Derive the schema of an event or part as it is frozen, and check its defaults.

    Raises DeclarationError naming the field without an Avro form, or a default that is not a value of its type.
    """
    declaration = _Derivation(model.__name__).record(model, name)
    wrong = _wrong_default(model) or _changed_default(model)
    if wrong is not None:
        field, what = wrong
        raise Place(model.__name__, field).refuse(
            f"the default {_shown(model.model_fields[field].default)} is no value of the field: {what}",
            "Give the default the field's own type, within its bounds",
        )
    return declaration


class _Derivation:
    """Derives one schema: a name stands for one type, which is defined at the first use of the name."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._seen: dict[str, type[Any]] = {}
        self._open: list[type[Any]] = []

    def record(self, model: type[BaseModel], name: str) -> dict[str, Any]:
        """Return the definition of a class with fields."""
        own = name.rpartition(".")[2]
        require_name(own, Place(self._owner, own), is_type=True)
        self._seen.setdefault(own, model)
        self._open.append(model)
        declaration: dict[str, Any] = {"type": "record", "name": name}
        doc = inspect.cleandoc(model.__dict__.get("__doc__") or "")
        if doc:
            declaration["doc"] = doc
        declaration["fields"] = [self._field(model, each, field) for each, field in model.model_fields.items()]
        self._open.pop()
        return declaration

    def part(self, model: type[BaseModel]) -> AvroType:
        """Return a Part's definition, or its name where it was defined before."""
        if model in self._open:
            raise Place(self._owner, model.__name__).refuse("this part holds itself", "Refer to the inner one by an id")
        return model.__name__ if self._known(model) else self.record(model, model.__name__)

    def symbols(self, values: type[enum.Enum]) -> AvroType:
        """Return an enum's definition, or its name where it was defined before."""
        require_name(values.__name__, Place(self._owner, values.__name__), is_type=True)
        if self._known(values):
            return values.__name__
        return {"type": "enum", "name": values.__name__, "symbols": [member.value for member in values]}

    def _known(self, named: type[Any]) -> bool:
        known = named.__name__ in self._seen
        if self._seen.setdefault(named.__name__, named) is not named:
            raise Place(self._owner, named.__name__).refuse(
                "two types of this event have this name", "Rename one of them"
            )
        return known

    def _field(self, model: type[BaseModel], name: str, field: FieldInfo) -> dict[str, Any]:
        place, annotation = Place(model.__name__, name), field.rebuild_annotation()
        require_name(name, place)
        kind = avro_type(annotation, place, self)
        kept: dict[str, Any] = {"name": name, "type": kind}
        if has_default(field):
            if null_first(field):
                kept["type"] = kind[::-1]
            kept["default"] = _default(field.get_default(call_default_factory=True), annotation, place)
        if field.description:
            kept["doc"] = field.description.encode(errors="replace").decode()  # no halves of surrogate pairs
        rules = rules_of(annotation)
        if rules:
            kept["rules"] = rules
        return kept


def _default(value: Any, annotation: Any, place: Place) -> Any:
    """Return a default as Avro's JSON; raises DeclarationError if it is not a value of the field's type."""
    required = required_of(annotation)
    try:
        return None if value is None and required is not None else default_json(value, required or annotation)
    except Exception as error:
        raise place.refuse(
            f"the default {_shown(value)} is no value of the field: {described(error)}",
            "Give the default the field's own type, within its range",
        ) from error


def _wrong_default(model: type[BaseModel]) -> tuple[str, str] | None:
    """Return the first field whose declaration refuses its own default, and the reason: readers could not read it."""
    defaults = {name: field.default for name, field in model.model_fields.items() if not field.is_required()}
    declared = {name: default for name, default in defaults.items() if model.model_fields[name].default_factory is None}
    try:
        model.__pydantic_validator__.validate_python(declared, strict=True)
    except ValidationError as error:
        return _first_of(error, declared)
    except Exception:  # noqa: BLE001 - a validator of the whole class may rely on fields that have no default
        return _wrong_alone(model, declared)
    return None


def _first_of(error: ValidationError, declared: Mapping[str, Any]) -> tuple[str, str] | None:
    for found in error.errors(include_url=False, include_context=False):
        if found["loc"] and found["loc"][0] in declared:
            return str(found["loc"][0]), found["msg"][:1].lower() + found["msg"][1:]
    return None


def _wrong_alone(model: type[BaseModel], declared: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the first field whose annotation refuses its default; the class's own validators are not asked."""
    for name, default in declared.items():
        adapter: TypeAdapter[Any] = TypeAdapter(model.model_fields[name].rebuild_annotation())
        try:
            adapter.validate_python(default, strict=True)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)[0]["msg"]
            return name, found[:1].lower() + found[1:]
        except Exception as error:  # noqa: BLE001 - a validator of the user's may raise anything
            return name, described(error)
    return None


def _changed_default(model: type[BaseModel]) -> tuple[str, str] | None:
    """Return the first field whose own rule for texts makes another value of its default."""
    for name, field in model.model_fields.items():
        rules = rules_of(field.rebuild_annotation())
        if has_default(field) and any(rule in found for found in rules.values() for rule in CHANGES):
            adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
            default = field.get_default(call_default_factory=True)
            read = adapter.validate_python(default)
            if read != default:
                return name, f"a reader gets {_shown(read)}"
    return None


def _shown(value: object) -> str:
    try:
        return f"{value!r:.60}"
    except Exception:  # noqa: BLE001 - a user's own __repr__ may raise anything
        return f"of {type(value).__name__}"
