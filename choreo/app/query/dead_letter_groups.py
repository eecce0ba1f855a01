"""Dead letters grouped by step, cause and schema: the letters of one fault stand together. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from choreo.ports.dead_letters import DeadLetter

_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")
_CONFLUENT_MAGIC = 0
_CONFLUENT_HEAD = 5
"""A byte 0 and the schema's number in four bytes."""
CAUSE_MAX = 200


class Fault(NamedTuple):
    """The parts that the letters of one group share."""

    flow: str
    step: str
    """The step, or the service where it was no step's."""
    cause: str
    """The cause without its numbers and quoted values."""
    schema: str


class Group(msgspec.Struct, frozen=True):
    """The letters of one fault, newest first."""

    fault: Fault
    letters: list[DeadLetter]

    @property
    def open(self) -> int:
        """Return the number of letters that were never redriven."""
        return sum(not letter.redriven for letter in self.letters)


def fault_of(letter: DeadLetter) -> Fault:
    """Return the fault that a letter is one of."""
    cause = _VARYING.sub("…", letter.cause)
    cause = cause if len(cause) <= CAUSE_MAX else f"{cause[: CAUSE_MAX - 1]}…"
    return Fault(letter.topic, letter.step or letter.service, cause, schema_of(letter))


def schema_of(letter: DeadLetter) -> str:
    """Return the event's type with the number of its schema, where the value is in Confluent's form."""
    event = letter.record.event
    type_ = event.type or "no type"
    if len(event.data) >= _CONFLUENT_HEAD and event.data[0] == _CONFLUENT_MAGIC:
        return f"{type_}, schema {int.from_bytes(event.data[1:_CONFLUENT_HEAD])}"
    return f"{type_}, {event.content_type}" if event.content_type else type_


def grouped(letters: Iterable[DeadLetter]) -> list[Group]:
    """Return the groups, the one with the newest letter first."""
    found: dict[Fault, list[DeadLetter]] = {}
    for letter in letters:
        found.setdefault(fault_of(letter), []).append(letter)
    return [Group(fault, each) for fault, each in found.items()]
