"""Conditions on an event's fields as data: `when=field("shipping") == "express"`. Pure; exported with the flow.

A field that is None equals nothing and stands in no order; `~` is the plain opposite of a condition.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal, NoReturn, TypeAlias

import msgspec
from msgspec.structs import replace

from choreo.core.errors import DeclarationError
from choreo.core.fields import FieldType, UnreadableFieldError, Value, comparable

Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]

_COMPARE: Mapping[Operator, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Condition(msgspec.Struct, frozen=True, tag_field="test", omit_defaults=True):
    """A condition; combine conditions with `&`, `|` and `~`."""

    def __and__(self, other: object) -> Every:
        """Return the condition that holds when both hold."""
        return Every((_operand(self), _operand(other)))

    def __or__(self, other: object) -> Either:
        """Return the condition that holds when one of them holds."""
        return Either((_operand(self), _operand(other)))

    def __invert__(self) -> Not:
        """Return the condition that holds when this one does not."""
        return Not(_operand(self))

    def __bool__(self) -> NoReturn:
        """Refuse `and`, `or`, `not`, `in` and `1 < field < 5`, which Python would answer at once."""
        raise _no_truth()


class Compare(Condition, frozen=True, tag="compare"):
    """A field compared with a value."""

    field: str
    op: Operator
    value: Value
    type: FieldType | None = None
    """The field's declared type; None until the condition is given to a step."""
    of: str = ""
    """The field's event type, where a step starts at several types; "" for the only one, or for any of them."""


class Among(Condition, frozen=True, tag="in"):
    """A field that has one of some values."""

    field: str
    values: tuple[Value, ...]
    type: FieldType | None = None
    of: str = ""


class Missing(Condition, frozen=True, tag="none"):
    """A field that is None."""

    field: str
    type: FieldType | None = None
    of: str = ""


class Every(Condition, frozen=True, tag="and"):
    """Conditions that all hold."""

    parts: tuple[AnyCondition, ...]


class Either(Condition, frozen=True, tag="or"):
    """Conditions of which one holds."""

    parts: tuple[AnyCondition, ...]


class Not(Condition, frozen=True, tag="not"):
    """A condition that does not hold."""

    part: AnyCondition


class Otherwise(Condition, frozen=True, tag="otherwise"):
    """No condition of another step on the same events of the flow holds."""


Leaf: TypeAlias = Compare | Among | Missing
AnyCondition: TypeAlias = Compare | Among | Missing | Every | Either | Not | Otherwise

ALWAYS, NEVER = Every(()), Either(())
"""Conditions without a comparison: of no parts all hold, and not one."""


class FieldRef:
    """A field of the event that triggers a step, for `when=`. A field that is True or False is a condition itself."""

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # its == makes a condition

    def __init__(self, name: str, of: str = "") -> None:
        """Keep the names; `field` calls this."""
        self.name: str = name
        self.of: str = of

    def __eq__(self, other: object) -> Compare:  # type: ignore[override]
        """Return the condition that the field has this value."""
        return self._compared("==", other)

    def __ne__(self, other: object) -> Compare:  # type: ignore[override]
        """Return the condition that the field does not have this value."""
        return self._compared("!=", other)

    def __lt__(self, other: object) -> Compare:
        """Return the condition that the field is less."""
        return self._compared("<", other)

    def __le__(self, other: object) -> Compare:
        """Return the condition that the field is less or equal."""
        return self._compared("<=", other)

    def __gt__(self, other: object) -> Compare:
        """Return the condition that the field is greater."""
        return self._compared(">", other)

    def __ge__(self, other: object) -> Compare:
        """Return the condition that the field is greater or equal."""
        return self._compared(">=", other)

    def in_(self, *values: object) -> Among:
        """Return the condition that the field has one of these values: `in_("express", "courier")`."""
        only = values[0] if len(values) == 1 else None
        listed: Any = only if isinstance(only, list | tuple | set | frozenset) else values
        return Among(self.name, tuple(listed), of=self.of)

    def is_none(self) -> Missing:
        """Return the condition that the field is None."""
        return Missing(self.name, of=self.of)

    def __and__(self, other: object) -> Every:
        """Return the condition that the field is True and the other holds."""
        return self._true() & other

    def __or__(self, other: object) -> Either:
        """Return the condition that the field is True or the other holds."""
        return self._true() | other

    def __invert__(self) -> Not:
        """Return the condition that the field is not True."""
        return ~self._true()

    def __bool__(self) -> NoReturn:
        """Refuse `and`, `or` and `not`, as a condition does."""
        raise _no_truth()

    def _true(self) -> Compare:
        return self._compared("==", True)  # noqa: FBT003

    def _compared(self, op: Operator, other: object) -> Compare:
        if other is None:
            raise DeclarationError(
                f'field("{self.name}") {op} None', where="when=", remedy=f'Write field("{self.name}").is_none().'
            )
        return Compare(self.name, op, other, of=self.of)  # type: ignore[arg-type]  # checked where a step gets it


def field(event_or_name: str | type[Any], name: str = "") -> FieldRef:
    """Return a field of a step's trigger, for `when=`: `field("amount")`, or `field(OrderPlaced, "amount")`.

    The second form says which event is meant where a step is on several and more than one has the field.
    Raises DeclarationError on anything but a name, or an event class and a name.
    """
    if isinstance(event_or_name, str) and event_or_name and not name:
        return FieldRef(event_or_name)
    of = getattr(event_or_name, "event_type", None)
    if isinstance(event_or_name, type) and of and name:
        return FieldRef(name, of)
    raise DeclarationError(
        f"field({event_or_name!r}{f', {name!r}' if name else ''}) names no field",
        where="when=",
        remedy='Write field("amount"), or field(OrderPlaced, "amount").',
    )


