"""Topics as code on Kafka: compare `topics/*.yaml` with the cluster, and make the changes between them.

`changes` decides, `TopicAdmin` asks and does. A change that may lose records needs permission, and a partition count
is never changed: a key would move, and the order of its events with it. Knows no flows, only their topics.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
)

from choreo.adapters.kafka.cluster.admin import Admin
from choreo.adapters.kafka.cluster.requests import LOG_CONFIG
from choreo.adapters.kafka.dead_letters import SUFFIX
from choreo.adapters.kafka.errors import OUTDATED, cause_of
from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.topics_yaml import FOREVER, Topic, retention_ms
from choreo.core.errors import ChoreoError, ConflictError, NotFoundError, SettingsError, StorageError

DAY_MS = 86_400_000
REQUEST_S = 10.0
"""A healthy broker answers in milliseconds; one that is starting may take seconds."""
BROKERS_OWN = -1
"""As many replicas of a topic as the cluster's own default."""

CHANGELOG_CONFIG: Mapping[str, str] = {
    # The lag of compaction counts from these stamps: the broker's, not those of a worker with a wrong clock.
    "message.timestamp.type": "LogAppendTime",
    "cleanup.policy": "compact",
    # A former owner may still deliver an older state; a restore takes the highest position while both are there.
    "min.compaction.lag.ms": str(DAY_MS),
    # The active segment is never compacted: rolled daily, a restore reads two days of writes at most.
    "segment.ms": str(DAY_MS),
}
_CHANGELOG = re.compile(r"choreo-(?P<flow>.+)-tracker-states-changelog\Z")
# An entry holds the enumeration's number, although its type declares the member.
_TOPICS_OWN: frozenset[Any] = frozenset({ConfigSource.DYNAMIC_TOPIC_CONFIG, ConfigSource.DYNAMIC_TOPIC_CONFIG.value})
_MADE_BY_ANOTHER = KafkaError.TOPIC_ALREADY_EXISTS
_LOOK_S = 0.1
"""Between checks whether the cluster has made a change: brokers learn of it within some ten milliseconds."""


class Role(StrEnum):
    """The use of a topic."""

    EVENTS = "events"
    DEAD_LETTERS = "dead letters"
    CHANGELOG = "changelog"


class Action(StrEnum):
    """The action on a difference."""

    CREATE = "create"
    SET = "set"
    REMOVE = "remove"
    REFUSE = "refuse"
    LEAVE = "leave"
    """Reported only: a setting that no file names, the topics of a flow that is not declared."""


class Wanted(msgspec.Struct, frozen=True):
    """One topic as it is declared."""

    name: str
    role: Role
    partitions: int
    settings: Mapping[str, str]


class Found(msgspec.Struct, frozen=True):
    """One topic as it is in the cluster."""

    partitions: int
    settings: Mapping[str, str]
    """Every setting in force, including the cluster's defaults."""
    own: frozenset[str] = frozenset()
    """Names of the settings that were set on this topic."""


class Change(msgspec.Struct, frozen=True):
    """One difference, and the action on it."""

    action: Action
    topic: str
    role: Role
    what: str
    """The setting, `partitions`, or `topic` for the whole."""
    here: str
    declared: str
    destroys: bool = False
    """Whether records may be lost."""
    note: str = ""
    """The reason why it is refused or left, and the remedy."""


def tracker_app(flow: str) -> str:
    """Return the Faust application id of a flow's tracker; its consumer group has this name too."""
    return f"choreo-{flow}-tracker"


def changelog_of(flow: str) -> str:
    """Return the changelog of the tracker's table `states`, as Faust names it."""
    return f"{tracker_app(flow)}-states-changelog"


