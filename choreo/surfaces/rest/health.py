"""Routes for probes: liveness, readiness, and the metrics for Prometheus."""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import accumulate
from typing import Any, Generic, TypeVar

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from choreo.app.metrics import CATALOGUE, PREFIX, series
from choreo.app.query.gauges import Number
from choreo.app.query.queries import READ_MODEL, Lag
from choreo.core.errors import NotFoundError, StorageError, UnavailableError
from choreo.core.state import COMPLETED, STATUSES
from choreo.surfaces.json_format import LivenessAnswer, ReadinessAnswer
from choreo.surfaces.rest.error_responses import refused
from choreo.surfaces.rest.problems import NotReadyError
from choreo.surfaces.rest.use_cases import Injected, UseCases

router: APIRouter = APIRouter(tags=["health"])
Value = TypeVar("Value")
BUILD = {"version": version("choreo-kafka"), "python": platform.python_version()}
_log = logging.getLogger(__name__)


@router.get("/livez", operation_id="isAlive", summary="Whether the process makes progress", responses=refused())
async def livez(use_cases: Injected) -> LivenessAnswer:
    """Answer 200 while the loop runs and every host polls, or reports its dependency (`/readyz`); else restart it."""
    now_ms = use_cases.clock.now_ms()
    ages = {name: round(max(0, now_ms - polled_ms) / 1_000, 3) for name, polled_ms in use_cases.heartbeats().items()}
    hanging = [f"{name} ({age:g} s)" for name, age in ages.items() if age > use_cases.poll_age_s_max]
    if hanging:
        raise UnavailableError(
            f"hosts do not poll: {', '.join(hanging)}",
            where="this process",
            remedy="Restart it: its partitions go to others.",
        )
    return LivenessAnswer(status="ok", hosts=ages)


@router.get("/readyz", operation_id="isReady", summary="Whether this process can do its work", responses=refused())
async def readyz(use_cases: Injected) -> ReadinessAnswer:
    """Answer 200 while every dependency can be used and the read model, if read, is not far behind; else 503."""
    unavailable = use_cases.dependencies.all()
    if unavailable:
        raise NotReadyError(unavailable)
    answered = await _answers(use_cases, use_cases.queries.lags)
    if isinstance(answered.error, TimeoutError):
        raise UnavailableError(
            f"the log did not say within {use_cases.answer_s:g} s how far its readers are",
            where="this process",
            remedy="See that the broker answers: it may be away, or take connections and hang.",
        )
    if answered.error is not None:
        raise answered.error
    lags = {flow: _read_model_lag(lags) for flow, lags in answered.values.items()}
    behind = {flow: lag for flow, lag in lags.items() if lag > use_cases.read_model_lag_max}
    if behind and use_cases.reads:
        raise UnavailableError(
            f"the read model is {behind} records behind, more than {use_cases.read_model_lag_max}",
            where="read model",
            remedy="Wait, or start the role that fills it: `choreo run tracker`, on Kafka `choreo run projector`.",
        )
    return ReadinessAnswer(status="ok", read_model_lag=lags)