def otherwise() -> Otherwise:
    """Return the condition that no condition of another step on the same events of the flow holds."""
    return Otherwise()


def condition_of(value: object) -> AnyCondition | None:
    """Return the condition in a value of `when=`; None if there is none in it."""
    if isinstance(value, FieldRef):
        return value._true()  # noqa: SLF001 - the two belong together
    return value if isinstance(value, Condition) else None  # type: ignore[return-value]  # all kinds are listed


def leaves(condition: AnyCondition) -> Iterator[Leaf]:
    """Return the comparisons in a condition."""
    match condition:
        case Every(parts) | Either(parts):
            for part in parts:
                yield from leaves(part)
        case Not(part):
            yield from leaves(part)
        case Compare() | Among() | Missing():
            yield condition


def key_of(leaf: Leaf) -> str:
    """Return the name under which `holds` finds the field's value: "amount", or "OrderPlaced.amount"."""
    return f"{leaf.of}.{leaf.field}" if leaf.of else leaf.field


def holds(condition: AnyCondition, fields: Mapping[str, Any]) -> bool:
    """Return whether a condition holds for fields by their keys (`key_of`); `otherwise()` alone is never asked.

    Raises UnreadableFieldError on a value of another kind than its field declares.
    """
    return satisfied(condition, lambda leaf: _leaf_holds(leaf, fields))


def satisfied(condition: AnyCondition, test: Callable[[Leaf], bool]) -> bool:
    """Return whether a condition holds, with `test` for each of its comparisons."""
    match condition:
        case Every(parts):
            return all(satisfied(part, test) for part in parts)
        case Either(parts):
            return any(satisfied(part, test) for part in parts)
        case Not(part):
            return not satisfied(part, test)
        case Compare() | Among() | Missing():
            return test(condition)
    return False


def on_one(condition: AnyCondition, type_: str) -> AnyCondition:
    """Return the condition of a step on any of several types, as it is for an event of this type.

    A field of another type is None there.
    """
    match condition:
        case Every(parts) | Either(parts):
            return replace(condition, parts=tuple(on_one(part, type_) for part in parts))
        case Not(part):
            return Not(on_one(part, type_))
        case Compare() | Among() | Missing() if condition.of == type_:
            return replace(condition, of="")
        case Compare() | Among() | Missing() if condition.of:
            return ALWAYS if _leaf_holds(condition, {}) else NEVER
    return condition


def text(condition: AnyCondition) -> str:
    """Return a condition for people, as it is written in Python."""
    match condition:
        case Every(parts):
            return " & ".join(map(_part, parts))
        case Either(parts):
            return " | ".join(map(_part, parts))
        case Not(part):
            return f"~({text(part)})"
        case Compare() | Among() | Missing():
            return _leaf_text(condition)
    return "otherwise"


def _leaf_holds(leaf: Leaf, fields: Mapping[str, Any]) -> bool:
    if isinstance(leaf, Missing):
        return fields.get(key_of(leaf)) is None
    found = _found(leaf, fields)
    if isinstance(leaf, Among):
        return found is not None and any(found == _known(leaf, value) for value in leaf.values)
    return leaf.op == "!=" if found is None else _COMPARE[leaf.op](found, _known(leaf, leaf.value))


def _leaf_text(leaf: Leaf) -> str:
    if isinstance(leaf, Missing):
        return f"{key_of(leaf)} is None"
    if isinstance(leaf, Among):
        return f"{key_of(leaf)} in ({', '.join(map(_shown, leaf.values))})"
    return f"{key_of(leaf)} {leaf.op} {_shown(leaf.value)}"


def _part(condition: AnyCondition) -> str:
    return f"({text(condition)})" if isinstance(condition, Every | Either) else text(condition)


def _shown(value: Value) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _no_truth() -> DeclarationError:
    return DeclarationError(
        "a condition is judged when an event is there, and Python asks for its truth now",
        where="when=",
        remedy="Write & | ~ instead of and, or, not, with parentheses around each comparison; "
        "field(...).in_(...) instead of in; and two comparisons instead of a < field(...) < b.",
    )


def _operand(value: object) -> AnyCondition:
    condition = condition_of(value)
    if condition is None:
        raise DeclarationError(
            f"{value!r:.60} is no condition",
            where="when=",
            remedy="Put parentheses around each comparison: (a == 1) & (b == 2).",
        )
    if isinstance(condition, Otherwise):
        raise DeclarationError(
            "otherwise() is part of another condition", where="when=", remedy="Let it stand alone: when=otherwise()."
        )
    return condition


def _found(leaf: Leaf, fields: Mapping[str, Any]) -> Any:
    """Return the field's value in the form for comparisons; None where it is None."""
    value = fields.get(key_of(leaf))
    if value is None or leaf.type is None:
        return None
    try:
        return comparable(leaf.type.kind, value)
    except UnreadableFieldError as error:
        message = f"{key_of(leaf)}: {error}"
        raise UnreadableFieldError(message) from error


def _known(leaf: Leaf, value: Value) -> Any:
    return comparable(leaf.type.kind, value) if leaf.type is not None else value
