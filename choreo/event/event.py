"""The classes that a user declares: `class OrderPlaced(Event)`, and `class Item(Part)` for a value inside events.

Both are frozen pydantic models whose Avro schema is derived from their annotations. A class that cannot be a contract
is refused when it is declared. Knows nothing of bytes, files or logs.
"""

from __future__ import annotations

import enum
import re
import typing
from typing import Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, TypeAdapter, ValidationError

from choreo.core.errors import DeclarationError
from choreo.core.facts import PREFIX
from choreo.core.fields import FieldType
from choreo.core.keys import KEY_TYPES
from choreo.event.declaration import declaration_of
from choreo.event.exact_text import exact_schema
from choreo.event.field_types import field_type_of
from choreo.event.own_code import own_serializer, unreadable
from choreo.event.plain import filter_text
from choreo.event.sensitive import is_sensitive
from choreo.event.types import Place, constraints_in, required_of, shown, without_constraints

_TYPE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")

# Settings that keep an event exact. Bytes are base64 in JSON, because not all bytes are text. A part is validated when
# it is put into an event: a copy with other values may be invalid, and a subclass may have fields that would be
# dropped.
_FIXED = ConfigDict(
    frozen=True,
    extra="forbid",
    allow_inf_nan=False,
    ser_json_bytes="base64",
    val_json_bytes="base64",
    revalidate_instances="always",
    use_enum_values=False,
)
# Settings that change or narrow the values of every field, and their harmless values: a check of the contract sees
# rules at fields alone.
_AT_FIELDS: dict[str, Any] = {
    "str_strip_whitespace": False,
    "str_to_lower": False,
    "str_to_upper": False,
    "str_min_length": 0,
    "str_max_length": None,
    "ser_json_temporal": "iso8601",
}


def _require_settings(owner: str, settings: ConfigDict) -> None:
    """Raise DeclarationError where a setting of a class would lose, change or narrow values."""
    for name, setting in _FIXED.items():
        if settings.get(name) != setting:
            raise DeclarationError(
                f"model_config sets {name}={settings.get(name)!r}, and events need {setting!r}",
                where=owner,
                remedy="Leave it out: values beyond an event's fields would be lost.",
            )
    for name, harmless in _AT_FIELDS.items():
        if settings.get(name, harmless) != harmless:
            raise DeclarationError(
                f"model_config sets {name}={settings.get(name)!r}, which the contract does not show",
                where=owner,
                remedy="Leave it out, or write the rule at each field it is meant for.",
            )


def _require_readable(class_: type[BaseModel]) -> None:
    """Raise DeclarationError where a value could be written that no reader takes."""
    mark = unreadable(class_.__pydantic_core_schema__)
    if mark:
        raise DeclarationError(
            f"a field has {mark}: no reader could read its value",
            where=class_.__name__,
            remedy="Declare the field by the plain type of its value.",
        )


class Part(BaseModel):
    """A value inside events, such as the items of an order: immutable, and compared by its content."""

    model_config: ClassVar[ConfigDict] = ConfigDict(**_FIXED, arbitrary_types_allowed=True)

    is_part: ClassVar[bool] = True

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> Any:
        """Return pydantic's schema of the class, which refuses a value that pydantic would otherwise cut or guess."""
        return exact_schema(handler(source), cls)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Refuse a class that has no Avro form; raises DeclarationError naming the field."""
        cls._checked()
        declaration_of(cls, cls.__name__)
        _require_readable(cls)

    @classmethod
    def _checked(cls) -> None:
        """Refuse names and settings that cannot be carried."""
        _require_settings(cls.__name__, cls.model_config)
        for name, field in cls.model_fields.items():
            place = Place(cls.__name__, name)
            if name in _TAKEN:
                raise place.refuse("this name is taken by the class's own methods", f"Call it {name}_ or another word")
            if field.alias or field.validation_alias or field.serialization_alias:
                raise place.refuse("a field has one name in every format", "Leave the alias out")
            if name == "reason" and is_sensitive(field.rebuild_annotation()):
                raise place.refuse(
                    "the tracker shows the reason as the cause of a run", "Give it another name to hide it"
                )
            if field.exclude:
                raise place.refuse("a field that is left out of JSON", "Leave exclude= out")
        shown = own_serializer(cls.__pydantic_core_schema__)
        if shown:
            raise DeclarationError(
                f"it has {shown}: its values would be shown otherwise than they are stored",
                where=cls.__name__,
                remedy="Use a plain property or method, and leave the fields as they are.",
            )
        for name in cls.__private_attributes__:
            raise Place(cls.__name__, name).refuse(
                "a name with a leading underscore is not carried by the event", "Leave the underscore out"
            )


class Event(Part):
    """A fact, past tense, typed, immutable. Its class is the contract; its docstring goes into the frozen schema."""

    is_part: ClassVar[bool] = False

    event_type: ClassVar[str] = ""
    """The event's type in the log: the class's name unless the class sets another."""

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
        _require_readable(cls)

    @classmethod
    def event_fields(cls) -> tuple[str, ...]:
        """Return the names of the event's fields, in declared order."""
        return tuple(cls.model_fields)

    @classmethod
    def event_field_type(cls, name: str) -> FieldType:
        """Return the declared type of a field for conditions; raises DeclarationError where it cannot be compared."""
        return field_type_of(cls.model_fields[name].rebuild_annotation(), Place(cls.event_type, name))

    @classmethod
    def require_key(cls, name: str) -> None:
        """Raise DeclarationError where the field of that name cannot be a business key."""
        field = cls.model_fields.get(name)
        if field is None:
            return
        if is_sensitive(field.rebuild_annotation()):
            raise Place(cls.__name__, name).refuse(
                "the business key of a run is shown to all its readers", "Leave Sensitive out"
            )
        inner, _ = without_constraints(field.rebuild_annotation())
        named = isinstance(inner, type) and issubclass(inner, (enum.Enum, *KEY_TYPES))
        if not named and typing.get_origin(inner) is not typing.Literal:
            raise Place(cls.__name__, name).refuse(
                f"{shown(inner)} cannot be a business key", "Use str, int, UUID, an Enum or such, and never None"
            )

    @classmethod
    def narrow_reason(cls) -> str:
        """Return the declaration of a `reason` that cannot hold every text; empty where it can, or there is none.

        Raises DeclarationError where it can hold no text at all: the tracker could not make such an event.
        """
        field = cls.model_fields.get("reason")
        if field is None:
            return ""
        annotation = field.rebuild_annotation()
        inner, metadata = without_constraints(required_of(annotation) or annotation)
        options = list(inner) if isinstance(inner, type) and issubclass(inner, enum.Enum) else typing.get_args(inner)
        if inner is not str and not all(isinstance(getattr(one, "value", one), str) for one in options or (0,)):
            raise Place(cls.__name__, "reason").refuse(
                f"the tracker fills it in with a sentence, which {shown(inner)} cannot hold", "Declare it as str"
            )
        return "" if inner is str and not constraints_in(metadata) else str(annotation)

    @classmethod
    def cannot_hold(cls, name: str, text: str) -> bool:
        """Return whether there is a field of that name that cannot hold the value in this JSON text."""
        field = cls.model_fields.get(name)
        if field is None:
            return False
        adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
        try:
            adapter.validate_json(text)
        except ValidationError:
            return True
        return False

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


_TAKEN = frozenset(name for name in dir(Event) if not name.startswith("_"))