def _read_model_lag(lags: Iterable[Lag]) -> int:
    return sum(lag.behind for lag in lags if lag.group == READ_MODEL)


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Numbers for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **refused()},
)
async def metrics(use_cases: Injected) -> Response:
    """Return runs by status, dead letters, lag by group, and the metrics of this process's hosts.

    Numbers of a store that does not answer are left out, and counted in `choreo_flows_unanswered`.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(await _families(use_cases)))
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _families(use_cases: UseCases) -> list[Metric]:
    """Return every metric of the catalogue that has a number now."""
    families = {name: _family(name) for name in CATALOGUE}
    await _add_stored(families, use_cases)
    for name, labels, value in use_cases.metrics.numbers():
        _add(families, name, labels, value)
    for name, labels, buckets, total in use_cases.metrics.distributions():
        _add_distribution(families, name, labels, buckets, total)
    now_ms = use_cases.clock.now_ms()
    for one in use_cases.dependencies.all():
        _add(families, "dependency_unavailable", {"dependency": one.name}, 1)
        age_s = max(0, now_ms - one.since_ms) / 1_000
        _add(families, "dependency_unavailable_seconds", {"dependency": one.name}, age_s)
    _add(families, "build_info", BUILD, 1)
    return [family for family in families.values() if family.samples]


async def _add_stored(families: Mapping[str, Metric], use_cases: UseCases) -> None:
    """Add the numbers of the read model and the log; a process that does not read them leaves out the costly ones."""
    queries = use_cases.queries
    counts, outcomes, letters, lags, gauges = await asyncio.gather(
        _answers(use_cases, queries.counts),
        _answers(use_cases, queries.outcomes),
        _answers(use_cases, queries.dead_letter_count),
        _answers(use_cases, queries.lags),
        _answers(use_cases, use_cases.gauges.of if use_cases.reads else _nothing),
    )
    for flow, by_status in counts.values.items():
        _add_runs(families["runs"], flow, by_status, outcomes.values.get(flow, {}))
    for flow, count in letters.values.items():
        _add(families, "dead_letters", {"flow": flow}, count)
    for flow, items in lags.values.items():
        for item in items:
            labels = {"flow": flow, "group": item.group, "partition": str(item.partition)}
            _add(families, "group_lag_records", labels, item.behind)
    for numbers in gauges.values.values():
        for number in numbers:
            _add(families, number.name, dict(number.labels), number.value)
    asked: tuple[tuple[str, _Answers[Any]], ...] = (
        ("instances", counts),
        ("dead letters", letters),
        ("lag", lags),
        ("open runs", gauges),
    )
    for name, answered in asked:
        unanswered = len(use_cases.flows.names) - len(answered.values)
        _add(families, "flows_unanswered", {"numbers": name}, unanswered)


async def _nothing(_flow: str) -> list[Number]:
    return []


class _Scrape(Collector):
    """The metrics of one scrape; a registry of its own keeps out other libraries' metrics."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return the families; the interface of prometheus-client."""
        return self._families


def _family(name: str) -> Metric:
    return Metric(PREFIX + name, CATALOGUE[name].help, CATALOGUE[name].kind)


def _add(families: Mapping[str, Metric], name: str, labels: dict[str, str], value: float) -> None:
    families[name].add_sample(series(name), labels, value)


def _add_distribution(
    families: Mapping[str, Metric], name: str, labels: dict[str, str], counts: Sequence[int], total: float
) -> None:
    """Add a histogram: each bucket counts the values up to its bound."""
    family, bounds = families[name], map(str, CATALOGUE[name].buckets)
    for bound, count in zip([*bounds, "+Inf"], accumulate(counts), strict=True):
        family.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, count)
    family.add_sample(f"{family.name}_count", labels, sum(counts))
    family.add_sample(f"{family.name}_sum", labels, total)


def _add_runs(family: Metric, flow: str, by_status: Mapping[str, int], by_outcome: Mapping[str, int]) -> None:
    """Add the runs of a flow by status; completed ones by outcome, too, where the flow has several."""
    for status in STATUSES:
        number = by_status.get(status, 0)
        if status == COMPLETED and by_outcome:
            for outcome, of_outcome in by_outcome.items():
                labels = {"flow": flow, "status": status, "outcome": outcome}
                family.add_sample(family.name, labels, of_outcome)
            number -= sum(by_outcome.values())
            if number <= 0:
                continue  # none of before the flow had outcomes
        family.add_sample(family.name, {"flow": flow, "status": status}, number)


class _Answers(Generic[Value]):
    """One store's answers by flow, up to its first error."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.error: StorageError | UnavailableError | NotFoundError | TimeoutError | None = None


async def _answers(use_cases: UseCases, ask: Callable[[str], Awaitable[Value]]) -> _Answers[Value]:
    """Ask about each flow, for at most `answer_s` altogether: a probe or a scrape does not wait for a store."""
    found: _Answers[Value] = _Answers()
    try:
        async with asyncio.timeout(use_cases.answer_s):
            for flow in use_cases.flows.names:
                found.values[flow] = await ask(flow)
    except (StorageError, UnavailableError, NotFoundError, TimeoutError) as error:
        _log.info("health: %s", str(error) or f"no answer within {use_cases.answer_s:g} s")
        found.error = error
    return found
