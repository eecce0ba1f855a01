"""The backend on Kafka: topics for the log, Faust and RocksDB for the tracker, and stores on a server beside it.

Connects the parts; knows neither the stores' server nor the hosts. Before anything works it checks that the topics keep
every run from its start to its end; it waits for a cluster that is away, and logs a warning where this user may not
read a topic's settings.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.faust.trust import reviewed
from choreo.adapters.kafka import adoption
from choreo.adapters.kafka.dead_letters import KafkaDeadLetters
from choreo.adapters.kafka.errors import UNAUTHORIZED, cause_of
from choreo.adapters.kafka.log import KafkaLog
from choreo.adapters.kafka.options import KafkaOptions, settings_of
from choreo.adapters.kafka.records import event_of
from choreo.adapters.kafka.topics import Action, TopicAdmin, changes, wanted_topics
from choreo.adapters.log_clock import LogClock
from choreo.adapters.topics_yaml import load_topics, retention_problems
from choreo.core.definition import FlowDefinition
from choreo.core.errors import NotFoundError, ReplacedLogError, SchemaError, SettingsError, StorageError
from choreo.event.event import Event
from choreo.ports.backend import PROJECTOR, TRACKER, BackendOptions, OpenStores, ProjectedBackend, StoredInbox, Stores
from choreo.ports.dependencies import Dependencies, report_error
from choreo.ports.log import BRIDGE_GROUP
from choreo.ports.notes import Notes
from choreo.ports.projections import PROJECTOR_GROUP, Projections
from choreo.ports.read_model import ReadModel
from choreo.redaction import redact

LOOK_EACH = 2
"""Checks for one look at a topic, at least: four requests to the cluster."""
LOOKS_AT_ONCE = 5
"""Topics looked at by one check, at most: of 50 flows each every 20 s. A role at work meets its own faults."""
FILES_OF_A_PROCESS, FILES_OF_A_FLOW = 200, 50
"""At most: connections of a flow's consumer and producer, 32 files of the tracker's copy, its locks and logs."""
AGAIN_S = 1.0
_log = logging.getLogger(__name__)


class KafkaBackend:
    """`choreo.ports.backend.ProjectedBackend` on Kafka. Nothing connects before it is used."""

    roles: Mapping[str, str] = {TRACKER: "faust", PROJECTOR: "projector"}
    shares_loop: bool = False
    event_of = staticmethod(event_of)
    """Returns the event in a Kafka record."""

    def __init__(self, options: BackendOptions, open_stores: OpenStores) -> None:
        """Connect the parts. Raises SettingsError."""
        self._settings = options
        self._flows = options.flows
        self.dependencies: Dependencies = options.dependencies
        self.place: str = redact(options.address)
        self.open_files: int = FILES_OF_A_PROCESS + FILES_OF_A_FLOW * len(options.flows)
        self._checks = 0
        self._check_registry: Callable[[], None] = _nothing
        connection = KafkaOptions.of(options.address, settings_of(options.environment))
        self.options: KafkaOptions = replace(connection, flows=len(self._flows))
        self.lease_s: float = self.options.session_s
        self._services = {step.service for flow in options.flows.values() for step in flow.steps}
        self.log: KafkaLog = KafkaLog(
            self.options,
            inbox=self.inbox,
            memory=self._memory,
            recall=self._recall,
            dependencies=self.dependencies,
        )
        self._watch = self.log.watch(options.clock, options.put)
        self.clock: LogClock = LogClock(options.clock, self.log.log_time)
        """The machine's clock, held within the log's time."""
        self.deadline_clock: LogClock = LogClock(options.clock, self.log.log_time, is_patient=True)
        self._stores: Stores = open_stores(
            self.log,
            self.clock,
            linger_ms=max(flow.linger_ms for flow in options.flows.values()),
            prefix=self.options.prefix,
            dependencies=self.dependencies,
        )

    @property
    def bootstrap(self) -> str:
        """Return the brokers, `host:port`, separated by commas."""
        return self._settings.address

    @property
    def data(self) -> Path:
        """Return the folder of the tracker's local copies."""
        return self._settings.data

    @property
    def read_model(self) -> ReadModel:
        """Return the views of every flow."""
        return self._stores.read_model

    @property
    def projections(self) -> Projections:
        """Return the projector's side of the read model."""
        return self._stores.projections

    @property
    def dead_letters(self) -> KafkaDeadLetters:
        """Return the dead letters of every flow."""
        return self.log.dead_letters

    @property
    def notes(self) -> Notes:
        """Return the notes of the installation."""
        return self._stores.notes

    def inbox(self, service: str) -> StoredInbox:
        """Return the service's inbox."""
        return self._stores.inbox(service)

    def _memory(self, group: str) -> StoredInbox | None:
        """Return the inbox of a service's group; None for other groups, whose data can be rebuilt from the log."""
        return self.inbox(group) if group in self._services else None

    async def _recall(self, topic: str, note: str) -> str:
        return await self._stores.recall(topic, note)

    async def codec(self, classes: Iterable[type[Event]]) -> AvroCodec:
        """Return Avro with a registry's ids where CHOREO_SCHEMA_REGISTRY_URL is set, else in single-object encoding."""
        folder = self._settings.schemas if self._settings.schemas.is_dir() else None
        if "CHOREO_SCHEMA_REGISTRY_URL" not in self._settings.environment:
            return AvroCodec(folder)
        from choreo.adapters.kafka import registry  # noqa: PLC0415 - an extra of its own

        settings = registry.settings_of(self._settings.environment)
        codec = registry.registry_codec(settings, folder, self.dependencies)
        self._check_registry = codec.check
        return await registry.prepared(codec, classes)

    async def ready(self, stop: asyncio.Event) -> bool:
        """Wait until the topics are fit for a log; see `fit`."""
        return await fit(self.log, self._flows.values(), stop)

    async def check(self) -> None:
        """Send stores, registry and cluster a small request; each reports whether it can be used.

        Raises SettingsError on stores that choreo cannot work with.
        """
        for check in (self._stores.check, partial(asyncio.to_thread, self._check_registry)):
            with suppress(StorageError, SchemaError):  # reported by the store or the registry itself
                await check()
        self._checks += 1
        each = max(LOOK_EACH, -(-len(self._flows) // LOOKS_AT_ONCE))
        self._watch.look_at_clock()
        await asyncio.gather(
            *(
                self._look_at(flow)
                for number, flow in enumerate(self._flows.values())
                if (number + self._checks) % each == 0
            )
        )

    async def _look_at(self, flow: FlowDefinition) -> None:
        await self._watch.look(flow.name, partial(retention_problem, flow))
        await self._look_at_origin(flow.name)

    async def _look_at_origin(self, flow: str) -> None:
        """Report a log that was replaced by another; a cluster that is away is reported by its own request."""
        try:
            await self.log.origin(flow)
        except ReplacedLogError as error:
            report_error(self.dependencies, f"log of {flow}", error)
        except (StorageError, NotFoundError):
            return
        else:
            self.dependencies.clear(f"log of {flow}")

    async def adopt(self, flow: str, *, same_records: bool) -> None:
        """Adopt the flow's present topic as its log: begun anew, or with the same records as before.

        Raises ConflictError where a role of the flow is at work, StorageError, NotFoundError.
        """
        services = {step.service for step in self._flows[flow].steps}
        groups = sorted({*services, PROJECTOR_GROUP, *({BRIDGE_GROUP} if self._flows[flow].crosses else ())})
        remembered = await self._stores.remembered(flow)
        if same_records:
            note = await adoption.keep(self.options, flow, groups, remembered, reviewed)
            await self._stores.remember(flow, note)
            return
        note = await adoption.begin_anew(self.options, flow, groups, remembered)
        await self._stores.forget(flow, services)
        await self._stores.remember(flow, note)
        await self.create_topics()

    async def create_topics(self) -> None:
        """Create the topics that topics/ declares and the cluster lacks; existing ones stay as they are."""
        wanted = wanted_topics(load_topics(self._settings.topics).values())
        admin = TopicAdmin(self.options)
        missing = [
            change for change in changes(wanted, await admin.find(wanted, ()), ()) if change.action is Action.CREATE
        ]
        await admin.apply(wanted, missing, ())

    async def forget_views(self, flow: str) -> None:
        """Drop the views; the projector folds them from the log again. The tracker keeps its own states."""
        await self.read_model.drop(flow)

    async def discard(self) -> None:
        """Delete the topics of every flow, also of those that only topics/ declares, and all data in the stores.

        Only the prefix separates them from those of others.

        Raises SettingsError without a prefix, StorageError where a server does not answer.
        """
        if not self.options.prefix:
            raise SettingsError(
                "topics without a prefix may belong to others",
                where="CHOREO_KAFKA_TOPIC_PREFIX",
                remedy="Set it; or remove a flow's topics with `choreo topics apply --remove FLOW --allow-destroy`.",
            )
        admin = TopicAdmin(self.options)
        flows = sorted({*self._flows, *load_topics(self._settings.topics)})  # as `create_topics` made them
        found = changes((), await admin.find((), flows), flows)
        await admin.apply((), [change for change in found if change.action is Action.REMOVE], flows)
        await self._stores.clear()

    async def close(self) -> None:
        """Close the connections."""
        await self.log.close()
        await self._stores.close()


def _nothing() -> None:
    """Check no registry: there is none."""


async def open_backend(options: BackendOptions) -> ProjectedBackend:
    """Return the backend. Raises SettingsError where the settings name no stores."""
    if options.open_stores is None:
        raise SettingsError(
            "a log on Kafka needs Redis or PostgreSQL for inbox and read model",
            where="setting redis",
            remedy="Set CHOREO_REDIS=redis://HOST:6379/0, or CHOREO_POSTGRES=postgresql://USER@HOST/DATABASE.",
        )
    return KafkaBackend(options, options.open_stores)


async def fit(log: KafkaLog, flows: Iterable[FlowDefinition], stop: asyncio.Event) -> bool:
    """Wait until every topic is fit; return False once `stop` is set. Raises SettingsError on one that is not fit."""
    return all(await asyncio.gather(*(_fits(log, flow, stop) for flow in flows)))


async def _fits(log: KafkaLog, flow: FlowDefinition, stop: asyncio.Event) -> bool:
    while not await _seen(log, flow):
        with suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_S):
                await stop.wait()
        if stop.is_set():
            return False
    return True


async def _seen(log: KafkaLog, flow: FlowDefinition) -> bool:
    """Return whether the cluster answered; raises SettingsError on a topic that is not fit."""
    try:
        kept_ms = await log.kept_ms(flow.name)
    except NotFoundError:
        return True  # the role that uses the topic reports it, with the remedy
    except StorageError as error:
        cause = cause_of(error.__cause__)
        if cause is None or cause.code() not in UNAUTHORIZED:
            _log.debug("waiting for Kafka: %s", error)  # reported by the log
            return False
        _log.warning(
            "unknown whether topic %r is fit for a log, because its settings may not be read: %s", flow.name, error
        )
        return True
    problem = retention_problem(flow, kept_ms)
    if problem is not None:
        raise problem
    return True


def retention_problem(flow: FlowDefinition, kept_ms: int) -> SettingsError | None:
    """Return why a topic that keeps records for so long may forget the start of a run; None where it cannot."""
    return next(iter(retention_problems(flow, kept_ms, f"topic {flow.name!r}, retention.ms")), None)