def wanted_topics(topics: Iterable[Topic], *, copies: int = BROKERS_OWN) -> list[Wanted]:
    """Return every topic that these declarations need; raises SettingsError where dead letters would go elsewhere."""
    # acks=all waits for this many replicas: with three, an acknowledged event survives the loss of any one broker.
    safe = {"min.insync.replicas": str(max(1, copies - 1))} if copies > 0 else {}
    found = []
    for topic in topics:
        dead_letters = topic.dead_letters
        if dead_letters.name != topic.name + SUFFIX:
            raise SettingsError(
                f"on Kafka the dead letters of flow {topic.name} are written to {topic.name}{SUFFIX}",
                where=f"{topic.source} dead_letters.name",
                remedy=f"Write name: {topic.name}{SUFFIX}.",
            )
        kept = str(retention_ms(dead_letters.retention))
        found += [
            Wanted(
                topic.name,
                Role.EVENTS,
                topic.partitions,
                {**LOG_CONFIG, "retention.ms": str(topic.retention_ms), **safe},
            ),
            Wanted(
                dead_letters.name,
                Role.DEAD_LETTERS,
                dead_letters.partitions,
                {**LOG_CONFIG, "retention.ms": kept, **safe},
            ),
            # As many partitions as the events have: the state of a key is in the partition of its events.
            Wanted(changelog_of(topic.name), Role.CHANGELOG, topic.partitions, {**CHANGELOG_CONFIG, **safe}),
        ]
    return found


def changes(wanted: Iterable[Wanted], found: Mapping[str, Found], removed: Collection[str] = ()) -> list[Change]:
    """Return every difference between declarations and cluster; the topics of `removed` flows are deleted."""
    declared = {each.name: each for each in wanted}
    flows = {name for name, each in declared.items() if each.role is Role.EVENTS}
    for flow in removed:
        if flow in flows:
            raise SettingsError(
                f"flow {flow} is to be removed, and declared", where="topics", remedy="Remove its file first."
            )
    seen = [change for each in declared.values() for change in _of_topic(each, found.get(each.name))]
    return [*seen, *_removals(found, removed), *_left_over(found, flows | set(removed))]


def _of_topic(wanted: Wanted, found: Found | None) -> Iterator[Change]:
    name, role = wanted.name, wanted.role
    if found is None:
        shown = ", ".join(f"{setting}={value}" for setting, value in wanted.settings.items())
        yield Change(Action.CREATE, name, role, "topic", "", f"{_counted(wanted.partitions)}, {shown}")
        return
    if found.partitions != wanted.partitions:
        here, declared = str(found.partitions), str(wanted.partitions)
        yield Change(Action.REFUSE, name, role, "partitions", here, declared, note=_why_not(wanted, found))
    for setting, value in wanted.settings.items():
        here = found.settings.get(setting, "")
        if here != value:
            yield Change(Action.SET, name, role, setting, here, value, destroys=_destroys(setting, value, found))
    for setting in sorted(found.own - wanted.settings.keys()):
        note = "It was set by somebody else and stays; topics/ does not declare it."
        yield Change(Action.LEAVE, name, role, setting, found.settings[setting], "", note=note)


def _why_not(wanted: Wanted, found: Found) -> str:
    if wanted.role is Role.CHANGELOG:
        return (
            f"A state lies in the partition of its events. Stop every tracker, delete {wanted.name} and the consumer "
            f"group of the same tracker, and apply again: the tracker folds the log anew."
        )
    return (
        f"It would move keys, and with them the order of their events. Write partitions: {found.partitions}. "
        "For more, declare a flow of another name with them and let the runs of this one end; a flow that has "
        "never run can be removed (--remove, --allow-destroy) and made again."
    )


def _destroys(setting: str, value: str, found: Found) -> bool:
    """Return whether this value lets the cluster drop records that it keeps now."""
    policy = found.settings.get("cleanup.policy", "")
    if setting == "retention.ms":
        return "delete" in policy and _forgets_sooner(int(value), int(found.settings.get(setting, FOREVER)))
    if setting == "cleanup.policy":
        # Compaction drops all but the newest record of a key; deletion by age is retention.ms, judged above.
        return "compact" in value and "compact" not in policy
    return False


