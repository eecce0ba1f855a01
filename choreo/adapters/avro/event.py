"""What a user declares: `class OrderPlaced(Event)`, and `class Item(Part)` for a value inside events.

Both are frozen pydantic models whose Avro schema is derived from their annotations. A class that cannot be a contract
is refused when it is declared. Knows nothing of bytes, files or logs.
"""

from __future__ import annotations

import enum
import re
import typing
from typing import Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict

from choreo.adapters.avro.defaults import made_each_time
from choreo.adapters.avro.plain import filter_text
from choreo.adapters.avro.schema import declaration_of
from choreo.adapters.avro.types import Place, shown, without_constraints
from choreo.core.errors import DeclarationError
from choreo.core.facts import PREFIX
from choreo.core.keys import KEY_TYPES

_TYPE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")

# What keeps an event exact. Bytes are base64 in JSON, for not all are text; a subclass of a part is refused where it
# holds more than the part, for that would be dropped.
_FIXED = ConfigDict(
    frozen=True,
    extra="forbid",
    allow_inf_nan=False,
    ser_json_bytes="base64",
    val_json_bytes="base64",
    revalidate_instances="subclass-instances",
    use_enum_values=False,
)


class Part(BaseModel):
    """A value inside events, such as the items of an order: immutable, and compared by its content."""

    model_config: ClassVar[ConfigDict] = ConfigDict(**_FIXED, arbitrary_types_allowed=True)

    is_part: ClassVar[bool] = True

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Refuse a class that has no Avro form; raises DeclarationError naming the field."""
        cls._checked()
        declaration_of(cls, cls.__name__)

    @classmethod
    def _checked(cls) -> None:
        """Refuse names and settings that cannot be carried."""
        for name, setting in _FIXED.items():
            if cls.model_config.get(name) != setting:
                raise DeclarationError(
                    f"model_config sets {name}={cls.model_config.get(name)!r}, and events need {setting!r}",
                    where=cls.__name__,
                    remedy="Leave it out: what an event holds beyond its fields would be lost.",
                )
        for name, field in cls.model_fields.items():
            place = Place(cls.__name__, name)
            if name in _TAKEN:
                raise place.refuse("this name is taken by the class's own methods", f"Call it {name}_ or another word")
            if field.alias or field.validation_alias or field.serialization_alias:
                raise place.refuse("a field has one name in every format", "Leave the alias out")
            if field.exclude:
                raise place.refuse("a field that is left out of JSON", "Leave exclude= out")
        for name in cls.__private_attributes__:
            raise Place(cls.__name__, name).refuse(
                "a name with a leading underscore is not carried by the event", "Leave the underscore out"
            )


class Event(Part):
    """A fact, past tense, typed, immutable. Its class is the contract; its docstring goes into the frozen schema."""

    is_part: ClassVar[bool] = False

    event_type: ClassVar[str] = ""
    """What stands in the log as the event's type: the class's name unless the class sets another."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Settle the event's type, then check the fields; raises DeclarationError."""
        cls._checked()
        cls.event_type = cast("str", cls.__dict__.get("event_type", cls.__name__))
        if not _TYPE.match(cls.event_type) or cls.event_type.startswith(PREFIX):
            raise DeclarationError(
                f"{cls.event_type!r} cannot be an event's type",
                where=cls.__name__,
                remedy=f"Use letters, digits, underscores and dots, and leave {PREFIX}… to choreo's own facts.",
            )
        declaration_of(cls, cls.event_type)

    @classmethod
    def event_fields(cls) -> tuple[str, ...]:
        """The names of its fields, in declared order."""
        return tuple(cls.model_fields)

    @classmethod
    def require_key(cls, name: str) -> None:
        """Raise DeclarationError where the field of that name cannot be a business key."""
        field = cls.model_fields.get(name)
        if field is None:
            return
        inner, _ = without_constraints(field.rebuild_annotation())
        named = isinstance(inner, type) and issubclass(inner, (enum.Enum, *KEY_TYPES))
        if not named and typing.get_origin(inner) is not typing.Literal:
            raise Place(cls.__name__, name).refuse(
                f"{shown(inner)} cannot be a business key", "Use str, int, UUID, an Enum or such, and never None"
            )

    @classmethod
    def filter_text(cls, name: str, text: str) -> str:
        """Return a filter's text as the field's value is shown, so that 12.5 finds 12.5000; else the text itself."""
        field = cls.model_fields.get(name)
        if field is None:
            return text
        try:
            return filter_text(field.rebuild_annotation(), text)
        except (ValueError, TypeError, ArithmeticError):
            return text

    def filled_in(self) -> frozenset[str]:
        """The names of fields that nobody gave and that are made anew for each event (`default_factory=uuid4`)."""
        made = (name for name, field in type(self).model_fields.items() if made_each_time(field))
        return frozenset(made) - self.model_fields_set


_TAKEN = frozenset(name for name in dir(Event) if not name.startswith("_"))
