"""Check, before anything works on Kafka, that the topics keep every run from its start to its end.

Waits for a cluster that is away. Logs a warning where this user may not read a topic's settings.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress

from choreo.adapters.kafka.errors import UNAUTHORIZED, cause_of
from choreo.adapters.kafka.log import KafkaLog
from choreo.adapters.topics_yaml import retention_problems
from choreo.core.definition import FlowDefinition
from choreo.core.errors import NotFoundError, SettingsError, StorageError

AGAIN_S = 1.0

_log = logging.getLogger(__name__)


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