def _forgets_sooner(declared_ms: int, here_ms: int) -> bool:
    return declared_ms != FOREVER and (here_ms == FOREVER or declared_ms < here_ms)


def _removals(found: Mapping[str, Found], flows: Collection[str]) -> Iterator[Change]:
    for flow in flows:
        for name, role in _names_of(flow):
            if name in found:
                here = _counted(found[name].partitions)
                yield Change(Action.REMOVE, name, role, "topic", here, "", destroys=True)


def _left_over(found: Mapping[str, Found], known: Collection[str]) -> Iterator[Change]:
    """Yield the topics of flows that once ran here; only such flows have these changelogs."""
    for name in found:
        match = _CHANGELOG.match(name)
        if match and match["flow"] not in known:
            note = f"Flow {match['flow']} is not declared here. If no one else uses it: --remove {match['flow']}."
            yield Change(Action.LEAVE, name, Role.CHANGELOG, "topic", _counted(found[name].partitions), "", note=note)


def _names_of(flow: str) -> Iterator[tuple[str, Role]]:
    yield flow, Role.EVENTS
    yield flow + SUFFIX, Role.DEAD_LETTERS
    yield changelog_of(flow), Role.CHANGELOG
    yield f"{tracker_app(flow)}-__assignor-__leader", Role.CHANGELOG  # Faust's own, one record at most


def _counted(partitions: int) -> str:
    return f"{partitions} partition{'s' if partitions > 1 else ''}"


def refuse(found: Iterable[Change], *, allow_destroy: bool) -> None:
    """Raise ConflictError if one of these changes must not be made."""
    for change in found:
        if change.action is Action.REFUSE:
            raise ConflictError(
                f"its {change.what} would change from {change.here} to {change.declared}",
                where=f"topic {change.topic!r}",
                remedy=change.note,
            )
        if change.destroys and not allow_destroy:
            what = "it would be deleted" if change.action is Action.REMOVE else f"{change.what}={change.declared}"
            raise ConflictError(
                f"records may be lost: {what}",
                where=f"topic {change.topic!r}",
                remedy="If you accept this, give --allow-destroy.",
            )


