"""What a user declares: `class OrderPlaced(Event)`, and `class Item(Part)` for a value inside events.

Both are frozen pydantic models whose Avro schema dataclasses-avroschema derives. A class that cannot be a contract is
refused when it is declared. Knows nothing of bytes, files or logs.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, cast

from dataclasses_avroschema.pydantic import AvroBaseModel
from dataclasses_avroschema.pydantic.parser import PydanticParser
from pydantic import ConfigDict
from pydantic.fields import FieldInfo

from choreo.adapters.avro.types import Place, avro_form
from choreo.core.errors import DeclarationError
from choreo.core.facts import PREFIX

_TYPE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")


class _Parser(PydanticParser):
    """Gives dataclasses-avroschema every annotation in the one form it derives from."""

    @staticmethod
    def get_field_type(field_info: FieldInfo) -> Any:
        """The field's type without pydantic's constraints, which are no part of the wire form."""
        return avro_form(field_info.rebuild_annotation(), Place("field", field_info.alias or ""))


class Part(AvroBaseModel):
    """A value inside events, such as the items of an order: immutable, and compared by its content."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    is_part: ClassVar[bool] = True

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Refuse a class that has no Avro form; raises DeclarationError naming the field."""
        for name, field in cls.model_fields.items():
            place = Place(cls.__name__, name)
            if name in _TAKEN:
                raise place.refuse("this name is taken by the class's own methods", f"Call it {name}_ or another word")
            if field.alias or field.validation_alias or field.serialization_alias:
                raise place.refuse("a field has one name in every format", "Leave the alias out")
            avro_form(field.rebuild_annotation(), place)
        for name in cls.__private_attributes__:
            raise Place(cls.__name__, name).refuse(
                "a name with a leading underscore is not carried by the event", "Leave the underscore out"
            )

    @classmethod
    def _generate_parser(cls) -> _Parser:
        return _Parser(type=cls, parent=cls._parent or cls)


class Event(Part):
    """A fact, past tense, typed, immutable. Its class is the contract; its docstring goes into the frozen schema."""

    is_part: ClassVar[bool] = False

    event_type: ClassVar[str] = ""
    """What stands in the log as the event's type: the class's name unless the class sets another."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Settle the event's type, then check the fields; raises DeclarationError."""
        super().__pydantic_init_subclass__(**kwargs)
        cls.event_type = cast("str", cls.__dict__.get("event_type", cls.__name__))
        if not _TYPE.match(cls.event_type) or cls.event_type.startswith(PREFIX):
            raise DeclarationError(
                f"{cls.event_type!r} cannot be an event's type",
                where=cls.__name__,
                remedy=f"Use letters, digits, underscores and dots, and leave {PREFIX}… to choreo's own facts.",
            )

    @classmethod
    def event_fields(cls) -> tuple[str, ...]:
        """The names of its fields, in declared order."""
        return tuple(cls.model_fields)


_TAKEN = frozenset(name for name in dir(Event) if not name.startswith("_"))
