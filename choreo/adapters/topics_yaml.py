"""Topics as code: `topics/*.yaml` read into values, and checked against the flows that use them.

Knows YAML and the fields of a topic; creates nothing. Every error names the file, the line and the remedy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from choreo.core.definition import FlowDefinition
from choreo.core.durations import human, milliseconds
from choreo.core.errors import DeclarationError, SettingsError

FOREVER = -1

# Kafka's own rule for a topic's name (org.apache.kafka.common.internals.Topic).
_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}\Z")
# Kafka advises at most 4,000 partitions for a broker; a topic near that number is a typing error.
PARTITIONS_MAX = 4_000
_NEW = """\
# The log of the {name} flow. `choreo check` compares it with the flow: every event, the key, the retention.
name: {name}
key: {key}
# The most consumers of one service that can share the work. It cannot grow later without moving keys.
partitions: {partitions}
# The log is the only source of truth: it keeps everything. With a duration such as 90d, old runs are forgotten.
retention: forever
# The team that answers for this topic.
owner: {owner}
events:
{events}
# Records that no step could read or handle, until somebody redrives them.
dead_letters:
  name: {name}.dead-letters
  partitions: 1
  retention: forever
"""
_FIELDS = "name, key, partitions, retention, owner, events, dead_letters"


class DeadLetterTopic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The topic of records that no step could read or handle."""

    name: str
    partitions: int = 1
    retention: str | int = FOREVER


class Topic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The log of one flow. `name` is the flow's, `key` the field that holds the business key."""

    name: str
    key: str
    partitions: int
    owner: str
    events: tuple[str, ...]
    dead_letters: DeadLetterTopic
    retention: str | int = FOREVER
    source: str = ""
    """The file of its declaration."""

    @property
    def retention_ms(self) -> int:
        """Return how long the log keeps an event; -1: for ever."""
        return retention_ms(self.retention)


def retention_ms(value: str | int, where: str = "retention") -> int:
    """Return `forever`, -1 or a duration above zero as milliseconds; raises SettingsError."""
    if value in ("forever", FOREVER):
        return FOREVER
    try:
        duration_ms = milliseconds(value, where)
    except DeclarationError as error:
        duration_ms, cause = 0, error.what
    else:
        cause = f"{value!r} keeps nothing"
    if duration_ms == 0:
        raise SettingsError(cause, where=where, remedy='Write "forever", or a duration such as "30d".')
    return duration_ms


def load_topics(folder: Path) -> dict[str, Topic]:
    """Return the topics in a folder's YAML files, by name; raises SettingsError."""
    if not folder.is_dir():
        raise SettingsError("there is no such folder", where=str(folder), remedy="Write it: choreo topics init.")
    topics: dict[str, Topic] = {}
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        topic = load_topic(path)
        taken = next((other for other in topics.values() if _names(other) & _names(topic)), None)
        if taken is not None:
            raise SettingsError(
                f"{' and '.join(sorted(_names(taken) & _names(topic)))} is declared in {taken.source} too",
                where=str(path),
                remedy="Keep one of the two, or give each a name of its own.",
            )
        topics[topic.name] = topic
    return topics


def load_topic(path: Path) -> Topic:
    """Return the topic in one file; raises SettingsError with the line of the error."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except RecursionError as error:
        raise SettingsError("is nested too deeply", where=str(path), remedy="Write it anew.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot be read: {error}", where=str(path), remedy="Make it a text in UTF-8.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise SettingsError(
            f"is not YAML: {getattr(error, 'problem', None) or error}",
            where=f"{path}:{mark.line + 1}" if mark else str(path),
            remedy="Correct the line, often its indent or a missing space after a colon.",
        ) from error
    lines = _Lines(path, node)
    try:
        topic = msgspec.convert(content, Topic)
    except msgspec.ValidationError as error:
        raise lines.refuse(str(error)) from error
    _judge(topic, lines)
    return msgspec.structs.replace(topic, source=str(path))


def topic_text(flow: FlowDefinition, *, partitions: int, owner: str) -> str:
    """Return the YAML of a flow's topic, as a beginning."""
    events = "\n".join(f"  - {event}" for event in flow.events)
    return _NEW.format(name=flow.name, key=flow.key, partitions=partitions, owner=json.dumps(owner), events=events)


def check_topics(flows: Iterable[FlowDefinition], topics: dict[str, Topic]) -> list[SettingsError]:
    """Return an error for each difference between the topics and the flows; empty when all fit."""
    return [problem for flow in flows for problem in _problems(flow, topics.get(flow.name))]


