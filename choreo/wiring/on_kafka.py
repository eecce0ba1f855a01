"""The home on Kafka and Redis: topics for the log, Redis for inbox and views, Faust and RocksDB for the tracker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.avro.event import Event
from choreo.adapters.kafka import KafkaLog, KafkaOptions, adopting
from choreo.adapters.kafka.dead_letters import KafkaDeadLetters
from choreo.adapters.kafka.log_clock import LogClock
from choreo.adapters.kafka.options import settings_of
from choreo.adapters.kafka.records import event_of
from choreo.adapters.kafka.topics import Action, TopicAdmin, changes, wanted_topics
from choreo.adapters.redis import RedisStores
from choreo.adapters.redis.inbox import RedisInbox
from choreo.adapters.redis.projections import RedisProjections
from choreo.adapters.redis.read_model import RedisReadModel
from choreo.adapters.topics_yaml import load_topics
from choreo.app.counters import Counters
from choreo.app.dependencies import DependencyReports
from choreo.core.definition import FlowDefinition
from choreo.core.errors import NotFoundError, ReplacedLogError, SchemaError, SettingsError, StorageError
from choreo.hosts.tracker_faust_host import FaustTracker
from choreo.hosts.tracker_faust_options import FaustOptions
from choreo.hosts.tracker_faust_trust import reviewed
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies, report_error
from choreo.ports.projections import PROJECTOR_GROUP
from choreo.settings import Settings
from choreo.wiring.fitness import fit, retention_problem

LOOK_EACH = 2
"""Checks for one look at a topic: four requests to the cluster, every 10 s."""


class KafkaHome:
    """`.log`, `.read_model`, `.dead_letters`, `.inbox(service)` and, for the projector, `.projections`."""

    def __init__(
        self,
        settings: Settings,
        flows: Mapping[str, FlowDefinition],
        clock: Clock,
        dependencies: Dependencies | None = None,
    ) -> None:
        """Nothing connects before it is used."""
        self._settings = settings
        self._flows = flows
        self.dependencies = dependencies or DependencyReports(clock)
        self.counters: Counters = Counters()
        self._checks = 0
        self._check_registry: Callable[[], None] = _nothing
        self._options = KafkaOptions.of(settings.kafka, settings_of(os.environ))
        self._services = {step.service for flow in flows.values() for step in flow.steps}
        self.log: KafkaLog = KafkaLog(
            self._options,
            inbox=self.inbox,
            memory=self._memory,
            recall=self._recall,
            dependencies=self.dependencies,
        )
        self._watch = self.log.watch(clock, self.counters.put)
        self.clock: LogClock = LogClock(clock, self.log.log_time)
        """The machine's clock, held within the log's time."""
        self.patient_clock: LogClock = LogClock(clock, self.log.log_time, is_patient=True)
        """The same for whoever judges whether a deadline has passed before work begins."""
        linger_ms = max(flow.linger_ms for flow in flows.values())
        self._stores = RedisStores(
            settings.redis,
            self.log,
            self.clock,
            linger_ms=linger_ms,
            prefix=f"choreo:{self._options.prefix}".removesuffix(":"),
            dependencies=self.dependencies,
        )
        self.read_model: RedisReadModel = self._stores.read_model
        self.projections: RedisProjections = self._stores.projections

    @property
    def dead_letters(self) -> KafkaDeadLetters:
        """The dead letters of every flow."""
        return self.log.dead_letters

    @property
    def session_s(self) -> float:
        """How long a member of a group that is not heard of keeps its partitions."""
        return self._options.session_s

    def inbox(self, service: str) -> RedisInbox:
        """The service's inbox."""
        return self._stores.inbox(service)

    def _memory(self, group: str) -> RedisInbox | None:
        """What this group keeps that may be lost while the log stays: the projector's views are folded from the log."""
        return self.inbox(group) if group in self._services else None

    async def _recall(self, topic: str, note: str) -> str:
        return await self._stores.recall(topic, note)

    def tracker(self, flow: FlowDefinition, counters: Counters) -> FaustTracker:
        """One worker of the flow's tracker."""
        options = FaustOptions(
            self._settings.kafka,
            self._settings.data,
            prefix=self._options.prefix,
            settings=dict(self._options.settings),
        )
        return FaustTracker(
            flow,
            self.log,
            self.dead_letters,
            self.clock,
            options=options,
            read=event_of,
            heard=self.log.log_time.read,
            counters=counters,
            dependencies=self.dependencies,
        )

    async def codec(self, classes: Iterable[type[Event]]) -> AvroCodec:
        """Avro named by a registry's ids where CHOREO_SCHEMA_REGISTRY_URL is set, single-object encoding otherwise."""
        folder = self._settings.schemas if self._settings.schemas.is_dir() else None
        if "CHOREO_SCHEMA_REGISTRY_URL" not in os.environ:
            return AvroCodec(folder)
        from choreo.adapters.kafka import registry  # noqa: PLC0415 - an extra of its own

        settings = registry.settings_of(os.environ)
        codec = registry.registry_codec(settings, folder, self.dependencies)
        self._check_registry = codec.check
        return await registry.prepared(codec, classes)

    async def fit(self, stop: asyncio.Event) -> bool:
        """Whether to start; see `fitness.fit`."""
        return await fit(self.log, self._flows.values(), stop)

    async def check(self) -> None:
        """Ask Redis, registry and cluster something small: each reports whether it can be used.

        Raises SettingsError on a Redis that choreo cannot work with.
        """
        for check in (self._stores.check, partial(asyncio.to_thread, self._check_registry)):
            with suppress(StorageError, SchemaError):  # reported where it was met
                await check()
        self._checks += 1
        self._watch.look_at_clock()
        for number, flow in enumerate(self._flows.values()):
            if (number + self._checks) % LOOK_EACH == 0:
                await self._watch.look(flow.name, partial(retention_problem, flow))
                await self._look_at_origin(flow.name)

    async def _look_at_origin(self, flow: str) -> None:
        """Report a log that is another one than before; a cluster that is away is reported where it was asked."""
        try:
            await self.log.origin(flow)
        except ReplacedLogError as error:
            report_error(self.dependencies, f"log of {flow}", error)
        except (StorageError, NotFoundError):
            return
        else:
            self.dependencies.clear(f"log of {flow}")

    async def adopt(self, flow: str, *, same_records: bool) -> None:
        """Take the flow's topic, as it is now, for its log: begun anew, or with the records that it had.

        Raises ConflictError where a role of the flow is at work, StorageError, NotFoundError.
        """
        services = {step.service for step in self._flows[flow].steps}
        groups = sorted({*services, PROJECTOR_GROUP})
        if same_records:
            await self._stores.remember(flow, await adopting.keep(self._options, flow, groups, reviewed))
            return
        note = await adopting.begin_anew(self._options, flow, groups)
        await self._stores.forget(flow, services)
        await self._stores.remember(flow, note)
        await self.make_topics()

    async def make_topics(self) -> None:
        """Create what topics/ declares and the cluster lacks; what is there stays as it is."""
        wanted = wanted_topics(load_topics(self._settings.topics).values())
        admin = TopicAdmin(self._options)
        missing = [
            change for change in changes(wanted, await admin.find(wanted, ()), ()) if change.action is Action.CREATE
        ]
        await admin.apply(wanted, missing, ())

    async def take_away(self) -> None:
        """Delete every flow's topics, and all keys in Redis. For good, so only where a prefix says which are its own.

        Raises SettingsError without a prefix, StorageError where a server does not answer.
        """
        if not self._options.prefix:
            raise SettingsError(
                "topics without a prefix may be anybody's",
                where="CHOREO_KAFKA_TOPIC_PREFIX",
                remedy="Set it; or remove a flow's topics with `choreo topics apply --remove FLOW --allow-destroy`.",
            )
        admin, flows = TopicAdmin(self._options), list(self._flows)
        found = changes((), await admin.find((), flows), flows)
        await admin.apply((), [change for change in found if change.action is Action.REMOVE], flows)
        await self._stores.clear()

    async def close(self) -> None:
        """Close the connections."""
        await self.log.close()
        await self._stores.close()


def _nothing() -> None:
    """Check no registry: there is none."""


def open_kafka(
    settings: Settings,
    flows: Mapping[str, FlowDefinition],
    clock: Clock,
    dependencies: Dependencies | None = None,
) -> KafkaHome:
    """The home; raises SettingsError when Kafka is named and Redis is not."""
    if not settings.redis:
        raise SettingsError(
            "a log on Kafka needs Redis for inbox and read model",
            where="setting redis",
            remedy="Set CHOREO_REDIS=redis://HOST:6379/0.",
        )
    return KafkaHome(settings, flows, clock, dependencies)
