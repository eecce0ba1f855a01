"""The types that a field of an event may have, and the Avro type of each.

Knows annotations only: no event class, no bytes. A type without exactly one meaning in Avro is refused here, at the
declaration, with the remedy; nothing is guessed.
"""

from __future__ import annotations

import enum
import re
import types
import typing
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple, Protocol, TypeAlias
from uuid import UUID

from pydantic import BaseModel

from choreo.core.errors import DeclarationError

AvroType: TypeAlias = Any
"""A schema as JSON: a name, a union (list), or a mapping with a `type`."""

# A bare Decimal holds 14 digits before the point and 4 behind it: any currency's minor unit, and rates of 0.01 %.
DECIMAL_DIGITS = 18
DECIMAL_PLACES = 4

PLAIN: dict[Any, AvroType] = {
    str: "string",
    int: "long",
    float: "double",
    bool: "boolean",
    bytes: "bytes",
    date: {"type": "int", "logicalType": "date"},
    # A datetime of Python has microseconds, and a value must be read exactly as it was written.
    datetime: {"type": "long", "logicalType": "timestamp-micros"},
    UUID: {"type": "string", "logicalType": "uuid"},
}
_LONG = 2**63
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TYPES_OF_AVRO = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_REMEDY = (
    "Use str, int, float, bool, bytes, Decimal, datetime, date, UUID, an Enum of texts, a Literal, "
    "a Part, or list, dict[str, ...] or ... | None of those"
)


class Place(NamedTuple):
    """The place of a field, for the error."""

    owner: str
    field: str

    def refuse(self, what: str, remedy: str = _REMEDY) -> DeclarationError:
        """Make the error of a field declared wrong."""
        return DeclarationError(what, where=f"{self.owner}.{self.field}", remedy=f"{remedy}.")


class Named(Protocol):
    """Gives the Avro type of a class that has a name in Avro: its definition, or a reference to an earlier one."""

    def part(self, model: type[BaseModel]) -> AvroType:
        """Return the type of a Part."""
        ...

    def symbols(self, values: type[enum.Enum]) -> AvroType:
        """Return the type of an Enum of texts."""
        ...


