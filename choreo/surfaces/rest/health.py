"""Routes for probes: liveness, readiness, and the metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from choreo.app.query.queries import READ_MODEL, Lag
from choreo.core.errors import UnavailableError
from choreo.core.state import STATUSES
from choreo.surfaces.json_format import LivenessAnswer, ReadinessAnswer
from choreo.surfaces.rest.error_responses import refused
from choreo.surfaces.rest.problems import NotReadyError
from choreo.surfaces.rest.use_cases import Injected, UseCases

router: APIRouter = APIRouter(tags=["health"])


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
    lags = {flow: _read_model_lag(await use_cases.queries.lags(flow)) for flow in use_cases.flows.names}
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
    """Return runs by status, dead letters, lag by group, and the counters of this process's hosts."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers(await _families(use_cases)))
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Numbers(Collector):
    """The metrics of one scrape; a registry of its own keeps out other libraries' metrics."""

    def __init__(self, families: list[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return the families; the interface of prometheus-client."""
        return self._families


async def _families(use_cases: UseCases) -> list[GaugeMetricFamily]:
    runs = GaugeMetricFamily("choreo_instances", "Runs by status.", labels=("flow", "status"))
    dead_letters = GaugeMetricFamily("choreo_dead_letters", "Records set aside.", labels=("flow",))
    lag = GaugeMetricFamily(
        "choreo_lag_records", "Records not yet finished by a group.", labels=("flow", "group", "partition")
    )
    hosts = GaugeMetricFamily("choreo_host", "Counters of the hosts of this process.", labels=("counter",))
    unavailable, age = _unavailable(use_cases)
    for flow in use_cases.flows.names:
        counts = await use_cases.queries.counts(flow)
        for status in STATUSES:
            runs.add_metric((flow, status), counts.get(status, 0))
        dead_letters.add_metric((flow,), await use_cases.queries.dead_letter_count(flow))
        for item in await use_cases.queries.lags(flow):
            lag.add_metric((flow, item.group, str(item.partition)), item.behind)
    for name, value in use_cases.counters().items():
        hosts.add_metric((name,), value)
    return [runs, dead_letters, lag, hosts, unavailable, age]


def _unavailable(use_cases: UseCases) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    unavailable = GaugeMetricFamily(
        "choreo_dependency_unavailable", "1 while this process cannot use it.", labels=("dependency",)
    )
    age = GaugeMetricFamily(
        "choreo_dependency_unavailable_seconds", "How long it cannot be used.", labels=("dependency",)
    )
    now_ms = use_cases.clock.now_ms()
    for one in use_cases.dependencies.all():
        unavailable.add_metric((one.name,), 1)
        age.add_metric((one.name,), max(0, now_ms - one.since_ms) / 1_000)
    return unavailable, age