def _problems(flow: FlowDefinition, topic: Topic | None) -> Iterator[SettingsError]:
    """Yield the errors of one flow's topic."""
    if topic is None:
        yield SettingsError(
            f"flow {flow.name} has no topic", where="topics", remedy="Write it: choreo topics init.", code="C601"
        )
        return
    if topic.key != flow.key:
        yield SettingsError(
            f"its key is {topic.key}, but flow {flow.name} is keyed by {flow.key}",
            where=f"{topic.source} key",
            remedy=f"Write key: {flow.key}.",
            code="C602",
        )
    for event in flow.events:
        if event not in topic.events:
            yield SettingsError(
                f"event {event} of flow {flow.name} has no topic",
                where=f"{topic.source} events",
                remedy=f"Add - {event}.",
                code="C603",
            )
    for event in topic.events:
        if event not in flow.events:
            yield SettingsError(
                f"event {event} is not in flow {flow.name}",
                where=f"{topic.source} events",
                remedy="Take it out, or declare the step or wait that emits it.",
                code="C604",
            )
    yield from retention_problems(flow, topic.retention_ms, f"{topic.source} retention")


def retention_problems(flow: FlowDefinition, kept_ms: int, where: str) -> Iterator[SettingsError]:
    """Yield an error unless a run ends, and its linger time passes, before its start leaves the log."""
    if kept_ms == FOREVER:
        return
    if not flow.deadline_ms:
        yield SettingsError(
            f"the topic forgets after {human(kept_ms)}, but flow {flow.name} has no deadline",
            where=where,
            remedy="Give the flow a deadline, or write retention: forever.",
            code="C605",
        )
        return
    needed_ms = flow.deadline_ms + flow.end_bound_ms + flow.linger_ms
    if kept_ms < needed_ms:
        yield SettingsError(
            f"the topic forgets after {human(kept_ms)}, but a run of flow {flow.name} may need its start "
            f"for {human(needed_ms)} (deadline, the longest step, all undos, linger)",
            where=where,
            remedy=f'Write at least retention: "{human(needed_ms)}", or forever.',
            code="C605",
        )


class _Lines:
    """The line of each field in its file, so that an error can name it."""

    def __init__(self, path: Path, node: Any) -> None:
        """Read the lines; raises SettingsError on a repeated field (YAML would keep the last in silence)."""
        self._path = path
        self._lines: dict[str, int] = {}
        self._learn(node, "$")

    def _learn(self, node: Any, prefix: str) -> None:
        if not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            at = f"{prefix}.{key.value}"
            if at in self._lines:
                raise SettingsError(
                    f"{key.value} stands here a second time, first in line {self._lines[at]}",
                    where=f"{self._path}:{key.start_mark.line + 1}",
                    remedy="Keep one of the two.",
                )
            self._lines[at] = key.start_mark.line + 1
            self._learn(value, at)

    def refuse(self, message: str) -> SettingsError:
        """Return the error for a message of msgspec: "Expected `int`, got `str` - at `$.partitions`"."""
        what, _, at = message.partition(" - at `")
        unknown = re.search(r"unknown field `(\w+)`", what)
        field = f"{at.rstrip('`') or '$'}{'.' + unknown[1] if unknown else ''}"
        code = "C606" if "partitions" in f"{field} {what}" else "C607"
        return self.error(field, f"{what[:1].lower()}{what[1:]}", f"A topic has {_FIELDS}", code)

    def error(self, field: str, what: str, remedy: str, code: str = "C607") -> SettingsError:
        """Return an error at a field such as `$.partitions`."""
        plain = re.sub(r"\[\.{0,3}\d*\]", "", field)
        line = self._lines.get(plain)
        name = field.removeprefix("$").removeprefix(".")
        place = f"{self._path}:{line}" if line else str(self._path)
        return SettingsError(what, where=f"{place} {name}".rstrip(), remedy=f"{remedy}.", code=code)


def _names(topic: Topic) -> set[str]:
    return {topic.name, topic.dead_letters.name}


def _judge(topic: Topic, lines: _Lines) -> None:
    """Check the rules that types alone do not express; raises SettingsError."""
    _judge_topic("$", topic, lines)
    _judge_topic("$.dead_letters", topic.dead_letters, lines)
    if topic.name == topic.dead_letters.name:
        raise lines.error("$.dead_letters.name", "is the topic itself", f"Call it {topic.name}.dead-letters")
    for field, text in (("$.key", topic.key), ("$.owner", topic.owner)):
        if not text.strip():
            raise lines.error(field, "is empty", "Name the key's field, and the team that answers for the topic")
    if not topic.events:
        raise lines.error("$.events", "is empty", "List the events of the flow")
    twice = next((event for at, event in enumerate(topic.events) if event in topic.events[:at]), None)
    if twice:
        raise lines.error("$.events", f"{twice} stands there twice", "List each event once")


def _judge_topic(at: str, topic: Topic | DeadLetterTopic, lines: _Lines) -> None:
    """Check the rules of both a flow's topic and its dead letters."""
    if not _NAME.match(topic.name):
        remedy = "Use letters, digits, dots, _ and -, at most 249"
        raise lines.error(f"{at}.name", f"{topic.name!r} cannot be a topic's name", remedy)
    if not 1 <= topic.partitions <= PARTITIONS_MAX:
        raise lines.error(f"{at}.partitions", f"{topic.partitions} partitions", f"Use 1 to {PARTITIONS_MAX}", "C606")
    try:
        retention_ms(topic.retention)
    except SettingsError as error:
        raise lines.error(f"{at}.retention", error.what, error.remedy.rstrip(".")) from error
