"""A worker of the tracker on Kafka alone, without the rest of a project: for the replay, and for tests."""

from __future__ import annotations

from choreo.adapters.clock import SystemClock
from choreo.adapters.faust.group import FaustGroup
from choreo.adapters.faust.options import FaustOptions
from choreo.adapters.kafka import KafkaLog
from choreo.adapters.kafka.records import event_of
from choreo.app.dependencies import DependencyReports
from choreo.app.metrics import Metrics
from choreo.core.definition import FlowDefinition
from choreo.hosts.tracker import TrackerHost


def tracker(flow: FlowDefinition, log: KafkaLog, options: FaustOptions) -> TrackerHost:
    """Return a worker of the flow's tracker that is not started."""
    clock, metrics = SystemClock(), Metrics()
    reports = DependencyReports(clock)
    group = FaustGroup(
        flow.name,
        log,
        log.dead_letters,
        clock,
        options=options,
        read=event_of,
        dependencies=reports,
        count=metrics.add,
    )
    return TrackerHost(
        flow,
        log,
        group,
        clock,
        name="tracker",
        metrics=metrics,
        dependencies=reports,
        join=group.join,
        is_waiting=group.is_waiting,
    )
