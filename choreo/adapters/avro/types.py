"""Which types a field of an event may have, and the form of each that dataclasses-avroschema derives a schema from.

Knows annotations only: no event class, no schema, no bytes. What has no one meaning in Avro is refused here, at the
declaration, with the remedy; nothing is guessed.
"""

from __future__ import annotations

import enum
import re
import types
import typing
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from dataclasses_avroschema.types import DateTimeMicro, condecimal
from pydantic import BaseModel

from choreo.core.errors import DeclarationError

# A bare Decimal holds 14 digits before the point and 4 behind it: any currency's minor unit, and rates of 0.01 %.
DECIMAL_DIGITS = 18
DECIMAL_PLACES = 4

PLAIN = (str, int, float, bool, bytes, date, UUID)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_REMEDY = (
    "Use str, int, float, bool, bytes, Decimal, datetime, date, UUID, an Enum of texts, a Literal, "
    "a Part, or list, dict[str, ...] or ... | None of those"
)


class Place(NamedTuple):
    """Whose field is looked at, for the error."""

    owner: str
    field: str

    def refuse(self, what: str, remedy: str = _REMEDY) -> DeclarationError:
        """Make the error of a field declared wrong."""
        return DeclarationError(what, where=f"{self.owner}.{self.field}", remedy=f"{remedy}.")


def without_constraints(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type inside `Annotated`, with what was annotated; any other annotation unchanged."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *metadata = typing.get_args(annotation)
        return inner, tuple(metadata)
    return annotation, ()


def optional_of(annotation: Any) -> Any | None:
    """X for `X | None` (or `Optional[X]`); None for any other annotation."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        arguments = typing.get_args(annotation)
        others = [argument for argument in arguments if argument is not type(None)]
        if len(others) == 1 and len(arguments) == 2:
            return others[0]
    return None


def avro_form(annotation: Any, place: Place) -> Any:
    """The annotation as dataclasses-avroschema reads it; raises DeclarationError where Avro has no one form for it."""
    inner, metadata = without_constraints(annotation)
    if inner is Decimal:
        return _decimal(metadata, place)
    if inner is datetime:
        return DateTimeMicro  # a datetime of Python has microseconds, and what was written must be what is read
    if inner in PLAIN:
        return inner
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        return _part(inner, place)
    if isinstance(inner, type) and issubclass(inner, enum.Enum):
        return _enum(inner, place)
    return _container(inner, place)


def _container(annotation: Any, place: Place) -> Any:
    """The form of list, dict, optional and Literal."""
    optional = optional_of(annotation)
    if optional is not None:
        return avro_form(optional, place) | None
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        kinds = {type(argument) for argument in arguments}
        if kinds not in ({str}, {int}):
            raise place.refuse(f"{_shown(annotation)} mixes types or holds other than texts and numbers")
        return kinds.pop()
    if origin is list:
        return list[avro_form(arguments[0], place)]  # type: ignore[misc]
    if origin is dict:
        if arguments[0] is not str:
            raise place.refuse(f"the keys of a map are texts in Avro, not {_shown(arguments[0])}", "Use dict[str, ...]")
        return dict[str, avro_form(arguments[1], place)]  # type: ignore[misc]
    if annotation in (list, dict):
        raise place.refuse(
            f"{_shown(annotation)} does not say what it holds", "Write list[str], dict[str, int] or such"
        )
    if isinstance(annotation, typing.ForwardRef):
        raise place.refuse(
            f"{annotation.__forward_arg__} is not known where the class is declared",
            "Declare or import it above the class",
        )
    if origin in (typing.Union, types.UnionType):
        raise place.refuse(
            f"{_shown(annotation)} may be several types", "Use one type (or one type | None), or two event classes"
        )
    raise place.refuse(f"{_shown(annotation)} is not a type an event can carry")


def _decimal(metadata: tuple[Any, ...], place: Place) -> Any:
    """A decimal of the digits and places annotated, as pydantic's Field or condecimal does, or of the default ones."""
    digits = _first(metadata, "max_digits")
    places = _first(metadata, "decimal_places")
    if (digits is None) != (places is None):
        raise place.refuse("a Decimal with only one of max_digits and decimal_places", "Give both, or neither")
    if digits is None:
        return condecimal(max_digits=DECIMAL_DIGITS, decimal_places=DECIMAL_PLACES)
    if not 0 <= places <= digits or digits == 0:
        raise place.refuse(
            f"a Decimal cannot have {digits} digits with {places} of them behind the point",
            "Give max_digits above 0 and decimal_places from 0 to max_digits",
        )
    return condecimal(max_digits=digits, decimal_places=places)


def _first(metadata: tuple[Any, ...], name: str) -> Any:
    """The first value of that name; pydantic's Field keeps its constraints one level further in."""
    flat = [item for entry in metadata for item in (entry, *getattr(entry, "metadata", ()))]
    return next((value for item in flat if (value := getattr(item, name, None)) is not None), None)


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


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)
