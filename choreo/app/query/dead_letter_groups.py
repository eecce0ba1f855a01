"""Dead letters grouped by step, cause and schema: the letters of one fault stand together. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from choreo.core import ids
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


class DeadLetterGroup(msgspec.Struct):
    """The letters of one fault, counted."""

    id: str
    flow: str
    step: str
    """The step, or the service where it was no step's."""
    cause: str
    schema: str
    count: int = 0
    redriven: int = 0
    """Letters of it that were redriven already."""
    oldest_ms: int = 0
    newest_ms: int = 0
    example: str = ""
    """Id of the newest letter."""


def group_of(letter: DeadLetter) -> str:
    """Return the id of a dead letter's group."""
    return id_of(fault_of(letter))


def id_of(fault: Fault) -> str:
    """Return the id of a fault's group."""
    return ids.derive("dead-letter-group", *fault)[:8]


def counted_in(groups: dict[Fault, DeadLetterGroup], letter: DeadLetter) -> None:
    """Count a dead letter in its group; letters come newest first."""
    fault = fault_of(letter)
    group = groups.get(fault)
    if group is None:
        group = groups[fault] = DeadLetterGroup(id_of(fault), *fault)
        group.newest_ms, group.example = letter.set_aside_ms, letter.id
    group.count += 1
    group.redriven += letter.redriven > 0
    group.oldest_ms = letter.set_aside_ms


def largest_first(groups: Iterable[DeadLetterGroup]) -> list[DeadLetterGroup]:
    """Return the groups with the most letters that were not redriven first."""
    return sorted(groups, key=lambda group: (-(group.count - group.redriven), -group.newest_ms))


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