def without_constraints(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the type inside `Annotated`, with its metadata; any other annotation unchanged."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *metadata = typing.get_args(annotation)
        return inner, tuple(metadata)
    return annotation, ()


def optional_of(annotation: Any) -> Any | None:
    """Return X for `X | None` (or `Optional[X]`); None for any other annotation."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        arguments = typing.get_args(annotation)
        others = [argument for argument in arguments if argument is not type(None)]
        if len(others) == 1 and len(arguments) == 2:
            return others[0]
    return None


def avro_type(annotation: Any, place: Place, named: Named) -> AvroType:
    """Return the Avro type of an annotation; raises DeclarationError if Avro has not exactly one form for it."""
    inner, metadata = without_constraints(annotation)
    if _first(metadata, "allow_inf_nan"):
        raise place.refuse("JSON has no number that is none or infinite", "Leave allow_inf_nan out")
    if inner is Decimal:
        digits, places = decimal_of(metadata, place)
        return {"type": "bytes", "logicalType": "decimal", "precision": digits, "scale": places}
    if isinstance(inner, type) and inner in PLAIN:
        return PLAIN[inner]
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        return named.part(_part(inner, place))
    if isinstance(inner, type) and issubclass(inner, enum.Enum):
        return named.symbols(_enum(inner, place))
    optional = required_of(annotation)
    if optional is not None:
        if required_of(optional) is not None:
            raise place.refuse(f"{shown(annotation)} is optional twice", "Write `| None` once")
        return [avro_type(optional, place, named), "null"]
    return _container(inner, place, named)


def required_of(annotation: Any) -> Any | None:
    """Return X for `X | None`, with the constraints that stand around the two; None for any other annotation."""
    inner, metadata = without_constraints(annotation)
    optional = optional_of(inner)
    return typing.Annotated[(optional, *metadata)] if optional is not None and metadata else optional


def _container(annotation: Any, place: Place, named: Named) -> AvroType:
    """Return the type of list, dict and Literal."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        kinds = {type(argument) for argument in arguments}
        if kinds not in ({str}, {int}):
            raise place.refuse(f"{shown(annotation)} mixes types or holds other than texts and numbers")
        if any(isinstance(argument, int) and not -_LONG <= argument < _LONG for argument in arguments):
            raise place.refuse(f"{shown(annotation)} holds a number of more than 64 bits", "Use texts")
        return PLAIN[kinds.pop()]
    if origin is list:
        return {"type": "array", "items": avro_type(arguments[0], place, named)}
    if origin is dict:
        if arguments[0] is not str:
            raise place.refuse(f"the keys of a map are texts in Avro, not {shown(arguments[0])}", "Use dict[str, ...]")
        return {"type": "map", "values": avro_type(arguments[1], place, named)}
    raise _no_type(annotation, place)


def _no_type(annotation: Any, place: Place) -> DeclarationError:
    """Return the error for an annotation without an Avro type."""
    if annotation in (list, dict):
        return place.refuse(
            f"{shown(annotation)} does not name the type of its content", "Write list[str], dict[str, int] or such"
        )
    if isinstance(annotation, typing.ForwardRef):
        return place.refuse(
            f"{annotation.__forward_arg__} is not known where the class is declared",
            "Declare or import it above the class",
        )
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return place.refuse(
            f"{shown(annotation)} may be several types", "Use one type (or one type | None), or two event classes"
        )
    return place.refuse(f"{shown(annotation)} is not a type an event can carry")


def decimal_of(metadata: tuple[Any, ...], place: Place) -> tuple[int, int]:
    """Return digits and places of a decimal, from pydantic's Field or condecimal, or the default ones."""
    digits = _first(metadata, "max_digits")
    places = _first(metadata, "decimal_places")
    if (digits is None) != (places is None):
        raise place.refuse("a Decimal with only one of max_digits and decimal_places", "Give both, or neither")
    if digits is None:
        return DECIMAL_DIGITS, DECIMAL_PLACES
    if not 0 <= places <= digits or digits == 0:
        raise place.refuse(
            f"a Decimal cannot have {digits} digits with {places} of them behind the point",
            "Give max_digits above 0 and decimal_places from 0 to max_digits",
        )
    return digits, places


def constraints_in(metadata: tuple[Any, ...]) -> list[Any]:
    """Flatten the metadata of `Annotated`: Field and grouped constraints hold theirs one level further in."""
    flat: list[Any] = []
    for entry in metadata:
        inner = getattr(entry, "metadata", None)
        if inner is None and hasattr(type(entry), "__iter__") and not isinstance(entry, str | bytes):
            inner = list(entry)
        flat += constraints_in(tuple(inner)) if inner is not None else [entry]
    return flat


def _first(metadata: tuple[Any, ...], name: str) -> Any:
    """Return the first constraint of that name."""
    return next((found for one in constraints_in(metadata) if (found := getattr(one, name, None)) is not None), None)


def _part(model: type[BaseModel], place: Place) -> type[BaseModel]:
    if not getattr(model, "is_part", False):
        raise place.refuse(f"{model.__name__} is not a Part", f"Declare it as `class {model.__name__}(Part)`")
    if not model.model_fields:
        raise place.refuse(f"{model.__name__} has no fields", "Give it at least one, or leave it out")
    return model


def _enum(values: type[enum.Enum], place: Place) -> type[enum.Enum]:
    symbols = [member.value for member in values]
    wrong = [symbol for symbol in symbols if not (isinstance(symbol, str) and _NAME.match(symbol))]
    if wrong or not symbols:
        found = f"holds {wrong[0]!r}" if wrong else "is empty"
        raise place.refuse(
            f"the enum {values.__name__} {found}, which is no Avro symbol",
            "Give each member a text of letters, digits and underscores that starts with no digit",
        )
    return values


def require_name(name: str, place: Place, *, is_type: bool = False) -> None:
    """Raise DeclarationError where a field or a class has a name that no reader of Avro takes."""
    if not _NAME.match(name):
        raise place.refuse(
            f"{name!r} is no name in Avro", "Use letters from a to z, digits and underscores, and begin with no digit"
        )
    if is_type and name in _TYPES_OF_AVRO:
        raise place.refuse(f"{name!r} is the name of a type of Avro's own", "Call the class otherwise")


def shown(annotation: Any) -> str:
    """Return an annotation as its user wrote it."""
    return annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)