class TopicAdmin:
    """A cluster's topics, by their plain names. Every method raises StorageError where the cluster does not answer."""

    def __init__(self, options: KafkaOptions, *, copies: int = BROKERS_OWN) -> None:
        self._options = options
        self._copies = copies
        self._admin = Admin(options)
        self._admin.client  # noqa: B018 - a wrong setting is reported at once

    async def find(self, wanted: Iterable[Wanted], removed: Collection[str] = ()) -> dict[str, Found]:
        """Return these topics as the cluster has them, and the changelogs of flows that are not declared."""
        listed = await self._done(
            asyncio.to_thread(self._admin.client.list_topics, timeout=REQUEST_S), "the list of topics"
        )
        prefix, named = self._options.prefix, {each.name for each in wanted}
        named.update(name for flow in removed for name, _ in _names_of(flow))
        there = {
            plain: len(topic.partitions)
            for name, topic in listed.topics.items()
            if name.startswith(prefix) and ((plain := name.removeprefix(prefix)) in named or _CHANGELOG.match(plain))
        }
        return {
            plain: Found(
                there[plain],
                {name: entry.value for name, entry in settings.items() if entry.value is not None},
                frozenset(name for name, entry in settings.items() if entry.source in _TOPICS_OWN),
            )
            for plain, settings in (await self._settings(there)).items()
        }

    async def apply(self, wanted: Sequence[Wanted], planned: Sequence[Change], removed: Collection[str] = ()) -> None:
        """Make these changes, and no others, and wait until the cluster shows them."""
        declared = {each.name: each for each in wanted}
        by_action: dict[Action, list[Change]] = {}
        for change in planned:
            by_action.setdefault(change.action, []).append(change)
        await self._create([declared[change.topic] for change in by_action.get(Action.CREATE, [])])
        await self._set(by_action.get(Action.SET, []))
        await self._remove([change.topic for change in by_action.get(Action.REMOVE, [])])
        if planned:
            await self._shown(wanted, planned, removed)

    async def _create(self, topics: Sequence[Wanted]) -> None:
        made = [
            NewTopic(
                self._options.name(each.name),
                each.partitions,
                replication_factor=self._copies,
                config=dict(each.settings),
            )
            for each in topics
        ]
        if made:
            await self._all(self._admin.client.create_topics(made, request_timeout=REQUEST_S), but=_MADE_BY_ANOTHER)

    async def _set(self, settings: Sequence[Change]) -> None:
        entries: dict[str, list[ConfigEntry]] = {}
        for change in settings:
            entry = ConfigEntry(change.what, change.declared, incremental_operation=AlterConfigOpType.SET)
            entries.setdefault(change.topic, []).append(entry)
        resources = [self._resource(topic, of_topic) for topic, of_topic in entries.items()]
        if resources:
            await self._all(self._admin.client.incremental_alter_configs(resources, request_timeout=REQUEST_S))

    async def _remove(self, topics: Sequence[str]) -> None:
        if topics:
            names = [self._options.name(topic) for topic in topics]
            await self._all(self._admin.client.delete_topics(names, request_timeout=REQUEST_S))

    async def _shown(self, wanted: Sequence[Wanted], planned: Iterable[Change], removed: Collection[str]) -> None:
        until = time.monotonic() + REQUEST_S
        made = {(change.topic, change.what) for change in planned}
        while True:
            seen = changes(wanted, await self.find(wanted, removed), removed)
            left = [each for each in seen if (each.topic, each.what) in made and each.action is not Action.LEAVE]
            if not left:
                return
            if time.monotonic() > until:
                raise StorageError(
                    f"{left[0].what} is still {left[0].here or 'not there'}",
                    where=f"topic {left[0].topic!r}",
                    remedy="Look at the broker's log, then apply again: finished changes are not repeated.",
                )
            await asyncio.sleep(_LOOK_S)

    async def _settings(self, topics: Iterable[str]) -> dict[str, dict[str, ConfigEntry]]:
        """Return the settings of each topic, without topics that are listed but deleted or not made yet."""
        resources = {plain: self._resource(plain) for plain in topics}
        if not resources:
            return {}
        futures = self._admin.client.describe_configs(list(resources.values()), request_timeout=REQUEST_S)
        settings = {}
        for plain, resource in resources.items():
            with suppress(NotFoundError):
                settings[plain] = await self._done(asyncio.wrap_future(futures[resource]), f"topic {plain!r}")
        return settings

    def _resource(self, topic: str, entries: list[ConfigEntry] | None = None) -> ConfigResource:
        return ConfigResource(ConfigResource.Type.TOPIC, self._options.name(topic), incremental_configs=entries)

    async def _all(self, futures: Mapping[Any, Any], *, but: int | None = None) -> None:
        """Wait for each answer; raise the first error, `but` one that is as good as success."""
        for about, future in futures.items():
            try:
                await asyncio.wrap_future(future)
            except KafkaException as error:
                cause = cause_of(error)
                if cause is None or cause.code() != but:
                    name = about.name if isinstance(about, ConfigResource) else about
                    raise self._complaint(error, f"topic {name!r}") from error

    async def _done(self, answer: Any, where: str) -> Any:
        try:
            return await answer
        except KafkaException as error:
            raise self._complaint(error, where) from error

    def _complaint(self, error: KafkaException, where: str) -> ChoreoError:
        cause = cause_of(error)
        client = self._admin.client
        if cause is not None and cause.code() in OUTDATED:
            self._admin.replace()
        return self._admin.complaint(client, error, where)
